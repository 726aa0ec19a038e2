//! `StoreGuard`: lets the node use a blob store only while the store belongs to the installation.
//!
//! Each tier carries a [`Mark`]. A tier without a mark, with another installation's mark, or missing from its place is
//! **down**: nothing is uploaded to it, reported missing or damaged in it, or removed from it, until its mark is there
//! again or an operator adopts the store. Reads go on: content is named by the hash of its bytes, so bytes that match
//! are right in any store.
//!
//! The mark is checked again while the node runs: with each health check; before each pass that removes; before an
//! upload becomes visible; and **after** content was not found, since absence means something only while the right
//! store is there. So a disk that is unmounted under a running node is noticed before anything is concluded from it,
//! and used again once it is back.
//!
//! **The database is checked as well**: with each check of a mark it is asked for its installation. A database that was
//! dropped and made anew, or emptied, under a running node knows none of the blobs. From then on all stores are down for this
//! process ([`replacement`] reports it, and the process ends: the next one judges the stores by the database it finds).
//!
//! [`replacement`]: StoreGuard::replacement
//!
//! A store is **new**, and gets a mark, when it is empty, has no mark, and the database has no store recorded; see
//! [`Standing`].

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

/// How long the result of a check is good for adding bytes or reading one copy. Conclusions from absence, and removals,
/// check anew.
const RECENT: Duration = Duration::from_secs(1);

/// How long to wait for the database to name its installation. Half of the time that a health check has for a store: a
/// database that hangs must not make the stores look down as well.
const PATIENCE: Duration = Duration::from_millis(500);

/// A store that is down is checked again after this time, unless a health check asks for it.
const PAUSE: Duration = Duration::from_secs(5);

/// Checks the store of each tier, and lets the node use it or not.
pub struct StoreGuard {
    store: Arc<dyn StoreMarks>,
    installations: Arc<dyn Installations>,
    catalog: Arc<dyn Catalog>,
    installation: OnceCell<Installation>,
    /// Whether this process marks new stores. Commands that only read do not.
    marks: AtomicBool,
    tiers: Vec<Watched>,
}

/// A tier, and the result of its last check.
struct Watched {
    tier: Tier,
    seen: Mutex<Option<Seen>>,
    /// One check at a time: callers that come meanwhile share the next one.
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

    /// The result of a check that is no older than this.
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

    /// From now on, marks new stores as this installation's. Checks all tiers; a tier that must not be used is logged,
    /// and is no error.
    ///
    /// # Errors
    /// When the database or a store did not answer.
    pub async fn take_into_use(&self) -> PortResult<()> {
        self.marks.store(true, Relaxed);
        try_join_all(self.tiers.iter().map(|watched| self.look(watched))).await.map(drop)
    }

    /// How the store of a tier relates to this installation, by a check made now.
    ///
    /// # Errors
    /// When the database or the store did not answer.
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

    /// Marks the store of a tier as this installation's, whatever it was before.
    ///
    /// # Errors
    /// When the database or the store did not answer.
    pub async fn adopt(&self, tier: Tier) -> PortResult<()> {
        let installation = self.installation().await?;
        self.store.set_mark(tier, installation.installation_id, true).await?;
        self.installations.note_store(tier, &self.store.place(tier)).await
    }

    /// The installation that the database belongs to.
    ///
    /// # Errors
    /// The database's own.
    pub async fn installation(&self) -> PortResult<Installation> {
        self.installation.get_or_try_init(|| self.installations.installation()).await.copied()
    }

    /// The installation that the database belongs to now, if it has changed since this process first asked. A database
    /// that does not answer counts as unchanged.
    ///
    /// # Errors
    /// When the database answers, but does not name an installation.
    pub async fn replacement(&self) -> PortResult<Option<InstallationId>> {
        let known = self.installation().await?.installation_id;
        match tokio::time::timeout(PATIENCE, self.installations.installation()).await {
            Ok(Ok(now)) => Ok((now.installation_id != known).then_some(now.installation_id)),
            Ok(Err(PortError::Unavailable { .. })) | Err(_) => Ok(None),
            Ok(Err(error)) => Err(error),
        }
    }

    /// The place of a tier's store.
    pub fn place(&self, tier: Tier) -> String {
        self.store.place(tier)
    }

    /// Whether a tier's store may be used, by a check that is no older than `age`.
    async fn check(&self, tier: Tier, age: Duration) -> PortResult<()> {
        match self.tiers.iter().find(|watched| watched.tier == tier) {
            Some(watched) => self.check_watched(watched, age).await,
            // An unknown tier: the store itself returns the error.
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

    /// Checks a tier now; callers that come meanwhile share the check.
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

    /// Marks a new store; returns why the store must not be used, if so.
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
                tracing::info!(%tier, place, %evidence, "the store had no mark, and its contents prove that it belongs to this installation; this node marked it");
            }
            // Another instance, even of another installation, may have been first.
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

    /// Logs a change since the last check.
    fn tell(&self, tier: Tier, before: Option<&Seen>, refused: Option<&str>) {
        let place = self.store.place(tier);
        let was_refused = before.is_some_and(|seen| seen.refused.is_some());
        match refused {
            Some(why) if before.and_then(|seen| seen.refused.as_deref()) != Some(why) => {
                tracing::error!(%tier, place, why, "this node does not use the store: it stores, reports missing and removes nothing there");
            }
            None if was_refused => tracing::info!(%tier, place, "this node uses the store again"),
            _ => {}
        }
    }

    /// Content was not found: an error unless the stores of all tiers are there.
    async fn absent(&self) -> PortResult<()> {
        self.check_all(Duration::ZERO).await
    }

    fn guarded(self: &Arc<Self>, tier: Tier, sink: Box<dyn BlobSink>) -> Box<dyn BlobSink> {
        Box::new(GuardedSink { guard: Arc::clone(self), tier, sink })
    }
}

/// A guarded store, as a blob store.
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
        // Callers ask only for content in the index, so this blob does not belong in the trash.
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
            tracing::warn!(content_hash = %hash, "a blob is back from the trash: the index knows it");
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
            // A copy that seems damaged or missing may have been read while the store went away.
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

/// A blob being written. It becomes visible only while the store still belongs to the installation.
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
