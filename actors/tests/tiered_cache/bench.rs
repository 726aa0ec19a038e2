//! Instances that share a cache, and a source of values that counts its loads.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use penstock_actors::{
    cache::{CacheTtls, TieredCache, TieredDeps, TieredSettings},
    ids::ReceiptId,
    ports::{CacheName, CacheTag, PortResult, Tag},
    testkit::{clock::ManualClock, memory_cache::MemoryCache, script::Script},
};

pub(crate) const START: &str = "2026-11-01T10:30:00Z";
pub(crate) const TTL: Duration = Duration::from_secs(100);
pub(crate) const STALE: Duration = Duration::from_secs(20);
pub(crate) const NEGATIVE: Duration = Duration::from_secs(5);

/// The longest wait for a condition. Long enough for a busy machine; a test that waits so long fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// The source of values: a number for each name, which grows with each change.
#[derive(Default)]
pub(crate) struct Source {
    /// The scripted faults of its `load`s.
    pub(crate) script: Script,
    values: Mutex<HashMap<String, u64>>,
    loads: AtomicU64,
}

impl Source {
    pub(crate) fn set(&self, name: &str, value: u64) {
        self.values.lock().expect("no test panics here").insert(name.to_owned(), value);
    }

    pub(crate) fn loads(&self) -> u64 {
        self.loads.load(SeqCst)
    }

    pub(crate) async fn load(&self, name: &str) -> PortResult<Option<u64>> {
        self.loads.fetch_add(1, SeqCst);
        let read = || Ok(self.values.lock().expect("no test panics here").get(name).copied());
        tokio::task::yield_now().await;
        let value = self.script.play("load", 1, read).await;
        tokio::task::yield_now().await;
        value
    }
}

pub(crate) struct Bench {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) shared: Arc<MemoryCache>,
    pub(crate) source: Arc<Source>,
}

impl Default for Bench {
    fn default() -> Self {
        let clock = Arc::new(ManualClock::at(START));
        Self { shared: Arc::new(MemoryCache::new(clock.clone())), clock, source: Arc::default() }
    }
}

pub(crate) fn settings() -> TieredSettings {
    TieredSettings {
        memory: 8 << 20,
        ttls: CacheTtls {
            assets: TTL,
            listings: TTL,
            lineage: TTL,
            policies: Duration::ZERO,
            receipts: TTL,
            identities: TTL,
        },
        stale: STALE,
        negative_ttl: NEGATIVE,
        patience: Duration::from_millis(500),
    }
}

impl Bench {
    pub(crate) fn instance(&self) -> Instance {
        self.instance_with(settings(), true)
    }

    pub(crate) fn instance_with(&self, settings: TieredSettings, shares: bool) -> Instance {
        let deps = TieredDeps {
            shared: shares.then(|| self.shared.clone() as _),
            clock: self.clock.clone(),
            io: tokio::runtime::Handle::current(),
        };
        Instance { cache: TieredCache::new(settings, deps), source: Arc::clone(&self.source) }
    }
}

/// One instance that reads through its cache.
#[derive(Clone)]
pub(crate) struct Instance {
    pub(crate) cache: TieredCache,
    source: Arc<Source>,
}

/// The receipt that a name stands for: its changes reach the entries of the name.
fn receipt(name: &str) -> ReceiptId {
    let hash = name.bytes().fold(7, |hash: u128, byte| hash.wrapping_mul(257).wrapping_add(u128::from(byte)));
    ReceiptId::from_uuid(uuid::Uuid::from_u128(hash))
}

pub(crate) fn change(name: &str) -> Tag {
    Tag::Receipt(receipt(name))
}

/// The tag that entries of a name depend on.
pub(crate) fn tag(name: &str) -> CacheTag {
    CacheTag::receipt(receipt(name))
}

impl Instance {
    pub(crate) async fn try_read(&self, name: &str) -> PortResult<Option<u64>> {
        let (source, wanted) = (Arc::clone(&self.source), name.to_owned());
        let load = move || async move { source.load(&wanted).await };
        let value = self.cache.get(CacheName::Assets, name, &[tag(name)], load).await?;
        Ok(value.map(|value| *value))
    }

    pub(crate) async fn read(&self, name: &str) -> Option<u64> {
        self.try_read(name).await.expect("a value or none")
    }

    /// Changes a value as a writer does: the change, the invalidation, the answer.
    pub(crate) async fn write(&self, name: &str, value: u64) {
        self.source.set(name, value);
        self.cache.changed(&change(name)).await;
    }
}

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = std::time::Instant::now() + DEADLINE;
    while !condition().await {
        assert!(std::time::Instant::now() < deadline, "it never came to pass that {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
