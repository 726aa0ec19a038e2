//! Requests that are signed with an identity key: the signed bytes, the key that signs, and the header fields. The
//! server parses and verifies signatures, the client commands create them.
//!
//! The signature is the general message of BRC-103 in the fields of BRC-104, as far as that is possible for a single
//! request without a session: the signing key is derived from the identity key (BRC-42, BRC-43) so that anyone can
//! verify it, the nonce of the peer is the hash of the address that the signer calls, and the body is signed by its
//! digest, so that it need not be buffered. docs/api.md describes the differences from BRC-103 and their reasons.

mod fields;
mod message;
mod proof;
mod signer;

pub use fields::{TIMESTAMP, is_proof};
pub use message::{Message, is_signed};
pub use proof::{Audience, MalformedProof, Proof, signed_at};
pub use signer::{Signer, SignerError, Unsigned};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;

#[cfg(test)]
mod tests;
