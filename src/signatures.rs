//! Requests that are signed with an identity key: what is signed, with which key, and how it stands in header fields. The
//! server reads and verifies it, the commands of the client make it.
//!
//! It is the general message of BRC-103 in the fields of BRC-104, as far as a single request without a session can be one:
//! the key that signs is derived (BRC-42, BRC-43) from the identity key for everybody to verify, the nonce of the peer is
//! the hash of the address that the signer calls, and the body is signed by its digest, so that nobody has to hold it.
//! docs/api.md says what agrees and what differs, and why.

mod derivation;
mod message;
mod proof;
mod signer;

pub use derivation::is_on_curve;
pub use message::{Message, is_signed};
pub use proof::{Audience, MalformedProof, Proof, TIMESTAMP, is_proof, signed_at};
pub use signer::{Signer, SignerError, Unsigned};

#[cfg(test)]
mod tests;
