//! `Upload-Checksum`: a hash of the body of one request.

use actix_web::http::header::HeaderMap;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha1_smol::Sha1;
use sha2::{Digest as _, Sha256};

use super::{super::Problem, fields};

/// The algorithms, as `Tus-Checksum-Algorithm` lists them. The protocol demands the first.
pub(super) const ALGORITHMS: &str = "sha1,sha256";

/// A hash that is computed, and the one that the client gave.
pub(super) enum Checksum {
    Sha1(Box<Sha1>, [u8; 20]),
    Sha256(Sha256, [u8; 32]),
}

impl Checksum {
    /// The checksum of a request, if it has one.
    ///
    /// # Errors
    /// `malformed-request`, also for another algorithm.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(field) = fields::text(headers, "upload-checksum")? else { return Ok(None) };
        let bad = || Problem::malformed("Upload-Checksum is sha1 or sha256, a space, and the hash in Base64");
        Self::parse(field).map(Some).ok_or_else(bad)
    }

    fn parse(field: &str) -> Option<Self> {
        let (algorithm, hash) = field.split_once(' ')?;
        let hash = STANDARD.decode(hash).ok()?;
        match algorithm {
            "sha1" => Some(Self::Sha1(Box::default(), hash.try_into().ok()?)),
            "sha256" => Some(Self::Sha256(Sha256::new(), hash.try_into().ok()?)),
            _ => None,
        }
    }

    pub(super) fn update(&mut self, part: &[u8]) {
        match self {
            Self::Sha1(hasher, _) => hasher.update(part),
            Self::Sha256(hasher, _) => hasher.update(part),
        }
    }

    pub(super) fn holds(self) -> bool {
        match self {
            Self::Sha1(hasher, given) => hasher.digest().bytes() == given,
            Self::Sha256(hasher, given) => <[u8; 32]>::from(hasher.finalize()) == given,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_compared_over_all_parts() {
        // Of the bytes "hello world", as in the protocol's text.
        for (field, is_right) in [
            ("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", true),
            ("sha1 2jmj7l5rSw0yVb/vlWAYkK/YBwk=", false),
            ("sha256 uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=", true),
        ] {
            let mut checksum = Checksum::parse(field).expect(field);
            checksum.update(b"hello ");
            checksum.update(b"world");
            assert_eq!(checksum.holds(), is_right, "{field}");
        }
        for field in
            ["md5 XrY7u+Ae7tCTyyK7j1rNww==", "sha1", "sha1 !", "sha1 AAAA", "sha256 Kq5sNclPz7QV2+lfQIuc6R7oRu0="]
        {
            assert!(Checksum::parse(field).is_none(), "{field}");
        }
    }
}
