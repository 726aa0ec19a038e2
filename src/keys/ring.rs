//! A cache of keys, so that not every call costs a look-up. It also notes when a key was last used.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use moka::{Expiry, future::Cache};
use penstock_actors::{
    ids::KeyId,
    model::ApiKey,
    ports::{ApiKeys, PortError, PortResult, Tag},
};
use subtle::ConstantTimeEq as _;

use super::{SecretHash, hash};

/// How long a known key is cached. A revoked key ends earlier: the change log announces it ([`KeyRing::heard`]).
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// How long an unknown key is cached as unknown: a key that was just created on another instance works after this time
/// at the latest.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);

/// Entries kept. At about 200 bytes each this is 2 MiB; guessed keys evict each other before they evict one in use.
const CAPACITY: u64 = 10_000;

/// How long after its last use the owner of a secret is remembered; this gives no rights.
const NAMED_FOR: Duration = Duration::from_hours(1);

/// How often the use of one secret is noted, by each instance.
const NOTED_EVERY: Duration = Duration::from_mins(10);

/// Keys by the hash of their secret, in front of the database. Concurrent misses of one key share one query.
pub struct KeyRing {
    api_keys: Arc<dyn ApiKeys>,
    seen: Cache<SecretHash, CachedKey>,
    /// Grows with each change of a key: earlier look-ups do not count any more.
    changes: AtomicU64,
    /// The present or former owner of a secret, for counting. Only found keys are added, so guessed keys evict nothing.
    names: Cache<SecretHash, KeyId>,
    /// The secrets of which the use was noted within [`NOTED_EVERY`]. Only found keys are added.
    noted: Cache<SecretHash, ()>,
}

/// The result of a look-up.
#[derive(Clone)]
struct CachedKey {
    key: Option<ApiKey>,
    /// The number of known changes before it began.
    as_of: u64,
}

impl KeyRing {
    pub fn new(api_keys: Arc<dyn ApiKeys>) -> Self {
        let seen = Cache::builder().max_capacity(CAPACITY).expire_after(KeyExpiry).build();
        let names = Cache::builder().max_capacity(CAPACITY).time_to_idle(NAMED_FOR).build();
        let noted = Cache::builder().max_capacity(CAPACITY).time_to_live(NOTED_EVERY).build();
        Self { api_keys, seen, changes: AtomicU64::new(0), names, noted }
    }

    /// The key whose secret has this hash, if there is one.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn find(&self, hash: SecretHash) -> Result<Option<ApiKey>, Arc<PortError>> {
        let known = self.changes.load(Ordering::SeqCst);
        let mut believed = self.seen.try_get_with(hash, self.look_up(&hash)).await?;
        // A look-up that began before the change may still be running and be shared: then the call waits for it and
        // asks again.
        while believed.as_of < known {
            self.seen.invalidate(&hash).await;
            believed = self.seen.try_get_with(hash, self.look_up(&hash)).await?;
        }
        // The look-up compared an index entry, in a time that depends on the common prefix; the deciding comparison
        // here takes constant time.
        let key = believed.key.filter(|key| bool::from(key.secret_hash.ct_eq(&hash)));
        if let Some(key) = &key {
            if !self.names.contains_key(&hash) {
                self.names.insert(hash, key.key_id).await;
            }
            self.note_use(hash, key).await;
        }
        Ok(key)
    }

    /// Notes the use of a key, in the background: no call waits for it, and none fails because of it.
    async fn note_use(&self, hash: SecretHash, key: &ApiKey) {
        if self.noted.contains_key(&hash) {
            return;
        }
        // Before the write, so that a database that is away gets one attempt and not one for each call.
        self.noted.insert(hash, ()).await;
        if let Some(ends_in) = key.ends_in {
            tracing::info!(key_id = %key.key_id, ?ends_in, "a caller uses the previous secret of a rotated key; it is valid until the overlap ends");
        }
        let (api_keys, key_id) = (Arc::clone(&self.api_keys), key.key_id);
        tokio::spawn(async move {
            if let Err(error) = api_keys.note_key_use(key_id).await {
                tracing::debug!(%key_id, %error, "the use of a key was not noted; the time of its last use stays older until the next note");
            }
        });
    }

    async fn look_up(&self, hash: &SecretHash) -> PortResult<CachedKey> {
        let as_of = self.changes.load(Ordering::SeqCst);
        Ok(CachedKey { key: self.api_keys.key(hash).await?, as_of })
    }

    /// Notes a change that was made here or on another instance; `None`: any change. Keys change so seldom that all are
    /// looked up again.
    pub fn heard(&self, change: Option<&Tag>) {
        if matches!(change, Some(Tag::Key(_)) | None) {
            self.changes.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The owner of a key, as far as this node has found it before; no query is made. The key may have been revoked
    /// since, so the result distinguishes callers and gives no rights.
    pub async fn name(&self, secret: &str) -> Option<KeyId> {
        self.names.get(&hash(secret)).await
    }
}

/// Known keys are cached longer than unknown ones.
struct KeyExpiry;

impl Expiry<SecretHash, CachedKey> for KeyExpiry {
    fn expire_after_create(&self, _: &SecretHash, found: &CachedKey, _: Instant) -> Option<Duration> {
        // A secret of which the overlap ends is not believed for longer.
        Some(found.key.as_ref().map_or(UNKNOWN_FOR, |key| key.ends_in.map_or(KNOWN_FOR, |end| end.min(KNOWN_FOR))))
    }
}
