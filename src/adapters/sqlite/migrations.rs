//! Migrations of the SQLite schema.
//!
//! Processes that start at once take turns by a lock on a file beside the database, because the migration runner has no
//! lock of its own. The operating system releases it when its holder dies. SQLite's own write lock does not work here:
//! the runner opens and commits transactions itself, so the lock cannot be held around the run.

use std::{fs::File, path::PathBuf};

use anyhow::{Context as _, bail};
use rusqlite::Connection;

use super::{SqliteSettings, connection, file, timelines};
use crate::adapters::schema::Versions;

mod embedded {
    refinery::embed_migrations!("migrations/sqlite");
}

/// Migrates the database to the newest schema, and makes the file if there is none; returns how many migrations were
/// applied. Any number of processes may call this at once. It blocks.
///
/// # Errors
/// When the file cannot be opened or locked, or a later version made it and does not admit this build.
pub fn migrate(settings: &SqliteSettings) -> anyhow::Result<usize> {
    let path = settings.path.display();
    let lock_path = lock_path(settings);
    let lock = File::create(&lock_path).with_context(|| format!("cannot create {}", lock_path.display()))?;
    lock.lock().with_context(|| format!("cannot lock {}", lock_path.display()))?;
    let mut conn = Connection::open(&settings.path).with_context(|| format!("cannot open {path}"))?;
    connection::prepare_writer(&conn, settings).with_context(|| format!("cannot set up {path}"))?;
    let versions = Versions {
        schema: number(&conn, SCHEMA)
            .with_context(|| format!("cannot read the version of {path}"))?
            .unwrap_or_default(),
        build: newest(),
        least: number(&conn, FLOOR)
            .with_context(|| format!("cannot read the least version of a build that {path} admits"))?,
    };
    if let Some(refusal) = versions.refusal() {
        bail!(refusal);
    }
    if versions.is_later() {
        return Ok(0);
    }
    // Grouped: a migration and its row in the history commit together, so a kill in between leaves neither.
    let report = embedded::migrations::runner()
        .set_grouped(true)
        .run(&mut conn)
        .with_context(|| format!("cannot migrate {path}"))?;
    let home = file::home(&settings.path).with_context(|| format!("cannot read the metadata of {path}"))?;
    timelines::settle_in(&conn, &home).with_context(|| format!("cannot write to {path}"))?;
    Ok(report.applied_migrations().len())
}

/// The newest applied migration; the table has tens of rows.
const SCHEMA: &str = "SELECT max(version) FROM refinery_schema_history";

/// A table of one row.
const FLOOR: &str = "SELECT least_version FROM schema_floor";

fn newest() -> i64 {
    let runner = embedded::migrations::runner();
    runner.get_migrations().iter().map(|migration| i64::from(migration.version())).max().unwrap_or_default()
}

/// A number from a table that may not exist.
fn number(conn: &Connection, sql: &str) -> rusqlite::Result<Option<i64>> {
    let table = sql.rsplit(' ').next().unwrap_or_default();
    if !conn.table_exists(None, table)? {
        return Ok(None);
    }
    conn.query_row(sql, [], |row| row.get(0))
}

/// The lock file stays: removing it would let two processes lock two different files of the same name.
fn lock_path(settings: &SqliteSettings) -> PathBuf {
    let mut name = settings.path.clone().into_os_string();
    name.push(".migrate-lock");
    name.into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use refinery::Target;

    use super::*;
    use crate::adapters::sqlite::functions;

    /// A table that is rebuilt keeps its rows.
    #[test]
    fn usage_that_was_there_before_delegations_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("penstock.db");
        let settings = SqliteSettings { path: path.clone(), readers: 1, busy_timeout: Duration::from_secs(60) };
        let mut conn = Connection::open(&path).expect("a file");
        let before = embedded::migrations::runner().set_target(Target::Version(5)).run(&mut conn).expect("migrated");
        conn.execute(
            "INSERT INTO streaming_usage VALUES (randomblob(16), x'01', x'02', NULL, NULL, 3, 4, 5, 6, 'aborted', 7)",
            [],
        )
        .expect("a row");
        let row = |conn: &Connection| {
            conn.query_row("SELECT hex(usage_id), bytes_sent, outcome, lease_epoch FROM streaming_usage", [], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?, row.get::<_, i64>(3)?))
            })
            .expect("the row")
        };
        let kept = row(&conn);
        drop(conn);
        assert!(!before.applied_migrations().is_empty());
        assert!(migrate(&settings).expect("migrated") >= 1);
        let conn = Connection::open(&path).expect("a file");
        assert_eq!(row(&conn), kept);
        conn.execute("UPDATE streaming_usage SET outcome = 'delegated'", []).expect("an outcome");
        conn.execute("UPDATE streaming_usage SET outcome = 'lost'", []).expect_err("no outcome");
    }

    /// An asset that the previous release indexed, with words that kept `ß` and `ss` apart.
    const OTHER_WORDS: &str = "
        PRAGMA foreign_keys = OFF;
        INSERT INTO producers (producer_id, name, created_at) VALUES (zeroblob(16), 'producer', 1);
        INSERT INTO assets (version_id, content_hash, name, description, media_type, policy_meta, producer_id, created_at)
            VALUES (zeroblob(16), zeroblob(32), 'Lange Straße', '', 'text/plain', '{}', zeroblob(16), 1),
                (CAST('0123456789abcdef' AS BLOB), zeroblob(32), 'tide', '', 'text/plain', '{}', zeroblob(16), 1);
        DELETE FROM asset_texts WHERE rowid = 1;
        INSERT INTO asset_texts (rowid, name, description, policy_meta, tags) VALUES (1, 'lange straße', '', '', '¦all');";

    #[test]
    fn what_was_entered_with_other_words_is_entered_anew_where_it_stood() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("penstock.db");
        let settings = SqliteSettings { path: path.clone(), readers: 1, busy_timeout: Duration::from_secs(60) };
        let mut conn = Connection::open(&path).expect("a file");
        functions::add(&conn).expect("functions");
        embedded::migrations::runner().set_target(Target::Version(21)).run(&mut conn).expect("migrated");
        conn.execute_batch(OTHER_WORDS).expect("assets");
        let found = |conn: &Connection, words: &str| -> Vec<i64> {
            let mut numbers =
                conn.prepare("SELECT rowid FROM asset_texts WHERE asset_texts MATCH ?1").expect("a query");
            let rows = numbers.query_map([words], |row| row.get(0)).expect("rows");
            rows.collect::<Result<_, _>>().expect("numbers")
        };
        assert_eq!((found(&conn, "strasse"), found(&conn, "tide")), (vec![], vec![2]));
        drop(conn);
        migrate(&settings).expect("migrated");
        let conn = Connection::open(&path).expect("a file");
        assert_eq!((found(&conn, "strasse"), found(&conn, "straße"), found(&conn, "tide")), (vec![1], vec![], vec![2]));
    }
}
