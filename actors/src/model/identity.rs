//! Identity keys: public keys that authenticate a producer, in addition to its API keys.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::ids::{InvalidId, ProducerId};

/// A compressed secp256k1 public key, by its form: 33 bytes of which the first is 2 or 3. As text, 66 lower-case hexadecimal
/// characters, one spelling for each key. The verifier of a signature checks whether it is a point of the curve.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdentityKey([u8; 33]);

impl IdentityKey {
    /// # Errors
    /// When the first byte is not that of a compressed key.
    pub const fn from_bytes(bytes: [u8; 33]) -> Result<Self, InvalidId> {
        if matches!(bytes[0], 2 | 3) { Ok(Self(bytes)) } else { Err(InvalidId::IdentityKey) }
    }

    pub const fn as_bytes(&self) -> &[u8; 33] {
        &self.0
    }
}

impl FromStr for IdentityKey {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let digits = text.as_bytes();
        if digits.len() != 66 {
            return Err(InvalidId::IdentityKey);
        }
        let mut bytes = [0; 33];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Self::from_bytes(bytes)
    }
}

fn digit(character: u8) -> Result<u8, InvalidId> {
    match character {
        b'0'..=b'9' => Ok(character - b'0'),
        b'a'..=b'f' => Ok(character - b'a' + 10),
        _ => Err(InvalidId::IdentityKey),
    }
}

impl fmt::Display for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for IdentityKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for IdentityKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// An identity key that authenticates as a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    pub identity_key: IdentityKey,
    pub producer_id: ProducerId,
    pub bound_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_key_survives_its_text_and_every_other_text_is_refused(
            bytes: [u8; 32],
            odd: bool,
            text in "[0-9a-fA-F]{64,68}|\\PC{0,80}",
        ) {
            let mut key = [0; 33];
            key[0] = if odd { 3 } else { 2 };
            key[1..].copy_from_slice(&bytes);
            let key = IdentityKey::from_bytes(key).expect("a compressed key");
            prop_assert_eq!(key.to_string().parse(), Ok(key));
            let canonical = text.len() == 66
                && (text.starts_with("02") || text.starts_with("03"))
                && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            prop_assert_eq!(text.parse::<IdentityKey>().is_ok(), canonical);
        }
    }

    #[test]
    fn other_encodings_of_a_key_are_refused() {
        let uncompressed = format!("04{}", "a".repeat(128));
        let upper = format!("02{}", "A".repeat(64));
        let hybrid = format!("06{}", "a".repeat(64));
        for text in [uncompressed, upper, hybrid, String::new(), "00".into()] {
            assert_eq!(text.parse::<IdentityKey>(), Err(InvalidId::IdentityKey), "{text}");
        }
    }
}
