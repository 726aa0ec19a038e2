//! `PaymentKeys`: the scripts that pay this node.
//!
//! **Caller:** the purchase. **Errors:** none. **Bound:** one derivation for each key that the node has or had.

use crate::model::{Derivation, IdentityKey};

/// The keys that payments go to: the one that is asked for now, and earlier ones, which payments under way may still use.
///
/// A private key never leaves the implementation.
pub trait PaymentKeys: Send + Sync + 'static {
    /// The key that payers are told.
    fn current(&self) -> IdentityKey;

    /// The key of the payee that `script` pays when the payer `sender` derived it with `derivation` (BRC-29, BRC-42): the current key
    /// or an earlier one. `None` if the script pays none of them.
    fn payee(&self, script: &[u8], sender: &IdentityKey, derivation: &Derivation) -> Option<IdentityKey>;
}
