//! The rest of the ledger in memory: its timelines, the log of changes, and housekeeping without effect.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{ModelEpoch, ModelLedger};
use crate::{
    ids::{ReceiptId, TimelineId, UsageId},
    model::{Credit, NewTimeline, Timeline},
    ports::{
        AuditPage, Change, ChangeMark, ChangePage, Changes, LeaseComparison, PortResult, SetAside, Tag, Timelines,
        UnknownLeases, Upkeep,
    },
};

#[async_trait]
impl Timelines for ModelLedger {
    async fn timeline(&self) -> PortResult<Timeline> {
        self.script.play("timeline", 1, || Ok(self.books().timeline)).await
    }

    async fn begin_timeline(&self, after: TimelineId, _: &str) -> PortResult<NewTimeline> {
        let work = || {
            let mut books = self.books();
            if books.timeline.timeline_id != after && !books.timeline.moved {
                return Ok(NewTimeline { timeline_id: books.timeline.timeline_id, leases: 0, bytes: 0 });
            }
            let timeline_id = TimelineId::random();
            books.timeline = Timeline { timeline_id, moved: false };
            for (node, state) in books.nodes.clone() {
                books.fenced.insert(node);
                books.nodes.insert(node, ModelEpoch { until: self.clock.monotonic(), spared: true, ..state });
            }
            let held = books.leases.values().fold(Credit::ZERO, |sum, &lease| sum + lease);
            Ok(NewTimeline { timeline_id, leases: books.leases.len() as u64, bytes: held.bytes })
        };
        self.script.play("begin_timeline", 1, work).await
    }
}

/// Housekeeping without effect: its calls are recorded, and may fail by script like any other.
#[async_trait]
impl Upkeep for ModelLedger {
    async fn ping(&self) -> PortResult<()> {
        self.script.play("ping", 1, || Ok(())).await
    }

    async fn expire_receipts(&self, _: Timestamp, limit: u32) -> PortResult<u64> {
        self.script.play("expire_receipts", limit as usize, || Ok(0)).await
    }

    async fn restore_receipts(&self, _: Timestamp, limit: u32) -> PortResult<u64> {
        self.script.play("restore_receipts", limit as usize, || Ok(0)).await
    }

    async fn prune_windows(&self, _: Timestamp, limit: u32) -> PortResult<u64> {
        self.script.play("prune_windows", limit as usize, || Ok(0)).await
    }

    async fn drop_usage(&self, _: Timestamp) -> PortResult<u64> {
        self.script.play("drop_usage", 1, || Ok(0)).await
    }

    async fn forget_client_keys(&self, _: Timestamp) -> PortResult<u64> {
        self.script.play("forget_client_keys", 1, || Ok(0)).await
    }

    async fn forget_prices(&self, _: Timestamp, _: u32) -> PortResult<u64> {
        self.script.play("forget_prices", 1, || Ok(0)).await
    }

    async fn prune_nodes(&self, _: Timestamp, limit: u32) -> PortResult<u64> {
        self.script.play("prune_nodes", limit as usize, || Ok(0)).await
    }

    async fn prepare(&self, _: Timestamp, months: u32) -> PortResult<u64> {
        self.script.play("prepare", months as usize, || Ok(0)).await
    }

    async fn usage_set_aside(&self, _: Option<UsageId>, _: u32) -> PortResult<Vec<SetAside>> {
        Ok(self.books().set_aside.clone())
    }

    async fn unheld(&self) -> PortResult<UnknownLeases> {
        let (books, now) = (self.books(), self.clock.monotonic());
        let mut unheld = UnknownLeases::default();
        for (key, &lease) in &books.leases {
            if !lease.is_zero() && books.nodes.get(&key.0).is_none_or(|state| state.until <= now) {
                unheld.leases += 1;
                unheld.credit += lease;
            }
        }
        Ok(unheld)
    }

    async fn compared(&self) -> PortResult<Vec<LeaseComparison>> {
        let (books, now) = (self.books(), self.clock.monotonic());
        let live = books
            .nodes
            .keys()
            .filter(|&&node_epoch| !books.fenced.contains(&node_epoch) && !books.is_late(node_epoch, now));
        Ok(live
            .map(|&node_epoch| LeaseComparison { node_epoch, unknown: books.compared.get(&node_epoch).copied() })
            .collect())
    }

    async fn audit(&self, _: Option<ReceiptId>, _: u32) -> PortResult<AuditPage> {
        self.check();
        Ok(AuditPage::default())
    }
}

/// A line's id is its position.
#[async_trait]
impl Changes for ModelLedger {
    async fn changes(&self, after: Option<ChangeMark>, limit: u32) -> PortResult<ChangePage> {
        let work = || {
            let books = self.books();
            let end = books.log.len();
            let from = after.map_or(end, |mark| usize::try_from(mark.0).unwrap_or(end));
            let changes = books.log.iter().enumerate().skip(from).take(limit as usize);
            let changes = changes.map(|(id, tag)| Change { id: id as i64, tag: tag.clone() }).collect();
            Ok(ChangePage {
                changes,
                mark: ChangeMark(end as i64),
                timeline: books.timeline,
                anything: end - from > limit as usize,
            })
        };
        self.script.play("changes", 1, work).await
    }

    async fn note_changes(&self, tags: &[Tag]) -> PortResult<()> {
        self.script
            .play("note_changes", tags.len(), || {
                self.books().log.extend_from_slice(tags);
                Ok(())
            })
            .await
    }

    async fn forget_changes(&self, _: Timestamp, limit: u32) -> PortResult<u64> {
        self.script.play("forget_changes", limit as usize, || Ok(0)).await
    }
}
