//! Leases of tasks: which instance does the work that only one instance at a time may do.
//!
//! A lease runs out by the database's clock, so the clock of an instance neither steals a task nor keeps one. Each new
//! holder gets another token. The writes that a lease guards carry it, and are refused as `Fenced` when it is no longer
//! held: an instance that was paused for a while does no harm beside its successor.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use super::PortResult;
use crate::{
    ids::ContentHash,
    model::{StorageTask, TaskProgress},
};

/// Work that one instance at a time does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeasedTask {
    PruneLineage,
    Storage(StorageTask),
    /// The move of a content to another tier.
    Move(ContentHash),
}

/// The name of the task in the database.
impl fmt::Display for LeasedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PruneLineage => f.write_str("pruner"),
            Self::Storage(task) => task.fmt(f),
            Self::Move(hash) => write!(f, "move:{hash}"),
        }
    }
}

impl From<StorageTask> for LeasedTask {
    fn from(task: StorageTask) -> Self {
        Self::Storage(task)
    }
}

/// The lease of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TaskLease {
    pub holder: Uuid,
    pub token: i64,
}

/// Hands out the leases of tasks.
#[async_trait]
pub trait TaskLeases: Send + Sync + 'static {
    /// Acquires the lease of a task, or renews it, for `ttl` by the database's clock. A renewed lease keeps its token.
    /// `None` while another holder has the task.
    async fn acquire(&self, task: LeasedTask, holder: Uuid, ttl: Duration) -> PortResult<Option<TaskLease>>;

    /// Gives a lease back. A lease that another holder has taken over gives nothing back.
    async fn release(&self, task: LeasedTask, lease: TaskLease) -> PortResult<()>;
}

/// The progress of the tasks over all content.
#[async_trait]
pub trait StorageTasks: Send + Sync + 'static {
    /// The progress of a task, whichever instance has it.
    async fn progress(&self, task: StorageTask) -> PortResult<TaskProgress>;

    /// Stores the progress of a task; refused as `Fenced` when the lease is no longer held.
    async fn save_progress(&self, task: StorageTask, lease: TaskLease, progress: &TaskProgress) -> PortResult<()>;
}
