//! The port `Timekeeper`: the server's clock, which all instances use.

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::ports::{PortResult, Timekeeper};
use tokio_postgres::types::Type;

use super::{PostgresStore, columns::Columns, db::Statement};

/// Reads no table.
const TIME: Statement = Statement { name: "time", sql: "SELECT clock_timestamp() AS now", types: &[] };

/// A whole table of one row.
const TRUSTED_TIME: Statement =
    Statement { name: "trusted_time", sql: "SELECT trusted_at FROM ledger_clock", types: &[] };

/// By the primary key.
const TRUST_TIME: Statement = Statement {
    name: "trust_time",
    sql: "
        INSERT INTO ledger_clock (trusted_at) VALUES ($1)
        ON CONFLICT (only_row) DO UPDATE SET trusted_at = excluded.trusted_at",
    types: &[Type::TIMESTAMPTZ],
};

#[async_trait]
impl Timekeeper for PostgresStore {
    async fn time(&self) -> PortResult<Timestamp> {
        let row = self.ledger.row(&TIME, &[]).await?;
        Columns(&row).get("now")
    }

    async fn trusted_time(&self) -> PortResult<Option<Timestamp>> {
        let row = self.upkeep.row_opt(&TRUSTED_TIME, &[]).await?;
        row.map(|row| Columns(&row).get("trusted_at")).transpose()
    }

    async fn trust_time(&self, at: Timestamp) -> PortResult<()> {
        self.upkeep.execute(&TRUST_TIME, &[&at]).await.map(drop)
    }
}
