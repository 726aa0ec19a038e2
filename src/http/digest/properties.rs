//! What holds for every digest field.

use actix_web::http::header::{HeaderName, HeaderValue};

use super::*;

const NAME: &str = "repr-digest";

/// # Panics
/// When the field is read wrongly.
pub(crate) fn check(field: &[u8]) {
    let Some(found) = read(field) else { return };
    if let Ok(Some(hash)) = found {
        let written = format!("sha-256=:{}:", STANDARD.encode(hash.as_bytes()));
        assert_eq!(read(written.as_bytes()), Some(Ok(Some(hash))));
    }
    // A digest of another algorithm before it changes nothing.
    assert_eq!(read(&[b"md5=:AAAA:, ", field].concat()), Some(found));
}

/// `None` when the bytes are not the value of a field.
fn read(field: &[u8]) -> Option<Result<Option<ContentHash>, ()>> {
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static(NAME), HeaderValue::from_bytes(field).ok()?);
    Some(sha256_in(&headers, NAME).map_err(drop))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    proptest! {
        #[test]
        fn every_field_is_read_or_refused(
            parts in vec(select(vec!["sha-256", "SHA-256", "md5", "=", ":", ", ", " ", "AAAA", "é"]), 0..8),
            bytes: [u8; 32],
            place in 0_usize..8,
        ) {
            let mut parts: Vec<_> = parts.into_iter().map(str::to_owned).collect();
            parts.insert(place.min(parts.len()), format!(":{}:", STANDARD.encode(bytes)));
            check(parts.concat().as_bytes());
        }
    }
}
