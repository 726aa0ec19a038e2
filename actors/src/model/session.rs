//! Sessions: the totals of a client's streams under one receipt, the same on every instance.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{ContentHash, ReceiptId, SessionId};

/// A client's streaming session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub session_id: SessionId,
    pub receipt_id: ReceiptId,
    pub content_hash: ContentHash,
    pub size_bytes: u64,
    pub created_at: Timestamp,
    pub progress: SessionProgress,
}

/// The totals of a session's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SessionProgress {
    /// Streams that have ended.
    pub streams: u64,
    pub bytes_delivered: u64,
    /// The highest end of a delivered range: where a client that reads forward continues.
    pub position: u64,
    pub last_active: Option<Timestamp>,
}

impl SessionProgress {
    /// Adds a stream that delivered `bytes` and reached `position`.
    pub fn add(&mut self, bytes: u64, position: u64, at: Timestamp) {
        self.streams += 1;
        self.bytes_delivered = self.bytes_delivered.saturating_add(bytes);
        self.position = self.position.max(position);
        self.last_active = Some(at);
    }

    /// Adds the totals of other streams.
    pub fn join(&mut self, other: &Self) {
        self.streams += other.streams;
        self.bytes_delivered = self.bytes_delivered.saturating_add(other.bytes_delivered);
        self.position = self.position.max(other.position);
        self.last_active = self.last_active.max(other.last_active);
    }
}
