//! The port `Installations`.

use async_trait::async_trait;
use penstock_actors::{
    model::{Installation, NotedStore, StorageTier},
    ports::{Installations, PortError, PortResult},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::{
    SqliteStore,
    columns::{Sql, get, get_opt},
};

/// A table of one row.
pub(super) const INSTALLATION: &str = "SELECT installation_id, created_at FROM installation";

/// The table of one row, with a row by the primary key.
pub(super) const STORE: &str = "
    SELECT installation_id, created_at, place, store_id
    FROM installation LEFT JOIN installation_stores ON tier = :tier";

/// Served by the primary key. Of several calls at once the first inserts its row, and each returns that row.
pub(super) const CLAIM_STORE: &str = "
    INSERT INTO installation_stores (tier, place, store_id) VALUES (:tier, :place, :store_id)
    ON CONFLICT (tier) DO UPDATE SET store_id = coalesce(store_id, excluded.store_id)
    RETURNING place, store_id";

/// Served by the primary key.
pub(super) const NOTE_STORE: &str = "
    INSERT INTO installation_stores (tier, place, store_id) VALUES (:tier, :place, :store_id)
    ON CONFLICT (tier) DO UPDATE SET place = excluded.place, store_id = excluded.store_id,
        noted_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)";

fn installation(row: &Row<'_>) -> rusqlite::Result<Installation> {
    Ok(Installation { installation_id: get(row, "installation_id")?, created_at: get(row, "created_at")? })
}

fn noted(row: &Row<'_>, place: String) -> rusqlite::Result<NotedStore> {
    Ok(NotedStore { place, store_id: get_opt(row, "store_id")? })
}

pub(super) fn no_installation() -> PortError {
    PortError::Corrupt("the table installation has no row".to_owned())
}

#[async_trait]
impl Installations for SqliteStore {
    async fn installation(&self) -> PortResult<Installation> {
        let read = |conn: &Connection| Ok(conn.prepare_cached(INSTALLATION)?.query_row([], installation).optional()?);
        self.workers.read("installation", read).await?.ok_or_else(no_installation)
    }

    async fn store_of(&self, tier: StorageTier) -> PortResult<(Installation, Option<NotedStore>)> {
        let read = move |conn: &Connection| {
            let mut select = conn.prepare_cached(STORE)?;
            let found = select.query_row(named_params! { ":tier": Sql(tier) }, |row| {
                let place: Option<String> = row.get("place")?;
                Ok((installation(row)?, place.map(|place| noted(row, place)).transpose()?))
            });
            Ok(found.optional()?)
        };
        self.workers.read("store_of", read).await?.ok_or_else(no_installation)
    }

    async fn claim_store(&self, tier: StorageTier, store: &NotedStore) -> PortResult<NotedStore> {
        let store = store.clone();
        let claim = move |conn: &Connection| {
            let mut insert = conn.prepare_cached(CLAIM_STORE)?;
            let id = store.store_id.map(Sql);
            let values = named_params! { ":tier": Sql(tier), ":place": store.place, ":store_id": id };
            Ok(insert.query_row(values, |row| noted(row, row.get("place")?))?)
        };
        self.workers.write("claim_store", claim).await
    }

    async fn note_store(&self, tier: StorageTier, store: &NotedStore) -> PortResult<()> {
        let store = store.clone();
        let note = move |conn: &Connection| {
            let mut insert = conn.prepare_cached(NOTE_STORE)?;
            let id = store.store_id.map(Sql);
            insert.execute(named_params! { ":tier": Sql(tier), ":place": store.place, ":store_id": id })?;
            Ok(())
        };
        self.workers.write("note_store", note).await
    }
}
