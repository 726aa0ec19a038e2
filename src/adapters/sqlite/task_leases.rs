//! The leases of tasks, by this machine's clock, and the progress of tasks over all content.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    model::{StorageTask, TaskProgress},
    ports::{LeasedTask, PortError, PortResult, StorageTasks, TaskLease, TaskLeases},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};
use uuid::Uuid;

use super::{
    SqliteStore,
    columns::{Sql, get_opt},
    error::JobFailure,
};

/// Served by the primary key. The holder of a lease keeps its token.
pub(super) const ACQUIRE: &str = "
    INSERT INTO task_leases AS l (task, holder, token, held_until) VALUES (:task, :holder, 1, :until)
    ON CONFLICT (task) DO UPDATE SET
        token = l.token + iif(l.holder = excluded.holder AND l.held_until > :now, 0, 1),
        holder = excluded.holder, held_until = excluded.held_until
    WHERE l.holder = excluded.holder OR l.held_until <= :now
    RETURNING token";

/// Served by the primary key.
pub(super) const HELD: &str = "
    SELECT 1 FROM task_leases WHERE task = :task AND holder = :holder AND token = :token AND held_until > :now";

/// Served by the primary key.
pub(super) const RELEASE: &str = "
    UPDATE task_leases SET held_until = :now
    WHERE task = :task AND holder = :holder AND token = :token AND held_until > :now";

/// Served by the primary key.
pub(super) const PROGRESS: &str = "
    SELECT after_hash, lap_began_at, whole_lap_began_at FROM storage_tasks WHERE task = :task";

/// Served by the primary key.
pub(super) const SAVE_PROGRESS: &str = "
    INSERT INTO storage_tasks (task, node_id, held_until, after_hash, lap_began_at, whole_lap_began_at)
    VALUES (:task, :holder, 0, :after, :began, :whole)
    ON CONFLICT (task) DO UPDATE SET node_id = excluded.node_id, held_until = excluded.held_until,
        after_hash = excluded.after_hash, lap_began_at = excluded.lap_began_at,
        whole_lap_began_at = excluded.whole_lap_began_at";

/// Served by the primary key.
pub(super) const HELD_BY: &str = "SELECT holder FROM task_leases WHERE task = :task AND held_until > :now";

/// Served by the primary key. A lease that has run out and that nobody has taken over is still this holder's.
pub(super) const PROLONG: &str = "
    UPDATE task_leases SET held_until = :until WHERE task = :task AND holder = :holder AND token = :token";

/// Served by the primary key.
pub(super) const END: &str = "DELETE FROM task_leases WHERE task = :task AND holder = :holder AND token = :token";

/// Served by the primary key.
pub(super) const REMOVE: &str = "DELETE FROM task_leases WHERE task = :task";

/// Acquires or renews the lease of a task.
pub(super) fn acquire(
    conn: &Connection,
    task: &str,
    holder: Uuid,
    ttl: Duration,
) -> rusqlite::Result<Option<TaskLease>> {
    let now = Timestamp::now();
    let until = now.checked_add(ttl).unwrap_or(Timestamp::MAX);
    let wanted = named_params! {
        ":task": task, ":holder": holder.as_bytes(), ":now": Sql(now), ":until": Sql(until),
    };
    let token = conn.prepare_cached(ACQUIRE)?.query_row(wanted, |row| row.get("token")).optional()?;
    Ok(token.map(|token| TaskLease { holder, token }))
}

/// Fails with `Fenced` unless the lease is still held.
pub(super) fn held(conn: &Connection, task: &str, lease: TaskLease) -> Result<(), JobFailure> {
    let mut statement = conn.prepare_cached(HELD)?;
    let TaskLease { holder, token } = lease;
    let asked = named_params! {
        ":task": task, ":holder": holder.as_bytes(), ":token": token, ":now": Sql(Timestamp::now()),
    };
    if statement.exists(asked)? { Ok(()) } else { Err(PortError::Fenced.into()) }
}

/// Fails with `Fenced` unless a write of a lease's holder had a row to change.
pub(super) fn changed(rows: usize) -> Result<(), JobFailure> {
    if rows == 1 { Ok(()) } else { Err(PortError::Fenced.into()) }
}

/// Renews a lease; fails with `Fenced` when another holder has taken it over.
pub(super) fn prolong(conn: &Connection, task: &str, lease: TaskLease, ttl: Duration) -> Result<(), JobFailure> {
    let until = Timestamp::now().checked_add(ttl).unwrap_or(Timestamp::MAX);
    let prolonged = conn.prepare_cached(PROLONG)?.execute(named_params! {
        ":task": task, ":holder": lease.holder.as_bytes(), ":token": lease.token, ":until": Sql(until),
    })?;
    changed(prolonged)
}

/// Ends the lease of work that is over; fails with `Fenced` when another holder has taken it over.
pub(super) fn end(conn: &Connection, task: &str, lease: TaskLease) -> Result<(), JobFailure> {
    let ended = conn.prepare_cached(END)?.execute(named_params! {
        ":task": task, ":holder": lease.holder.as_bytes(), ":token": lease.token,
    })?;
    changed(ended)
}

/// Removes the lease of work that does not exist any more.
pub(super) fn remove(conn: &Connection, task: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(REMOVE)?.execute(named_params! { ":task": task }).map(drop)
}

#[async_trait]
impl TaskLeases for SqliteStore {
    async fn acquire(&self, task: LeasedTask, holder: Uuid, ttl: Duration) -> PortResult<Option<TaskLease>> {
        let acquire = move |conn: &Connection| Ok(acquire(conn, &task.to_string(), holder, ttl)?);
        self.workers.write("acquire_task", acquire).await
    }

    async fn release(&self, task: LeasedTask, lease: TaskLease) -> PortResult<()> {
        let release = move |conn: &Connection| {
            conn.prepare_cached(RELEASE)?.execute(named_params! {
                ":task": task.to_string(), ":holder": lease.holder.as_bytes(), ":token": lease.token,
                ":now": Sql(Timestamp::now()),
            })?;
            Ok(())
        };
        self.workers.write("release_task", release).await
    }
}

#[async_trait]
impl StorageTasks for SqliteStore {
    async fn progress(&self, task: StorageTask) -> PortResult<TaskProgress> {
        let read = move |conn: &Connection| {
            let mut select = conn.prepare_cached(PROGRESS)?;
            Ok(select.query_row(named_params! { ":task": task.as_str() }, progress).optional()?.unwrap_or_default())
        };
        self.workers.read("task_progress", read).await
    }

    async fn save_progress(&self, task: StorageTask, lease: TaskLease, progress: &TaskProgress) -> PortResult<()> {
        let progress = *progress;
        let save = move |conn: &Connection| {
            held(conn, task.as_str(), lease)?;
            conn.prepare_cached(SAVE_PROGRESS)?.execute(named_params! {
                ":task": task.as_str(), ":holder": lease.holder.as_bytes(), ":after": progress.after.map(Sql),
                ":began": progress.lap_began_at.map(Sql), ":whole": progress.whole_lap_began_at.map(Sql),
            })?;
            Ok(())
        };
        self.workers.write("save_task_progress", save).await
    }
}

fn progress(row: &Row<'_>) -> rusqlite::Result<TaskProgress> {
    Ok(TaskProgress {
        after: get_opt(row, "after_hash")?,
        lap_began_at: get_opt(row, "lap_began_at")?,
        whole_lap_began_at: get_opt(row, "whole_lap_began_at")?,
    })
}
