//! The port `Installations`. Always on the primary. The installation's identity is read in the ledger's lane, as the
//! ping is: if requests wait for connections, the database is busy and has not been replaced.

use async_trait::async_trait;
use penstock_actors::{
    ids::{InstallationId, StoreId},
    model::{Installation, NotedStore, StorageTier},
    ports::{Installations, PortError, PortResult},
};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{PostgresStore, columns::Columns, db::Statement};

/// A table of one row.
const INSTALLATION: Statement =
    Statement { name: "installation", sql: "SELECT installation_id, created_at FROM installation", types: &[] };

/// The table of one row, with a row by the primary key.
const STORE: Statement = Statement {
    name: "store_of",
    sql: "
        SELECT i.installation_id, i.created_at, s.place, s.store_id
        FROM installation i LEFT JOIN installation_stores s ON s.tier = $1",
    types: &[Type::TEXT],
};

/// By the primary key. Of several calls at once the first inserts its row, and each returns that row.
const CLAIM_STORE: Statement = Statement {
    name: "claim_store",
    sql: "
        INSERT INTO installation_stores AS s (tier, place, store_id) VALUES ($1, $2, $3)
        ON CONFLICT (tier) DO UPDATE SET store_id = coalesce(s.store_id, EXCLUDED.store_id)
        RETURNING place, store_id",
    types: &[Type::TEXT, Type::TEXT, Type::UUID],
};

/// By the primary key.
const NOTE_STORE: Statement = Statement {
    name: "note_store",
    sql: "
        INSERT INTO installation_stores (tier, place, store_id) VALUES ($1, $2, $3)
        ON CONFLICT (tier) DO UPDATE SET place = EXCLUDED.place, store_id = EXCLUDED.store_id, noted_at = now()",
    types: &[Type::TEXT, Type::TEXT, Type::UUID],
};

fn installation(row: &Columns<'_>) -> PortResult<Installation> {
    Ok(Installation {
        installation_id: InstallationId::from_uuid(row.get("installation_id")?),
        created_at: row.get("created_at")?,
    })
}

fn store_id(row: &Columns<'_>) -> PortResult<Option<StoreId>> {
    Ok(row.get::<Option<Uuid>>("store_id")?.map(StoreId::from_uuid))
}

pub(super) fn no_installation() -> PortError {
    PortError::Corrupt("the table installation has no row".to_owned())
}

#[async_trait]
impl Installations for PostgresStore {
    async fn installation(&self) -> PortResult<Installation> {
        let row = self.ledger.row_opt(&INSTALLATION, &[]).await?.ok_or_else(no_installation)?;
        installation(&Columns(&row))
    }

    async fn store_of(&self, tier: StorageTier) -> PortResult<(Installation, Option<NotedStore>)> {
        let row = self.ledger.row_opt(&STORE, &[&tier.as_str()]).await?.ok_or_else(no_installation)?;
        let row = Columns(&row);
        let noted = match row.get::<Option<String>>("place")? {
            Some(place) => Some(NotedStore { place, store_id: store_id(&row)? }),
            None => None,
        };
        Ok((installation(&row)?, noted))
    }

    async fn claim_store(&self, tier: StorageTier, store: &NotedStore) -> PortResult<NotedStore> {
        let id = store.store_id.map(|id| id.as_uuid());
        let row = self.ledger.row(&CLAIM_STORE, &[&tier.as_str(), &store.place, &id]).await?;
        let row = Columns(&row);
        Ok(NotedStore { place: row.get("place")?, store_id: store_id(&row)? })
    }

    async fn note_store(&self, tier: StorageTier, store: &NotedStore) -> PortResult<()> {
        let id = store.store_id.map(|id| id.as_uuid());
        self.db.execute(&NOTE_STORE, &[&tier.as_str(), &store.place, &id]).await.map(drop)
    }
}
