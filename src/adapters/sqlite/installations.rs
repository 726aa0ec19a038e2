//! The port `Installations`.

use async_trait::async_trait;
use penstock_actors::{
    model::Installation,
    ports::{Installations, PortError, PortResult},
};
use rusqlite::{Connection, OptionalExtension as _};

use super::{SqliteStore, values::get};

/// A table of one row.
pub(super) const INSTALLATION: &str = "SELECT installation_id, created_at FROM installation";

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
}
