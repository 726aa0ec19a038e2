//! Digests in header fields (RFC 9530): `Repr-Digest`, `Content-Digest`.

use actix_web::http::header::HeaderMap;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use penstock_actors::ids::ContentHash;

use super::Problem;

/// The SHA-256 in a field, if there is one. Other algorithms are ignored, as the RFC requires.
///
/// # Errors
/// `malformed-request` when the field cannot be parsed.
pub(super) fn sha256_in(headers: &HeaderMap, name: &'static str) -> Result<Option<ContentHash>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let bad = || Problem::malformed(format!("{name} is not of the form sha-256=:BASE64:"));
    sha256_of(value.to_str().map_err(|_| bad())?).ok_or_else(bad)
}

/// `None` when the text cannot be parsed.
fn sha256_of(field: &str) -> Option<Option<ContentHash>> {
    for item in field.split(',') {
        let (algorithm, value) = item.trim().split_once('=')?;
        if !algorithm.trim().eq_ignore_ascii_case("sha-256") {
            continue;
        }
        let encoded = value.trim().strip_prefix(':').and_then(|rest| rest.strip_suffix(':'))?;
        let bytes = STANDARD.decode(encoded).ok()?;
        return Some(Some(ContentHash::from_bytes(bytes.try_into().ok()?)));
    }
    Some(None)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_found_among_others() {
        let hash = ContentHash::from_bytes([9; 32]);
        let field = format!("sha-512=:AAAA:, SHA-256=:{}:", STANDARD.encode([9; 32]));
        assert_eq!(sha256_of(&field), Some(Some(hash)));
        assert_eq!(sha256_of("md5=:AAAA:"), Some(None));
        for bad in ["sha-256=AAAA", "sha-256=:AAAA:", "sha-256=:!:", "sha-256"] {
            assert_eq!(sha256_of(bad), None, "{bad}");
        }
    }
}
