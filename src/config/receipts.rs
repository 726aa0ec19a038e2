//! `[receipts]`: whether the ids of receipts are signed.

use serde::Deserialize;

use super::{Secret, problem::Rules};
use crate::receipt_tokens::ReceiptTokens;

/// Whether clients send signed receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenMode {
    /// The node signs none.
    Off,
    /// The node signs new receipts, and clients may send the id or the token.
    Optional,
    /// Clients without a key must send the token.
    Required,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipts {
    pub tokens: TokenMode,
    /// The signing keys, as `NAME:SECRET` separated by commas; the first one signs.
    pub token_keys: Secret,
}

impl Receipts {
    /// The keys; `None` when they cannot be read.
    fn read(&self) -> Option<ReceiptTokens> {
        match self.tokens {
            TokenMode::Off => Some(ReceiptTokens::default()),
            mode => ReceiptTokens::parse(self.token_keys.expose(), mode == TokenMode::Required),
        }
    }

    /// The signer and verifier of receipts. The configuration was checked before.
    pub fn tokens(&self) -> ReceiptTokens {
        self.read().unwrap_or_default()
    }

    pub(super) fn check(&self, rules: &mut Rules) {
        rules.require(
            self.read().is_some(),
            &["receipts.token_keys", "receipts.tokens"],
            "be NAME:SECRET, separated by commas: each name once, with 1 to 16 characters out of a-z, 0-9 and -, and each secret with \
             at least 32 characters",
        );
    }
}
