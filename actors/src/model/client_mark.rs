//! The mark of a client in usage rows: it tells which streams of one day came from one address, without the address.

use std::fmt;

use serde::{Serialize, Serializer};

/// The first bytes of the HMAC-SHA-256 of an address under the key of a day. Equal for two streams of one day if their clients have one
/// address, as far as limits tell addresses apart ([`household`](super::household)). With 64 bits, a million clients of a day have
/// equal marks by chance once in 37 million days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientMark([u8; 8]);

impl ClientMark {
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

/// In lower-case hex.
impl fmt::Display for ClientMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for ClientMark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
