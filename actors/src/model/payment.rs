//! Payments on chain for receipts.

use jiff::Timestamp;

use super::{IdentityKey, MerkleRoot, Outpoint, TxId, TxOutput};
use crate::ids::{ReceiptId, VersionId};

/// What a verifier found in the envelope of a payment (BEEF: BRC-62, 95, 96): the subject transaction, with all that it rests on
/// verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedTransaction {
    pub txid: TxId,
    /// The subject alone, as it is broadcast.
    pub raw: Vec<u8>,
    /// The outputs that it spends.
    pub inputs: Vec<Outpoint>,
    pub outputs: Vec<TxOutput>,
    /// The height of the block that holds the subject, if the envelope proves it.
    pub proven_at: Option<u32>,
    /// Each Merkle root that the verdict rests on, with its height. If a reorganisation takes one away, the payment is looked at
    /// again.
    pub roots: Vec<(u32, MerkleRoot)>,
}

/// The texts from which payer and payee derive the key of an output (BRC-29): the invoice number is
/// `2-3241645161d8-<prefix> <suffix>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derivation {
    pub prefix: String,
    pub suffix: String,
}

/// What is known of a payment's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentState {
    /// Verified and recorded. The network has not been told yet, or has not answered; the receipt is `pending`.
    Pending,
    /// The network has it, or the node sells without a broadcaster. No block of the best chain is known to hold it.
    Unproven,
    /// The block of this height, on the best chain, holds it.
    Proven { height: u32 },
    /// The network refused it, or a confirmed transaction spends one of its inputs. The receipt is `refunded`.
    Invalidated,
}

impl PaymentState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Unproven => "unproven",
            Self::Proven { .. } => "proven",
            Self::Invalidated => "invalidated",
        }
    }
}

/// A payment that is to be recorded, with the receipt that it buys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPayment {
    pub transaction: VerifiedTransaction,
    /// The output that pays.
    pub vout: u32,
    /// The envelope as it came: the payee's wallet needs it to take the output over.
    pub beef: Vec<u8>,
    pub sender: IdentityKey,
    /// The key of the payee that the output's key was derived from.
    pub payee: IdentityKey,
    pub derivation: Derivation,
    pub version_id: VersionId,
    /// What had to be paid.
    pub price_satoshis: u64,
    /// [`PaymentState::Pending`] makes a receipt that is `pending`, every other state one that is `confirmed`.
    pub state: PaymentState,
    pub receipt_id: ReceiptId,
    pub quota_tier: String,
    pub receipt_expires_at: Timestamp,
    pub made_at: Timestamp,
}

impl NewPayment {
    pub const fn outpoint(&self) -> Outpoint {
        Outpoint { txid: self.transaction.txid, vout: self.vout }
    }
}

/// A payment as the ledger has it, without its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    pub outpoint: Outpoint,
    pub satoshis: u64,
    pub price_satoshis: u64,
    pub sender: IdentityKey,
    pub payee: IdentityKey,
    pub derivation: Derivation,
    pub version_id: VersionId,
    pub receipt_id: ReceiptId,
    pub state: PaymentState,
    pub made_at: Timestamp,
    pub changed_at: Timestamp,
}
