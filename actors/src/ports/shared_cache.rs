//! The cache that all instances share: the second tier of [`cache`](crate::cache).
//!
//! An entry is stored with the versions that its tags had *before* its value was loaded, and is valid only while those
//! versions are current. So invalidating a tag is one write, however many entries name it, and a load that raced an
//! invalidation is outdated at once. A tag without a version (it expired, or was evicted) outdates its entries: data
//! that the store forgets costs a load and never shows an old value.

use std::{borrow::Cow, fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::{PortResult, Tag};
use crate::{
    ids::{GovernancePolicyId, ReceiptId, VersionId},
    model::IdentityKey,
};

/// The caches. Each has a time to live of its own, and is a label of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CacheName {
    /// Assets with their price, by version id.
    Assets,
    /// Pages of the catalogue, by query.
    Listings,
    /// Answers about lineage, by query.
    Lineage,
    /// Quota policies, all of them in one entry since there are few, and governance policies, one by one.
    Policies,
    /// The stored part of a receipt, by its id; never the rest of its quota.
    Receipts,
    /// The producer that an identity key is bound to, by the key.
    Identities,
}

impl CacheName {
    pub const ALL: [Self; 6] =
        [Self::Assets, Self::Listings, Self::Lineage, Self::Policies, Self::Receipts, Self::Identities];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Assets => "assets",
            Self::Listings => "listings",
            Self::Lineage => "lineage",
            Self::Policies => "policies",
            Self::Receipts => "receipts",
            Self::Identities => "identities",
        }
    }

    pub const fn index(self) -> usize {
        self as usize
    }
}

/// The key of an entry; as text `assets:ID`, which a [`KeyPattern`] is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntryKey {
    pub cache: CacheName,
    pub id: Box<str>,
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.cache.as_str(), self.id)
    }
}

/// A dependency of entries, by name. A change ([`Tag`]) reaches the entries of one or more of these: see
/// [`reached_by`](Self::reached_by).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CacheTag(Cow<'static, str>);

impl CacheTag {
    /// Every entry depends on it, whether it names it or not.
    pub const ALL: Self = Self(Cow::Borrowed("all"));
    /// The policies as a whole.
    pub const POLICIES: Self = Self(Cow::Borrowed("policies"));
    /// Every page of the catalogue that shows several assets.
    pub const LISTINGS: Self = Self(Cow::Borrowed("listings"));
    /// The graph of lineage as a whole.
    pub const LINEAGE: Self = Self(Cow::Borrowed("lineage"));

    pub fn asset(id: VersionId) -> Self {
        Self(format!("asset:{id}").into())
    }

    pub fn receipt(id: ReceiptId) -> Self {
        Self(format!("receipt:{id}").into())
    }

    /// A governance policy.
    pub fn governance(id: &GovernancePolicyId) -> Self {
        Self(format!("governance:{id}").into())
    }

    pub fn identity(key: &IdentityKey) -> Self {
        Self(format!("identity:{key}").into())
    }

    /// The tags whose entries show this change. This is the one list of what invalidates what.
    pub fn reached_by(change: &Tag) -> Vec<Self> {
        match change {
            Tag::Receipt(id) => vec![Self::receipt(*id)],
            Tag::QuotaPolicy(_) => vec![Self::POLICIES],
            Tag::Asset(id) => vec![Self::asset(*id), Self::LISTINGS],
            Tag::Lineage => vec![Self::LINEAGE],
            Tag::Governance(id) => vec![Self::governance(id)],
            Tag::Identity(key) => vec![Self::identity(key)],
            // The cached facts of a content never change, and each instance has its own memory of keys.
            Tag::Content(_) | Tag::Key(_) | Tag::Recall(_) | Tag::EndStream(_) | Tag::Entries(_) => Vec::new(),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A pattern for entries that an operator wants dropped: `*` stands for any characters, `?` for one. It is compared
/// with the whole of `CACHE:ID`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyPattern(String);

/// Characters in a pattern. Longer ones match no existing key.
const MAX_PATTERN: usize = 256;

impl KeyPattern {
    /// `None` when the text is empty, too long, or has characters other than those of ids and the two wildcards.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '=' | '/' | '*' | '?');
        ((1..=MAX_PATTERN).contains(&text.len()) && text.chars().all(fits)).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern matches this text. Steps are bounded by the product of the lengths.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        // The last star, and how far it has matched: the only place to backtrack to.
        let (mut p, mut t, mut star) = (0, 0, None);
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(&c) if c == b'?' || c == text[t] => (p, t) = (p + 1, t + 1),
                _ => match star {
                    Some((at, taken)) => {
                        star = Some((at, taken + 1));
                        (p, t) = (at + 1, taken + 1);
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|&c| c == b'*')
    }
}

/// The version of a tag. Once replaced it never comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(pub u64);

/// The versions of some tags at a moment, in their order; `None` for a tag without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagVersions(pub Vec<Option<Version>>);

/// A value in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedValue {
    /// From then on it should be loaded again; it may still be served until it expires.
    pub fresh_until: Timestamp,
    pub bytes: Bytes,
}

/// The result of a look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheLookup {
    pub value: Option<SharedValue>,
    /// Read with the value; a value loaded from now on is [kept](SharedCache::keep) under these versions.
    pub seen: TagVersions,
}

/// Identifies the task that loads a value.
pub type Loader = u64;

/// Lists of the most used items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PopularityList {
    Assets,
    Contents,
}

impl PopularityList {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Assets => "assets",
            Self::Contents => "contents",
        }
    }
}

/// A cache shared by all instances. Nothing in it is the only copy: a caller may answer every error with a load.
#[async_trait]
pub trait SharedCache: Send + Sync + 'static {
    /// The value under a key, if `tags` still have the versions under which it was stored.
    async fn lookup(&self, key: &EntryKey, tags: &[CacheTag]) -> PortResult<CacheLookup>;

    /// Stores a value for `ttl`, under the versions seen before it was loaded. A tag that had none then gets one. If
    /// such a tag has got a version since, data may have changed meanwhile, and nothing is stored.
    async fn keep(
        &self,
        key: &EntryKey,
        tags: &[CacheTag],
        seen: &TagVersions,
        value: &SharedValue,
        ttl: Duration,
    ) -> PortResult<()>;

    /// Gives the tags new versions. Once it has returned, no instance finds anything that was stored or seen before.
    async fn invalidate(&self, tags: &[CacheTag]) -> PortResult<()>;

    /// Takes the right to load a value, for `ttl` at most; false when another loader has it. It only saves work: a
    /// loader without it may load all the same.
    async fn begin_load(&self, key: &EntryKey, loader: Loader, ttl: Duration) -> PortResult<bool>;

    /// Gives the right back, if it is still this loader's.
    async fn end_load(&self, key: &EntryKey, loader: Loader) -> PortResult<()>;

    /// Removes the entries whose key matches; returns how many. It works in bounded steps, with turns for other calls
    /// in between.
    async fn remove(&self, pattern: &KeyPattern) -> PortResult<u64>;

    /// Adds recent uses to the counts of a list.
    async fn add_popularity(&self, list: PopularityList, uses: &[(String, u64)]) -> PortResult<()>;

    /// The items most used lately on all instances, most used first.
    async fn most_popular(&self, list: PopularityList, limit: usize) -> PortResult<Vec<String>>;

    /// The id of the store's current run. It changes with a restart, after which the store may have an earlier state.
    async fn run_id(&self) -> PortResult<u64>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> KeyPattern {
        KeyPattern::parse(text).expect("a pattern")
    }

    #[test]
    fn a_pattern_means_what_it_spells() {
        for (text, key, expected) in [
            ("assets:*", "assets:1", true),
            ("assets:*", "assets:", true),
            ("assets:*", "listings:assets:1", false),
            ("*", "anything", true),
            ("*:1?3", "receipts:123", true),
            ("*:1?3", "receipts:13", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
            ("assets:1", "assets:12", false),
        ] {
            assert_eq!(pattern(text).matches(key), expected, "{text} {key}");
        }
        for bad in ["", "a b", "a[b]", "{x}", "a\n", &"a".repeat(257)] {
            assert_eq!(KeyPattern::parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_made_from_a_text_matches_it(text in "[a-z:]{0,20}", holes in prop::collection::vec((0_usize..20, 0_usize..4), 0..5)) {
            let mut made = text.clone();
            for (at, length) in holes {
                let (at, end) = (at.min(made.len()), (at + length).min(made.len()));
                made.replace_range(at..end, "*");
            }
            prop_assume!(!made.is_empty());
            prop_assert!(pattern(&made).matches(&text), "{} {}", made, text);
        }
    }
}
