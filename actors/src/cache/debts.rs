//! Debts to the shared tier: tags that this instance knows to have changed and could not yet invalidate there.
//!
//! While a tag is owed, the shared tier is neither asked about it nor given values with it. A failed call puts the
//! whole tier in doubt. It is then not used until it answers and its debts are paid. If it has restarted, it may hold
//! the state of an earlier moment, so it is invalidated as a whole first.
//!
//! **Bound.** [`MOST`] tags; beyond that one debt covers all tags.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::{sync::Notify, time::Instant};

use super::Core;
use crate::ports::{CacheTag, PortResult, SharedCache};

/// Tags owed one by one, at some 80 bytes each.
const MOST: usize = 10_000;

/// Tags in one call.
const BATCH: usize = 500;

/// The longest wait between two looks at a tier that does not answer; the average is half of it.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// How often the tier is asked whether it has restarted, when nothing else reveals it.
const RUN_CHECK_EVERY: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Debts {
    owed: Mutex<Owed>,
    doubted: AtomicBool,
    reminder: Notify,
}

#[derive(Default)]
struct Owed {
    tags: HashMap<CacheTag, u64>,
    turn: u64,
}

/// The debts at one moment, so that paying them does not pay debts added since.
#[derive(Debug, Default)]
pub(super) struct OwedTags {
    tags: Vec<CacheTag>,
    turn: u64,
}

impl Debts {
    fn held(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn owe(&self, tags: &[CacheTag]) -> OwedTags {
        let mut owed = self.held();
        owed.turn += 1;
        let turn = owed.turn;
        if owed.tags.len() + tags.len() > MOST {
            owed.tags.clear();
            owed.tags.insert(CacheTag::ALL, turn);
            return OwedTags { tags: vec![CacheTag::ALL], turn };
        }
        owed.tags.extend(tags.iter().map(|tag| (tag.clone(), turn)));
        OwedTags { tags: tags.to_vec(), turn }
    }

    /// Settles the debts of this receipt, except those owed again since.
    pub(super) fn paid(&self, receipt: &OwedTags) {
        let mut owed = self.held();
        for tag in &receipt.tags {
            if owed.tags.get(tag).is_some_and(|&turn| turn <= receipt.turn) {
                owed.tags.remove(tag);
            }
        }
    }

    /// Whether the tier may be asked about these tags.
    pub(super) fn may_ask(&self, tags: &[CacheTag]) -> bool {
        if !self.is_trusted() {
            return false;
        }
        let owed = self.held();
        owed.tags.is_empty()
            || !(owed.tags.contains_key(&CacheTag::ALL) || tags.iter().any(|tag| owed.tags.contains_key(tag)))
    }

    pub(super) fn is_trusted(&self) -> bool {
        !self.doubted.load(Ordering::Acquire)
    }

    /// Stops using the tier; true when it was trusted until now.
    pub(super) fn doubt(&self) -> bool {
        let was_trusted = !self.doubted.swap(true, Ordering::AcqRel);
        self.remind();
        was_trusted
    }

    /// Asks for the debts to be paid soon.
    pub(super) fn remind(&self) {
        self.reminder.notify_one();
    }

    fn some(&self) -> OwedTags {
        let owed = self.held();
        OwedTags { tags: owed.tags.keys().take(BATCH).cloned().collect(), turn: owed.turn }
    }
}

/// Pays debts and checks for restarts of the tier, for as long as the cache exists.
pub(super) async fn settle(core: Weak<Core>, debts: Arc<Debts>, shared: Arc<dyn SharedCache>) {
    let mut run = TierRun { known: None, asked: None };
    let mut waits = waits();
    loop {
        let paid = match core.upgrade() {
            Some(core) => {
                let paid = pay(&core, &*shared, &mut run).await;
                paid.map_err(|error| core.failed(&error))
            }
            None => return,
        };
        if paid.is_ok() {
            waits = self::waits();
            // A timeout means that no reminder came: then it is time to check for a restart.
            let _ = tokio::time::timeout(RUN_CHECK_EVERY, debts.reminder.notified()).await;
        } else {
            tokio::time::sleep(waits.next().unwrap_or(LONGEST_WAIT)).await;
        }
    }
}

/// What is known about the current run of the tier.
struct TierRun {
    known: Option<u64>,
    asked: Option<Instant>,
}

fn waits() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(LONGEST_WAIT)
        .with_jitter()
        .without_max_times()
        .build()
}

async fn pay(core: &Core, shared: &dyn SharedCache, run: &mut TierRun) -> PortResult<()> {
    if !core.debts.is_trusted() || run.asked.is_none_or(|asked| asked.elapsed() >= RUN_CHECK_EVERY) {
        let now = shared.run_id().await?;
        if run.known.is_some_and(|known| known != now) {
            tracing::info!("the shared cache has restarted; this node treats all of its entries as outdated");
            core.outdate(&[CacheTag::ALL]);
        }
        *run = TierRun { known: Some(now), asked: Some(Instant::now()) };
    }
    loop {
        let receipt = core.debts.some();
        if receipt.tags.is_empty() {
            break;
        }
        shared.invalidate(&receipt.tags).await?;
        core.debts.paid(&receipt);
    }
    if core.debts.doubted.swap(false, Ordering::AcqRel) {
        core.counters.shared_away.store(0, Ordering::Relaxed);
        tracing::info!("the shared cache answers again; this node uses it again");
    }
    Ok(())
}
