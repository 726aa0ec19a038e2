//! The log of changes to the database, from which every instance learns of them even if messages are lost.
//!
//! The database writes the log in the transaction of the change itself, so there is no change without its line, and no
//! line without its change. Instances poll it ([`ChangeFollower`](crate::node::change_follower)); messages in the shared
//! state only make it faster.

use std::{fmt, str::FromStr};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{KeyPattern, PortResult};
use crate::{
    ids::{ContentHash, GovernancePolicyId, KeyId, ReceiptId, UsageId, VersionId},
    model::{IdentityKey, Timeline},
};

/// A dependency of cached answers; publishing the tag invalidates those answers everywhere. As text: `receipt:ID`,
/// `policy:NAME`, `asset:ID`, `lineage:graph`, `governance:ID`, `content:HASH`, `identity:KEY`, `key:ID`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tag {
    Receipt(ReceiptId),
    QuotaPolicy(String),
    Asset(VersionId),
    /// `lineage:graph`. The graph has new jobs, datasets or edges.
    Lineage,
    /// `governance:ID`. A governance policy has a new version.
    Governance(GovernancePolicyId),
    /// The place of a content, or whether it is withheld from readers; never its bytes.
    Content(ContentHash),
    /// The producer that an identity key authenticates.
    Identity(IdentityKey),
    /// The rights of an API key.
    Key(KeyId),
    /// `recall:ID`. Not a change: another instance needs idle credit of this receipt.
    Recall(ReceiptId),
    /// `end-stream:ID`. Not a change: a newer stream of the same session needs the slot of this stream.
    EndStream(UsageId),
    /// `entries:PATTERN`. Not a change either: an operator wants cached entries with a matching key to be dropped.
    Entries(KeyPattern),
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Receipt(id) => write!(f, "receipt:{id}"),
            Self::QuotaPolicy(name) => write!(f, "policy:{name}"),
            Self::Asset(id) => write!(f, "asset:{id}"),
            Self::Lineage => f.write_str("lineage:graph"),
            Self::Governance(id) => write!(f, "governance:{id}"),
            Self::Content(hash) => write!(f, "content:{hash}"),
            Self::Identity(key) => write!(f, "identity:{key}"),
            Self::Key(id) => write!(f, "key:{id}"),
            Self::Recall(id) => write!(f, "recall:{id}"),
            Self::EndStream(id) => write!(f, "end-stream:{id}"),
            Self::Entries(pattern) => write!(f, "entries:{}", pattern.as_str()),
        }
    }
}

/// The text is not a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a tag is receipt:ID, policy:NAME, asset:ID, lineage:graph, governance:ID, content:HASH, identity:KEY, key:ID, \
     recall:ID, end-stream:ID or entries:PATTERN"
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
            "end-stream" => name.parse().map(Self::EndStream).map_err(|_| UnknownTag),
            "entries" => KeyPattern::parse(name).map(Self::Entries).ok_or(UnknownTag),
            "lineage" if name == "graph" => Ok(Self::Lineage),
            "policy" if !name.is_empty() => Ok(Self::QuotaPolicy(name.to_owned())),
            _ => Err(UnknownTag),
        }
    }
}

/// A position in the log. Its meaning is up to the adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeMark(pub i64);

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The id of the line: the same line may be read again.
    pub id: i64,
    pub tag: Tag,
}

/// A page of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangePage {
    pub changes: Vec<Change>,
    /// Where to read on.
    pub mark: ChangeMark,
    /// The timeline in which this was read. A mark of another timeline means nothing.
    pub timeline: Timeline,
    /// More has changed than was read, or the log no longer reaches back to the mark: anything may have changed.
    pub anything: bool,
}

/// The log of changes.
#[async_trait]
pub trait Changes: Send + Sync + 'static {
    /// The changes since `after`, and perhaps some that were read before: every change whose transaction had committed
    /// is in this answer or in an earlier one. `None` asks for the end of the log, without any change.
    async fn changes(&self, after: Option<ChangeMark>, limit: u32) -> PortResult<ChangePage>;

    /// Adds lines for changes that are reported by an operator or another instance. Changes nothing else.
    async fn note_changes(&self, tags: &[Tag]) -> PortResult<()>;

    /// Forgets up to `limit` lines older than `before`; returns how many.
    async fn forget_changes(&self, before: Timestamp, limit: u32) -> PortResult<u64>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_read_back_from_its_text() {
        for tag in [
            Tag::Receipt(ReceiptId::random()),
            Tag::QuotaPolicy("gold:with:colons".into()),
            Tag::Asset(VersionId::next()),
            Tag::Lineage,
            Tag::Governance("open-data".parse().expect("an id")),
            Tag::Content(ContentHash::from_bytes([0xa7; 32])),
            Tag::Identity(format!("02{}", "0a".repeat(32)).parse().expect("a key")),
            Tag::Key(KeyId::next()),
            Tag::Recall(ReceiptId::random()),
            Tag::EndStream(UsageId::next()),
            Tag::Entries(KeyPattern::parse("assets:*").expect("a pattern")),
        ] {
            assert_eq!(tag.to_string().parse(), Ok(tag));
        }
        for bad in ["", "policy", "policy:", "receipt:1", "session:67e55044-10b1-426f-9247-bb680e5fe0c8"] {
            assert_eq!(bad.parse::<Tag>(), Err(UnknownTag), "{bad:?}");
        }
    }
}
