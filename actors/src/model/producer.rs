//! Producers and their API keys.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{KeyId, ProducerId};

/// The rights of a key. An admin may do all that a producer may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Producer,
    Admin,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Admin => "admin",
        }
    }
}

/// A key as stored: the hash of the secret, never the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub key_id: KeyId,
    pub producer_id: ProducerId,
    pub role: Role,
    /// BLAKE3 of the secret. The secret has 256 random bits, so a slow hash would add nothing.
    pub secret_hash: [u8; 32],
    /// How long this secret is still valid after another one has replaced it; `None` is without an end.
    pub ends_in: Option<Duration>,
}

/// A key to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    pub key: ApiKey,
    /// A label by which an administrator recognises it; may be empty.
    pub name: String,
    pub created_at: Timestamp,
}

/// A key as listed: without its secret and its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyInfo {
    pub key_id: KeyId,
    pub producer_id: ProducerId,
    pub role: Role,
    pub name: String,
    pub created_at: Timestamp,
    /// The time of its revocation, from which it is refused.
    pub revoked_at: Option<Timestamp>,
    /// Until when the secret before the last rotation is valid too.
    pub previous_valid_until: Option<Timestamp>,
    /// When it was last used, to about ten minutes.
    pub last_used_at: Option<Timestamp>,
}

/// A producer as listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProducerInfo {
    pub producer_id: ProducerId,
    pub name: String,
    pub created_at: Timestamp,
}

/// A producer with its first key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewProducer {
    pub name: String,
    pub key: ApiKey,
    pub created_at: Timestamp,
}
