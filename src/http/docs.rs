//! `/docs`, a page that shows the OpenAPI document.
//!
//! The page and the library that draws it are part of the binary, the library compressed. Their own policy lets them load nothing from
//! elsewhere; the calls that a reader tries go to this node alone.

use std::io::Read as _;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, AcceptEncoding, ContentEncoding, Encoding, Header as _},
    web::{Bytes, ServiceConfig},
};
use flate2::read::GzDecoder;

use super::{
    Problem, ProblemType,
    pages::{self, CSS, HTML, JS, PageFile},
    routing,
};

/// What the page may load and do. The library has styles in attributes, and one in a tag, whose hashes are those of the light and the dark
/// page. No code in the page is allowed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'sha256-AVwwCQ35w2T6IdRntpZ/iJpAgDK3obMUqHkQBFqC5Bc=' \
                      'sha256-q8p//1wacqQe0eDWknBYuR1eYalXoquWffVEfSuFnZo='; style-src-attr 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) const FILES: &[PageFile] = &[
    ("/docs", HTML, include_str!("docs/page/index.html")),
    ("/docs/docs.css", CSS, include_str!("docs/page/docs.css")),
    ("/docs/docs.js", JS, include_str!("docs/page/docs.js")),
];

/// The library, as `gzip` has compressed it: 863 KB as text.
const LIBRARY: &[u8] = include_bytes!("docs/page/vendor/rapidoc-min.js.gz");

/// What the document says of this call.
#[derive(utoipa::OpenApi)]
#[openapi(paths(library))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig) {
    cfg.service(routing::resource("/docs/rapidoc.js").route(routing::read().to(library)));
    pages::serve(cfg, FILES, POLICY);
}

#[utoipa::path(
    get,
    path = "/docs/rapidoc.js",
    operation_id = "getDocsLibrary",
    tag = "Operators",
    summary = "The library that draws /docs",
    description = "",
    responses((status = 200, description = "The file", body = String, content_type = "text/javascript")),
)]
async fn library(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let offered = [Encoding::gzip(), Encoding::identity()];
    let wanted = AcceptEncoding::parse(&request).ok().and_then(|accepted| accepted.negotiate(offered.iter()));
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::VARY, "accept-encoding"))
        .content_type(JS);
    if wanted == Some(Encoding::gzip()) {
        return Ok(answer.insert_header(ContentEncoding::Gzip).body(Bytes::from_static(LIBRARY)));
    }
    let mut text = Vec::new();
    GzDecoder::new(LIBRARY)
        .read_to_end(&mut text)
        .map_err(|error| Problem::new(ProblemType::Internal).caused_by(error))?;
    Ok(answer.body(text))
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// `dist/rapidoc-min.js` of rapidoc 9.3.8 on npm.
    #[test]
    fn the_library_is_the_published_one() {
        let mut text = Vec::new();
        GzDecoder::new(LIBRARY).read_to_end(&mut text).expect("gzip");
        let hash: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, "affbd173a65e870e18f392cca963113bcdafb6e50e88cd2f6a834a65b22db94d");
    }
}
