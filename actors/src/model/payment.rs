//! Payments on chain for receipts.

use std::time::Duration;

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

/// The name of a [`PaymentState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentStage {
    Pending,
    Unproven,
    Proven,
    Invalidated,
}

impl PaymentStage {
    pub const ALL: [Self; 4] = [Self::Pending, Self::Unproven, Self::Proven, Self::Invalidated];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Unproven => "unproven",
            Self::Proven => "proven",
            Self::Invalidated => "invalidated",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == name)
    }
}

impl PaymentState {
    pub const fn stage(self) -> PaymentStage {
        match self {
            Self::Pending => PaymentStage::Pending,
            Self::Unproven => PaymentStage::Unproven,
            Self::Proven { .. } => PaymentStage::Proven,
            Self::Invalidated => PaymentStage::Invalidated,
        }
    }

    /// The height of the block that holds the transaction.
    pub const fn height(self) -> Option<u32> {
        match self {
            Self::Proven { height } => Some(height),
            _ => None,
        }
    }

    /// A proven state has a height, and no other.
    pub const fn from_parts(stage: PaymentStage, height: Option<u32>) -> Option<Self> {
        match (stage, height) {
            (PaymentStage::Pending, None) => Some(Self::Pending),
            (PaymentStage::Unproven, None) => Some(Self::Unproven),
            (PaymentStage::Proven, Some(height)) => Some(Self::Proven { height }),
            (PaymentStage::Invalidated, None) => Some(Self::Invalidated),
            _ => None,
        }
    }
}

/// The longest time for which an offer may be honoured. Prices that were raised are kept for twice as long.
pub const LONGEST_OFFER: Duration = Duration::from_hours(24);

/// What an asset costs on chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// What a payer is asked for now.
    pub asked: u64,
    /// The least that is taken: the lowest price of the time for which offers are honoured.
    pub least: u64,
}

/// A payment that is to be recorded, with the receipt that it buys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPayment {
    pub transaction: VerifiedTransaction,
    /// The output that pays. The transaction has it.
    pub vout: u32,
    pub output: TxOutput,
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
    /// `None` when the data of the receipt's holder was erased.
    pub receipt_id: Option<ReceiptId>,
    pub state: PaymentState,
    pub made_at: Timestamp,
    pub changed_at: Timestamp,
}
