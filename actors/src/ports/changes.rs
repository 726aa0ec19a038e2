//! The log of changes: what was changed in the database, so that every instance learns of it whatever message is lost.
//!
//! The database writes the log in the transaction of the change itself, so a change without its line, or a line without its
//! change, cannot be. Instances poll it ([`ChangeFollower`](crate::change_follower)); messages in the shared state only make
//! it quicker.

use std::{fmt, str::FromStr};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{KeyPattern, PortResult};
use crate::{
    ids::{ContentHash, KeyId, PolicyId, ReceiptId, VersionId},
    model::{IdentityKey, Timeline},
};

/// What a cached answer depends on; telling of the tag drops it everywhere. As text: `receipt:ID`, `policy:NAME`, `asset:ID`,
/// `lineage:graph`, `governance:ID`, `content:HASH`, `identity:KEY`, `key:ID`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tag {
    Receipt(ReceiptId),
    Policy(String),
    Asset(VersionId),
    /// `lineage:graph`. The graph has jobs, datasets or edges that it had not.
    Lineage,
    /// `governance:ID`. A governance policy has another version.
    Governance(PolicyId),
    /// Where a content is, or whether readers may have it; never its bytes.
    Content(ContentHash),
    /// Whom an identity key speaks for.
    Identity(IdentityKey),
    /// What an API key opens.
    Key(KeyId),
    /// `recall:ID`. Not a change: credit of this receipt that lies idle on an instance is wanted by another one.
    Recall(ReceiptId),
    /// `entries:PATTERN`. Not a change either: an operator wants the cached entries gone whose key matches.
    Entries(KeyPattern),
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Receipt(id) => write!(f, "receipt:{id}"),
            Self::Policy(name) => write!(f, "policy:{name}"),
            Self::Asset(id) => write!(f, "asset:{id}"),
            Self::Lineage => f.write_str("lineage:graph"),
            Self::Governance(id) => write!(f, "governance:{id}"),
            Self::Content(hash) => write!(f, "content:{hash}"),
            Self::Identity(key) => write!(f, "identity:{key}"),
            Self::Key(id) => write!(f, "key:{id}"),
            Self::Recall(id) => write!(f, "recall:{id}"),
            Self::Entries(pattern) => write!(f, "entries:{}", pattern.as_str()),
        }
    }
}

/// The text names no tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a tag is receipt:ID, policy:NAME, asset:ID, lineage:graph, governance:ID, content:HASH, identity:KEY, key:ID, \
     recall:ID or entries:PATTERN"
)]
pub struct UnknownTag;

impl FromStr for Tag {
    type Err = UnknownTag;

    fn from_str(text: &str) -> Result<Self, UnknownTag> {
        let (kind, name) = text.split_once(':').ok_or(UnknownTag)?;
        match kind {
            "receipt" => name.parse().map(Self::Receipt).map_err(|_| UnknownTag),
            "asset" => name.parse().map(Self::Asset).map_err(|_| UnknownTag),
            "governance" => name.parse().map(Self::Governance).map_err(|_| UnknownTag),
            "content" => name.parse().map(Self::Content).map_err(|_| UnknownTag),
            "identity" => name.parse().map(Self::Identity).map_err(|_| UnknownTag),
            "key" => name.parse().map(Self::Key).map_err(|_| UnknownTag),
            "recall" => name.parse().map(Self::Recall).map_err(|_| UnknownTag),
            "entries" => KeyPattern::parse(name).map(Self::Entries).ok_or(UnknownTag),
            "lineage" if name == "graph" => Ok(Self::Lineage),
            "policy" if !name.is_empty() => Ok(Self::Policy(name.to_owned())),
            _ => Err(UnknownTag),
        }
    }
}

/// A place in the log. What it means is the adapter's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeMark(pub i64);

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Names the line: the same change may be read again.
    pub id: i64,
    pub tag: Tag,
}

/// What was read of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangePage {
    pub changes: Vec<Change>,
    /// Where to read on.
    pub mark: ChangeMark,
    /// The history that this was read in. A mark of another one says nothing.
    pub timeline: Timeline,
    /// More has changed than was read, or the log does not go back to where it was asked from: anything may have changed.
    pub anything: bool,
}

/// The log of changes.
#[async_trait]
pub trait Changes: Send + Sync + 'static {
    /// What has changed since `after`, and perhaps a little that was read before: every change whose transaction had
    /// committed is in this answer or in an earlier one. `None` asks where the log is now, without any change.
    async fn changes(&self, after: Option<ChangeMark>, limit: u32) -> PortResult<ChangePage>;

    /// Adds lines for what somebody says has changed, without changing it.
    async fn note_changes(&self, tags: &[Tag]) -> PortResult<()>;

    /// Forgets up to `limit` lines older than `before`; how many.
    async fn forget_changes(&self, before: Timestamp, limit: u32) -> PortResult<u64>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_read_back_from_its_text() {
        for tag in [
            Tag::Receipt(ReceiptId::random()),
            Tag::Policy("gold:with:colons".into()),
            Tag::Asset(VersionId::next()),
            Tag::Lineage,
            Tag::Governance("open-data".parse().expect("an id")),
            Tag::Content(ContentHash::from_bytes([0xa7; 32])),
            Tag::Identity(format!("02{}", "0a".repeat(32)).parse().expect("a key")),
            Tag::Key(KeyId::next()),
            Tag::Recall(ReceiptId::random()),
            Tag::Entries(KeyPattern::parse("assets:*").expect("a pattern")),
        ] {
            assert_eq!(tag.to_string().parse(), Ok(tag));
        }
        for bad in ["", "policy", "policy:", "receipt:1", "session:67e55044-10b1-426f-9247-bb680e5fe0c8"] {
            assert_eq!(bad.parse::<Tag>(), Err(UnknownTag), "{bad:?}");
        }
    }
}
