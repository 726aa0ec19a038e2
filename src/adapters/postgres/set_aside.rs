//! Usage that could not be settled, stored for a person to decide about.

use penstock_actors::{
    ids::{NodeId, ReceiptId, UsageId},
    model::UsageRow,
    ports::{PortResult, SetAside},
};
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::{
    PostgresStore,
    columns::{Columns, signed},
    db::Statement,
};

/// The primary key makes a repeated row count once.
const SET_ASIDE: Statement = Statement {
    name: "set_aside",
    sql: "
        INSERT INTO usage_set_aside (usage_id, node_id, receipt_id, content_hash, session_id, started_at, finished_at,
                                     bytes_sent, requests, outcome, lease_epoch, reason)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        ON CONFLICT (usage_id) DO NOTHING",
    types: &[
        Type::UUID,
        Type::UUID,
        Type::UUID,
        Type::BYTEA,
        Type::UUID,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::INT8,
        Type::INT8,
        Type::TEXT,
        Type::INT8,
        Type::TEXT,
    ],
};

/// By the primary key. These rows wait for a person, so they do not have the mark of the client.
const USAGE_SET_ASIDE: Statement = Statement {
    name: "usage_set_aside",
    sql: "
        SELECT *, NULL::bytea AS client FROM usage_set_aside WHERE usage_id > $1 ORDER BY usage_id LIMIT $2",
    types: &[Type::UUID, Type::INT8],
};

/// By `usage_set_aside_receipt`.
const SET_ASIDE_UNDER: Statement = Statement {
    name: "usage_set_aside_under",
    sql: "
        SELECT *, NULL::bytea AS client FROM usage_set_aside WHERE receipt_id = $1 ORDER BY usage_id LIMIT $2",
    types: &[Type::UUID, Type::INT8],
};

pub(super) async fn set_aside(store: &PostgresStore, node: NodeId, row: &UsageRow, reason: &str) -> PortResult<()> {
    store
        .ledger
        .execute(
            &SET_ASIDE,
            &[
                &row.usage_id.as_uuid(),
                &node.as_uuid(),
                &row.receipt_id.as_uuid(),
                &row.content_hash.as_bytes().as_slice(),
                &row.session_id.map(|id| id.as_uuid()),
                &row.started_at,
                &row.finished_at,
                &signed(row.bytes_sent),
                &signed(row.requests),
                &row.outcome.as_str(),
                &row.lease_epoch,
                &reason,
            ],
        )
        .await
        .map(drop)
}

pub(super) async fn page(store: &PostgresStore, after: Option<UsageId>, limit: u32) -> PortResult<Vec<SetAside>> {
    let after = after.map_or(Uuid::nil(), |id| id.as_uuid());
    let rows = store.upkeep.rows(&USAGE_SET_ASIDE, &[&after, &i64::from(limit)]).await?;
    rows.iter().map(kept).collect()
}

pub(super) async fn under(store: &PostgresStore, receipt: ReceiptId, limit: u32) -> PortResult<Vec<SetAside>> {
    let rows = store.upkeep.rows(&SET_ASIDE_UNDER, &[&receipt.as_uuid(), &i64::from(limit)]).await?;
    rows.iter().map(kept).collect()
}

fn kept(row: &Row) -> PortResult<SetAside> {
    let row = Columns(row);
    Ok(SetAside {
        row: row.usage_row()?,
        node: NodeId::from_uuid(row.get("node_id")?),
        set_aside_at: row.get("set_aside_at")?,
        reason: row.get("reason")?,
    })
}
