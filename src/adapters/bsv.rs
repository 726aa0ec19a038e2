//! The rules of the BSV network, on the crate `bsv-rs`: whether the envelope of a payment proves it ([`verifier`]), whether a header
//! follows its parent ([`header_rules`]), and a private chain whose blocks cost nothing ([`miner`]).

pub mod header_rules;
pub mod miner;
mod network;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;
pub mod verifier;
