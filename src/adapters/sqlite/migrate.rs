//! Migrations of the SQLite schema.
//!
//! Processes that start at once take turns by a lock on a file beside the database, because the migration runner has no
//! lock of its own. The operating system frees it when its holder dies. SQLite's own write lock would not do: the
//! runner opens and commits transactions itself, so it cannot be held around the run.

use std::{fs::File, path::PathBuf};

use anyhow::Context as _;
use rusqlite::Connection;

use super::{SqliteSettings, connection};

mod embedded {
    refinery::embed_migrations!("migrations/sqlite");
}

/// Brings the database up to the newest schema, making the file when there is none; how many migrations were applied.
/// Any number of processes may call this at once. It blocks.
///
/// # Errors
/// When the file cannot be opened or locked, or holds migrations that this version does not know.
pub fn migrate(settings: &SqliteSettings) -> anyhow::Result<usize> {
    let path = settings.path.display();
    let lock_path = lock_path(settings);
    let lock = File::create(&lock_path).with_context(|| format!("cannot create {}", lock_path.display()))?;
    lock.lock().with_context(|| format!("cannot lock {}", lock_path.display()))?;
    let mut conn = Connection::open(&settings.path).with_context(|| format!("cannot open {path}"))?;
    connection::prepare_writer(&conn, settings).with_context(|| format!("cannot set up {path}"))?;
    // Grouped: a migration and its line in the history commit together, so a kill in between leaves neither.
    let report = embedded::migrations::runner()
        .set_grouped(true)
        .run(&mut conn)
        .with_context(|| format!("cannot migrate {path}"))?;
    Ok(report.applied_migrations().len())
}

/// The lock's file stays: removing it would let two processes lock two different files of one name.
fn lock_path(settings: &SqliteSettings) -> PathBuf {
    let mut name = settings.path.clone().into_os_string();
    name.push(".migrate-lock");
    name.into()
}
