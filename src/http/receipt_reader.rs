//! The receipts that requests name: an id, or a token where this node signs receipts. A text that names none is refused here,
//! before anything is looked up.

use penstock_actors::{ids::ReceiptId, model::Receipt};
use serde::Serialize;

use super::{Problem, ProblemType, middleware::observe::note_receipt};
use crate::{
    receipt_tokens::{ReceiptTokens, TokenRefusal},
    telemetry::metrics::ReceiptMetrics,
};

/// Reads the receipts of requests, and writes those of answers.
pub struct ReceiptReader {
    pub tokens: ReceiptTokens,
    pub metrics: ReceiptMetrics,
}

impl ReceiptReader {
    /// The receipt that a client without a key names.
    ///
    /// # Errors
    /// `malformed-request`, or `unknown-receipt` for one that is not signed as it must be: with the same answer as for one that
    /// does not exist.
    pub fn open(&self, text: &str) -> Result<ReceiptId, Problem> {
        let read = self.tokens.open(text);
        if self.tokens.signs() {
            match &read {
                Ok(_) if text.contains('.') => self.metrics.signed.inc(),
                Ok(_) | Err(TokenRefusal::Unsigned) => self.metrics.unsigned.inc(),
                Err(TokenRefusal::Forged) => self.metrics.forged.inc(),
                Err(TokenRefusal::Malformed(_)) => {}
            }
        }
        noted(read?)
    }

    /// The receipt that a producer or an admin names.
    ///
    /// # Errors
    /// As those of [`open`](Self::open), except that an id needs no signature.
    pub fn open_for_key_holder(&self, text: &str) -> Result<ReceiptId, Problem> {
        noted(self.tokens.open_for_key_holder(text)?)
    }

    /// A receipt with its token, if this node signs receipts.
    pub fn with_token(&self, receipt: Receipt) -> SignedReceipt {
        SignedReceipt { receipt_token: self.tokens.token(receipt.receipt_id), receipt }
    }
}

fn noted(receipt: ReceiptId) -> Result<ReceiptId, Problem> {
    note_receipt(receipt);
    Ok(receipt)
}

impl From<TokenRefusal> for Problem {
    fn from(refusal: TokenRefusal) -> Self {
        match refusal {
            TokenRefusal::Malformed(error) => error.into(),
            TokenRefusal::Forged => ProblemType::UnknownReceipt.into(),
            TokenRefusal::Unsigned => Self::new(ProblemType::UnknownReceipt)
                .detail("this node takes signed receipts: send the receiptToken in place of the receiptId"),
        }
    }
}

/// A receipt in an answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedReceipt {
    #[serde(flatten)]
    receipt: Receipt,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt_token: Option<String>,
}
