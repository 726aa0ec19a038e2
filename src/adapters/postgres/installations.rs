//! The port `Installations`. Always on the primary.

use async_trait::async_trait;
use penstock_actors::{
    ids::InstallationId,
    model::Installation,
    ports::{Installations, PortError, PortResult},
};

use super::{PostgresStore, columns::Columns, db::Statement};

/// A table of one row.
const INSTALLATION: Statement =
    Statement { name: "installation", sql: "SELECT installation_id, created_at FROM installation", types: &[] };

#[async_trait]
impl Installations for PostgresStore {
    async fn installation(&self) -> PortResult<Installation> {
        let row = self.db.row_opt(&INSTALLATION, &[]).await?;
        let row = row.ok_or_else(|| PortError::Corrupt("the table installation has no row".to_owned()))?;
        let row = Columns(&row);
        Ok(Installation {
            installation_id: InstallationId::from_uuid(row.get("installation_id")?),
            created_at: row.get("created_at")?,
        })
    }
}
