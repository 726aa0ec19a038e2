//! The ledger and the catalogue on SQLite: the embedded default, one file, no service.
//!
//! [`SqliteStore`] implements every port of the database, each in a file of its own below this one, of the same name as on
//! PostgreSQL; a table that several ports use has a file of its own too. Each method is one
//! job on one of the threads of `workers`: inside it, statements cost microseconds, so the arithmetic of grants and
//! settlement is written in Rust between plain statements, in one transaction. A job counts as one round trip in the
//! metrics.
//!
//! Several processes may share the file (a server, and `penstock audit` beside it). It must be on a local disk: the
//! write-ahead log needs shared memory.

use std::{path::PathBuf, sync::Arc, time::Duration};

use penstock_actors::ports::{PortError, PortResult};

use self::{error::DEPENDENCY, workers::Workers};
use crate::telemetry::DbMetrics;

mod api_keys;
mod assets;
mod backup;
mod changes;
mod client_keys;
mod columns;
mod connection;
mod console_sessions;
mod content_index;
mod error;
mod file;
mod functions;
mod governance;
mod headers;
mod identities;
mod installations;
mod leases;
mod ledger;
mod lineage;
mod migrations;
mod payer_data;
mod payments;
mod quota_policies;
mod receipts;
mod resumable_uploads;
pub(crate) mod search;
mod set_aside;
mod storage;
mod task_leases;
mod timekeeper;
mod timelines;
mod upkeep;
mod usage;
mod windows;
mod workers;

#[cfg(test)]
mod plans;
#[cfg(test)]
mod testing;

pub use backup::{Copy, back_up, blob_list, restore};
pub use file::DatabaseFile;
pub use migrations::migrate;

/// The database file and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteSettings {
    /// The database file.
    pub path: PathBuf,
    /// Threads that read, each with a connection of its own; at least one. Reads are short and mostly from memory, so a
    /// few threads are enough; each costs a page cache of up to 2 MiB.
    pub readers: usize,
    /// How long to wait for the lock of another process that writes.
    pub busy_timeout: Duration,
}

/// The ledger and the catalogue on one SQLite file. A clone shares the threads.
#[derive(Clone)]
pub struct SqliteStore {
    workers: Arc<Workers>,
    /// Distinguishes the file from its copies.
    home: Arc<str>,
}

impl SqliteStore {
    /// Opens a database that [`migrate()`] has made. When the last clone is dropped, queued calls are finished, the
    /// threads end and the file is closed.
    ///
    /// # Errors
    /// `Unavailable` when the file does not exist or cannot be opened.
    pub fn open(settings: &SqliteSettings, metrics: Arc<DbMetrics>) -> PortResult<Self> {
        let home = file::home(&settings.path).map_err(|error| PortError::unavailable(DEPENDENCY, error))?.into();
        Ok(Self { workers: Arc::new(Workers::start(settings, metrics)?), home })
    }

    /// The open file.
    pub fn file(&self) -> &Arc<DatabaseFile> {
        self.workers.file()
    }
}
