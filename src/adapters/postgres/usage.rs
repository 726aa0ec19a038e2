//! The rows of `streaming_usage`. The function that settles inserts them.

use penstock_actors::{
    ids::{ReceiptId, UsageId},
    model::UsageRow,
    ports::{Page, PortResult},
};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{
    PostgresStore,
    columns::Columns,
    db::{Param, Statement},
    replicas::Topic,
};

/// By `streaming_usage_receipt` of each partition, merged.
const USAGE: Statement = Statement {
    name: "usage",
    sql: "
        SELECT usage_id, receipt_id, content_hash, session_id, started_at, finished_at, bytes_sent, requests, outcome,
               lease_epoch, client
        FROM streaming_usage
        WHERE receipt_id = $1 AND usage_id > $2
        ORDER BY usage_id
        LIMIT $3",
    types: &[Type::UUID, Type::UUID, Type::INT8],
};

pub(super) async fn page(
    store: &PostgresStore,
    id: ReceiptId,
    after: Option<UsageId>,
    limit: u32,
) -> PortResult<Page<UsageRow>> {
    let after = after.map_or(Uuid::nil(), |id| id.as_uuid());
    let params: [Param<'_>; 3] = [&id.as_uuid(), &after, &(i64::from(limit) + 1)];
    let rows = store.replicas.rows(Topic::Usage(id), &USAGE, &params).await?;
    let rows = rows.iter().map(|row| Columns(row).usage_row()).collect::<PortResult<_>>()?;
    Ok(Page::of(rows, limit))
}
