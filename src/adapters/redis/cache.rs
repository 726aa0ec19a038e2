//! The shared tier of the caches.
//!
//! | key | holds |
//! |---|---|
//! | `c:CACHE:{ID}` | an [`entry`], for as long as it may be served |
//! | `t:KIND:{ID}` | the version of a tag: 8 bytes; run_ids longer than any entry that names it |
//! | `l:CACHE:{ID}` | the instance that loads the entry, for some seconds |
//! | `u:LIST:{HOUR}` | uses within an hour, a sorted set of bounded size |
//!
//! An entry and the tag of the thing that it shows share an id, and so a hash slot; tags of other things may be in
//! other slots. No call needs two keys of different slots: calls that belong together are sent together, each to the
//! server of its key, and the order of their effects makes that safe. Versions are written first and read together with
//! the entry, so that an outdated entry is never taken for a valid one.
//!
//! **Bound:** every key expires. A server that evicts keys when memory runs out (`maxmemory-policy allkeys-lru`) may
//! evict any of these: a missing key counts as outdated.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use async_trait::async_trait;
use futures::future::join_all;
use jiff::Timestamp;
use penstock_actors::ports::{
    CacheLookup, CacheTag, EntryKey, KeyPattern, Loader, PopularityList, PortError, PortResult, SharedCache,
    SharedValue, TagVersions, Version,
};
use redis::{FromRedisValue, Value};
use uuid::Uuid;

use super::{
    RedisLink, RedisNode,
    script::{Call, Script},
};

pub(crate) mod entry;
mod popularity;

/// Releases the load lock, if the caller still holds it.
static END_LOAD: Script = Script::new(
    "cache_end_load",
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0",
);

/// Keys that one step of a removal looks at, so that the shared server is blocked for well under a millisecond.
const STEP: usize = 500;

/// The caches' shared tier on Redis.
pub struct RedisCache {
    link: RedisLink,
    /// How long a version run_ids after it was last needed: longer than entries, so that no entry becomes invalid because
    /// its version expired.
    tag_ttl: Duration,
}

impl RedisCache {
    /// `longest` is the longest time that any entry run_ids.
    pub fn new(link: RedisLink, longest: Duration) -> Self {
        // A load that began under a version must find that version still, or a newer one.
        Self { link, tag_ttl: longest + Duration::from_secs(60) }
    }

    fn entry(&self, key: &EntryKey) -> String {
        self.link.key(&format!("c:{}", key.cache.as_str()), &key.id)
    }

    fn lock(&self, key: &EntryKey) -> String {
        self.link.key(&format!("l:{}", key.cache.as_str()), &key.id)
    }

    fn tag(&self, tag: &CacheTag) -> String {
        let (kind, id) = tag.as_str().split_once(':').unwrap_or((tag.as_str(), tag.as_str()));
        self.link.key(&format!("t:{kind}"), id)
    }

    /// The glob that the server matches: all keys that share the pattern's text before its first wildcard. This
    /// instance then matches the keys that it gets against the whole pattern.
    fn glob(&self, pattern: &KeyPattern) -> String {
        let head = pattern.as_str().split(['*', '?']).next().unwrap_or_default();
        let head = match head.split_once(':') {
            Some((cache, id)) => format!("{cache}:{{{id}"),
            None => head.to_owned(),
        };
        format!("{}c:{}*", literally(self.link.prefix()), literally(&head))
    }

    /// Calls that all have to succeed, in one round trip per server.
    async fn all(&self, calls: Vec<Call>) -> PortResult<Vec<Value>> {
        self.link.ask_all(calls).await.into_iter().collect()
    }

    /// Removes matching keys on one server, a step at a time.
    async fn remove_on(&self, node: &RedisNode, pattern: &KeyPattern) -> PortResult<u64> {
        let glob = self.glob(pattern);
        let (mut cursor, mut removed) = ("0".to_owned(), 0);
        loop {
            let scan = Call::command("cache_scan", "SCAN").arg(&cursor).arg("MATCH").arg(&glob).arg("COUNT").arg(STEP);
            let (next, keys): (String, Vec<String>) = self.link.ask_node(node, scan).await?;
            let begin = self.link.prefix().len() + "c:".len();
            let matches = |key: &&String| {
                // The braces belong to the key format; the operator's pattern has none.
                let bare = key.get(begin..).and_then(|key| key.strip_suffix('}')?.split_once(":{"));
                bare.is_some_and(|(cache, id)| pattern.matches(&format!("{cache}:{id}")))
            };
            // One command per key, since on a cluster the keys are in different slots; all in one round trip.
            let unlink = |key: &String| Call::command("cache_unlink", "UNLINK").key(key);
            for answer in self.link.ask_all(keys.iter().filter(matches).map(unlink).collect()).await {
                removed += typed::<u64>(answer?)?;
            }
            if next == "0" {
                return Ok(removed);
            }
            cursor = next;
            tokio::task::yield_now().await;
        }
    }
}

/// Escapes a text so that a glob matches it literally.
fn literally(text: &str) -> String {
    text.chars().flat_map(|c| if "*?[]^\\".contains(c) { vec!['\\', c] } else { vec![c] }).collect()
}

/// A unique version: 64 random bits.
fn new_version() -> Version {
    Version(Uuid::new_v4().as_u64_pair().0 ^ Uuid::new_v4().as_u64_pair().1)
}

/// Converts an answer to the expected type.
fn typed<T: FromRedisValue>(value: Value) -> PortResult<T> {
    T::from_redis_value(value).map_err(|error| PortError::rejected("Redis", error))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn version(value: Value) -> PortResult<Option<Version>> {
    let bytes: Option<Vec<u8>> = typed(value)?;
    // Another program wrote a value that is not a version: treat it as missing.
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map(|bytes| Version(u64::from_le_bytes(bytes))))
}

#[async_trait]
impl SharedCache for RedisCache {
    async fn lookup(&self, key: &EntryKey, tags: &[CacheTag]) -> PortResult<CacheLookup> {
        let get = |key: &str| Call::command("cache_get", "GET").key(key);
        let mut calls = vec![get(&self.entry(key))];
        calls.extend(tags.iter().map(|tag| get(&self.tag(tag))));
        let mut answers = self.all(calls).await?.into_iter();
        let kept: Option<Vec<u8>> = typed(answers.next().unwrap_or(Value::Nil))?;
        let seen = TagVersions(answers.map(version).collect::<PortResult<_>>()?);
        let value = kept.and_then(|kept| entry::decode(&kept, &seen));
        Ok(CacheLookup { value, seen })
    }

    async fn keep(
        &self,
        key: &EntryKey,
        tags: &[CacheTag],
        seen: &TagVersions,
        value: &SharedValue,
        ttl: Duration,
    ) -> PortResult<()> {
        if value.bytes.len() > entry::MOST {
            return Ok(());
        }
        let tag_ttl = millis(self.tag_ttl);
        let (mut versions, mut missing) = (Vec::with_capacity(tags.len()), Vec::new());
        for (tag, seen) in tags.iter().zip(&seen.0) {
            let version = seen.unwrap_or_else(|| {
                let version = new_version();
                let set = Call::command("cache_first_version", "SET").key(&self.tag(tag));
                missing.push(set.arg(&version.0.to_le_bytes()[..]).arg("NX").arg("PX").arg(tag_ttl));
                version
            });
            versions.push(version);
        }
        if !missing.is_empty() {
            for answer in self.all(missing).await? {
                if answer == Value::Nil {
                    // The version has changed: the loaded value may be from before the change.
                    return Ok(());
                }
            }
        }
        let bytes = entry::encode(&versions, value);
        let mut calls =
            vec![Call::command("cache_set", "SET").key(&self.entry(key)).arg(&bytes[..]).arg("PX").arg(millis(ttl))];
        let known = tags.iter().zip(&seen.0).filter(|(_, seen)| seen.is_some());
        calls
            .extend(known.map(|(tag, _)| Call::command("cache_tag_lives", "PEXPIRE").key(&self.tag(tag)).arg(tag_ttl)));
        self.all(calls).await.map(drop)
    }

    async fn invalidate(&self, tags: &[CacheTag]) -> PortResult<()> {
        let tag_ttl = millis(self.tag_ttl);
        let set = |tag: &CacheTag| {
            let set = Call::command("cache_invalidate", "SET").key(&self.tag(tag));
            set.arg(&new_version().0.to_le_bytes()[..]).arg("PX").arg(tag_ttl)
        };
        self.all(tags.iter().map(set).collect()).await.map(drop)
    }

    async fn begin_load(&self, key: &EntryKey, loader: Loader, ttl: Duration) -> PortResult<bool> {
        let set = Call::command("cache_begin_load", "SET").key(&self.lock(key));
        let taken: Option<String> = self.link.ask(set.arg(loader).arg("NX").arg("PX").arg(millis(ttl))).await?;
        Ok(taken.is_some())
    }

    async fn end_load(&self, key: &EntryKey, loader: Loader) -> PortResult<()> {
        self.link.ask_later::<()>(END_LOAD.on(&[&self.lock(key)]).arg(loader)).await
    }

    async fn remove(&self, pattern: &KeyPattern) -> PortResult<u64> {
        let nodes = self.link.nodes()?;
        let removals = nodes.iter().map(|node| self.remove_on(node, pattern));
        join_all(removals).await.into_iter().sum()
    }

    async fn add_popularity(&self, list: PopularityList, uses: &[(String, u64)]) -> PortResult<()> {
        popularity::add(&self.link, list, uses, Timestamp::now()).await
    }

    async fn most_popular(&self, list: PopularityList, limit: usize) -> PortResult<Vec<String>> {
        popularity::most(&self.link, list, limit, Timestamp::now()).await
    }

    async fn run_id(&self) -> PortResult<u64> {
        let nodes = self.link.nodes()?;
        let run_ids = nodes.iter().map(|node| async {
            let info: String = self.link.ask_node(node, Call::command("cache_life", "INFO").arg("server")).await?;
            let id = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default().trim().to_owned();
            PortResult::Ok(id)
        });
        let mut run_ids = join_all(run_ids).await.into_iter().collect::<PortResult<Vec<_>>>()?;
        // Masters may be listed in another order, and slots may move between them.
        run_ids.sort();
        let mut hasher = DefaultHasher::new();
        run_ids.hash(&mut hasher);
        Ok(hasher.finish())
    }
}
