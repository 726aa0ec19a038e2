//! Moves between tiers, and their leases, by this machine's clock.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::ContentHash,
    model::{ContentMove, MoveState, StorageTier},
    ports::{LeasedTask, MoveBegun, PortResult, StorageMoves, TaskLease},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};
use uuid::Uuid;

use super::super::{
    SqliteStore,
    columns::{Sql, get},
    task_leases::{self, HELD_BY, changed},
};

/// A move that an earlier version began has no lease: it is abandoned without a sign of life for this long.
const SILENT: Duration = Duration::from_secs(30);

/// Served by the primary keys.
pub(in super::super) const BEGIN_MOVE: &str = "
    INSERT INTO storage_moves (content_hash, to_tier, state, since)
    SELECT content_hash, :to, 'copying', :now FROM overlay_storage_index WHERE content_hash = :content AND state = 'stored'
    ON CONFLICT (content_hash) DO UPDATE SET to_tier = excluded.to_tier, state = excluded.state, since = excluded.since
    WHERE (storage_moves.state = 'copying' AND (:leased OR storage_moves.since < :silent))
        OR (storage_moves.state = 'leaving' AND storage_moves.to_tier <> excluded.to_tier)";

/// Served by the primary key.
pub(in super::super) const KEEP_MOVE: &str = "
    UPDATE storage_moves SET since = :now WHERE content_hash = :content AND to_tier = :to AND state = 'copying'";

/// Served by the primary keys.
pub(in super::super) const MOVE: &str = "
    SELECT m.content_hash, c.size_bytes, m.to_tier, m.state, m.since
    FROM storage_moves m JOIN overlay_storage_index c ON c.content_hash = m.content_hash
    WHERE m.content_hash = :content";

/// Served by the primary key.
pub(in super::super) const SWITCH_MOVE: &str = "
    UPDATE storage_moves SET state = 'leaving', since = :now
    WHERE content_hash = :content AND to_tier = :to AND state = 'copying'";

/// Served by the primary key.
pub(in super::super) const SET_TIER: &str = "
    UPDATE overlay_storage_index SET tier = :to WHERE content_hash = :content AND tier <> :to";

/// Served by the primary key.
pub(in super::super) const END_MOVE: &str = "
    DELETE FROM storage_moves WHERE content_hash = :content AND to_tier = :to AND state = :state";

/// Served by `storage_moves_state`, and the primary key of the storage index.
pub(in super::super) const LEAVING_MOVES: &str = "
    SELECT m.content_hash, c.size_bytes, m.to_tier, m.state, m.since
    FROM storage_moves m JOIN overlay_storage_index c ON c.content_hash = m.content_hash
    WHERE m.state = 'leaving' AND m.since < :before AND (m.since, m.content_hash) > (:since, :after)
    ORDER BY m.since, m.content_hash LIMIT :limit";

/// Served by the primary keys.
pub(in super::super) const CLEAR_LATER: &str = "
    INSERT INTO storage_moves (content_hash, to_tier, state, since)
    SELECT content_hash, tier, 'leaving', :now FROM overlay_storage_index
    WHERE content_hash = :content AND tier = :tier AND state = 'stored'
    ON CONFLICT (content_hash) DO NOTHING";

/// Served by `storage_moves_state`, and the primary keys of the leases and of the storage index.
pub(in super::super) const ABANDONED_MOVES: &str = "
    SELECT m.content_hash, c.size_bytes, m.to_tier, m.state, m.since
    FROM storage_moves m JOIN overlay_storage_index c ON c.content_hash = m.content_hash
    WHERE m.state = 'copying' AND (m.since, m.content_hash) > (:since, :after) AND iif(
        EXISTS (SELECT 1 FROM task_leases l WHERE l.task = 'move:' || lower(hex(m.content_hash))),
        NOT EXISTS (
            SELECT 1 FROM task_leases l WHERE l.task = 'move:' || lower(hex(m.content_hash)) AND l.held_until > :now),
        m.since < :silent)
    ORDER BY m.since, m.content_hash LIMIT :limit";

/// The order of a move in a list; before all of them without one.
fn place(of: Option<&ContentMove>) -> (Timestamp, Vec<u8>) {
    of.map_or((Timestamp::UNIX_EPOCH, Vec::new()), |of| (of.since, of.content_hash.as_bytes().to_vec()))
}

/// The moment before which a sign of life is too old, of a move without a lease.
fn silent(now: Timestamp) -> Timestamp {
    now.checked_sub(SILENT).unwrap_or(Timestamp::MIN)
}

fn begin(
    conn: &Connection,
    (hash, to): (ContentHash, StorageTier),
    holder: Uuid,
    ttl: Duration,
) -> rusqlite::Result<Option<MoveBegun>> {
    let (task, now) = (LeasedTask::Move(hash).to_string(), Timestamp::now());
    let mut lease = task_leases::acquire(conn, &task, holder, ttl)?;
    if let Some(TaskLease { token, .. }) = lease {
        let begun = conn.prepare_cached(BEGIN_MOVE)?.execute(named_params! {
            ":content": Sql(hash), ":to": Sql(to), ":now": Sql(now), ":leased": token > 1, ":silent": Sql(silent(now)),
        })?;
        if begun == 0 {
            task_leases::remove(conn, &task)?;
            lease = None;
        }
    }
    let mut select = conn.prepare_cached(MOVE)?;
    let at = select.query_row(named_params! { ":content": Sql(hash) }, content_move).optional()?;
    Ok(at.map(|at| MoveBegun { at, lease }))
}

#[async_trait]
impl StorageMoves for SqliteStore {
    async fn begin_move(
        &self,
        hash: ContentHash,
        to: StorageTier,
        holder: Uuid,
        ttl: Duration,
    ) -> PortResult<Option<MoveBegun>> {
        self.workers.write("begin_move", move |conn| Ok(begin(conn, (hash, to), holder, ttl)?)).await
    }

    async fn keep_move(&self, hash: ContentHash, to: StorageTier, lease: TaskLease, ttl: Duration) -> PortResult<()> {
        let keep = move |conn: &Connection| {
            task_leases::prolong(conn, &LeasedTask::Move(hash).to_string(), lease, ttl)?;
            changed(conn.prepare_cached(KEEP_MOVE)?.execute(named_params! {
                ":content": Sql(hash), ":to": Sql(to), ":now": Sql(Timestamp::now()),
            })?)
        };
        self.workers.write("keep_move", keep).await
    }

    async fn switch_tier(&self, hash: ContentHash, to: StorageTier, lease: TaskLease) -> PortResult<()> {
        let switch = move |conn: &Connection| {
            task_leases::end(conn, &LeasedTask::Move(hash).to_string(), lease)?;
            changed(conn.prepare_cached(SWITCH_MOVE)?.execute(named_params! {
                ":content": Sql(hash), ":to": Sql(to), ":now": Sql(Timestamp::now()),
            })?)?;
            conn.prepare_cached(SET_TIER)?.execute(named_params! { ":content": Sql(hash), ":to": Sql(to) })?;
            Ok(())
        };
        self.workers.write("switch_tier", switch).await
    }

    async fn give_up_move(&self, hash: ContentHash, to: StorageTier, lease: TaskLease) -> PortResult<()> {
        let give_up = move |conn: &Connection| {
            task_leases::end(conn, &LeasedTask::Move(hash).to_string(), lease)?;
            changed(conn.prepare_cached(END_MOVE)?.execute(named_params! {
                ":content": Sql(hash), ":to": Sql(to), ":state": Sql(MoveState::Copying),
            })?)
        };
        self.workers.write("give_up_move", give_up).await
    }

    async fn end_move(&self, hash: ContentHash, to: StorageTier, state: MoveState) -> PortResult<bool> {
        let end = move |conn: &Connection| {
            let task = LeasedTask::Move(hash).to_string();
            let asked = named_params! { ":task": task, ":now": Sql(Timestamp::now()) };
            if conn.prepare_cached(HELD_BY)?.exists(asked)? {
                return Ok(false);
            }
            let ended = conn.prepare_cached(END_MOVE)?.execute(named_params! {
                ":content": Sql(hash), ":to": Sql(to), ":state": Sql(state),
            })?;
            if ended == 1 {
                task_leases::remove(conn, &task)?;
            }
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

    async fn clear_later(&self, hash: ContentHash, tier: StorageTier) -> PortResult<bool> {
        let note = move |conn: &Connection| {
            Ok(conn.prepare_cached(CLEAR_LATER)?.execute(named_params! {
                ":content": Sql(hash), ":tier": Sql(tier), ":now": Sql(Timestamp::now()),
            })? == 1)
        };
        self.workers.write("clear_later", note).await
    }

    async fn leaving_moves(
        &self,
        before: Timestamp,
        after: Option<&ContentMove>,
        limit: u32,
    ) -> PortResult<Vec<ContentMove>> {
        let (since, after) = place(after);
        let read = move |conn: &Connection| {
            let mut select = conn.prepare_cached(LEAVING_MOVES)?;
            let range =
                named_params! { ":before": Sql(before), ":since": Sql(since), ":after": after, ":limit": limit };
            let rows = select.query_map(range, content_move)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        };
        self.workers.read("leaving_moves", read).await
    }

    async fn abandoned_moves(&self, after: Option<&ContentMove>, limit: u32) -> PortResult<Vec<ContentMove>> {
        let (since, after) = place(after);
        let read = move |conn: &Connection| {
            let now = Timestamp::now();
            let range = named_params! {
                ":now": Sql(now), ":silent": Sql(silent(now)), ":since": Sql(since), ":after": after, ":limit": limit,
            };
            let mut select = conn.prepare_cached(ABANDONED_MOVES)?;
            let rows = select.query_map(range, content_move)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        };
        self.workers.read("abandoned_moves", read).await
    }
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
