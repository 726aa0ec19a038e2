//! The port `Installations`. Always on the primary. The installation's identity is read in the ledger's lane, as the
//! ping is: if requests wait for connections, the database is busy and has not been replaced.

use async_trait::async_trait;
use penstock_actors::{
    ids::InstallationId,
    model::{Installation, Tier},
    ports::{Installations, PortError, PortResult},
};
use tokio_postgres::types::Type;

use super::{PostgresStore, columns::Columns, db::Statement};

/// A table of one row.
const INSTALLATION: Statement =
    Statement { name: "installation", sql: "SELECT installation_id, created_at FROM installation", types: &[] };

/// By the primary key; one row per tier.
const STORE: Statement =
    Statement { name: "store_of", sql: "SELECT place FROM installation_stores WHERE tier = $1", types: &[Type::TEXT] };

/// By the primary key.
const NOTE_STORE: Statement = Statement {
    name: "note_store",
    sql: "
        INSERT INTO installation_stores (tier, place) VALUES ($1, $2)
        ON CONFLICT (tier) DO UPDATE SET place = EXCLUDED.place, noted_at = now()",
    types: &[Type::TEXT, Type::TEXT],
};

#[async_trait]
impl Installations for PostgresStore {
    async fn installation(&self) -> PortResult<Installation> {
        let row = self.ledger.row_opt(&INSTALLATION, &[]).await?;
        let row = row.ok_or_else(|| PortError::Corrupt("the table installation has no row".to_owned()))?;
        let row = Columns(&row);
        Ok(Installation {
            installation_id: InstallationId::from_uuid(row.get("installation_id")?),
            created_at: row.get("created_at")?,
        })
    }

    async fn store_of(&self, tier: Tier) -> PortResult<Option<String>> {
        let row = self.db.row_opt(&STORE, &[&tier.as_str()]).await?;
        row.map(|row| Columns(&row).get("place")).transpose()
    }

    async fn note_store(&self, tier: Tier, place: &str) -> PortResult<()> {
        self.db.execute(&NOTE_STORE, &[&tier.as_str(), &place]).await.map(drop)
    }
}
