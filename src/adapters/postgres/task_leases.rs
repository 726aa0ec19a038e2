//! The leases of tasks, by the server's clock, and the progress of tasks over all content.

use std::time::Duration;

use async_trait::async_trait;
use penstock_actors::{
    ids::ContentHash,
    model::{StorageTask, TaskProgress},
    ports::{LeasedTask, PortError, PortResult, StorageTasks, TaskLease, TaskLeases},
};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{
    PostgresStore,
    columns::{Columns, bytes_32},
    db::{Param, Statement},
};

/// By the primary key. The holder of a lease keeps its token.
const ACQUIRE: Statement = Statement {
    name: "acquire_task",
    sql: "
        INSERT INTO task_leases AS l (task, holder, token, held_until)
        VALUES ($1, $2, 1, clock_timestamp() + make_interval(secs => $3))
        ON CONFLICT (task) DO UPDATE SET
            token = l.token + CASE WHEN l.holder = excluded.holder AND l.held_until > clock_timestamp() THEN 0 ELSE 1 END,
            holder = excluded.holder,
            held_until = excluded.held_until
        WHERE l.holder = excluded.holder OR l.held_until <= clock_timestamp()
        RETURNING token",
    types: &[Type::TEXT, Type::UUID, Type::FLOAT8],
};

/// By the primary key.
const RELEASE: Statement = Statement {
    name: "release_task",
    sql: "
        UPDATE task_leases SET held_until = clock_timestamp()
        WHERE task = $1 AND holder = $2 AND token = $3 AND held_until > clock_timestamp()",
    types: &[Type::TEXT, Type::UUID, Type::INT8],
};

/// By the primary key.
const PROGRESS: Statement = Statement {
    name: "task_progress",
    sql: "SELECT after_hash, lap_began_at, whole_lap_began_at FROM storage_tasks WHERE task = $1",
    types: &[Type::TEXT],
};

/// By the primary keys. The lease is locked, so that a new holder waits until the progress is stored.
const SAVE_PROGRESS: Statement = Statement {
    name: "save_task_progress",
    sql: "
        WITH held AS MATERIALIZED (
            SELECT FROM task_leases
            WHERE task = $1 AND holder = $2 AND token = $3 AND held_until > clock_timestamp()
            FOR SHARE
        )
        INSERT INTO storage_tasks (task, node_id, held_until, after_hash, lap_began_at, whole_lap_began_at)
        SELECT $1, $2, '-infinity', $4, $5, $6 FROM held
        ON CONFLICT (task) DO UPDATE SET
            node_id = excluded.node_id,
            held_until = excluded.held_until,
            after_hash = excluded.after_hash,
            lap_began_at = excluded.lap_began_at,
            whole_lap_began_at = excluded.whole_lap_began_at",
    types: &[Type::TEXT, Type::UUID, Type::INT8, Type::BYTEA, Type::TIMESTAMPTZ, Type::TIMESTAMPTZ],
};

#[async_trait]
impl TaskLeases for PostgresStore {
    async fn acquire(&self, task: LeasedTask, holder: Uuid, ttl: Duration) -> PortResult<Option<TaskLease>> {
        let row = self.upkeep.row_opt(&ACQUIRE, &[&task.to_string(), &holder, &ttl.as_secs_f64()]).await?;
        row.map(|row| Ok(TaskLease { holder, token: Columns(&row).get("token")? })).transpose()
    }

    async fn release(&self, task: LeasedTask, lease: TaskLease) -> PortResult<()> {
        self.upkeep.execute(&RELEASE, &[&task.to_string(), &lease.holder, &lease.token]).await.map(drop)
    }
}

#[async_trait]
impl StorageTasks for PostgresStore {
    async fn progress(&self, task: StorageTask) -> PortResult<TaskProgress> {
        let Some(row) = self.upkeep.row_opt(&PROGRESS, &[&task.as_str()]).await? else {
            return Ok(TaskProgress::default());
        };
        let row = Columns(&row);
        let after = row.get::<Option<&[u8]>>("after_hash")?;
        Ok(TaskProgress {
            after: after.map(|hash| bytes_32("after_hash", hash).map(ContentHash::from_bytes)).transpose()?,
            lap_began_at: row.get("lap_began_at")?,
            whole_lap_began_at: row.get("whole_lap_began_at")?,
        })
    }

    async fn save_progress(&self, task: StorageTask, lease: TaskLease, progress: &TaskProgress) -> PortResult<()> {
        let after = progress.after.as_ref().map(|hash| hash.as_bytes().as_slice());
        let params: [Param<'_>; 6] =
            [&task.as_str(), &lease.holder, &lease.token, &after, &progress.lap_began_at, &progress.whole_lap_began_at];
        match self.upkeep.execute(&SAVE_PROGRESS, &params).await? {
            0 => Err(PortError::Fenced),
            _ => Ok(()),
        }
    }
}
