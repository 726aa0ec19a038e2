//! Identifiers as validated types: an existing value has the right form, so no code behind the parser checks again.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Why a text is not an identifier. The text itself is not repeated: it came from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    #[error("a content hash is 64 hexadecimal characters")]
    ContentHash,
    #[error("an identity key is 66 lower-case hexadecimal characters: a compressed secp256k1 public key")]
    IdentityKey,
    #[error("a {0} is a UUID, such as 67e55044-10b1-426f-9247-bb680e5fe0c8")]
    Uuid(&'static str),
    #[error("the id of a policy has 1 to 64 characters out of a-z, 0-9 and -")]
    Policy,
}

/// The lower-case hex SHA-256 of a content: its name, its strong `ETag` and its digest in one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for ContentHash {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        hash_of(text).map(Self).ok_or(InvalidId::ContentHash)
    }
}

/// The hash that 64 hexadecimal characters are; `None` for every other text.
pub(crate) fn hash_of(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        // Some tools print upper case. It is the same hash, and is always printed in lower case.
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ContentHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Whether a text has 1 to 64 characters out of `a-z`, `0-9` and `-`: the form of the names of tiers, policies and rules.
pub fn is_plain_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// A governance policy, by the name that an operator gave it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct GovernancePolicyId(String);

impl GovernancePolicyId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GovernancePolicyId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if is_plain_name(text) { Ok(Self(text.to_owned())) } else { Err(InvalidId::Policy) }
    }
}

impl fmt::Display for GovernancePolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for GovernancePolicyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                // Only the hyphenated form: one spelling per id keeps logs and cache keys consistent.
                if text.len() != 36 {
                    return Err(InvalidId::Uuid($what));
                }
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId::Uuid($what))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

macro_rules! random_id {
    ($name:ident) => {
        impl $name {
            /// A new random id (UUID version 4, 122 random bits).
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }
        }
    };
}

macro_rules! ordered_id {
    ($name:ident) => {
        impl $name {
            /// A new id that sorts by its time of creation (UUID version 7), so that new rows are neighbours in an index.
            pub fn next() -> Self {
                Self(Uuid::now_v7())
            }
        }
    };
}

uuid_id!(
    /// The right to stream one content. Every holder may stream, so it cannot be guessed: 122 random bits.
    ReceiptId,
    "receipt id"
);
random_id!(ReceiptId);

uuid_id!(
    /// A catalogue entry.
    VersionId,
    "version id"
);
ordered_id!(VersionId);

uuid_id!(
    /// A client's streaming session. Every holder can read its progress, so it is random.
    SessionId,
    "session id"
);
random_id!(SessionId);

uuid_id!(
    /// One delivered stream: the identity that makes a usage row count once, whatever is retried.
    UsageId,
    "usage id"
);
ordered_id!(UsageId);

uuid_id!(
    /// A producer of content.
    ProducerId,
    "producer id"
);
ordered_id!(ProducerId);

uuid_id!(
    /// The public name of an API key; the secret is not derived from it.
    KeyId,
    "key id"
);
ordered_id!(KeyId);

uuid_id!(
    /// One installation: a database, and the stores and instances that belong to it.
    InstallationId,
    "installation id"
);
random_id!(InstallationId);

impl InstallationId {
    /// Its last twelve digits, which are random: enough to tell the few installations on a shared server apart.
    pub fn short(self) -> String {
        let mut digits = self.as_uuid().simple().to_string();
        digits.split_off(digits.len() - 12)
    }
}

uuid_id!(
    /// One store of blobs of one tier.
    StoreId,
    "store id"
);
random_id!(StoreId);

uuid_id!(
    /// One timeline: a history of a database. A restore begins another one.
    TimelineId,
    "timeline id"
);
random_id!(TimelineId);

uuid_id!(
    /// One instance, for as long as its data folder lives.
    NodeId,
    "node id"
);
random_id!(NodeId);

uuid_id!(
    /// One judgement by a governance policy.
    PolicyRunId,
    "id of a run"
);
ordered_id!(PolicyRunId);

uuid_id!(
    /// A run of a job in lineage. The sender of the event chose it.
    RunId,
    "run id"
);
ordered_id!(RunId);

uuid_id!(
    /// One verification of one stored copy.
    VerificationId,
    "verification id"
);
ordered_id!(VerificationId);

uuid_id!(
    /// A resumable upload. Only its producer may use it, and it cannot be guessed.
    UploadId,
    "upload id"
);
random_id!(UploadId);

uuid_id!(
    /// A stored part of a resumable upload. No two parts have the same id, so a part that loses a race overwrites nothing.
    PartId,
    "part id"
);
random_id!(PartId);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_content_hash_survives_its_text(bytes: [u8; 32]) {
            let hash = ContentHash::from_bytes(bytes);
            prop_assert_eq!(hash.to_string().parse(), Ok(hash));
            prop_assert_eq!(hash.to_string().to_uppercase().parse(), Ok(hash));
        }

        #[test]
        fn any_other_text_is_refused(text in "\\PC{0,80}") {
            let is_hash = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
            prop_assert_eq!(text.parse::<ContentHash>().is_ok(), is_hash);
        }
    }

    #[test]
    fn an_id_in_a_body_is_refused_in_the_words_that_one_in_a_path_is() {
        for text in
            ["null", "5", "gold", "", "67e5504410b1426f9247bb680e5fe0c8", "67e55044-10b1-426f-9247-bb680e5fe0cg"]
        {
            let told = serde_json::from_value::<VersionId>(text.into()).unwrap_err().to_string();
            assert_eq!(told, "a version id is a UUID, such as 67e55044-10b1-426f-9247-bb680e5fe0c8", "{text}");
        }
        let id = ReceiptId::random();
        assert_eq!(serde_json::from_str::<ReceiptId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
    }

    #[test]
    fn unhyphenated_forms_are_refused() {
        assert!("67e5504410b1426f9247bb680e5fe0c8".parse::<ReceiptId>().is_err());
        assert!("67e55044-10b1-426f-9247-bb680e5fe0c8".parse::<ReceiptId>().is_ok());
    }
}
