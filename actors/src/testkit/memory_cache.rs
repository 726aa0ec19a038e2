//! A shared cache in memory, with faults by script.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;

use super::script::Script;
use crate::{
    clock::Clock,
    ports::{
        CacheLookup, CacheTag, EntryKey, KeyPattern, Loader, PopularityList, PortResult, SharedCache, SharedValue,
        TagVersions, Version,
    },
};

/// A shared cache in memory. Tags keep their versions for ever; the effect of lost versions shows when a test
/// [restarts](Self::restart_as_of) it.
pub struct MemoryCache {
    /// Its scripted faults.
    pub script: Script,
    clock: Arc<dyn Clock>,
    kept: Mutex<CacheContents>,
}

/// All of its contents, at a moment.
#[derive(Clone, Default)]
pub struct CacheContents {
    entries: HashMap<EntryKey, (Vec<Version>, SharedValue, Instant)>,
    versions: HashMap<CacheTag, Version>,
    loads: HashMap<EntryKey, (Loader, Instant)>,
    uses: HashMap<(PopularityList, String), u64>,
    runs: u64,
    /// Survives every restart: a version never comes back.
    last_version: u64,
}

impl CacheContents {
    fn renew(&mut self, tag: &CacheTag) -> Version {
        self.last_version += 1;
        let version = Version(self.last_version);
        self.versions.insert(tag.clone(), version);
        version
    }
}

impl MemoryCache {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { script: Script::default(), clock, kept: Mutex::default() }
    }

    /// A store never answers at once: other tasks that could run before and after its work get their turn.
    async fn answer<T>(&self, call: &'static str, size: usize, work: impl FnOnce() -> PortResult<T>) -> PortResult<T> {
        tokio::task::yield_now().await;
        let answer = self.script.play(call, size, work).await;
        tokio::task::yield_now().await;
        answer
    }

    fn held(&self) -> MutexGuard<'_, CacheContents> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its present contents.
    pub fn snapshot(&self) -> CacheContents {
        self.held().clone()
    }

    /// Restarts it with its contents of an earlier moment, like a store that is restored from its last snapshot.
    pub fn restart_as_of(&self, earlier: CacheContents) {
        let mut kept = self.held();
        let (runs, last_version) = (kept.runs + 1, kept.last_version);
        *kept = CacheContents { runs, last_version, ..earlier };
    }

    /// Entries in it, whether outdated or not.
    pub fn entries(&self) -> usize {
        self.held().entries.len()
    }
}

#[async_trait]
impl SharedCache for MemoryCache {
    async fn lookup(&self, key: &EntryKey, tags: &[CacheTag]) -> PortResult<CacheLookup> {
        let work = || {
            let kept = self.held();
            let seen = TagVersions(tags.iter().map(|tag| kept.versions.get(tag).copied()).collect());
            let entry = kept.entries.get(key).filter(|(versions, _, until)| {
                *until > self.clock.monotonic() && versions.iter().map(|v| Some(*v)).eq(seen.0.iter().copied())
            });
            Ok(CacheLookup { value: entry.map(|(_, value, _)| value.clone()), seen })
        };
        self.answer("look", 1, work).await
    }

    async fn keep(
        &self,
        key: &EntryKey,
        tags: &[CacheTag],
        seen: &TagVersions,
        value: &SharedValue,
        ttl: Duration,
    ) -> PortResult<()> {
        let work = || {
            let mut kept = self.held();
            let mut versions = Vec::new();
            for (tag, seen) in tags.iter().zip(&seen.0) {
                match seen {
                    Some(version) => versions.push(*version),
                    None if kept.versions.contains_key(tag) => return Ok(()),
                    None => versions.push(kept.renew(tag)),
                }
            }
            let until = self.clock.monotonic() + ttl;
            kept.entries.insert(key.clone(), (versions, value.clone(), until));
            Ok(())
        };
        self.answer("keep", 1, work).await
    }

    async fn invalidate(&self, tags: &[CacheTag]) -> PortResult<()> {
        let work = || {
            let mut kept = self.held();
            for tag in tags {
                kept.renew(tag);
            }
            Ok(())
        };
        self.answer("invalidate", tags.len(), work).await
    }

    async fn begin_load(&self, key: &EntryKey, loader: Loader, ttl: Duration) -> PortResult<bool> {
        let work = || {
            let (mut kept, now) = (self.held(), self.clock.monotonic());
            if kept.loads.get(key).is_some_and(|(_, until)| *until > now) {
                return Ok(false);
            }
            kept.loads.insert(key.clone(), (loader, now + ttl));
            Ok(true)
        };
        self.answer("begin_load", 1, work).await
    }

    async fn end_load(&self, key: &EntryKey, loader: Loader) -> PortResult<()> {
        let work = || {
            let mut kept = self.held();
            if kept.loads.get(key).is_some_and(|(holder, _)| *holder == loader) {
                kept.loads.remove(key);
            }
            Ok(())
        };
        self.answer("end_load", 1, work).await
    }

    async fn remove(&self, pattern: &KeyPattern) -> PortResult<u64> {
        let work = || {
            let mut kept = self.held();
            let before = kept.entries.len();
            kept.entries.retain(|key, _| !pattern.matches(&key.to_string()));
            Ok((before - kept.entries.len()) as u64)
        };
        self.answer("remove", 1, work).await
    }

    async fn add_popularity(&self, list: PopularityList, uses: &[(String, u64)]) -> PortResult<()> {
        let work = || {
            let mut kept = self.held();
            for (name, count) in uses {
                *kept.uses.entry((list, name.clone())).or_default() += count;
            }
            Ok(())
        };
        self.answer("add_uses", uses.len(), work).await
    }

    async fn most_popular(&self, list: PopularityList, limit: usize) -> PortResult<Vec<String>> {
        let work = || {
            let kept = self.held();
            let mut uses: Vec<_> = kept.uses.iter().filter(|((of, _), _)| *of == list).collect();
            uses.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.1.cmp(&b.0.1)));
            Ok(uses.into_iter().take(limit).map(|((_, name), _)| name.clone()).collect())
        };
        self.answer("most_used", limit, work).await
    }

    async fn run_id(&self) -> PortResult<u64> {
        self.answer("run_id", 1, || Ok(self.held().runs)).await
    }
}
