//! The keys that this node has seen lately, so that a call does not cost a look-up each.

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
    ports::{Catalog, PortError, PortResult, Tag},
};
use subtle::ConstantTimeEq as _;

use super::{SecretHash, hash};

/// How long a key is believed. A revoked one is not: the log of changes tells of it ([`KeyRing::heard`]).
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// How long an unknown key is believed to be unknown: a key that was just made elsewhere works after this at the latest.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);

/// Entries kept. At some 200 bytes each this is 2 MiB; guessed keys push each other out before they push out one in use.
const CAPACITY: u64 = 10_000;

/// How long after its last use it is remembered whose a secret is, without a right that goes with it.
const NAMED_FOR: Duration = Duration::from_hours(1);

/// Keys by the hash of their secret, over the catalogue. Concurrent misses of one key share one query.
pub struct KeyRing {
    catalog: Arc<dyn Catalog>,
    seen: Cache<SecretHash, Believed>,
    /// Grows with each change of a key: what was looked up before counts no more.
    changes: AtomicU64,
    /// Whose a secret is, or was: to count by. Only what was found comes in, so guessed keys push nothing out.
    names: Cache<SecretHash, KeyId>,
}

/// What a look-up has found.
#[derive(Clone)]
struct Believed {
    key: Option<ApiKey>,
    /// The changes that were known of before it began.
    as_of: u64,
}

impl KeyRing {
    pub fn new(catalog: Arc<dyn Catalog>) -> Self {
        let seen = Cache::builder().max_capacity(CAPACITY).expire_after(Belief).build();
        let names = Cache::builder().max_capacity(CAPACITY).time_to_idle(NAMED_FOR).build();
        Self { catalog, seen, changes: AtomicU64::new(0), names }
    }

    /// The key with this secret, if there is one.
    ///
    /// # Errors
    /// When the catalogue does not answer.
    pub async fn find(&self, secret: &str) -> Result<Option<ApiKey>, Arc<PortError>> {
        let hash = hash(secret);
        let known = self.changes.load(Ordering::SeqCst);
        let mut believed = self.seen.try_get_with(hash, self.look_up(&hash)).await?;
        // One that began before the change may still be under way and be shared: then it is waited for and asked anew.
        while believed.as_of < known {
            self.seen.invalidate(&hash).await;
            believed = self.seen.try_get_with(hash, self.look_up(&hash)).await?;
        }
        // The look-up compared an index entry, which takes as long as the hashes agree; what decides takes always as long.
        let key = believed.key.filter(|key| bool::from(key.secret_hash.ct_eq(&hash)));
        if let Some(key) = &key
            && !self.names.contains_key(&hash)
        {
            self.names.insert(hash, key.key_id).await;
        }
        Ok(key)
    }

    async fn look_up(&self, hash: &SecretHash) -> PortResult<Believed> {
        let as_of = self.changes.load(Ordering::SeqCst);
        Ok(Believed { key: self.catalog.key(hash).await?, as_of })
    }

    /// Takes note of a change that was made here or elsewhere; `None`: of any. Keys change so seldom that all are looked up anew.
    pub fn heard(&self, change: Option<&Tag>) {
        if matches!(change, Some(Tag::Key(_)) | None) {
            self.changes.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whose key this is, as far as this node has found it before; it asks nobody. The key may have been revoked since, so
    /// this tells callers apart and gives no right.
    pub async fn name(&self, secret: &str) -> Option<KeyId> {
        self.names.get(&hash(secret)).await
    }
}

/// Known keys are believed longer than unknown ones.
struct Belief;

impl Expiry<SecretHash, Believed> for Belief {
    fn expire_after_create(&self, _: &SecretHash, found: &Believed, _: Instant) -> Option<Duration> {
        Some(if found.key.is_some() { KNOWN_FOR } else { UNKNOWN_FOR })
    }
}
