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
//! [`StoreStanding`]. A mark has an id of the store too, and the database records one store for a tier: of two stores that were
//! marked at the same time, the one that is recorded first is used.

mod guarded;
mod standing;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use tokio::sync::OnceCell;

pub use guarded::GuardedBlobs;
pub use standing::{SampleEvidence, StandingKind, StoreStanding};

use crate::{
    ids::{InstallationId, StoreId},
    model::{Installation, NotedStore, StorageTier},
    ports::{ContentIndex, Installations, Mark, PortError, PortResult, StoreMarks},
    storage::store_timings::StoreTimings,
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
    index: Arc<dyn ContentIndex>,
    installation: OnceCell<Installation>,
    /// Whether this process marks new stores. Commands that only read do not.
    marks: AtomicBool,
    timings: Arc<StoreTimings>,
    tiers: Vec<GuardedTier>,
}

/// A tier, and the result of its last check.
struct GuardedTier {
    tier: StorageTier,
    seen: Mutex<Option<LastCheck>>,
    /// Whether the store or the database did not answer the last check.
    is_silent: AtomicBool,
    /// One check at a time: callers that come meanwhile share the next one.
    look: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct LastCheck {
    at: Instant,
    kind: StandingKind,
    refused: Option<Arc<Refused>>,
}

/// Why a store is not used.
struct Refused {
    /// For operators: with places and ids of installations.
    why: String,
    /// For health checks, which need no key: without places and ids.
    advice: String,
}

impl GuardedTier {
    fn seen(&self) -> Option<LastCheck> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The result of a check that is no older than this.
    fn seen_since(&self, since: Instant) -> Option<LastCheck> {
        self.seen().filter(|seen| seen.at >= since)
    }
}

fn refusal(seen: &LastCheck) -> PortResult<()> {
    match &seen.refused {
        None => Ok(()),
        Some(refused) => Err(PortError::unavailable(STORE, refused.why.clone())),
    }
}

impl StoreGuard {
    pub fn new(
        store: Arc<dyn StoreMarks>,
        installations: Arc<dyn Installations>,
        index: Arc<dyn ContentIndex>,
    ) -> Arc<Self> {
        let watched = |tier| GuardedTier {
            tier,
            seen: Mutex::default(),
            is_silent: AtomicBool::new(false),
            look: tokio::sync::Mutex::default(),
        };
        Arc::new(Self {
            tiers: store.tiers().into_iter().map(watched).collect(),
            store,
            installations,
            index,
            installation: OnceCell::new(),
            marks: AtomicBool::new(false),
            timings: Arc::default(),
        })
    }

    /// From now on, marks new stores as this installation's. Checks all tiers; a tier that must not be used is logged,
    /// and is no error.
    ///
    /// # Errors
    /// When the database or a store did not answer.
    pub async fn mark_new_stores(&self) -> PortResult<()> {
        self.marks.store(true, Relaxed);
        try_join_all(self.tiers.iter().map(|watched| self.check_tier(watched))).await.map(drop)
    }

    /// How long the store of each tier takes.
    pub fn timings(&self) -> &StoreTimings {
        &self.timings
    }

    /// How the store of each tier related to this installation at the last check.
    pub fn standings(&self) -> impl Iterator<Item = (StorageTier, StandingKind)> + '_ {
        self.tiers.iter().map(|watched| {
            let seen = watched.seen().filter(|_| !watched.is_silent.load(Relaxed));
            (watched.tier, seen.map_or(StandingKind::Unknown, |seen| seen.kind))
        })
    }

    /// Why the store of a tier is not used, and what to do, without places and ids, because health checks need no key. `None` while the
    /// store is used.
    pub fn advice(&self, tier: StorageTier) -> Option<String> {
        let watched = self.tiers.iter().find(|watched| watched.tier == tier)?;
        Some(watched.seen()?.refused?.advice.clone())
    }

    /// The configured tiers, the hottest first.
    pub fn tiers(&self) -> impl Iterator<Item = StorageTier> + '_ {
        self.tiers.iter().map(|watched| watched.tier)
    }

    /// How the store of a tier relates to this installation, by a check made now.
    ///
    /// # Errors
    /// When the database or the store did not answer.
    pub async fn standing(&self, tier: StorageTier) -> PortResult<StoreStanding> {
        let installation = self.installation().await?;
        let answer = self.asked(tier).await?;
        if let Some((now, _)) = &answer
            && now.installation_id != installation.installation_id
        {
            return Ok(StoreStanding::Replaced(now.installation_id));
        }
        let noted = answer.map(|(_, noted)| noted);
        match self.store.mark(tier).await? {
            Mark::Of(id, of) if id == installation.installation_id => Ok(match noted.flatten() {
                Some(NotedStore { place, store_id: Some(known) }) if of != Some(known) => StoreStanding::Other(place),
                _ => StoreStanding::Ours,
            }),
            Mark::Of(other, _) => Ok(StoreStanding::Foreign(other)),
            Mark::Unreadable => Ok(StoreStanding::Unreadable),
            Mark::None { is_empty } => {
                let noted = noted.ok_or_else(|| {
                    PortError::unavailable(STORE, "the database does not say which store it has recorded")
                })?;
                match (is_empty, noted) {
                    (true, None) => Ok(StoreStanding::New),
                    (true, Some(noted)) => Ok(StoreStanding::Gone(noted.place)),
                    (false, noted) => {
                        let evidence = SampleEvidence::gather(&*self.store, &*self.index, tier).await?;
                        let is_proof = noted.is_none() && evidence.is_proof();
                        Ok(if is_proof { StoreStanding::Older(evidence) } else { StoreStanding::Unmarked(evidence) })
                    }
                }
            }
        }
    }

    /// The installation of the database now, and the recorded store of a tier; `None` when the database does not answer.
    async fn asked(&self, tier: StorageTier) -> PortResult<Option<(Installation, Option<NotedStore>)>> {
        match tokio::time::timeout(PATIENCE, self.installations.store_of(tier)).await {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(PortError::Unavailable { .. })) | Err(_) => Ok(None),
            Ok(Err(error)) => Err(PortError::unavailable(STORE, error)),
        }
    }

    /// Marks the store of a tier as this installation's, whatever it was before. From then on it is the tier's only store.
    ///
    /// # Errors
    /// When the database or the store did not answer.
    pub async fn adopt(&self, tier: StorageTier) -> PortResult<()> {
        let installation = self.installation().await?.installation_id;
        let store_id = self.store.identify(tier, installation);
        self.store.set_mark(tier, installation, store_id, true).await?;
        self.installations.note_store(tier, &self.noted(tier, Some(store_id))).await
    }

    fn noted(&self, tier: StorageTier, store_id: Option<StoreId>) -> NotedStore {
        NotedStore { place: self.store.place(tier), store_id }
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
    pub fn place(&self, tier: StorageTier) -> String {
        self.store.place(tier)
    }

    /// Whether a tier's store may be used, by a check that is no older than `age`.
    async fn check(&self, tier: StorageTier, age: Duration) -> PortResult<()> {
        match self.tiers.iter().find(|watched| watched.tier == tier) {
            Some(watched) => self.check_watched(watched, age).await,
            // An unknown tier: the store itself returns the error.
            None => Ok(()),
        }
    }

    async fn check_all(&self, age: Duration) -> PortResult<()> {
        try_join_all(self.tiers.iter().map(|watched| self.check_watched(watched, age))).await.map(drop)
    }

    async fn check_watched(&self, watched: &GuardedTier, age: Duration) -> PortResult<()> {
        if let Some(seen) = watched.seen()
            && seen.at.elapsed() < if seen.refused.is_some() { PAUSE } else { age }
        {
            return refusal(&seen);
        }
        refusal(&self.check_tier(watched).await?)
    }

    /// Checks a tier now; callers that come meanwhile share the check.
    async fn check_tier(&self, watched: &GuardedTier) -> PortResult<LastCheck> {
        let asked = Instant::now();
        let _one = watched.look.lock().await;
        if let Some(seen) = watched.seen_since(asked) {
            return Ok(seen);
        }
        let at = Instant::now();
        let settled = self.settle(watched).await;
        watched.is_silent.store(settled.is_err(), Relaxed);
        let standing = settled?;
        let refused = self.refused(watched.tier, &standing).await?;
        self.tell(watched.tier, watched.seen().as_ref(), refused.as_ref());
        let seen = LastCheck { at, kind: standing.kind(), refused: refused.map(Arc::new) };
        *watched.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen.clone());
        Ok(seen)
    }

    /// Why a store must not be used, if so.
    async fn refused(&self, tier: StorageTier, standing: &StoreStanding) -> PortResult<Option<Refused>> {
        if standing.is_usable() {
            return Ok(None);
        }
        let why = standing.refusal(tier, &self.store.place(tier), self.installation().await?);
        Ok(Some(Refused { why, advice: standing.advice(tier) }))
    }

    /// Marks a new store; returns how the store then relates to the installation.
    async fn settle(&self, watched: &GuardedTier) -> PortResult<StoreStanding> {
        let tier = watched.tier;
        let mut standing = self.standing(tier).await?;
        if matches!(standing, StoreStanding::New | StoreStanding::Older(_)) {
            if !self.marks.load(Relaxed) {
                return Ok(standing);
            }
            let installation = self.installation().await?.installation_id;
            self.store.set_mark(tier, installation, self.store.identify(tier, installation), false).await?;
            if let StoreStanding::Older(evidence) = standing {
                let place = self.store.place(tier);
                tracing::info!(%tier, place, %evidence, "the store had no mark, and its contents prove that it belongs to this installation; this node marked it");
            }
            // Another instance, even of another installation, may have been first.
            standing = self.standing(tier).await?;
        }
        let is_first_look = watched.seen().is_none_or(|seen| seen.refused.is_some());
        if standing == StoreStanding::Ours && is_first_look && self.marks.load(Relaxed) {
            self.store.prepare(tier).await?;
            return self.claim(tier).await;
        }
        Ok(standing)
    }

    /// Records the store of a tier by the id in its mark, unless another store is recorded: of two instances that started at once
    /// with different folders, one has marked the wrong folder.
    async fn claim(&self, tier: StorageTier) -> PortResult<StoreStanding> {
        let Mark::Of(_, store_id) = self.store.mark(tier).await? else { return self.standing(tier).await };
        let known = self.installations.claim_store(tier, &self.noted(tier, store_id)).await?;
        let is_known = known.store_id.is_none() || known.store_id == store_id;
        Ok(if is_known { StoreStanding::Ours } else { StoreStanding::Other(known.place) })
    }

    /// Logs a change since the last check.
    fn tell(&self, tier: StorageTier, before: Option<&LastCheck>, refused: Option<&Refused>) {
        let place = self.store.place(tier);
        let before = before.and_then(|seen| seen.refused.as_deref());
        match refused {
            Some(Refused { why, .. }) if before.is_none_or(|before| before.why != *why) => {
                tracing::error!(%tier, place, why, "this node does not use the store: it stores, reports missing and removes nothing there");
            }
            None if before.is_some() => tracing::info!(%tier, place, "this node uses the store again"),
            _ => {}
        }
    }

    /// Content was not found: an error unless the stores of all tiers are there.
    async fn absent(&self) -> PortResult<()> {
        self.check_all(Duration::ZERO).await
    }
}
