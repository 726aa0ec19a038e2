//! Usage: one row per delivered stream.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ClientMark, Credit};
use crate::ids::{ContentHash, ReceiptId, SessionId, UsageId};

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every byte was handed over.
    Completed,
    /// The client left.
    Aborted,
    /// The receipt was revoked during the stream.
    Revoked,
    /// The node could not go on: its storage failed, or it lost the lease that admitted the stream.
    Failed,
    /// Not a stream: a URL was issued, under which another server delivers. Charged whole, whatever is fetched.
    Delegated,
    /// Not a stream: credit of a lost instance, charged when its lease was reclaimed.
    LostLease,
}

impl Outcome {
    pub const ALL: [Self; 6] =
        [Self::Completed, Self::Aborted, Self::Revoked, Self::Failed, Self::Delegated, Self::LostLease];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Aborted => "aborted",
            Self::Revoked => "revoked",
            Self::Failed => "failed",
            Self::Delegated => "delegated",
            Self::LostLease => "lost_lease",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == text)
    }
}

/// One delivered stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageRow {
    pub usage_id: UsageId,
    pub receipt_id: ReceiptId,
    pub content_hash: ContentHash,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// The mark of the client's address; `None` where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientMark>,
    /// When the stream was granted; its windows contain this moment.
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// Payload bytes handed to the connection, or delegated; what is charged.
    pub bytes_sent: u64,
    /// Streams this row stands for: 1, or the requests of a lost lease.
    pub requests: u64,
    pub outcome: Outcome,
    /// The epoch of the lease that paid for it; `None` where the policy has no limit to lease from.
    #[serde(skip)]
    pub lease_epoch: Option<i64>,
}

impl UsageRow {
    pub const fn credit(&self) -> Credit {
        Credit::new(self.bytes_sent, self.requests)
    }
}
