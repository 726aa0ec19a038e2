//! Connections: the set-up of the writer and the readers.

use rusqlite::{Connection, OpenFlags};

use super::{SqliteSettings, functions};

/// Statements kept prepared on a connection: more than this adapter has, so that none is prepared twice.
const CACHED_STATEMENTS: usize = 160;

/// The write-ahead log shrinks to this size at a checkpoint. It is larger only while a reader holds an old snapshot,
/// for as long as an audit step.
const LOG_BYTES: i64 = 16 << 20;

/// Opens the only connection that writes. The file must exist: [`migrate`](super::migrate()) makes it.
pub(super) fn open_writer(settings: &SqliteSettings) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(&settings.path, flags)?;
    prepare_writer(&conn, settings)?;
    Ok(conn)
}

/// Durability: in WAL mode the death of the process loses no commit, whatever `synchronous` is. The setting decides
/// what a power cut may lose: with NORMAL, the transactions since the last checkpoint; with FULL nothing, at the price
/// of one sync of the log per commit. Callers rely on what is written here: a paid receipt, a spent lease, usage that
/// the instance has forgotten since it was acknowledged. So it is FULL, and the price is small: usage and leases come
/// in batches, and the writer commits waiting calls together.
pub(super) fn prepare_writer(conn: &Connection, settings: &SqliteSettings) -> rusqlite::Result<()> {
    prepare(conn, settings)?;
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES, |_| Ok(()))
}

/// Opens a connection that cannot write.
pub(super) fn open_reader(settings: &SqliteSettings) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(&settings.path, flags)?;
    prepare(&conn, settings)?;
    Ok(conn)
}

fn prepare(conn: &Connection, settings: &SqliteSettings) -> rusqlite::Result<()> {
    conn.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    conn.busy_timeout(settings.busy_timeout)?;
    functions::add(conn)
}
