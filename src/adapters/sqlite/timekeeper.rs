//! The port `Timekeeper`: the database is a file of this machine, so its clock is this machine's.

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    clock::{Clock as _, SystemClock},
    ports::{PortResult, Timekeeper},
};
use rusqlite::{OptionalExtension as _, named_params};

use super::{
    SqliteStore,
    columns::{Sql, get},
};

/// A whole table of one row.
pub(super) const TRUSTED_TIME: &str = "SELECT trusted_at FROM ledger_clock";

/// Served by the primary key.
pub(super) const TRUST_TIME: &str = "
    INSERT INTO ledger_clock (only_row, trusted_at) VALUES (1, :at)
    ON CONFLICT (only_row) DO UPDATE SET trusted_at = excluded.trusted_at";

#[async_trait]
impl Timekeeper for SqliteStore {
    async fn time(&self) -> PortResult<Timestamp> {
        Ok(SystemClock.now())
    }

    async fn trusted_time(&self) -> PortResult<Option<Timestamp>> {
        let read = |conn: &rusqlite::Connection| {
            let mut statement = conn.prepare_cached(TRUSTED_TIME)?;
            Ok(statement.query_row([], |row| get(row, "trusted_at")).optional()?)
        };
        self.workers.read("trusted_time", read).await
    }

    async fn trust_time(&self, at: Timestamp) -> PortResult<()> {
        let write = move |conn: &rusqlite::Connection| {
            conn.prepare_cached(TRUST_TIME)?.execute(named_params! { ":at": Sql(at) })?;
            Ok(())
        };
        self.workers.write("trust_time", write).await
    }
}
