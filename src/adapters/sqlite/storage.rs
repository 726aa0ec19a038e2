//! The port `StorageRecords`: verifications of stored copies, the quarantine, moves between tiers, and the last use of
//! content.

use std::time::Duration;

use async_trait::async_trait;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use penstock_actors::{
    ids::{ContentHash, NodeId},
    model::{
        ContentMove, HistoryPosition, MoveState, StorageTask, StorageTier, StoredContent, TaskProgress, Verification,
        VerificationKind,
    },
    ports::{Claim, MoveBegun, PortResult, StorageRecords},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::{
    SqliteStore,
    columns::{Sql, get, get_opt},
};

/// Served by the primary key.
pub(super) const NOTE_VERIFICATION: &str = "
    INSERT INTO storage_verifications (verification_id, content_hash, verification_type, tier, finding, expected_bytes,
        found_bytes, node_id, verified_at)
    VALUES (:id, :content, :kind, :tier, :finding, :expected, :found, :node, :at)
    ON CONFLICT (verification_id) DO NOTHING";

/// Served by `storage_verifications_content`, once per kind.
pub(super) const VERIFICATIONS: &str = "
    SELECT verification_id, content_hash, verification_type, tier, finding, expected_bytes, found_bytes, node_id,
        verified_at
    FROM storage_verifications
    WHERE content_hash = :content AND verification_type = :kind AND verified_at <= :at
        AND (verified_at < :at OR verification_id < :id)
    ORDER BY verified_at DESC, verification_id DESC LIMIT :limit";

/// Served by `storage_verifications_age`.
pub(super) const FORGET_VERIFICATIONS: &str = "
    DELETE FROM storage_verifications WHERE verification_id IN (
        SELECT verification_id FROM storage_verifications WHERE verified_at < :before ORDER BY verified_at LIMIT :limit)";

/// Served by the primary keys.
pub(super) const QUARANTINE: &str = "
    INSERT INTO storage_quarantine (content_hash, since)
    SELECT content_hash, :now FROM overlay_storage_index WHERE content_hash = :content
    ON CONFLICT (content_hash) DO NOTHING";

/// Served by the primary key.
pub(super) const LIFT_QUARANTINE: &str = "DELETE FROM storage_quarantine WHERE content_hash = :content";

/// Served by the primary key, in its order.
pub(super) const QUARANTINED: &str = "
    SELECT content_hash FROM storage_quarantine WHERE content_hash > :after ORDER BY content_hash LIMIT :limit";

/// Served by the primary key.
pub(super) const IS_QUARANTINED: &str = "SELECT 1 FROM storage_quarantine WHERE content_hash = :content";

/// Served by the primary keys.
pub(super) const STORED_CONTENT: &str = "
    SELECT c.content_hash, c.size_bytes, c.tier, c.stored_at, u.used_on
    FROM overlay_storage_index c LEFT JOIN content_uses u ON u.content_hash = c.content_hash
    WHERE c.content_hash = :content AND c.state = 'stored'";

/// Served by the primary keys, in their order.
pub(super) const STORED_AFTER: &str = "
    SELECT c.content_hash, c.size_bytes, c.tier, c.stored_at, u.used_on
    FROM overlay_storage_index c LEFT JOIN content_uses u ON u.content_hash = c.content_hash
    WHERE c.content_hash > :after AND c.state = 'stored'
    ORDER BY c.content_hash LIMIT :limit";

/// Served by the primary key.
pub(super) const NOTE_USE: &str = "
    INSERT INTO content_uses (content_hash, used_on) VALUES (:content, :day)
    ON CONFLICT (content_hash) DO UPDATE SET used_on = excluded.used_on WHERE used_on < excluded.used_on";

/// Served by the primary key.
pub(super) const CLAIM_TASK: &str = "
    INSERT INTO storage_tasks (task, node_id, held_until) VALUES (:task, :node, :until)
    ON CONFLICT (task) DO UPDATE SET node_id = excluded.node_id, held_until = excluded.held_until
    WHERE node_id = excluded.node_id OR held_until < :now";

/// Served by the primary key.
pub(super) const TASK: &str = "
    SELECT after_hash, lap_began_at, whole_lap_began_at FROM storage_tasks WHERE task = :task";

/// Served by the primary key.
pub(super) const ADVANCE_TASK: &str = "
    UPDATE storage_tasks SET after_hash = :after, lap_began_at = :began, whole_lap_began_at = :whole
    WHERE task = :task AND node_id = :node";

/// Served by the primary keys.
pub(super) const BEGIN_MOVE: &str = "
    INSERT INTO storage_moves (content_hash, to_tier, state, since)
    SELECT content_hash, :to, 'copying', :now FROM overlay_storage_index WHERE content_hash = :content AND state = 'stored'
    ON CONFLICT (content_hash) DO UPDATE SET to_tier = excluded.to_tier, state = excluded.state, since = excluded.since
    WHERE (storage_moves.state = 'copying' AND storage_moves.since < :stale)
        OR (storage_moves.state = 'leaving' AND storage_moves.to_tier <> excluded.to_tier)";

/// Served by the primary key.
pub(super) const KEEP_MOVE: &str = "
    UPDATE storage_moves SET since = :now WHERE content_hash = :content AND to_tier = :to AND state = 'copying'";

/// Served by the primary keys.
pub(super) const MOVE: &str = "
    SELECT m.content_hash, c.size_bytes, m.to_tier, m.state, m.since
    FROM storage_moves m JOIN overlay_storage_index c ON c.content_hash = m.content_hash
    WHERE m.content_hash = :content";

/// Served by the primary key.
pub(super) const SWITCH_MOVE: &str = "
    UPDATE storage_moves SET state = 'leaving', since = :now WHERE content_hash = :content AND to_tier = :to";

/// Served by the primary key.
pub(super) const SET_TIER: &str = "
    UPDATE overlay_storage_index SET tier = :to WHERE content_hash = :content AND tier <> :to";

/// Served by the primary key.
pub(super) const END_MOVE: &str = "
    DELETE FROM storage_moves WHERE content_hash = :content AND to_tier = :to AND state = :state";

/// Served by `storage_moves_state`, and the primary key of the storage index.
pub(super) const MOVES: &str = "
    SELECT m.content_hash, c.size_bytes, m.to_tier, m.state, m.since
    FROM storage_moves m JOIN overlay_storage_index c ON c.content_hash = m.content_hash
    WHERE m.state = :state AND m.since < :before
    ORDER BY m.since LIMIT :limit";

#[async_trait]
impl StorageRecords for SqliteStore {
    async fn note_verifications(&self, rows: &[Verification]) -> PortResult<()> {
        let rows = rows.to_vec();
        self.workers.write("note_verifications", move |conn| Ok(note_verifications(conn, &rows)?)).await
    }

    async fn verifications(
        &self,
        hash: ContentHash,
        kind: Option<VerificationKind>,
        after: Option<HistoryPosition>,
        limit: u32,
    ) -> PortResult<Vec<Verification>> {
        self.workers.read("verifications", move |conn| Ok(history(conn, hash, kind, after, limit)?)).await
    }

    async fn forget_verifications(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        let forget = move |conn: &Connection| {
            let range = named_params! { ":before": Sql(before), ":limit": limit };
            Ok(conn.prepare_cached(FORGET_VERIFICATIONS)?.execute(range)? as u64)
        };
        self.workers.write("forget_verifications", forget).await
    }

    async fn quarantine(&self, hash: ContentHash, now: Timestamp) -> PortResult<bool> {
        let quarantine = move |conn: &Connection| {
            let row = named_params! { ":content": Sql(hash), ":now": Sql(now) };
            Ok(conn.prepare_cached(QUARANTINE)?.execute(row)? == 1)
        };
        self.workers.write("quarantine", quarantine).await
    }

    async fn lift_quarantine(&self, hash: ContentHash) -> PortResult<bool> {
        let lift = move |conn: &Connection| {
            Ok(conn.prepare_cached(LIFT_QUARANTINE)?.execute(named_params! { ":content": Sql(hash) })? == 1)
        };
        self.workers.write("lift_quarantine", lift).await
    }

    async fn quarantined(&self, after: Option<ContentHash>, limit: u32) -> PortResult<Vec<ContentHash>> {
        let read = move |conn: &Connection| {
            let range = named_params! { ":after": bytes_of(after), ":limit": limit };
            let mut select = conn.prepare_cached(QUARANTINED)?;
            let rows = select.query_map(range, |row| get(row, "content_hash"))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        };
        self.workers.read("quarantined", read).await
    }

    async fn quarantined_among(&self, hashes: &[ContentHash]) -> PortResult<Vec<ContentHash>> {
        let hashes = hashes.to_vec();
        let read = move |conn: &Connection| {
            let mut known = conn.prepare_cached(IS_QUARANTINED)?;
            let mut found = Vec::new();
            for hash in hashes {
                if known.exists(named_params! { ":content": Sql(hash) })? {
                    found.push(hash);
                }
            }
            Ok(found)
        };
        self.workers.read("quarantined_among", read).await
    }

    async fn stored_content(&self, hash: ContentHash) -> PortResult<Option<StoredContent>> {
        let read = move |conn: &Connection| {
            let mut select = conn.prepare_cached(STORED_CONTENT)?;
            Ok(select.query_row(named_params! { ":content": Sql(hash) }, stored_content).optional()?)
        };
        self.workers.read("stored_content", read).await
    }

    async fn stored_after(&self, after: Option<ContentHash>, limit: u32) -> PortResult<Vec<StoredContent>> {
        let read = move |conn: &Connection| {
            let range = named_params! { ":after": bytes_of(after), ":limit": limit };
            let mut select = conn.prepare_cached(STORED_AFTER)?;
            let rows = select.query_map(range, stored_content)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        };
        self.workers.read("stored_after", read).await
    }

    async fn note_accesses(&self, hashes: &[ContentHash], day: Date) -> PortResult<()> {
        let hashes = hashes.to_vec();
        let note = move |conn: &Connection| {
            let mut insert = conn.prepare_cached(NOTE_USE)?;
            for hash in hashes {
                insert.execute(named_params! { ":content": Sql(hash), ":day": Sql(day) })?;
            }
            Ok(())
        };
        self.workers.write("note_uses", note).await
    }

    async fn claim_task(&self, task: StorageTask, node: NodeId, now: Timestamp, ttl: Duration) -> PortResult<Claim> {
        let until = now.saturating_add(ttl).unwrap_or(Timestamp::MAX);
        let claim = move |conn: &Connection| {
            let taken = conn.prepare_cached(CLAIM_TASK)?.execute(named_params! {
                ":task": task.as_str(), ":node": Sql(node), ":until": Sql(until), ":now": Sql(now),
            })?;
            let progress = conn.prepare_cached(TASK)?.query_row(named_params! { ":task": task.as_str() }, progress)?;
            Ok(Claim { progress, is_ours: taken == 1 })
        };
        self.workers.write("claim_task", claim).await
    }

    async fn advance_task(&self, task: StorageTask, node: NodeId, progress: &TaskProgress) -> PortResult<bool> {
        let progress = *progress;
        let advance = move |conn: &Connection| {
            let advanced = conn.prepare_cached(ADVANCE_TASK)?.execute(named_params! {
                ":task": task.as_str(), ":node": Sql(node), ":after": progress.after.map(Sql),
                ":began": progress.lap_began_at.map(Sql), ":whole": progress.whole_lap_began_at.map(Sql),
            })?;
            Ok(advanced == 1)
        };
        self.workers.write("advance_task", advance).await
    }

    async fn begin_move(
        &self,
        hash: ContentHash,
        to: StorageTier,
        now: Timestamp,
        stale: Timestamp,
    ) -> PortResult<Option<MoveBegun>> {
        let begin = move |conn: &Connection| {
            let begun = conn.prepare_cached(BEGIN_MOVE)?.execute(named_params! {
                ":content": Sql(hash), ":to": Sql(to), ":now": Sql(now), ":stale": Sql(stale),
            })?;
            let mut select = conn.prepare_cached(MOVE)?;
            let at = select.query_row(named_params! { ":content": Sql(hash) }, content_move).optional()?;
            Ok(at.map(|at| MoveBegun { at, is_ours: begun == 1 }))
        };
        self.workers.write("begin_move", begin).await
    }

    async fn keep_move(&self, hash: ContentHash, to: StorageTier, now: Timestamp) -> PortResult<bool> {
        let keep = move |conn: &Connection| {
            let kept = conn.prepare_cached(KEEP_MOVE)?.execute(named_params! {
                ":content": Sql(hash), ":to": Sql(to), ":now": Sql(now),
            })?;
            Ok(kept == 1)
        };
        self.workers.write("keep_move", keep).await
    }

    async fn switch_tier(&self, hash: ContentHash, to: StorageTier, now: Timestamp) -> PortResult<bool> {
        let switch = move |conn: &Connection| {
            let switched = conn.prepare_cached(SWITCH_MOVE)?.execute(named_params! {
                ":content": Sql(hash), ":to": Sql(to), ":now": Sql(now),
            })?;
            if switched == 1 {
                conn.prepare_cached(SET_TIER)?.execute(named_params! { ":content": Sql(hash), ":to": Sql(to) })?;
            }
            Ok(switched == 1)
        };
        self.workers.write("switch_tier", switch).await
    }

    async fn end_move(&self, hash: ContentHash, to: StorageTier, state: MoveState) -> PortResult<bool> {
        let end = move |conn: &Connection| {
            let ended = conn.prepare_cached(END_MOVE)?.execute(named_params! {
                ":content": Sql(hash), ":to": Sql(to), ":state": Sql(state),
            })?;
            Ok(ended == 1)
        };
        self.workers.write("end_move", end).await
    }

    async fn move_of(&self, hash: ContentHash) -> PortResult<Option<ContentMove>> {
        let read = move |conn: &Connection| {
            let mut select = conn.prepare_cached(MOVE)?;
            Ok(select.query_row(named_params! { ":content": Sql(hash) }, content_move).optional()?)
        };
        self.workers.read("move_of", read).await
    }

    async fn moves(&self, state: MoveState, before: Timestamp, limit: u32) -> PortResult<Vec<ContentMove>> {
        let read = move |conn: &Connection| {
            let range = named_params! { ":state": Sql(state), ":before": Sql(before), ":limit": limit };
            let mut select = conn.prepare_cached(MOVES)?;
            let rows = select.query_map(range, content_move)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        };
        self.workers.read("moves", read).await
    }
}

/// The lower bound of a page; without one, a value below every hash.
fn bytes_of(after: Option<ContentHash>) -> Vec<u8> {
    after.map(|hash| hash.as_bytes().to_vec()).unwrap_or_default()
}

fn note_verifications(conn: &Connection, rows: &[Verification]) -> rusqlite::Result<()> {
    let mut insert = conn.prepare_cached(NOTE_VERIFICATION)?;
    for row in rows {
        insert.execute(named_params! {
            ":id": Sql(row.verification_id), ":content": Sql(row.content_hash), ":kind": Sql(row.kind),
            ":tier": Sql(row.tier), ":finding": Sql(row.finding), ":expected": Sql(row.expected_bytes),
            ":found": row.found_bytes.map(Sql), ":node": Sql(row.node), ":at": Sql(row.verified_at),
        })?;
    }
    Ok(())
}

/// The newest of each kind, merged: the index is in the order of time within a kind.
fn history(
    conn: &Connection,
    hash: ContentHash,
    kind: Option<VerificationKind>,
    after: Option<HistoryPosition>,
    limit: u32,
) -> rusqlite::Result<Vec<Verification>> {
    let kinds = kind.map_or_else(|| VerificationKind::ALL.to_vec(), |kind| vec![kind]);
    let at = after.map_or(i64::MAX, |place| place.verified_at.as_microsecond());
    let id = after.map(|place| Sql(place.verification_id));
    let mut select = conn.prepare_cached(VERIFICATIONS)?;
    let mut all = Vec::new();
    for kind in kinds {
        let range = named_params! { ":content": Sql(hash), ":kind": Sql(kind), ":at": at, ":id": id, ":limit": limit };
        for row in select.query_map(range, verification)? {
            all.push(row?);
        }
    }
    all.sort_by_key(|row| std::cmp::Reverse((row.verified_at, row.verification_id)));
    all.truncate(limit as usize);
    Ok(all)
}

fn verification(row: &Row<'_>) -> rusqlite::Result<Verification> {
    Ok(Verification {
        verification_id: get(row, "verification_id")?,
        content_hash: get(row, "content_hash")?,
        kind: get(row, "verification_type")?,
        tier: get(row, "tier")?,
        finding: get(row, "finding")?,
        expected_bytes: get(row, "expected_bytes")?,
        found_bytes: get_opt(row, "found_bytes")?,
        node: get(row, "node_id")?,
        verified_at: get(row, "verified_at")?,
    })
}

fn stored_content(row: &Row<'_>) -> rusqlite::Result<StoredContent> {
    let used_on: Option<Date> = get_opt(row, "used_on")?;
    Ok(StoredContent {
        content_hash: get(row, "content_hash")?,
        size_bytes: get(row, "size_bytes")?,
        tier: get(row, "tier")?,
        stored_at: get(row, "stored_at")?,
        used_on: used_on.and_then(|day| Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())),
    })
}

fn progress(row: &Row<'_>) -> rusqlite::Result<TaskProgress> {
    Ok(TaskProgress {
        after: get_opt(row, "after_hash")?,
        lap_began_at: get_opt(row, "lap_began_at")?,
        whole_lap_began_at: get_opt(row, "whole_lap_began_at")?,
    })
}

fn content_move(row: &Row<'_>) -> rusqlite::Result<ContentMove> {
    Ok(ContentMove {
        content_hash: get(row, "content_hash")?,
        size_bytes: get(row, "size_bytes")?,
        to: get(row, "to_tier")?,
        state: get(row, "state")?,
        since: get(row, "since")?,
    })
}
