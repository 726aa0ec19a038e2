//! The credentials in the head of a request: they are found here, and checked in [`auth`](super::auth).

use actix_web::http::header::{self, HeaderMap};

use crate::signatures::is_proof;

/// The longest secret that is looked up: generated ones have 46 characters, configured ones may be longer.
const SECRET_CHARS: usize = 512;

/// Whether a request claims to be signed.
pub(super) fn is_signed_request(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| is_proof(name.as_str()))
}

/// The secret in a request. Two fields are no secret: a proxy in front may have looked at the other one.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION);
    let value = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
    let (scheme, secret) = value.split_once(' ')?;
    let secret = secret.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !secret.is_empty() && secret.len() <= SECRET_CHARS).then_some(secret)
}
