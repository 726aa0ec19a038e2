//! Records about stored copies, and the leases of the tasks on them, in memory, with faults by script.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{Timestamp, civil::Date};
use uuid::Uuid;

use super::script::Script;
use crate::{
    clock::{Clock, SystemClock},
    ids::ContentHash,
    model::{
        ContentMove, HistoryPosition, MoveState, Quarantined, StorageTask, StorageTier, StoredContent, TaskProgress,
        Verification, VerificationKind,
    },
    ports::{
        LeasedTask, MoveBegun, PortError, PortResult, QuarantineList, StorageMoves, StorageTasks, StoredContents,
        TaskLease, TaskLeases, Verifications,
    },
};

#[derive(Default)]
struct RecordTables {
    contents: BTreeMap<ContentHash, StoredContent>,
    looks: Vec<Verification>,
    quarantined: BTreeMap<ContentHash, Timestamp>,
    moves: BTreeMap<ContentHash, ContentMove>,
    leases: BTreeMap<String, (TaskLease, Timestamp)>,
    progress: BTreeMap<&'static str, TaskProgress>,
    uses: BTreeMap<ContentHash, Date>,
}

/// Records about stored copies, in memory.
pub struct MemoryRecords {
    /// Its scripted faults.
    pub script: Script,
    books: Mutex<RecordTables>,
    clock: Arc<dyn Clock>,
}

impl Default for MemoryRecords {
    fn default() -> Self {
        Self::by(Arc::new(SystemClock))
    }
}

impl MemoryRecords {
    /// Records in a database that has this clock.
    pub fn by(clock: Arc<dyn Clock>) -> Self {
        Self { script: Script::default(), books: Mutex::default(), clock }
    }

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
impl Verifications for MemoryRecords {
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
}

#[async_trait]
impl QuarantineList for MemoryRecords {
    async fn quarantine(&self, hash: ContentHash, now: Timestamp) -> PortResult<bool> {
        let work = || {
            let mut books = self.books();
            let is_new = !books.quarantined.contains_key(&hash);
            books.quarantined.entry(hash).or_insert(now);
            Ok(is_new)
        };
        self.script.play("quarantine", 1, work).await
    }

    async fn lift_quarantine(&self, hash: ContentHash) -> PortResult<bool> {
        self.script.play("lift_quarantine", 1, || Ok(self.books().quarantined.remove(&hash).is_some())).await
    }

    async fn quarantined(&self, after: Option<ContentHash>, limit: u32) -> PortResult<Vec<Quarantined>> {
        let work = || {
            let books = self.books();
            let rest = books.quarantined.iter().filter(|&(&hash, _)| after.is_none_or(|after| hash > after));
            let rest = rest.map(|(&content_hash, &since)| Quarantined { content_hash, since });
            Ok(rest.take(limit as usize).collect())
        };
        self.script.play("quarantined", 1, work).await
    }

    async fn quarantined_among(&self, hashes: &[ContentHash]) -> PortResult<Vec<ContentHash>> {
        let work = || {
            let books = self.books();
            Ok(hashes.iter().copied().filter(|hash| books.quarantined.contains_key(hash)).collect())
        };
        self.script.play("quarantined_among", hashes.len(), work).await
    }
}

#[async_trait]
impl StoredContents for MemoryRecords {
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
}

#[async_trait]
impl StorageMoves for MemoryRecords {
    async fn begin_move(
        &self,
        hash: ContentHash,
        to: StorageTier,
        holder: Uuid,
        ttl: Duration,
    ) -> PortResult<Option<MoveBegun>> {
        let work = || {
            let (mut books, now) = (self.books(), self.clock.now());
            let Some(content) = books.contents.get(&hash).copied() else { return Ok(None) };
            let new = ContentMove {
                content_hash: hash,
                size_bytes: content.size_bytes,
                to,
                state: MoveState::Copying,
                since: now,
            };
            let task = LeasedTask::Move(hash);
            let is_ours = books.moves.get(&hash).is_none_or(|at| match at.state {
                MoveState::Copying => books.lease(task, now).is_none(),
                MoveState::Leaving => at.to != to,
            });
            if !is_ours {
                return Ok(books.moves.get(&hash).map(|&at| MoveBegun { at, lease: None }));
            }
            books.moves.insert(hash, new);
            let lease = books.acquire(task, holder, now, ttl);
            Ok(Some(MoveBegun { at: new, lease }))
        };
        self.script.play("begin_move", 1, work).await
    }

    async fn keep_move(&self, hash: ContentHash, to: StorageTier, lease: TaskLease, ttl: Duration) -> PortResult<()> {
        let work = || {
            let (mut books, now) = (self.books(), self.clock.now());
            books.held_move(hash, to, lease)?.since = now;
            books.acquire(LeasedTask::Move(hash), lease.holder, now, ttl);
            Ok(())
        };
        self.script.play("keep_move", 1, work).await
    }

    async fn switch_tier(&self, hash: ContentHash, to: StorageTier, lease: TaskLease) -> PortResult<()> {
        let work = || {
            let (mut books, now) = (self.books(), self.clock.now());
            let at = books.held_move(hash, to, lease)?;
            (at.state, at.since) = (MoveState::Leaving, now);
            books.leases.remove(&LeasedTask::Move(hash).to_string());
            if let Some(content) = books.contents.get_mut(&hash) {
                content.tier = to;
            }
            Ok(())
        };
        self.script.play("switch_tier", 1, work).await
    }

    async fn give_up_move(&self, hash: ContentHash, to: StorageTier, lease: TaskLease) -> PortResult<()> {
        let work = || {
            let mut books = self.books();
            books.held_move(hash, to, lease)?;
            books.leases.remove(&LeasedTask::Move(hash).to_string());
            books.moves.remove(&hash);
            Ok(())
        };
        self.script.play("give_up_move", 1, work).await
    }

    async fn end_move(&self, hash: ContentHash, to: StorageTier, state: MoveState) -> PortResult<bool> {
        let work = || {
            let (mut books, now) = (self.books(), self.clock.now());
            let is_held = books.lease(LeasedTask::Move(hash), now).is_some();
            let ends = books.moves.get(&hash).is_some_and(|at| !is_held && at.to == to && at.state == state);
            Ok(ends && books.moves.remove(&hash).is_some())
        };
        self.script.play("end_move", 1, work).await
    }

    async fn move_of(&self, hash: ContentHash) -> PortResult<Option<ContentMove>> {
        self.script.play("move_of", 1, || Ok(self.known_move(hash))).await
    }

    async fn clear_later(&self, hash: ContentHash, tier: StorageTier) -> PortResult<bool> {
        let work = || {
            let (mut books, since) = (self.books(), self.clock.now());
            let stored = books.contents.get(&hash).filter(|content| content.tier == tier).copied();
            let Some(stored) = stored.filter(|_| !books.moves.contains_key(&hash)) else { return Ok(false) };
            let size_bytes = stored.size_bytes;
            let at = ContentMove { content_hash: hash, size_bytes, to: tier, state: MoveState::Leaving, since };
            books.moves.insert(hash, at);
            Ok(true)
        };
        self.script.play("clear_later", 1, work).await
    }

    async fn leaving_moves(
        &self,
        before: Timestamp,
        after: Option<&ContentMove>,
        limit: u32,
    ) -> PortResult<Vec<ContentMove>> {
        let is_due = |at: &ContentMove| at.state == MoveState::Leaving && at.since < before;
        let work = || Ok(self.books().oldest_moves(after, limit, is_due));
        self.script.play("leaving_moves", limit as usize, work).await
    }

    async fn abandoned_moves(&self, after: Option<&ContentMove>, limit: u32) -> PortResult<Vec<ContentMove>> {
        let work = || {
            let (books, now) = (self.books(), self.clock.now());
            let is_free = |at: &ContentMove| books.lease(LeasedTask::Move(at.content_hash), now).is_none();
            Ok(books.oldest_moves(after, limit, |at| at.state == MoveState::Copying && is_free(at)))
        };
        self.script.play("abandoned_moves", limit as usize, work).await
    }
}

impl RecordTables {
    /// The lease of a task, if it has not run out.
    fn lease(&self, task: LeasedTask, now: Timestamp) -> Option<TaskLease> {
        self.leases.get(&task.to_string()).filter(|(_, until)| *until > now).map(|&(lease, _)| lease)
    }

    fn acquire(&mut self, task: LeasedTask, holder: Uuid, now: Timestamp, ttl: Duration) -> Option<TaskLease> {
        let lease = match self.lease(task, now) {
            Some(held) if held.holder != holder => return None,
            Some(held) => held,
            None => {
                let last = self.leases.get(&task.to_string()).map_or(0, |(last, _)| last.token);
                TaskLease { holder, token: last + 1 }
            }
        };
        let until = now.saturating_add(ttl).unwrap_or(Timestamp::MAX);
        self.leases.insert(task.to_string(), (lease, until));
        Some(lease)
    }

    /// The move that is being copied under this lease.
    fn held_move(&mut self, hash: ContentHash, to: StorageTier, lease: TaskLease) -> PortResult<&mut ContentMove> {
        let held = self.leases.get(&LeasedTask::Move(hash).to_string()).is_some_and(|(held, _)| *held == lease);
        let at = self.moves.get_mut(&hash).filter(|at| held && at.to == to && at.state == MoveState::Copying);
        at.ok_or(PortError::Fenced)
    }

    fn oldest_moves(
        &self,
        after: Option<&ContentMove>,
        limit: u32,
        is_due: impl Fn(&ContentMove) -> bool,
    ) -> Vec<ContentMove> {
        let place = |at: &ContentMove| (at.since, at.content_hash);
        let is_next = |at: &ContentMove| after.is_none_or(|after| place(at) > place(after));
        let mut due: Vec<_> = self.moves.values().filter(|at| is_due(at) && is_next(at)).copied().collect();
        due.sort_by_key(place);
        due.truncate(limit as usize);
        due
    }
}

#[async_trait]
impl TaskLeases for MemoryRecords {
    async fn acquire(&self, task: LeasedTask, holder: Uuid, ttl: Duration) -> PortResult<Option<TaskLease>> {
        let work = || {
            let now = self.clock.now();
            Ok(self.books().acquire(task, holder, now, ttl))
        };
        self.script.play("acquire", 1, work).await
    }

    async fn release(&self, task: LeasedTask, lease: TaskLease) -> PortResult<()> {
        let work = || {
            let (mut books, now) = (self.books(), self.clock.now());
            if books.lease(task, now) == Some(lease) {
                books.leases.insert(task.to_string(), (lease, now));
            }
            Ok(())
        };
        self.script.play("release", 1, work).await
    }
}

#[async_trait]
impl StorageTasks for MemoryRecords {
    async fn progress(&self, task: StorageTask) -> PortResult<TaskProgress> {
        let work = || Ok(self.books().progress.get(task.as_str()).copied().unwrap_or_default());
        self.script.play("progress", 1, work).await
    }

    async fn save_progress(&self, task: StorageTask, lease: TaskLease, progress: &TaskProgress) -> PortResult<()> {
        let work = || {
            let mut books = self.books();
            if books.lease(task.into(), self.clock.now()) != Some(lease) {
                return Err(PortError::Fenced);
            }
            books.progress.insert(task.as_str(), *progress);
            Ok(())
        };
        self.script.play("save_progress", 1, work).await
    }
}
