//! Sessions at the console: after the sign-in a browser sends a cookie instead of a key.
//!
//! # What a request must show, with the reason
//! 1. **The cookie.** Scripts cannot read it (`HttpOnly`), and browsers do not send it from other sites (`SameSite=Strict`).
//! 2. **The CSRF token** in [`CSRF_FIELD`], which follows from the cookie's token. A site is not an origin: it includes other ports and
//!    subdomains, whose pages could send the cookie. They cannot send this field, because the node allows no page of another origin to
//!    use cookies.
//! 3. **An origin of the node's own**, if the browser names one.
//!
//! The first two are compared without a look-up. Then the session is read in the database each time, so that its end is known on every
//! instance at once; a person's calls are few. Last, the key ring judges the secret that signed in, as for a call with a key: so a
//! session ends when its key is revoked or rotated.

use actix_web::{
    HttpRequest,
    http::header::{self, HeaderMap, HeaderName},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq as _;

use crate::{
    http::{Problem, ProblemType, origins},
    keys::{self, SecretHash},
};

/// The field of the CSRF token.
pub(in crate::http) const CSRF_FIELD: HeaderName = HeaderName::from_static("x-csrf-token");

/// The cookie over HTTPS. Browsers take a cookie of such a name only from this host, over HTTPS, for all paths.
pub(in crate::http) const SECURE_COOKIE: &str = "__Host-penstock-console";

/// The cookie over plain HTTP, which a browser on the node's own machine may use.
pub(in crate::http) const PLAIN_COOKIE: &str = "penstock-console";

/// What the CSRF token is derived for.
const CONTEXT: &str = "penstock 2026-12-01 console csrf token";

/// The characters of a token: 32 bytes in base64url.
const TOKEN_CHARS: usize = 43;

/// The token of a session, which only the browser keeps.
pub(in crate::http) struct SessionToken(String);

impl SessionToken {
    /// # Errors
    /// When the system provides no random bytes.
    pub(in crate::http) fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The token in the cookie of a request, whether or not its session exists. Two cookies of one name are none: one of them may come
    /// from elsewhere.
    pub(in crate::http) fn of(headers: &HeaderMap) -> Option<Self> {
        let lines = || headers.get_all(header::COOKIE).filter_map(|line| line.to_str().ok());
        [SECURE_COOKIE, PLAIN_COOKIE].into_iter().find_map(|name| {
            let mut found = lines()
                .flat_map(|line| line.split(';'))
                .filter_map(|cookie| cookie.trim().split_once('='))
                .filter(|(cookie, _)| *cookie == name);
            let (_, token) = found.next().filter(|_| found.next().is_none())?;
            (token.len() == TOKEN_CHARS).then(|| Self(token.to_owned()))
        })
    }

    pub(in crate::http) fn hash(&self) -> SecretHash {
        keys::hash(&self.0)
    }

    /// What a page must send with each call. It does not open a session, so a script may keep it.
    pub(in crate::http) fn csrf_token(&self) -> String {
        URL_SAFE_NO_PAD.encode(blake3::derive_key(CONTEXT, self.0.as_bytes()))
    }

    /// The value of `Set-Cookie` that gives a browser this token. It lives as long as the browser runs; the session may end earlier.
    pub(in crate::http) fn cookie(&self, is_secure: bool) -> String {
        let (name, secure) = if is_secure { (SECURE_COOKIE, "; Secure") } else { (PLAIN_COOKIE, "") };
        format!("{name}={}; Path=/; HttpOnly; SameSite=Strict{secure}", self.0)
    }
}

/// The values of `Set-Cookie` that have a browser forget its token.
pub(in crate::http) fn no_cookies() -> [String; 2] {
    [(SECURE_COOKIE, "; Secure"), (PLAIN_COOKIE, "")]
        .map(|(name, secure)| format!("{name}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0{secure}"))
}

/// The token of a request that a page of the node's own has sent; `None` without a cookie.
///
/// # Errors
/// `forbidden` without the CSRF token of the cookie; `origin-not-allowed` for a page of another origin.
pub(in crate::http) fn shown_token(request: &HttpRequest) -> Result<Option<SessionToken>, Problem> {
    let Some(token) = SessionToken::of(request.headers()) else { return Ok(None) };
    origins::check_own(request)?;
    let shown = request.headers().get(CSRF_FIELD).map(|field| field.as_bytes()).unwrap_or_default();
    if bool::from(shown.ct_eq(token.csrf_token().as_bytes())) {
        return Ok(Some(token));
    }
    let detail = "a session counts only with its token in the field X-CSRF-Token; load the page again";
    Err(Problem::new(ProblemType::Forbidden).detail(detail))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn token(cookies: &[&str]) -> Option<String> {
        let request = cookies.iter().fold(TestRequest::get(), |request, &line| request.append_header(("cookie", line)));
        SessionToken::of(request.to_http_request().headers()).map(|token| token.0)
    }

    #[test]
    fn a_token_comes_from_one_cookie_alone() {
        let (one, two) = ("a".repeat(TOKEN_CHARS), "b".repeat(TOKEN_CHARS));
        let (plain, secure) = (format!("{PLAIN_COOKIE}={one}"), format!("{SECURE_COOKIE}={two}"));
        for (cookies, expected) in [
            (vec![], None),
            (vec!["other=1; penstock-console=short"], None),
            (vec![&*plain], Some(&one)),
            (vec![&*secure], Some(&two)),
            (vec![&*format!("theme=dark; {plain}")], Some(&one)),
            (vec!["theme=dark", &plain], Some(&one)),
            (vec![&*format!("{plain};{secure}")], Some(&two)),
            (vec![&*format!("{plain}; {plain}")], None),
            (vec![&*plain, &*plain], None),
        ] {
            assert_eq!(token(&cookies).as_ref(), expected, "{cookies:?}");
        }
    }

    #[test]
    fn a_session_counts_with_its_token_on_the_nodes_own_pages() {
        let token = SessionToken::generate().expect("randomness");
        let other = SessionToken::generate().expect("randomness").csrf_token();
        let shown = |fields: &[(&str, &str)]| {
            let request =
                TestRequest::get().append_header(("host", "node.test")).append_header(("cookie", token.cookie(false)));
            let request = fields.iter().fold(request, |request, &field| request.append_header(field));
            shown_token(&request.to_http_request()).map(|token| token.is_some()).map_err(|problem| problem.kind())
        };
        let csrf = token.csrf_token();
        let mine = ("x-csrf-token", &*csrf);
        assert_eq!(shown(&[]), Err(ProblemType::Forbidden));
        assert_eq!(shown(&[("x-csrf-token", "")]), Err(ProblemType::Forbidden));
        assert_eq!(shown(&[("x-csrf-token", &other)]), Err(ProblemType::Forbidden));
        assert_eq!(shown(&[mine]), Ok(true));
        assert_eq!(shown(&[mine, ("origin", "http://node.test")]), Ok(true));
        assert_eq!(shown(&[mine, ("origin", "http://node.test:8081")]), Err(ProblemType::OriginNotAllowed));
        assert_eq!(shown(&[mine, ("sec-fetch-site", "same-site")]), Err(ProblemType::OriginNotAllowed));
        assert_eq!(shown(&[mine, ("sec-fetch-site", "same-origin")]), Ok(true));
    }
}
