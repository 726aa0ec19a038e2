//! Settling: usage rows and releases, in one transaction.

use jiff::Timestamp;
use penstock_actors::{
    model::{Credit, WindowKind},
    ports::{PortError, PortResult, Release, SettleBatch, Settled},
};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{
    super::{
        PostgresStore,
        columns::{Columns, signed},
        db::Statement,
        error::POSTGRES,
        replicas::Topic,
    },
    MOST_WANTED,
};

/// Usage, windows, leases and the node by their primary keys, inside the function. A restored database that has no
/// timeline of its own yet returns no row.
const SETTLE: Statement = Statement {
    name: "settle",
    sql: "
        SELECT penstock_settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
                               $19)
            AS inserted
        WHERE NOT (SELECT moved FROM penstock_timeline())",
    types: &[
        Type::UUID,
        Type::INT8,
        Type::INT8,
        Type::UUID_ARRAY,
        Type::UUID_ARRAY,
        Type::BYTEA_ARRAY,
        Type::UUID_ARRAY,
        Type::BYTEA_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::TEXT_ARRAY,
        Type::INT8_ARRAY,
        Type::UUID_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
    ],
};

pub(super) async fn settle(store: &PostgresStore, batch: &SettleBatch) -> PortResult<Settled> {
    let rows = &batch.rows;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.usage_id.as_uuid()).collect();
    let receipts: Vec<Uuid> = rows.iter().map(|row| row.receipt_id.as_uuid()).collect();
    let contents: Vec<&[u8]> = rows.iter().map(|row| row.content_hash.as_bytes().as_slice()).collect();
    let sessions: Vec<Option<Uuid>> = rows.iter().map(|row| row.session_id.map(|id| id.as_uuid())).collect();
    let clients: Vec<Option<&[u8]>> =
        rows.iter().map(|row| row.client.as_ref().map(|mark| mark.as_bytes().as_slice())).collect();
    let starts: Vec<Timestamp> = rows.iter().map(|row| row.started_at).collect();
    let ends: Vec<Timestamp> = rows.iter().map(|row| row.finished_at).collect();
    let bytes: Vec<i64> = rows.iter().map(|row| signed(row.bytes_sent)).collect();
    let requests: Vec<i64> = rows.iter().map(|row| signed(row.requests)).collect();
    let outcomes: Vec<&str> = rows.iter().map(|row| row.outcome.as_str()).collect();
    let epochs: Vec<Option<i64>> = rows.iter().map(|row| row.lease_epoch).collect();

    let releases = &batch.releases;
    let hour = |release: &Release| WindowKind::Hour.window(release.window).start;
    let release_receipts: Vec<Uuid> = releases.iter().map(|release| release.receipt_id.as_uuid()).collect();
    let release_hours: Vec<Timestamp> = releases.iter().map(hour).collect();
    let release_epochs: Vec<i64> = releases.iter().map(|release| release.epoch).collect();
    // A release is capped at the lease, so a cap that keeps the sums within 63 bits changes nothing.
    let credit = |amount: fn(&Credit) -> u64| {
        releases.iter().map(|release| signed(amount(&release.credit).min(MOST_WANTED))).collect::<Vec<i64>>()
    };

    let row = store
        .ledger
        .row_opt(
            &SETTLE,
            &[
                &batch.node.node.as_uuid(),
                &batch.node.epoch,
                &batch.sequence,
                &ids,
                &receipts,
                &contents,
                &sessions,
                &clients,
                &starts,
                &ends,
                &bytes,
                &requests,
                &outcomes,
                &epochs,
                &release_receipts,
                &release_hours,
                &release_epochs,
                &credit(|credit| credit.bytes),
                &credit(|credit| credit.requests),
            ],
        )
        .await;
    store.replicas.changed(rows.iter().map(|row| Topic::Usage(row.receipt_id)));
    let row = row?.ok_or_else(|| {
        PortError::unavailable(POSTGRES, "the database was restored, and its new timeline has not begun yet")
    })?;
    Ok(Settled { inserted: Columns(&row).amount("inserted")? })
}
