//! The names of the header fields of a signed request.

pub(super) const PREFIX: &str = "x-bsv-";
const PROOF_PREFIX: &str = "x-bsv-auth-";

pub(super) const VERSION_FIELD: &str = "x-bsv-auth-version";
pub(super) const IDENTITY_FIELD: &str = "x-bsv-auth-identity-key";
pub(super) const NONCE_FIELD: &str = "x-bsv-auth-nonce";
pub(super) const YOUR_NONCE_FIELD: &str = "x-bsv-auth-your-nonce";
pub(super) const REQUEST_ID_FIELD: &str = "x-bsv-auth-request-id";
pub(super) const SIGNATURE_FIELD: &str = "x-bsv-auth-signature";

/// When a request was signed, in milliseconds since 1970. It is an ordinary signed field, not part of the proof.
pub const TIMESTAMP: &str = "x-bsv-timestamp";

/// Whether a header field belongs to the proof. The name is in lower case.
pub fn is_proof(name: &str) -> bool {
    name.starts_with(PROOF_PREFIX)
}
