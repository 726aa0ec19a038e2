//! The port `ClientKeys`. Always on the primary: what a replica has of the day may be no key yet.

use std::time::Duration;

use async_trait::async_trait;
use jiff::{Timestamp, civil::Date};
use penstock_actors::ports::{ClientKeys, DailyKey, PortError, PortResult};
use tokio_postgres::types::Type;

use super::{
    PostgresStore,
    columns::{Columns, bytes_32},
    db::Statement,
    error::POSTGRES,
};

/// By the primary key. The clock is read once, so that the key and the rest are of one day.
const TODAY: Statement = Statement {
    name: "client_key",
    sql: "
        WITH present AS MATERIALIZED (SELECT clock_timestamp() AS now)
        SELECT k.key, extract(epoch FROM date_trunc('day', now, 'UTC') + interval '1 day' - now)::float8 AS left_seconds
        FROM present LEFT JOIN client_keys k ON k.day = (now AT TIME ZONE 'UTC')::date",
    types: &[],
};

/// By the primary key: of several proposals the first is the key.
const PROPOSE: Statement = Statement {
    name: "propose_client_key",
    sql: "
        INSERT INTO client_keys (day, key) VALUES ((clock_timestamp() AT TIME ZONE 'UTC')::date, $1)
        ON CONFLICT (day) DO NOTHING",
    types: &[Type::BYTEA],
};

/// Few rows: a key for each of the last days.
const KEPT: Statement =
    Statement { name: "client_keys", sql: "SELECT day, key FROM client_keys ORDER BY day", types: &[] };

/// Few rows. Neither the caller's clock nor the server's alone ends a day.
const FORGET: Statement = Statement {
    name: "forget_client_keys",
    sql: "
        DELETE FROM client_keys
        WHERE day < ($1 AT TIME ZONE 'UTC')::date AND day < (clock_timestamp() AT TIME ZONE 'UTC')::date",
    types: &[Type::TIMESTAMPTZ],
};

pub(super) async fn forget(store: &PostgresStore, before: Timestamp) -> PortResult<u64> {
    store.upkeep.execute(&FORGET, &[&before]).await
}

impl PostgresStore {
    async fn today(&self) -> PortResult<Option<DailyKey>> {
        let row = self.upkeep.row(&TODAY, &[]).await?;
        let row = Columns(&row);
        let Some(key) = row.get::<Option<&[u8]>>("key")? else { return Ok(None) };
        let left = Duration::from_secs_f64(row.get::<f64>("left_seconds")?.max(0.0));
        Ok(Some(DailyKey { key: bytes_32("key", key)?, left }))
    }
}

#[async_trait]
impl ClientKeys for PostgresStore {
    async fn key_of_today(&self, proposal: [u8; 32]) -> PortResult<DailyKey> {
        if let Some(key) = self.today().await? {
            return Ok(key);
        }
        self.upkeep.execute(&PROPOSE, &[&proposal.as_slice()]).await?;
        self.today().await?.ok_or_else(|| PortError::unavailable(POSTGRES, "a day ended before its key was read"))
    }

    async fn kept_keys(&self) -> PortResult<Vec<(Date, [u8; 32])>> {
        let rows = self.upkeep.rows(&KEPT, &[]).await?;
        let key = |row| {
            let row = Columns(row);
            Ok((row.get("day")?, bytes_32("key", row.get("key")?)?))
        };
        rows.iter().map(key).collect()
    }
}
