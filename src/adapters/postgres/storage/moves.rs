//! Moves between tiers, and their leases, by the server's clock.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::ContentHash,
    model::{ContentMove, MoveState, StorageTier},
    ports::{LeasedTask, MoveBegun, PortError, PortResult, StorageMoves, TaskLease},
};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::adapters::postgres::{
    PostgresStore,
    columns::Columns,
    db::{Param, Statement},
    error::POSTGRES,
};

/// The second attempt sees a move that another call began at the same moment, unless that move is over by then.
const ATTEMPTS: usize = 5;

/// By the primary keys, inside the function.
const BEGIN: Statement = Statement {
    name: "begin_move",
    sql: "SELECT token, content_hash, size_bytes, to_tier, state, since FROM penstock_begin_move($1, $2, $3, $4)",
    types: &[Type::BYTEA, Type::TEXT, Type::UUID, Type::FLOAT8],
};

/// By the primary keys. A lease that has run out and that nobody has taken over is still this holder's.
const KEEP: Statement = Statement {
    name: "keep_move",
    sql: "
        WITH held AS (
            UPDATE task_leases SET held_until = clock_timestamp() + make_interval(secs => $6)
            WHERE task = $3 AND holder = $4 AND token = $5
            RETURNING true
        )
        UPDATE storage_moves SET since = clock_timestamp()
        FROM held WHERE content_hash = $1 AND to_tier = $2 AND state = 'copying'",
    types: &[Type::BYTEA, Type::TEXT, Type::TEXT, Type::UUID, Type::INT8, Type::FLOAT8],
};

/// By the primary keys.
const SWITCH: Statement = Statement {
    name: "switch_tier",
    sql: "
        WITH held AS (DELETE FROM task_leases WHERE task = $3 AND holder = $4 AND token = $5 RETURNING true),
        switched AS (
            UPDATE storage_moves SET state = 'leaving', since = clock_timestamp()
            FROM held WHERE content_hash = $1 AND to_tier = $2 AND state = 'copying'
            RETURNING content_hash
        ),
        told AS (
            UPDATE overlay_storage_index c SET tier = $2 FROM switched s
            WHERE c.content_hash = s.content_hash AND c.tier <> $2
        )
        SELECT content_hash FROM switched",
    types: &[Type::BYTEA, Type::TEXT, Type::TEXT, Type::UUID, Type::INT8],
};

/// By the primary keys.
const GIVE_UP: Statement = Statement {
    name: "give_up_move",
    sql: "
        WITH held AS (DELETE FROM task_leases WHERE task = $3 AND holder = $4 AND token = $5 RETURNING true)
        DELETE FROM storage_moves USING held WHERE content_hash = $1 AND to_tier = $2 AND state = 'copying'",
    types: &[Type::BYTEA, Type::TEXT, Type::TEXT, Type::UUID, Type::INT8],
};

/// By the primary keys. The lease is locked or removed first, as where a move begins.
const END: Statement = Statement {
    name: "end_move",
    sql: "
        WITH free AS (DELETE FROM task_leases WHERE task = $4 AND held_until <= clock_timestamp() RETURNING true)
        DELETE FROM storage_moves WHERE content_hash = $1 AND to_tier = $2 AND state = $3
          AND (EXISTS (SELECT FROM free) OR NOT EXISTS (SELECT FROM task_leases WHERE task = $4))",
    types: &[Type::BYTEA, Type::TEXT, Type::TEXT, Type::TEXT],
};

/// By the primary keys.
const OF_CONTENT: Statement = Statement {
    name: "move_of",
    sql: "
        SELECT content_hash, c.size_bytes, m.to_tier, m.state, m.since
        FROM storage_moves m JOIN overlay_storage_index c USING (content_hash)
        WHERE content_hash = $1",
    types: &[Type::BYTEA],
};

/// By `storage_moves_state`, and the primary key of the storage index, which has a row for every content that moves.
const LEAVING: Statement = Statement {
    name: "leaving_moves",
    sql: "
        SELECT m.content_hash,
            (SELECT c.size_bytes FROM overlay_storage_index c WHERE c.content_hash = m.content_hash) AS size_bytes,
            m.to_tier, m.state, m.since
        FROM storage_moves m
        WHERE m.state = 'leaving' AND m.since < $1 AND m.since >= $3 AND (m.since, m.content_hash) > ($3, $4)
        ORDER BY m.since, m.content_hash
        LIMIT $2",
    types: &[Type::TIMESTAMPTZ, Type::INT8, Type::TIMESTAMPTZ, Type::BYTEA],
};

/// By the primary keys.
const CLEAR_LATER: Statement = Statement {
    name: "clear_later",
    sql: "
        INSERT INTO storage_moves (content_hash, to_tier, state, since)
        SELECT content_hash, tier, 'leaving', clock_timestamp() FROM overlay_storage_index
        WHERE content_hash = $1 AND tier = $2 AND state = 'stored'
        ON CONFLICT (content_hash) DO NOTHING",
    types: &[Type::BYTEA, Type::TEXT],
};

/// By `storage_moves_state`, and the primary keys of the leases and of the storage index. An instance of an earlier
/// version copies without a lease, and renews its sign of life.
const ABANDONED: Statement = Statement {
    name: "abandoned_moves",
    sql: "
        SELECT m.content_hash,
            (SELECT c.size_bytes FROM overlay_storage_index c WHERE c.content_hash = m.content_hash) AS size_bytes,
            m.to_tier, m.state, m.since
        FROM storage_moves m
        WHERE m.state = 'copying' AND m.since >= $2 AND (m.since, m.content_hash) > ($2, $3)
          AND coalesce(
            (SELECT l.held_until FROM task_leases l WHERE l.task = 'move:' || encode(m.content_hash, 'hex')),
            m.since + interval '30 seconds') <= clock_timestamp()
        ORDER BY m.since, m.content_hash
        LIMIT $1",
    types: &[Type::INT8, Type::TIMESTAMPTZ, Type::BYTEA],
};

impl PostgresStore {
    /// A write of the holder of a move's lease.
    async fn held_move(
        &self,
        step: &Statement,
        (hash, to): (ContentHash, StorageTier),
        lease: TaskLease,
    ) -> PortResult<()> {
        let task = LeasedTask::Move(hash).to_string();
        let params: [Param<'_>; 5] = [&hash.as_bytes().as_slice(), &to.as_str(), &task, &lease.holder, &lease.token];
        match self.db.execute(step, &params).await? {
            0 => Err(PortError::Fenced),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl StorageMoves for PostgresStore {
    async fn begin_move(
        &self,
        hash: ContentHash,
        to: StorageTier,
        holder: Uuid,
        ttl: Duration,
    ) -> PortResult<Option<MoveBegun>> {
        let ttl = ttl.as_secs_f64();
        let params: [Param<'_>; 4] = [&hash.as_bytes().as_slice(), &to.as_str(), &holder, &ttl];
        for _ in 0..ATTEMPTS {
            let Some(row) = self.db.row_opt(&BEGIN, &params).await? else { return Ok(None) };
            let row = Columns(&row);
            if row.get::<Option<&str>>("state")?.is_some() {
                let token: Option<i64> = row.get("token")?;
                let lease = token.map(|token| TaskLease { holder, token });
                return Ok(Some(MoveBegun { at: content_move(&row)?, lease }));
            }
        }
        Err(PortError::unavailable(POSTGRES, "other instances keep changing the move"))
    }

    async fn keep_move(&self, hash: ContentHash, to: StorageTier, lease: TaskLease, ttl: Duration) -> PortResult<()> {
        let (task, ttl) = (LeasedTask::Move(hash).to_string(), ttl.as_secs_f64());
        let params: [Param<'_>; 6] =
            [&hash.as_bytes().as_slice(), &to.as_str(), &task, &lease.holder, &lease.token, &ttl];
        match self.upkeep.execute(&KEEP, &params).await? {
            0 => Err(PortError::Fenced),
            _ => Ok(()),
        }
    }

    async fn switch_tier(&self, hash: ContentHash, to: StorageTier, lease: TaskLease) -> PortResult<()> {
        self.held_move(&SWITCH, (hash, to), lease).await
    }

    async fn give_up_move(&self, hash: ContentHash, to: StorageTier, lease: TaskLease) -> PortResult<()> {
        self.held_move(&GIVE_UP, (hash, to), lease).await
    }

    async fn end_move(&self, hash: ContentHash, to: StorageTier, state: MoveState) -> PortResult<bool> {
        let task = LeasedTask::Move(hash).to_string();
        let params: [Param<'_>; 4] = [&hash.as_bytes().as_slice(), &to.as_str(), &state.as_str(), &task];
        Ok(self.db.execute(&END, &params).await? == 1)
    }

    async fn move_of(&self, hash: ContentHash) -> PortResult<Option<ContentMove>> {
        let row = self.upkeep.row_opt(&OF_CONTENT, &[&hash.as_bytes().as_slice()]).await?;
        row.map(|row| content_move(&Columns(&row))).transpose()
    }

    async fn clear_later(&self, hash: ContentHash, tier: StorageTier) -> PortResult<bool> {
        Ok(self.upkeep.execute(&CLEAR_LATER, &[&hash.as_bytes().as_slice(), &tier.as_str()]).await? == 1)
    }

    async fn leaving_moves(
        &self,
        before: Timestamp,
        after: Option<&ContentMove>,
        limit: u32,
    ) -> PortResult<Vec<ContentMove>> {
        let (since, hash) = place(after);
        let rows = self.upkeep.rows(&LEAVING, &[&before, &i64::from(limit), &since, &hash]).await?;
        rows.iter().map(|row| content_move(&Columns(row))).collect()
    }

    async fn abandoned_moves(&self, after: Option<&ContentMove>, limit: u32) -> PortResult<Vec<ContentMove>> {
        let (since, hash) = place(after);
        let rows = self.upkeep.rows(&ABANDONED, &[&i64::from(limit), &since, &hash]).await?;
        rows.iter().map(|row| content_move(&Columns(row))).collect()
    }
}

/// The order of a move in a list; before all of them without one.
fn place(of: Option<&ContentMove>) -> (Timestamp, &[u8]) {
    of.map_or((Timestamp::UNIX_EPOCH, &[]), |of| (of.since, of.content_hash.as_bytes()))
}

fn content_move(row: &Columns<'_>) -> PortResult<ContentMove> {
    Ok(ContentMove {
        content_hash: row.hash("content_hash")?,
        size_bytes: row.amount("size_bytes")?,
        to: row.word("to_tier", StorageTier::parse)?,
        state: row.word("state", MoveState::parse)?,
        since: row.get("since")?,
    })
}
