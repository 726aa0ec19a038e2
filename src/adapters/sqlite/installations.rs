//! The port `Installations`.

use async_trait::async_trait;
use penstock_actors::{
    model::{Installation, Tier},
    ports::{Installations, PortError, PortResult},
};
use rusqlite::{Connection, OptionalExtension as _, named_params};

use super::{
    SqliteStore,
    values::{Sql, get},
};

/// A table of one row.
pub(super) const INSTALLATION: &str = "SELECT installation_id, created_at FROM installation";

/// Served by the primary key; one row per tier.
pub(super) const STORE: &str = "SELECT place FROM installation_stores WHERE tier = :tier";

/// Served by the primary key.
pub(super) const NOTE_STORE: &str = "
    INSERT INTO installation_stores (tier, place) VALUES (:tier, :place)
    ON CONFLICT (tier) DO UPDATE SET place = excluded.place,
        noted_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)";

#[async_trait]
impl Installations for SqliteStore {
    async fn installation(&self) -> PortResult<Installation> {
        let read = |conn: &Connection| {
            let row = conn.prepare_cached(INSTALLATION)?.query_row([], |row| {
                Ok(Installation { installation_id: get(row, "installation_id")?, created_at: get(row, "created_at")? })
            });
            Ok(row.optional()?)
        };
        let installation = self.workers.read("installation", read).await?;
        installation.ok_or_else(|| PortError::Corrupt("the table installation has no row".to_owned()))
    }

    async fn store_of(&self, tier: Tier) -> PortResult<Option<String>> {
        let read = move |conn: &Connection| {
            let mut select = conn.prepare_cached(STORE)?;
            Ok(select.query_row(named_params! { ":tier": Sql(tier) }, |row| row.get("place")).optional()?)
        };
        self.workers.read("store_of", read).await
    }

    async fn note_store(&self, tier: Tier, place: &str) -> PortResult<()> {
        let place = place.to_owned();
        let note = move |conn: &Connection| {
            let mut insert = conn.prepare_cached(NOTE_STORE)?;
            insert.execute(named_params! { ":tier": Sql(tier), ":place": place })?;
            Ok(())
        };
        self.workers.write("note_store", note).await
    }
}
