//! `ChangeFollower`: reads the changes that other instances made, and passes them on to the caches and streams of this
//! node.
//!
//! It polls the database's log of changes ([`Changes`]), so correctness depends on no message: a revoked receipt stops
//! its streams here within one interval of its transaction, whichever instance wrote it and whatever else is down.
//! Messages from the shared state arrive sooner and are passed on at once.
//!
//! Each page names the database's timeline. When the timeline has changed, or the database was restored and has no new
//! timeline yet, the position in the log means nothing. Then everything counts as changed, and this node's epoch is
//! over.
//!
//! **Bound.** One statement at a time, [`PAGE`] lines each; when more has changed, everything counts as changed. Lines
//! that may be read twice are remembered by id, only for as long as they can repeat. **When the log cannot be read**,
//! entries in memory live until they expire. After a gap longer than [`GAP`] everything counts as changed, since the
//! log may have been cut.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use actix::{Actor, ActorFutureExt, ArbiterHandle, AsyncContext, Context, WrapFuture};
use tokio::sync::Notify;

use crate::{
    clock::Clock,
    ids::TimelineId,
    model::{NewTimeline, Timeline},
    ports::{ChangeMark, ChangePage, Changes, PortResult, Tag, Timelines},
    quota::node_epoch::NodeEpochState,
    supervision::Supervised,
};

/// Lines in one page. At 100 bytes each that is 1 MB at most. More changes within one interval come from a migration,
/// not from traffic.
const PAGE: u32 = 10_000;

/// A gap that the log certainly covers: it keeps lines for an hour ([`KEPT`]).
const GAP: Duration = Duration::from_secs(600);

/// How long lines stay in the log.
pub const KEPT: Duration = Duration::from_secs(3600);

/// The reason recorded for a timeline's end when the database is found to have been restored.
const RESTORED: &str = "the database was restored from a dump or a copy";

/// Called for each change; `None`: anything may have changed. It must not block.
pub type ChangeListener = Arc<dyn Fn(Option<&Tag>) + Send + Sync>;

/// What the follower depends on.
#[derive(Clone)]
pub struct FollowerDeps {
    pub changes: Arc<dyn Changes>,
    pub timelines: Arc<dyn Timelines>,
    /// The end of the log before anything was cached in memory. `None`: it could not be read, so any change may have
    /// preceded the first page.
    pub from: Option<ChangeMark>,
    /// This node's epoch, which ends with the timeline.
    pub epoch_state: Arc<NodeEpochState>,
    /// Wakes the heartbeat.
    pub fenced: Arc<Notify>,
    pub clock: Arc<dyn Clock>,
    /// From the end of one poll to the next.
    pub interval: Duration,
    pub listener: ChangeListener,
}

/// The position in the log, and the lines already passed on.
#[derive(Debug, Default)]
struct LogPosition {
    mark: Option<ChangeMark>,
    delivered: HashSet<i64>,
    read_at: Option<Instant>,
    silent: bool,
}

impl LogPosition {
    fn at(mark: Option<ChangeMark>, now: Instant) -> Self {
        Self { mark, read_at: mark.map(|_| now), ..Self::default() }
    }

    /// Takes a page in; returns the tags that are new. `None`: anything may have changed.
    fn advance(&mut self, page: ChangePage, now: Instant) -> Option<Vec<Tag>> {
        let gap = self.read_at.is_none_or(|at| now.saturating_duration_since(at) > GAP);
        self.mark = Some(page.mark);
        self.read_at = Some(now);
        // Lines that this page did not repeat are behind the position and never come again.
        let delivered = std::mem::take(&mut self.delivered);
        self.delivered = page.changes.iter().map(|change| change.id).collect();
        if page.anything || gap {
            return None;
        }
        Some(
            page.changes
                .into_iter()
                .filter(|change| !delivered.contains(&change.id))
                .map(|change| change.tag)
                .collect(),
        )
    }
}

/// Begins a new timeline for a database that was restored.
///
/// # Errors
/// When the database does not answer.
pub async fn begin_after_restore(timelines: &dyn Timelines, after: TimelineId) -> PortResult<Timeline> {
    let NewTimeline { timeline_id, leases, bytes } = timelines.begin_timeline(after, RESTORED).await?;
    tracing::error!(timeline = %timeline_id, leases, bytes, reason = RESTORED, "a new timeline begins: the database was restored; all leases are released");
    Ok(Timeline { timeline_id, moved: false })
}

/// The actor that polls.
pub struct ChangeFollower {
    deps: FollowerDeps,
    place: LogPosition,
}

impl ChangeFollower {
    pub fn start(deps: FollowerDeps, arbiter: &ArbiterHandle) -> Supervised<Self> {
        let from = Mutex::new(deps.from);
        Supervised::start("change follower", arbiter, move |_| {
            // A follower that is built again does not know what the one before it has passed on, so anything may have changed.
            let from = from.lock().unwrap_or_else(PoisonError::into_inner).take();
            Self { deps: deps.clone(), place: LogPosition::at(from, deps.clock.monotonic()) }
        })
    }

    fn poll(&mut self, ctx: &mut Context<Self>) {
        let (changes, mark) = (Arc::clone(&self.deps.changes), self.place.mark);
        let timelines = Arc::clone(&self.deps.timelines);
        let read = async move {
            let mut page = changes.changes(mark, PAGE).await?;
            if page.timeline.moved {
                page.timeline = begin_after_restore(&*timelines, page.timeline.timeline_id).await?;
                page.anything = true;
            }
            Ok(page)
        };
        ctx.spawn(read.into_actor(self).map(|page, follower, ctx| {
            follower.read(page);
            ctx.run_later(follower.deps.interval, Self::poll);
        }));
    }

    fn read(&mut self, page: PortResult<ChangePage>) {
        match page {
            Ok(mut page) => {
                if self.deps.epoch_state.enter(page.timeline.timeline_id) {
                    tracing::error!(
                        timeline = %page.timeline.timeline_id,
                        "the database is in another timeline: it was restored. This node drops its leases and caches, checks the receipts \
                         of running streams again, and goes on under a new epoch"
                    );
                    page.anything = true;
                    self.deps.fenced.notify_one();
                }
                if std::mem::take(&mut self.place.silent) {
                    tracing::info!("the log of changes is read again");
                }
                match self.place.advance(page, self.deps.clock.monotonic()) {
                    Some(tags) => tags.iter().for_each(|tag| (self.deps.listener)(Some(tag))),
                    None => (self.deps.listener)(None),
                }
            }
            // Logged once: the next polls would repeat it.
            Err(error) if !std::mem::replace(&mut self.place.silent, true) => {
                tracing::warn!(%error, "the log of changes cannot be read; this node sees changes of other nodes only when cache entries expire");
            }
            Err(_) => {}
        }
    }
}

impl Actor for ChangeFollower {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.poll(ctx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::ReceiptId, ports::Change};

    fn timeline() -> Timeline {
        Timeline { timeline_id: TimelineId::from_uuid(uuid::Uuid::nil()), moved: false }
    }

    fn page(ids: &[i64], mark: i64) -> ChangePage {
        let changes = ids.iter().map(|&id| Change { id, tag: Tag::QuotaPolicy(id.to_string()) }).collect();
        ChangePage { changes, mark: ChangeMark(mark), timeline: timeline(), anything: false }
    }

    #[test]
    fn a_line_that_is_read_again_is_reported_once() {
        let now = Instant::now();
        let mut place = LogPosition::at(Some(ChangeMark(0)), now);
        let news =
            |place: &mut LogPosition, ids: &[i64], mark| place.advance(page(ids, mark), now).map(|tags| tags.len());
        assert_eq!(news(&mut place, &[], 1), Some(0));
        assert_eq!(news(&mut place, &[5, 7], 1), Some(2));
        assert_eq!(news(&mut place, &[5, 6, 7], 6), Some(1));
        assert_eq!(news(&mut place, &[7, 8], 9), Some(1));
        assert_eq!(place.delivered.len(), 2);
    }

    #[test]
    fn after_a_long_gap_or_a_flood_anything_may_have_changed() {
        let now = Instant::now();
        let mut place = LogPosition::at(Some(ChangeMark(0)), now);
        assert_eq!(place.advance(page(&[], 1), now), Some(Vec::new()));
        assert_eq!(place.advance(page(&[2], 3), now + GAP + Duration::from_secs(1)), None);
        let flood = ChangePage {
            changes: vec![Change { id: 9, tag: Tag::Receipt(ReceiptId::random()) }],
            mark: ChangeMark(9),
            timeline: timeline(),
            anything: true,
        };
        assert_eq!(place.advance(flood, now + GAP), None);
    }

    #[test]
    fn before_the_first_page_of_a_log_that_could_not_be_read_anything_may_have_changed() {
        let now = Instant::now();
        let mut place = LogPosition::at(None, now);
        assert_eq!(place.advance(page(&[], 1), now), None);
        assert_eq!(place.advance(page(&[2], 3), now).map(|tags| tags.len()), Some(1));
    }
}
