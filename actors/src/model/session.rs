//! Sessions: the totals of a client's streams under one receipt, the same on every instance.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

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

/// The session that a stream belongs to. When a receipt has no free slot, a new stream of a session takes the slot of an
/// older stream of the same session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamSession {
    /// The client sent this id.
    Named(SessionId),
    /// The client sent none; made by [`StreamSession::unnamed`].
    Unnamed(SessionMark),
}

impl StreamSession {
    /// The session of a client that names none: all streams of one content to one address.
    pub fn unnamed(content: ContentHash, address: IpAddr) -> Self {
        let address = match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let digest = Sha256::new().chain_update(content.as_bytes()).chain_update(address.octets()).finalize();
        let mut mark = [0; 16];
        mark.copy_from_slice(&digest[..16]);
        Self::Unnamed(SessionMark(mark))
    }

    /// The id that the client sent.
    pub const fn named(&self) -> Option<SessionId> {
        match self {
            Self::Named(id) => Some(*id),
            Self::Unnamed(_) => None,
        }
    }

    /// What tells it apart from the other sessions of its receipt.
    pub const fn mark(&self) -> SessionMark {
        match self {
            Self::Named(id) => SessionMark(*id.as_uuid().as_bytes()),
            Self::Unnamed(mark) => *mark,
        }
    }
}

/// Equal for two streams of a receipt if they belong to one session. It contains no address in a readable form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionMark([u8; 16]);

impl SessionMark {
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_without_an_id_are_of_one_session_if_content_and_address_are_the_same() {
        let contents = [1, 2].map(|byte| ContentHash::from_bytes([byte; 32]));
        let of = |content: usize, address: &str| {
            StreamSession::unnamed(contents[content], address.parse().expect("an address")).mark()
        };
        assert_eq!(of(0, "192.0.2.7"), of(0, "::ffff:192.0.2.7"));
        assert_ne!(of(0, "192.0.2.7"), of(1, "192.0.2.7"));
        assert_ne!(of(0, "192.0.2.7"), of(0, "192.0.2.8"));
        assert_ne!(of(0, "2001:db8::1"), of(0, "2001:db8::2"));
    }
}
