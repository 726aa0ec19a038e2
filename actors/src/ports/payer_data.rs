//! `PayerData`: what is kept about the payer of a receipt.
//!
//! The ledger does not know who a payer is. It knows receipts, and rows of usage under them with sessions, marks of clients and times.
//! Accounts need the rows: their sums are the windows, and what a producer is paid for. So to forget a payer is to make the rows
//! anonymous. They move to another receipt with a new random id, without session and mark, with new ids, and with times of whole hours.

use async_trait::async_trait;

use super::{PortResult, SetAside};
use crate::ids::ReceiptId;

/// The outcome of one step of forgetting a payer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErasureStep {
    /// So many usage rows were made anonymous; more may be left.
    More(u64),
    /// So many usage rows were made anonymous in this step, and nothing of the receipt is left.
    Done(u64),
    /// Nothing was changed: the receipt may still admit streams, or its expiry may still turn out to be the mistake of a clock.
    Open,
    /// Nothing was changed: instances hold credit of the receipt, for streams that run or were lost.
    Leased,
}

#[async_trait]
pub trait PayerData: Send + Sync + 'static {
    /// Usage under the receipt that could not be settled, up to `limit` rows.
    async fn set_aside_under(&self, receipt: ReceiptId, limit: u32) -> PortResult<Vec<SetAside>>;

    /// Makes up to `limit` usage rows of a receipt anonymous, in one transaction after which windows equal their rows. When none is left,
    /// the receipt is removed. A step that is repeated, or that follows one whose answer was lost, goes on where that stopped. A receipt that
    /// does not exist is [`ErasureStep::Done`].
    ///
    /// # Errors
    /// `Rejected` when a window contradicts its rows: the receipt then stays.
    async fn erase(&self, receipt: ReceiptId, limit: u32) -> PortResult<ErasureStep>;
}
