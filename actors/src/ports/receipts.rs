//! Receipts, quota policies, and the usage of a receipt, as handlers see them.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Page, PortResult};
use crate::{
    ids::{ReceiptId, UsageId, VersionId},
    model::{QuotaPolicy, Receipt, ReceiptStatus, UsageRow, WindowUsage},
};

/// The input for making a receipt. The content is that of the asset, the total is the asset's current price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewReceipt {
    pub receipt_id: ReceiptId,
    pub version_id: VersionId,
    pub quota_tier: String,
    pub status: ReceiptStatus,
    pub expires_at: Timestamp,
    pub created_at: Timestamp,
}

/// The outcome of a change of status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusChange {
    /// The receipt as it is now; its epoch has grown, unless it already had this status.
    Changed(Receipt),
    /// Its status does not allow the change ([`ReceiptStatus::may_become`]).
    Refused(ReceiptStatus),
    NotFound,
}

/// Receipts and policies as handlers see them.
#[async_trait]
pub trait Receipts: Send + Sync + 'static {
    /// Makes a receipt.
    ///
    /// # Errors
    /// [`PortError::NotFound`](super::PortError::NotFound) names what does not exist: the asset or the quota tier.
    async fn create_receipt(&self, new: &NewReceipt) -> PortResult<Receipt>;

    async fn receipt(&self, id: ReceiptId) -> PortResult<Option<Receipt>>;

    /// Changes the status and increments the epoch, in one statement that repeats the rule of
    /// [`ReceiptStatus::may_become`]. Setting the status it already has changes nothing.
    async fn set_receipt_status(&self, id: ReceiptId, to: ReceiptStatus, now: Timestamp) -> PortResult<StatusChange>;

    /// Makes or replaces a policy; true when it is new.
    async fn put_quota_policy(&self, policy: &QuotaPolicy, now: Timestamp) -> PortResult<bool>;

    /// All policies by name.
    async fn policies(&self) -> PortResult<Vec<QuotaPolicy>>;

    /// A receipt's policy and its windows at `now`, straight from the ledger.
    async fn quota(&self, id: ReceiptId, now: Timestamp) -> PortResult<Option<QuotaView>>;

    /// Usage rows of a receipt in the order of their ids, after `after`.
    async fn usage(&self, id: ReceiptId, after: Option<UsageId>, limit: u32) -> PortResult<Page<UsageRow>>;
}

/// A receipt's windows with the policy that limits them.
#[derive(Debug, Clone, PartialEq)]
pub struct QuotaView {
    pub policy: QuotaPolicy,
    /// Hour, day, month.
    pub windows: [WindowUsage; 3],
}
