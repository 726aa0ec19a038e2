//! `StoreGuard`: the blob store as the node uses it, and only while it is the installation's own.
//!
//! Each tier carries a [`Mark`]. A tier that has none, or another installation's, or that is not where it was, is **down**: nothing is
//! uploaded to it, found missing or damaged in it, or removed from it, until its mark is there again or an operator adopts the store.
//! Reads go on: content is named by the hash of its bytes, so what is read is right whoever's it is.
//!
//! The mark is looked at again while the node runs: with each health check; before each pass that removes; before an upload becomes
//! visible; and **after** something was not found, since an absence says something only while the store is there. So a disk that is
//! unmounted under a running node is noticed before anything is concluded from it, and used again once it is back.
//!
//! **The database is looked at as well**: with each look at a mark it is asked whose it is. One that was dropped and made anew, or
//! emptied, under a running node knows none of the blobs; so from then on all stores are down for this process ([`replacement`]
//! tells of it, and the process ends: the next one judges the stores by what the database is then).
//!
//! [`replacement`]: StoreGuard::replacement
//!
//! A store is **new**, and is marked, when it is empty, has no mark, and the database knows of none; see [`Standing`].

mod standing;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;
use tokio::sync::OnceCell;

pub use standing::{Evidence, Standing};

use crate::{
    ids::{ContentHash, InstallationId},
    model::{Installation, LeafHash, Tier},
    ports::{
        BlobSink, BlobStore, Catalog, Installations, ListedBlob, Mark, PortError, PortResult, StoreMarks, StoredBlob,
        StoredCopy, Sweep,
    },
};

/// How the store calls itself in errors.
const STORE: &str = "blob storage";

/// What was seen of a mark counts for so long where bytes are added or one copy is looked at. What follows from an absence, and what
/// removes, has it looked at afresh.
const RECENT: Duration = Duration::from_secs(1);

/// How long the database is asked whose it is. Half of what a health check has for a look at a store: a database that hangs must not
/// make the stores look down beside it.
const PATIENCE: Duration = Duration::from_millis(500);

/// A store that is not used is looked at again after so long, unless a health check asks for it.
const PAUSE: Duration = Duration::from_secs(5);

/// Looks at which store a tier has, and lets the node use it or not.
pub struct StoreGuard {
    store: Arc<dyn StoreMarks>,
    installations: Arc<dyn Installations>,
    catalog: Arc<dyn Catalog>,
    installation: OnceCell<Installation>,
    /// Whether this process marks new stores. Commands that only look do not.
    marks: AtomicBool,
    tiers: Vec<Watched>,
}

/// A tier, and what was last seen of it.
struct Watched {
    tier: Tier,
    seen: Mutex<Option<Seen>>,
    /// One look at a time: those who come meanwhile share the next one.
    look: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Seen {
    at: Instant,
    /// Why the store is not used.
    refused: Option<Arc<str>>,
}

impl Watched {
    fn seen(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was seen no earlier than this.
    fn seen_since(&self, since: Instant) -> Option<Seen> {
        self.seen().filter(|seen| seen.at >= since)
    }
}

fn refusal(seen: &Seen) -> PortResult<()> {
    match &seen.refused {
        None => Ok(()),
        Some(why) => Err(PortError::unavailable(STORE, why.to_string())),
    }
}

impl StoreGuard {
    pub fn new(
        store: Arc<dyn StoreMarks>,
        installations: Arc<dyn Installations>,
        catalog: Arc<dyn Catalog>,
    ) -> Arc<Self> {
        let watched = |tier| Watched { tier, seen: Mutex::default(), look: tokio::sync::Mutex::default() };
        Arc::new(Self {
            tiers: store.tiers().into_iter().map(watched).collect(),
            store,
            installations,
            catalog,
            installation: OnceCell::new(),
            marks: AtomicBool::new(false),
        })
    }

    /// From now on new stores are marked as this installation's. Looks at all tiers; those that are not to be used are told of in the
    /// log, and are no error.
    ///
    /// # Errors
    /// That the database or a store did not answer.
    pub async fn take_into_use(&self) -> PortResult<()> {
        self.marks.store(true, Relaxed);
        try_join_all(self.tiers.iter().map(|watched| self.look(watched))).await.map(drop)
    }

    /// What the store of a tier is to this installation, by a look at it now.
    ///
    /// # Errors
    /// That the database or the store did not answer.
    pub async fn standing(&self, tier: Tier) -> PortResult<Standing> {
        let installation = self.installation().await?;
        let replacement = self.replacement().await;
        if let Some(other) = replacement.map_err(|error| PortError::unavailable(STORE, error))? {
            return Ok(Standing::Replaced(other));
        }
        match self.store.mark(tier).await? {
            Mark::Of(id) if id == installation.installation_id => Ok(Standing::Ours),
            Mark::Of(other) => Ok(Standing::Foreign(other)),
            Mark::Unreadable => Ok(Standing::Unreadable),
            Mark::None { is_empty } => {
                let noted = self.installations.store_of(tier).await?;
                match (is_empty, noted) {
                    (true, None) => Ok(Standing::New),
                    (true, Some(place)) => Ok(Standing::Gone(place)),
                    (false, noted) => {
                        let evidence = Evidence::gather(&*self.store, &*self.catalog, tier).await?;
                        let is_proof = noted.is_none() && evidence.is_proof();
                        Ok(if is_proof { Standing::Older(evidence) } else { Standing::Unmarked(evidence) })
                    }
                }
            }
        }
    }

    /// Marks the store of a tier as this installation's, whatever it was.
    ///
    /// # Errors
    /// That the database or the store did not answer.
    pub async fn adopt(&self, tier: Tier) -> PortResult<()> {
        let installation = self.installation().await?;
        self.store.set_mark(tier, installation.installation_id, true).await?;
        self.installations.note_store(tier, &self.store.place(tier)).await
    }

    /// The installation that the database belongs to.
    ///
    /// # Errors
    /// The database's.
    pub async fn installation(&self) -> PortResult<Installation> {
        self.installation.get_or_try_init(|| self.installations.installation()).await.copied()
    }

    /// The installation that the database belongs to now, if that is another one than when this process first asked. A database that
    /// does not answer is the same one.
    ///
    /// # Errors
    /// When the database answers, and does not know whose it is.
    pub async fn replacement(&self) -> PortResult<Option<InstallationId>> {
        let known = self.installation().await?.installation_id;
        match tokio::time::timeout(PATIENCE, self.installations.installation()).await {
            Ok(Ok(now)) => Ok((now.installation_id != known).then_some(now.installation_id)),
            Ok(Err(PortError::Unavailable { .. })) | Err(_) => Ok(None),
            Ok(Err(error)) => Err(error),
        }
    }

    /// Where the store of a tier is.
    pub fn place(&self, tier: Tier) -> String {
        self.store.place(tier)
    }

    /// Whether a tier's store may be used, by a look that is no older than `age`.
    async fn check(&self, tier: Tier, age: Duration) -> PortResult<()> {
        match self.tiers.iter().find(|watched| watched.tier == tier) {
            Some(watched) => self.check_watched(watched, age).await,
            // The store says so itself.
            None => Ok(()),
        }
    }

    async fn check_all(&self, age: Duration) -> PortResult<()> {
        try_join_all(self.tiers.iter().map(|watched| self.check_watched(watched, age))).await.map(drop)
    }

    async fn check_watched(&self, watched: &Watched, age: Duration) -> PortResult<()> {
        if let Some(seen) = watched.seen()
            && seen.at.elapsed() <= if seen.refused.is_some() { PAUSE } else { age }
            && !(age.is_zero() && seen.refused.is_none())
        {
            return refusal(&seen);
        }
        refusal(&self.look(watched).await?)
    }

    /// Looks at a tier now, with all who ask for it meanwhile.
    async fn look(&self, watched: &Watched) -> PortResult<Seen> {
        let asked = Instant::now();
        let _one = watched.look.lock().await;
        if let Some(seen) = watched.seen_since(asked) {
            return Ok(seen);
        }
        let at = Instant::now();
        let refused = self.settle(watched).await?;
        self.tell(watched.tier, watched.seen().as_ref(), refused.as_deref());
        let seen = Seen { at, refused: refused.map(Into::into) };
        *watched.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen.clone());
        Ok(seen)
    }

    /// Marks a store that is new; why the store is not to be used, if so.
    async fn settle(&self, watched: &Watched) -> PortResult<Option<String>> {
        let tier = watched.tier;
        let mut standing = self.standing(tier).await?;
        if matches!(standing, Standing::New | Standing::Older(_)) {
            if !self.marks.load(Relaxed) {
                return Ok(None);
            }
            let id = self.installation().await?.installation_id;
            self.store.set_mark(tier, id, false).await?;
            if let Standing::Older(evidence) = standing {
                let place = self.store.place(tier);
                tracing::info!(%tier, place, %evidence, "the store had no mark and is this installation's: it is marked");
            }
            // Another instance, of another installation even, may have been first.
            standing = self.standing(tier).await?;
        }
        if standing != Standing::Ours {
            return Ok(Some(standing.refusal(tier, &self.store.place(tier), self.installation().await?)));
        }
        let is_first_look = watched.seen().is_none_or(|seen| seen.refused.is_some());
        if is_first_look && self.marks.load(Relaxed) {
            self.store.prepare(tier).await?;
            let place = self.store.place(tier);
            if self.installations.store_of(tier).await?.is_none() {
                self.installations.note_store(tier, &place).await?;
            }
        }
        Ok(None)
    }

    /// Tells what has changed since the last look.
    fn tell(&self, tier: Tier, before: Option<&Seen>, refused: Option<&str>) {
        let place = self.store.place(tier);
        let was_refused = before.is_some_and(|seen| seen.refused.is_some());
        match refused {
            Some(why) if before.and_then(|seen| seen.refused.as_deref()) != Some(why) => {
                tracing::error!(%tier, place, why, "the store is not used: the node stores, misses and removes nothing there");
            }
            None if was_refused => tracing::info!(%tier, place, "the store is used again"),
            _ => {}
        }
    }

    /// What was not found is not there, as far as the stores of all tiers are there.
    async fn absent(&self) -> PortResult<()> {
        self.check_all(Duration::ZERO).await
    }

    fn guarded(self: &Arc<Self>, tier: Tier, sink: Box<dyn BlobSink>) -> Box<dyn BlobSink> {
        Box::new(GuardedSink { guard: Arc::clone(self), tier, sink })
    }
}

/// The guard of a store, as a store.
#[derive(Clone)]
pub struct GuardedBlobs(pub Arc<StoreGuard>);

impl GuardedBlobs {
    fn store(&self) -> &dyn StoreMarks {
        &*self.0.store
    }
}

#[async_trait]
impl BlobStore for GuardedBlobs {
    async fn create(&self) -> PortResult<Box<dyn BlobSink>> {
        self.0.check(Tier::Hot, RECENT).await?;
        Ok(self.0.guarded(Tier::Hot, self.store().create().await?))
    }

    async fn open(&self, hash: ContentHash) -> PortResult<StoredBlob> {
        let missing = match self.store().open(hash).await {
            Err(PortError::NotFound(what)) => what,
            opened => return opened,
        };
        self.0.absent().await?;
        // Only what the index knows is asked for, so it does not belong in the trash.
        if self.recover(hash).await? { self.store().open(hash).await } else { Err(PortError::NotFound(missing)) }
    }

    async fn exists(&self, hash: ContentHash) -> PortResult<bool> {
        let exists = self.store().exists(hash).await?;
        if !exists {
            self.0.absent().await?;
        }
        Ok(exists)
    }

    async fn list(&self, after: Option<ContentHash>, min_age: Duration, limit: usize) -> PortResult<Vec<ListedBlob>> {
        self.0.check_all(Duration::ZERO).await?;
        self.store().list(after, min_age, limit).await
    }

    async fn retire(&self, hash: ContentHash) -> PortResult<bool> {
        self.0.check_all(RECENT).await?;
        self.store().retire(hash).await
    }

    async fn restore(&self, hash: ContentHash) -> PortResult<()> {
        self.store().restore(hash).await
    }

    async fn discard(&self, hash: ContentHash) -> PortResult<()> {
        self.0.check_all(RECENT).await?;
        self.store().discard(hash).await
    }

    async fn trashed(&self, after: Option<ContentHash>, limit: usize) -> PortResult<Vec<ListedBlob>> {
        self.0.check_all(Duration::ZERO).await?;
        self.store().trashed(after, limit).await
    }

    async fn recover(&self, hash: ContentHash) -> PortResult<bool> {
        let recovered = self.store().recover(hash).await?;
        if recovered {
            tracing::warn!(content_hash = %hash, "a blob is back from the trash");
        }
        Ok(recovered)
    }

    async fn purge(&self, hash: ContentHash) -> PortResult<u64> {
        self.0.check_all(RECENT).await?;
        self.store().purge(hash).await
    }

    async fn sweep(&self, min_age: Duration, limit: usize, dry_run: bool) -> PortResult<Sweep> {
        self.0.check_all(Duration::ZERO).await?;
        self.store().sweep(min_age, limit, dry_run).await
    }

    fn tiers(&self) -> Vec<Tier> {
        self.store().tiers()
    }

    async fn open_copy(&self, hash: ContentHash, tier: Tier) -> PortResult<Option<StoredCopy>> {
        self.0.check(tier, RECENT).await?;
        match self.store().open_copy(hash, tier).await {
            Ok(Some(copy)) => Ok(Some(copy)),
            // What is said to be damaged may have been read while the store went away.
            other => {
                self.0.check(tier, Duration::ZERO).await?;
                match other {
                    Ok(None) if self.recover(hash).await? => self.store().open_copy(hash, tier).await,
                    other => other,
                }
            }
        }
    }

    async fn create_copy(&self, tier: Tier) -> PortResult<Box<dyn BlobSink>> {
        self.0.check(tier, RECENT).await?;
        Ok(self.0.guarded(tier, self.store().create_copy(tier).await?))
    }

    async fn leave_copy(&self, hash: ContentHash, tier: Tier) -> PortResult<bool> {
        self.0.check(tier, RECENT).await?;
        self.store().leave_copy(hash, tier).await
    }

    async fn remove_copy(&self, hash: ContentHash, tier: Tier) -> PortResult<()> {
        self.0.check_all(RECENT).await?;
        self.store().remove_copy(hash, tier).await
    }

    async fn forget(&self, hash: ContentHash) {
        self.store().forget(hash).await;
    }

    async fn ping(&self) -> PortResult<()> {
        let seen: Vec<Seen> = try_join_all(self.0.tiers.iter().map(|watched| self.0.look(watched))).await?;
        seen.iter().try_for_each(refusal)?;
        self.store().ping().await
    }
}

/// A blob being written. It becomes visible only in a store that is still the installation's own.
struct GuardedSink {
    guard: Arc<StoreGuard>,
    tier: Tier,
    sink: Box<dyn BlobSink>,
}

#[async_trait]
impl BlobSink for GuardedSink {
    async fn write(&mut self, part: Bytes) -> PortResult<()> {
        self.sink.write(part).await
    }

    fn replace(&mut self) {
        self.sink.replace();
    }

    async fn commit(self: Box<Self>, hash: ContentHash, leaves: &[LeafHash]) -> PortResult<()> {
        self.guard.check(self.tier, RECENT).await?;
        self.sink.commit(hash, leaves).await
    }
}
