//! Records about stored copies, in memory, with faults by script.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{Timestamp, civil::Date};

use super::script::Script;
use crate::{
    ids::{ContentHash, NodeId},
    model::{
        ContentMove, HistoryPosition, MoveState, StorageTask, StorageTier, StoredContent, TaskProgress, Verification,
        VerificationKind,
    },
    ports::{Claim, MoveBegun, PortResult, StorageRecords},
};

#[derive(Default)]
struct RecordTables {
    contents: BTreeMap<ContentHash, StoredContent>,
    looks: Vec<Verification>,
    quarantined: BTreeSet<ContentHash>,
    moves: BTreeMap<ContentHash, ContentMove>,
    tasks: BTreeMap<&'static str, (NodeId, Timestamp, TaskProgress)>,
    uses: BTreeMap<ContentHash, Date>,
}

/// Records about stored copies, in memory.
#[derive(Default)]
pub struct MemoryRecords {
    /// Its scripted faults.
    pub script: Script,
    books: Mutex<RecordTables>,
}

impl MemoryRecords {
    fn books(&self) -> MutexGuard<'_, RecordTables> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a content that is stored in a tier.
    pub fn put(&self, content_hash: ContentHash, size_bytes: u64, tier: StorageTier, stored_at: Timestamp) {
        let content = StoredContent { content_hash, size_bytes, tier, stored_at, used_on: None };
        self.books().contents.insert(content_hash, content);
    }

    /// The tier where a content belongs.
    pub fn tier(&self, hash: ContentHash) -> Option<StorageTier> {
        self.books().contents.get(&hash).map(|content| content.tier)
    }

    /// All verifications so far.
    pub fn looks(&self) -> Vec<Verification> {
        self.books().looks.clone()
    }

    /// The days on which contents were last used.
    pub fn uses(&self) -> Vec<(ContentHash, Date)> {
        self.books().uses.iter().map(|(&hash, &day)| (hash, day)).collect()
    }

    /// The move of a content; ignores the script.
    pub fn known_move(&self, hash: ContentHash) -> Option<ContentMove> {
        self.books().moves.get(&hash).copied()
    }
}

#[async_trait]
impl StorageRecords for MemoryRecords {
    async fn note_verifications(&self, rows: &[Verification]) -> PortResult<()> {
        let work = || {
            self.books().looks.extend(rows.iter().cloned());
            Ok(())
        };
        self.script.play("note_verifications", rows.len(), work).await
    }

    async fn verifications(
        &self,
        hash: ContentHash,
        kind: Option<VerificationKind>,
        after: Option<HistoryPosition>,
        limit: u32,
    ) -> PortResult<Vec<Verification>> {
        let after = after.map(|place| (place.verified_at, place.verification_id));
        let mut looks = self.looks();
        looks.retain(|look| look.content_hash == hash && kind.is_none_or(|kind| look.kind == kind));
        looks.retain(|look| after.is_none_or(|after| (look.verified_at, look.verification_id) < after));
        looks.sort_by_key(|look| std::cmp::Reverse((look.verified_at, look.verification_id)));
        looks.truncate(limit as usize);
        Ok(looks)
    }

    async fn forget_verifications(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        let mut books = self.books();
        let mut left = u64::from(limit);
        books.looks.retain(|look| {
            let goes = look.verified_at < before && left > 0;
            left -= u64::from(goes);
            !goes
        });
        Ok(u64::from(limit) - left)
    }

    async fn quarantine(&self, hash: ContentHash, _: Timestamp) -> PortResult<bool> {
        self.script.play("quarantine", 1, || Ok(self.books().quarantined.insert(hash))).await
    }

    async fn lift_quarantine(&self, hash: ContentHash) -> PortResult<bool> {
        self.script.play("lift_quarantine", 1, || Ok(self.books().quarantined.remove(&hash))).await
    }

    async fn quarantined(&self, after: Option<ContentHash>, limit: u32) -> PortResult<Vec<ContentHash>> {
        let work = || {
            let books = self.books();
            let rest = books.quarantined.iter().copied().filter(|&hash| after.is_none_or(|after| hash > after));
            Ok(rest.take(limit as usize).collect())
        };
        self.script.play("quarantined", 1, work).await
    }

    async fn quarantined_among(&self, hashes: &[ContentHash]) -> PortResult<Vec<ContentHash>> {
        let work = || {
            let books = self.books();
            Ok(hashes.iter().copied().filter(|hash| books.quarantined.contains(hash)).collect())
        };
        self.script.play("quarantined_among", hashes.len(), work).await
    }

    async fn stored_content(&self, hash: ContentHash) -> PortResult<Option<StoredContent>> {
        self.script.play("stored_content", 1, || Ok(self.books().contents.get(&hash).copied())).await
    }

    async fn stored_after(&self, after: Option<ContentHash>, limit: u32) -> PortResult<Vec<StoredContent>> {
        let work = || {
            let books = self.books();
            let rest = books.contents.values().filter(|content| after.is_none_or(|after| content.content_hash > after));
            Ok(rest.take(limit as usize).copied().collect())
        };
        self.script.play("stored_after", limit as usize, work).await
    }

    async fn note_accesses(&self, hashes: &[ContentHash], day: Date) -> PortResult<()> {
        let work = || {
            let mut books = self.books();
            for &hash in hashes {
                let last = books.uses.entry(hash).or_insert(day);
                *last = (*last).max(day);
                let used_on = last.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|day| day.timestamp());
                if let Some(content) = books.contents.get_mut(&hash) {
                    content.used_on = used_on;
                }
            }
            Ok(())
        };
        self.script.play("note_uses", hashes.len(), work).await
    }

    async fn claim_task(&self, task: StorageTask, node: NodeId, now: Timestamp, ttl: Duration) -> PortResult<Claim> {
        let work = || {
            let mut books = self.books();
            let (holder, until, progress) =
                books.tasks.entry(task.as_str()).or_insert((node, now, TaskProgress::default()));
            let is_ours = *holder == node || *until < now;
            if is_ours {
                (*holder, *until) = (node, now.saturating_add(ttl).unwrap_or(Timestamp::MAX));
            }
            Ok(Claim { progress: *progress, is_ours })
        };
        self.script.play("claim_task", 1, work).await
    }

    async fn advance_task(&self, task: StorageTask, node: NodeId, progress: &TaskProgress) -> PortResult<bool> {
        let work = || match self.books().tasks.get_mut(task.as_str()) {
            Some((holder, _, kept)) if *holder == node => {
                *kept = *progress;
                Ok(true)
            }
            _ => Ok(false),
        };
        self.script.play("advance_task", 1, work).await
    }

    async fn begin_move(
        &self,
        hash: ContentHash,
        to: StorageTier,
        now: Timestamp,
        stale: Timestamp,
    ) -> PortResult<Option<MoveBegun>> {
        let work = || {
            let mut books = self.books();
            let Some(content) = books.contents.get(&hash).copied() else { return Ok(None) };
            let new = ContentMove {
                content_hash: hash,
                size_bytes: content.size_bytes,
                to,
                state: MoveState::Copying,
                since: now,
            };
            let is_ours = books.moves.get(&hash).is_none_or(|at| match at.state {
                MoveState::Copying => at.since < stale,
                MoveState::Leaving => at.to != to,
            });
            if is_ours {
                books.moves.insert(hash, new);
            }
            Ok(books.moves.get(&hash).map(|&at| MoveBegun { at, is_ours }))
        };
        self.script.play("begin_move", 1, work).await
    }

    async fn keep_move(&self, hash: ContentHash, to: StorageTier, now: Timestamp) -> PortResult<bool> {
        let work = || match self.books().moves.get_mut(&hash) {
            Some(at) if at.to == to && at.state == MoveState::Copying => {
                at.since = now;
                Ok(true)
            }
            _ => Ok(false),
        };
        self.script.play("keep_move", 1, work).await
    }

    async fn switch_tier(&self, hash: ContentHash, to: StorageTier, now: Timestamp) -> PortResult<bool> {
        let work = || {
            let mut books = self.books();
            let Some(at) = books.moves.get_mut(&hash).filter(|at| at.to == to) else { return Ok(false) };
            (at.state, at.since) = (MoveState::Leaving, now);
            if let Some(content) = books.contents.get_mut(&hash) {
                content.tier = to;
            }
            Ok(true)
        };
        self.script.play("switch_tier", 1, work).await
    }

    async fn end_move(&self, hash: ContentHash, to: StorageTier, state: MoveState) -> PortResult<bool> {
        let work = || {
            let mut books = self.books();
            let ends = books.moves.get(&hash).is_some_and(|at| at.to == to && at.state == state);
            Ok(ends && books.moves.remove(&hash).is_some())
        };
        self.script.play("end_move", 1, work).await
    }

    async fn move_of(&self, hash: ContentHash) -> PortResult<Option<ContentMove>> {
        self.script.play("move_of", 1, || Ok(self.known_move(hash))).await
    }

    async fn moves(&self, state: MoveState, before: Timestamp, limit: u32) -> PortResult<Vec<ContentMove>> {
        let work = || {
            let books = self.books();
            let due = books.moves.values().filter(|at| at.state == state && at.since < before);
            let mut due: Vec<_> = due.copied().collect();
            due.sort_by_key(|at| at.since);
            due.truncate(limit as usize);
            Ok(due)
        };
        self.script.play("moves", limit as usize, work).await
    }
}
