//! The outbox of events to emit, written by the triggers of the migration `lineage`.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::ports::{LineageOutbox, OutboxEntry, OutboxKind, PortResult};
use tokio_postgres::types::Type;

use super::super::{PostgresStore, columns::Columns, db::Statement};

/// A table of one row.
const SET_EMISSION: Statement = Statement {
    name: "set_telling",
    sql: "UPDATE lineage_emission SET enabled = $1 WHERE enabled <> $1",
    types: &[Type::BOOL],
};

/// By the primary key, from its start: claimed entries stay there for a short time only.
const CLAIM: Statement = Statement {
    name: "claim_lineage",
    sql: "
        WITH chosen AS (
            SELECT outbox_id FROM lineage_outbox
            WHERE claimed_until <= clock_timestamp()
            ORDER BY outbox_id
            LIMIT $1
            FOR UPDATE SKIP LOCKED
        ),
        claimed AS (
            UPDATE lineage_outbox o SET claimed_until = clock_timestamp() + make_interval(secs => $2)
            FROM chosen WHERE o.outbox_id = chosen.outbox_id
            RETURNING o.outbox_id, o.kind, o.happened_at, o.detail
        )
        SELECT * FROM claimed ORDER BY outbox_id",
    types: &[Type::INT8, Type::FLOAT8],
};

/// By the primary key.
const MARK_EMITTED: Statement = Statement {
    name: "told_lineage",
    sql: "DELETE FROM lineage_outbox WHERE outbox_id = ANY ($1)",
    types: &[Type::INT8_ARRAY],
};

/// By the primary key, from its start: entries are in the order of time, except where clocks differ.
const PRUNE_OUTBOX: Statement = Statement {
    name: "prune_lineage_outbox",
    sql: "
        DELETE FROM lineage_outbox o
        USING (
            SELECT outbox_id FROM (SELECT * FROM lineage_outbox ORDER BY outbox_id LIMIT $2) AS oldest
            WHERE happened_at < $1
        ) AS due
        WHERE o.outbox_id = due.outbox_id AND o.happened_at < $1",
    types: &[Type::TIMESTAMPTZ, Type::INT8],
};

#[async_trait]
impl LineageOutbox for PostgresStore {
    async fn set_emission(&self, enabled: bool) -> PortResult<()> {
        self.upkeep.execute(&SET_EMISSION, &[&enabled]).await.map(drop)
    }

    async fn claim(&self, limit: u32, ttl: Duration) -> PortResult<Vec<OutboxEntry>> {
        let rows = self.upkeep.rows(&CLAIM, &[&i64::from(limit), &ttl.as_secs_f64()]).await?;
        let entry = |row| {
            let row = Columns(row);
            Ok(OutboxEntry {
                id: row.get("outbox_id")?,
                kind: row.word("kind", OutboxKind::parse)?,
                happened_at: row.get("happened_at")?,
                detail: row.get("detail")?,
            })
        };
        rows.iter().map(entry).collect()
    }

    async fn mark_emitted(&self, ids: &[i64]) -> PortResult<()> {
        self.upkeep.execute(&MARK_EMITTED, &[&ids]).await.map(drop)
    }

    async fn prune_outbox(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        self.upkeep.execute(&PRUNE_OUTBOX, &[&before, &i64::from(limit)]).await
    }
}
