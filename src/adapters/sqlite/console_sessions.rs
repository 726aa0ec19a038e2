//! The port `ConsoleSessions`, by this machine's clock.

use async_trait::async_trait;
use penstock_actors::{
    clock::{Clock as _, SystemClock, to_micros},
    ports::{ConsoleSession, ConsoleSessions, MOST_SESSIONS_OF_A_KEY, NewConsoleSession, PortResult},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::{
    SqliteStore,
    columns::{Sql, get},
};

/// Few rows: [`MOST_SESSIONS_OF_A_KEY`] of each admin key.
pub(super) const FORGET_CONSOLE_SESSIONS: &str = "DELETE FROM console_sessions WHERE expires_at <= :now";

/// Served by `console_sessions_key`, in its order. The one that begins is not among those that are counted.
pub(super) const END_OLDEST_CONSOLE_SESSIONS: &str = "
    DELETE FROM console_sessions WHERE token_hash IN (
        SELECT token_hash FROM console_sessions WHERE key_id = :key ORDER BY made_at DESC LIMIT -1 OFFSET :kept)";

/// Served by the primary key.
pub(super) const BEGIN_CONSOLE_SESSION: &str = "
    INSERT INTO console_sessions (token_hash, secret_hash, key_id, made_at, expires_at)
    VALUES (:token, :secret, :key, :now, :expires)";

/// Served by the primary key.
pub(super) const CONSOLE_SESSION: &str = "
    SELECT secret_hash, key_id, expires_at FROM console_sessions WHERE token_hash = :token AND expires_at > :now";

/// Served by the primary key.
pub(super) const END_CONSOLE_SESSION: &str =
    "DELETE FROM console_sessions WHERE token_hash = :token AND expires_at > :now";

#[async_trait]
impl ConsoleSessions for SqliteStore {
    async fn begin_console_session(&self, new: &NewConsoleSession) -> PortResult<ConsoleSession> {
        let NewConsoleSession { token_hash, secret_hash, key_id, ttl } = *new;
        let begin = move |conn: &Connection| {
            let now = to_micros(SystemClock.now());
            let expires_at = now.checked_add(ttl).map(to_micros).unwrap_or(jiff::Timestamp::MAX);
            conn.prepare_cached(FORGET_CONSOLE_SESSIONS)?.execute(named_params! { ":now": Sql(now) })?;
            let surplus = named_params! { ":key": Sql(key_id), ":kept": MOST_SESSIONS_OF_A_KEY - 1 };
            conn.prepare_cached(END_OLDEST_CONSOLE_SESSIONS)?.execute(surplus)?;
            conn.prepare_cached(BEGIN_CONSOLE_SESSION)?.execute(named_params! {
                ":token": token_hash, ":secret": secret_hash, ":key": Sql(key_id), ":now": Sql(now),
                ":expires": Sql(expires_at),
            })?;
            Ok(ConsoleSession { secret_hash, key_id, expires_at })
        };
        self.workers.write("begin_console_session", begin).await
    }

    async fn console_session(&self, token_hash: &[u8; 32]) -> PortResult<Option<ConsoleSession>> {
        let token = *token_hash;
        let find = move |conn: &Connection| {
            let which = named_params! { ":token": token, ":now": Sql(SystemClock.now()) };
            Ok(conn.prepare_cached(CONSOLE_SESSION)?.query_row(which, from_row).optional()?)
        };
        self.workers.read("console_session", find).await
    }

    async fn end_console_session(&self, token_hash: &[u8; 32]) -> PortResult<bool> {
        let token = *token_hash;
        let end = move |conn: &Connection| {
            let which = named_params! { ":token": token, ":now": Sql(SystemClock.now()) };
            Ok(conn.prepare_cached(END_CONSOLE_SESSION)?.execute(which)? > 0)
        };
        self.workers.write("end_console_session", end).await
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<ConsoleSession> {
    Ok(ConsoleSession {
        secret_hash: row.get("secret_hash")?,
        key_id: get(row, "key_id")?,
        expires_at: get(row, "expires_at")?,
    })
}
