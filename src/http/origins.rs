//! Pages of other origins: which of them may call the node, and what their scripts may read of its answers.
//!
//! The Fetch standard (CORS) has the browser ask: it sends the `Origin` of the page, and hands an answer over only if the answer
//! allows that origin. The node's own pages need no permission. Three things are the node's own:
//!
//! - **A stream is refused before it is admitted** if its page will not get the answer. A simple `fetch` needs no preflight, so
//!   the node would otherwise send, and charge, bytes that the browser throws away. A plain `<video>` or `<img>` sends no
//!   `Origin`: every page may embed content (`Cross-Origin-Resource-Policy`), because the receipt gives the right.
//! - **Only the API is open to them.** The dashboard, health and metrics show a browser on the node's machine what they show to no
//!   one else, so no other page may read them.
//! - **No credentials.** A key or a receipt gives the right, never a cookie.

use std::sync::Arc;

use actix_cors::{Cors, CorsError};
use actix_web::{
    HttpRequest,
    http::{
        Method,
        header::{self, HeaderMap, HeaderValue},
    },
};

use super::{Problem, ProblemType};
use crate::config::EVERY_ORIGIN;

/// Paths of the API as they stand in a request. Another spelling of such a path gets no permission, which is safe.
const API: [&str; 2] = ["/v1/", "/api/v1/"];

/// How long a browser may remember a permission: an hour saves a player a round trip before each request, and an origin that is
/// taken off the list loses its permission soon.
const REMEMBERED_SECONDS: usize = 3600;

const METHODS: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// Fields of answers that scripts may read, beside those that the Fetch standard always allows.
const EXPOSED: [&str; 29] = [
    // Players.
    "accept-ranges",
    "content-disposition",
    "content-range",
    "etag",
    "repr-digest",
    "retry-after",
    "x-quota-remaining-bytes",
    "x-quota-tier",
    "x-receipt-id",
    "x-session-id",
    // Payers (BRC-121).
    "x-bsv-sats",
    "x-bsv-server",
    // Every client.
    "date",
    "location",
    "ratelimit",
    "ratelimit-policy",
    "traceresponse",
    "www-authenticate",
    "x-request-id",
    // Resumable uploads.
    "tus-checksum-algorithm",
    "tus-extension",
    "tus-max-size",
    "tus-resumable",
    "tus-version",
    "upload-concat",
    "upload-expires",
    "upload-length",
    "upload-metadata",
    "upload-offset",
];

/// The origins whose pages may call the API.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    every: bool,
    listed: Arc<[String]>,
}

impl Origins {
    /// Of a list, in which `*` stands for every origin.
    pub fn new<'a>(listed: impl Iterator<Item = &'a str>) -> Self {
        let listed: Arc<[String]> = listed.map(str::to_owned).collect();
        Self { every: listed.iter().any(|origin| origin == EVERY_ORIGIN), listed }
    }

    /// Whether no other origin may call.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        self.every || self.listed.iter().any(|listed| listed.as_bytes() == origin.as_bytes())
    }

    /// The middleware that answers preflights and gives permissions.
    pub(super) fn permissions(&self) -> Cors {
        let origins = self.clone();
        Cors::default()
            .allowed_origin_fn(move |origin, head| {
                API.iter().any(|beginning| head.uri.path().starts_with(beginning)) && origins.allows(origin)
            })
            .allowed_methods(METHODS)
            // A field of a request carries no right that its page does not have.
            .allow_any_header()
            .expose_headers(EXPOSED)
            .max_age(REMEMBERED_SECONDS)
    }

    /// Refuses a request of a page that will not get the answer.
    ///
    /// # Errors
    /// `origin-not-allowed`.
    pub(super) fn check(&self, request: &HttpRequest) -> Result<(), Problem> {
        let headers = request.headers();
        let is_foreign = |origin: &HeaderValue| !self.allows(origin) && !is_own(origin, headers);
        if headers.get_all(header::ORIGIN).any(is_foreign) { Err(not_allowed()) } else { Ok(()) }
    }
}

fn not_allowed() -> Problem {
    Problem::new(ProblemType::OriginNotAllowed)
        .detail("the node's setting cors.origins does not list the page's origin")
}

/// Refuses a request of a page that is not the node's own, also one that may call the API: such a page has no part in a session. A
/// browser that a person told to go somewhere names no page (`none`).
///
/// # Errors
/// `origin-not-allowed`.
pub(super) fn check_own(request: &HttpRequest) -> Result<(), Problem> {
    let headers = request.headers();
    let is_foreign = |origin: &HeaderValue| !is_own(origin, headers);
    let from_elsewhere = |site: &HeaderValue| site != "same-origin" && site != "none";
    if headers.get_all(header::ORIGIN).any(is_foreign) || headers.get_all("sec-fetch-site").any(from_elsewhere) {
        return Err(Problem::new(ProblemType::OriginNotAllowed).detail("a session is for the node's own pages"));
    }
    Ok(())
}

/// The problem document for a preflight that is refused.
pub(super) fn refused_preflight(error: &CorsError) -> Problem {
    match error {
        CorsError::OriginNotAllowed | CorsError::MissingOrigin => not_allowed(),
        _ => Problem::malformed("the preflight names a method that no call has").caused_by(error),
    }
}

/// Whether a request is a preflight: the question of a browser whether a page may make a call.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Whether a page of the node's own calls. The browser says so itself, which holds behind every proxy; browsers say it only over
/// HTTPS and on loopback, so the address counts too.
fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    if headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin") {
        return true;
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let (Some(host), Some((scheme, authority))) = (host, origin) else { return false };
    // An origin names no port that its scheme implies; a client may.
    let implied = if scheme == "https" { ":443" } else { ":80" };
    host.strip_suffix(implied).unwrap_or(host).eq_ignore_ascii_case(authority)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn is_refused(origins: &str, fields: &[(&str, &str)]) -> bool {
        let request =
            fields.iter().fold(TestRequest::get(), |request, &(name, value)| request.append_header((name, value)));
        Origins::new(origins.split(',').filter(|origin| !origin.is_empty())).check(&request.to_http_request()).is_err()
    }

    #[test]
    fn a_page_that_would_not_get_the_answer_is_refused() {
        const HOST: (&str, &str) = ("host", "node.example.com:8443");
        const OWN: (&str, &str) = ("origin", "https://node.example.com:8443");
        const PLAYER: (&str, &str) = ("origin", "https://player.example.com");
        const OPAQUE: (&str, &str) = ("origin", "null");
        for (origins, fields, refused) in [
            // No page: programs, and pages that embed content.
            ("", &[HOST][..], false),
            ("", &[HOST, OWN], false),
            ("", &[("host", "NODE.example.com:443"), ("origin", "https://node.example.com")], false),
            ("", &[("host", "node.example.com:80"), ("origin", "http://node.example.com")], false),
            ("", &[("host", "upstream"), OWN, ("sec-fetch-site", "same-origin")], false),
            ("", &[HOST, PLAYER], true),
            ("", &[HOST, PLAYER, ("sec-fetch-site", "same-site")], true),
            ("", &[HOST, OPAQUE], true),
            ("", &[HOST, ("origin", "")], true),
            ("", &[HOST, OWN, PLAYER], true),
            ("", &[PLAYER], true),
            ("https://player.example.com", &[HOST, PLAYER], false),
            ("https://player.example.com", &[HOST, ("origin", "http://player.example.com")], true),
            ("https://player.example.com", &[HOST, ("origin", "https://player.example.com.evil.example")], true),
            ("https://player.example.com", &[HOST, OPAQUE], true),
            ("https://a.example,https://player.example.com", &[HOST, PLAYER], false),
            ("*", &[HOST, PLAYER], false),
            ("*", &[HOST, OPAQUE], false),
        ] {
            assert_eq!(is_refused(origins, fields), refused, "{origins:?} {fields:?}");
        }
    }
}
