//! Receipts: the right to stream one content.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{ContentHash, ReceiptId, VersionId};

/// The status of a receipt. Streams need `confirmed` or `settled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptStatus {
    Pending,
    Confirmed,
    Settled,
    Consumed,
    Expired,
    Refunded,
}

impl ReceiptStatus {
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Confirmed, Self::Settled, Self::Consumed, Self::Expired, Self::Refunded];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Settled => "settled",
            Self::Consumed => "consumed",
            Self::Expired => "expired",
            Self::Refunded => "refunded",
        }
    }

    /// Whether a stream may start under this status.
    pub const fn may_stream(self) -> bool {
        matches!(self, Self::Confirmed | Self::Settled)
    }

    /// Whether a receipt may go from this status to `to`: payment moves forward, `expired` and `refunded` are final.
    pub const fn may_become(self, to: Self) -> bool {
        match (self, to) {
            (Self::Pending, Self::Confirmed | Self::Expired | Self::Refunded)
            | (Self::Confirmed, Self::Settled | Self::Consumed | Self::Expired | Self::Refunded)
            | (Self::Settled, Self::Consumed | Self::Expired | Self::Refunded)
            | (Self::Consumed, Self::Refunded) => true,
            _ => self as u8 == to as u8,
        }
    }
}

impl fmt::Display for ReceiptStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not the name of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a status is one of pending, confirmed, settled, consumed, expired, refunded")]
pub struct UnknownStatus;

impl FromStr for ReceiptStatus {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownStatus)
    }
}

/// The right to stream one content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    pub receipt_id: ReceiptId,
    pub version_id: VersionId,
    pub content_hash: ContentHash,
    /// The name of the quota policy.
    pub quota_tier: String,
    pub status: ReceiptStatus,
    pub expires_at: Timestamp,
    pub total_satoshis: u64,
    pub created_at: Timestamp,
    /// Grows with every change of status; a running stream compares it to learn that it was revoked.
    #[serde(skip)]
    pub epoch: i64,
}

impl Receipt {
    /// The status at `now`: a receipt past its time is expired even before the Janitor has recorded it.
    pub fn status_at(&self, now: Timestamp) -> ReceiptStatus {
        let open = matches!(self.status, ReceiptStatus::Pending | ReceiptStatus::Confirmed | ReceiptStatus::Settled);
        if open && self.expires_at <= now { ReceiptStatus::Expired } else { self.status }
    }
}
