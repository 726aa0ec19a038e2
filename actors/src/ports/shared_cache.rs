//! The cache that all instances share: the second tier of [`tiered_cache`](crate::tiered_cache).
//!
//! An entry is kept with the versions that its tags had *before* its value was loaded, and is there only while they are still
//! their versions. So invalidating a tag is one write, however many entries name it, and a load that raced an invalidation
//! is outdated at once. A tag without a version (it expired, or was pushed out) makes its entries outdated: what the store
//! forgets costs a load and is never wrong.

use std::{borrow::Cow, fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::{PortResult, Tag};
use crate::{
    ids::{PolicyId, ReceiptId, VersionId},
    model::IdentityKey,
};

/// The caches. Each has a time to live of its own, and is a label of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CacheName {
    /// Assets with their price, by version id.
    Assets,
    /// Pages of the catalogue, by what was asked.
    Listings,
    /// Answers about lineage, by what was asked.
    Lineage,
    /// Quota policies, all of them in one entry since there are few, and governance policies, one by one.
    Policies,
    /// What a receipt says, by its id; never what is left of its quota.
    Receipts,
    /// Whom an identity key speaks for, by the key.
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

/// The name of an entry; as text `assets:ID`, which is what a [`KeyPattern`] is compared with.
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

/// What entries depend on, by name. A change ([`Tag`]) reaches the entries of one or more of these: see
/// [`reached_by`](Self::reached_by).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CacheTag(Cow<'static, str>);

impl CacheTag {
    /// Every entry depends on it, whether it names it or not.
    pub const ALL: Self = Self(Cow::Borrowed("all"));
    /// The policies as a whole.
    pub const POLICIES: Self = Self(Cow::Borrowed("policies"));
    /// Every page of the catalogue: what shows several assets.
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
    pub fn governance(id: &PolicyId) -> Self {
        Self(format!("governance:{id}").into())
    }

    pub fn identity(key: &IdentityKey) -> Self {
        Self(format!("identity:{key}").into())
    }

    /// The tags whose entries show what this change has changed. The one list of what invalidates what.
    pub fn reached_by(change: &Tag) -> Vec<Self> {
        match change {
            Tag::Receipt(id) => vec![Self::receipt(*id)],
            Tag::Policy(_) => vec![Self::POLICIES],
            Tag::Asset(id) => vec![Self::asset(*id), Self::LISTINGS],
            Tag::Lineage => vec![Self::LINEAGE],
            Tag::Governance(id) => vec![Self::governance(id)],
            Tag::Identity(key) => vec![Self::identity(key)],
            // What is cached of a content never changes, and each instance has its own memory of keys.
            Tag::Content(_) | Tag::Key(_) | Tag::Recall(_) | Tag::Entries(_) => Vec::new(),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which entries an operator means: `*` stands for any characters, `?` for one. Compared with `CACHE:ID` as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyPattern(String);

/// Characters in a pattern. Longer ones match nothing that there is.
const MAX_PATTERN: usize = 256;

impl KeyPattern {
    /// `None` when the text is empty, too long, or has other characters than ids and the two wildcards have.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '=' | '/' | '*' | '?');
        ((1..=MAX_PATTERN).contains(&text.len()) && text.chars().all(fits)).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern means this text. Steps are bounded by the product of the lengths.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        // Where the last star was, and up to where it has taken text: the only place to come back to.
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

/// The version of a tag. Once it was replaced it never comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(pub u64);

/// The versions of some tags at a moment, in their order; `None` where a tag had none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen(pub Vec<Option<Version>>);

/// A value as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedValue {
    /// From when on it should be loaded again; until its time is over it may still be served.
    pub fresh_until: Timestamp,
    pub bytes: Bytes,
}

/// What was found under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub value: Option<SharedValue>,
    /// Read with the value; what a value loaded from now on is [kept](SharedCache::keep) under.
    pub seen: Seen,
}

/// Names whoever loads a value.
pub type Loader = u64;

/// Lists of what is used most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UseList {
    Assets,
    Contents,
}

impl UseList {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Assets => "assets",
            Self::Contents => "contents",
        }
    }
}

/// A cache shared by all instances. Nothing in it is the only copy: every error may be answered by a load.
#[async_trait]
pub trait SharedCache: Send + Sync + 'static {
    /// The value under a key, if the versions of `tags` are still those that it was kept under.
    async fn look(&self, key: &EntryKey, tags: &[CacheTag]) -> PortResult<Look>;

    /// Keeps a value for `ttl`, under the versions that were seen before it was loaded. A tag that had none then gets one;
    /// where it has got one since, something may have changed meanwhile, and nothing is kept.
    async fn keep(
        &self,
        key: &EntryKey,
        tags: &[CacheTag],
        seen: &Seen,
        value: &SharedValue,
        ttl: Duration,
    ) -> PortResult<()>;

    /// Gives the tags new versions. Once it has returned, nothing that was kept or seen before is found on any instance.
    async fn invalidate(&self, tags: &[CacheTag]) -> PortResult<()>;

    /// Takes the right to load a value, for `ttl` at most; false when somebody else has it. It only saves work: whoever does
    /// not get it may load all the same.
    async fn begin_load(&self, key: &EntryKey, loader: Loader, ttl: Duration) -> PortResult<bool>;

    /// Gives the right back, if it is still this loader's.
    async fn end_load(&self, key: &EntryKey, loader: Loader) -> PortResult<()>;

    /// Removes the entries whose key matches; how many. In bounded steps, between which others have their turn.
    async fn remove(&self, pattern: &KeyPattern) -> PortResult<u64>;

    /// Adds to how often things were used lately.
    async fn add_uses(&self, list: UseList, uses: &[(String, u64)]) -> PortResult<()>;

    /// What was used most lately by all instances, the most used first.
    async fn most_used(&self, list: UseList, limit: usize) -> PortResult<Vec<String>>;

    /// Names the life of the store: another one after it was restarted, when it may have gone back to an earlier state.
    async fn life(&self) -> PortResult<u64>;
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
