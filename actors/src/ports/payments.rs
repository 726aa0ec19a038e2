//! `Payments`: payments on chain in the ledger, each with the receipt that it bought.
//!
//! **Callers:** the purchase, the broadcast of pending payments, the watch over proofs, and the tools. **Errors:** after an error of
//! `record_payment` the payment may have been recorded; it is repeated with the same input, and answers with the receipt that was made.
//! **Bound:** one payment a call, and pages of a stated length.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Page, PortResult};
use crate::{
    ids::{ReceiptId, VersionId},
    model::{MerkleRoot, NewPayment, Outpoint, Payment, PaymentStage, PaymentState, Price, Receipt},
};

/// The outcome of recording a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// Payment, spent outputs, receipt and lineage entry stand, in one transaction.
    New(Receipt),
    /// This output was recorded before for the same asset, by the same sender. This is its receipt as it stands now.
    Before(Receipt),
    /// This output has bought something else, or was paid by another sender.
    Taken,
    /// Another recorded transaction, which is not invalidated, spends this input; or the transaction itself was invalidated.
    Conflict(Outpoint),
}

/// A change of what is known of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaymentChange {
    pub outpoint: Outpoint,
    /// The change is refused unless the payment is in this state, so that a late answer changes nothing.
    pub from: PaymentState,
    pub to: PaymentState,
}

/// Payments and their receipts.
#[async_trait]
pub trait Payments: Send + Sync + 'static {
    /// Records a payment and makes its receipt, in one transaction. Of all callers, on all instances, one gets [`Recorded::New`] for
    /// an output, and no two transactions that spend one output are both recorded.
    ///
    /// # Errors
    /// [`PortError::NotFound`](super::PortError::NotFound) names what does not exist: the asset or the quota tier.
    async fn record_payment(&self, new: &NewPayment) -> PortResult<Recorded>;

    /// Changes the state, and the receipt with it, in one transaction: `unproven` and `proven` confirm a pending receipt, and
    /// `invalidated` refunds it, which ends its running streams; when no payment of the transaction stands any more, others may spend its
    /// inputs. The payment as it is now; `None` if it was in another state than the change says.
    async fn change_payment(&self, change: &PaymentChange, now: Timestamp) -> PortResult<Option<Payment>>;

    /// What an asset costs; offers are honoured for `honoured` after a raise, by the database's clock. `None` if there is no such asset.
    async fn price(&self, version: VersionId, honoured: Duration) -> PortResult<Option<Price>>;

    /// The payment of this output.
    async fn payment(&self, outpoint: &Outpoint) -> PortResult<Option<Payment>>;

    /// The payment that bought this receipt.
    async fn payment_of_receipt(&self, receipt: ReceiptId) -> PortResult<Option<Payment>>;

    /// The envelope of a payment.
    async fn beef(&self, outpoint: &Outpoint) -> PortResult<Option<Vec<u8>>>;

    /// Payments in one stage, or in all, in the order in which they were made, after `after`.
    async fn payments_page(
        &self,
        state: Option<PaymentStage>,
        after: Option<Outpoint>,
        limit: u32,
    ) -> PortResult<Page<Payment>>;

    /// Payments, except invalidated ones, whose verdict rests on a root at the height of the first of `roots` or above that is not among
    /// them. They are the roots of the best chain from a height on.
    async fn payments_on_lost_roots(&self, roots: &[(u32, MerkleRoot)], limit: u32) -> PortResult<Vec<Payment>>;
}
