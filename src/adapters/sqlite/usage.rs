//! The rows of `streaming_usage`.

use penstock_actors::{
    ids::{NodeId, ReceiptId, UsageId},
    model::{Credit, UsageRow},
    ports::Page,
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::columns::{Sql, get, get_credit, get_opt};

/// The primary key makes a repeated row count once.
pub(super) const INSERT_USAGE: &str = "
    INSERT INTO streaming_usage
        (usage_id, receipt_id, content_hash, session_id, node_id, started_at, finished_at, bytes_sent, requests,
         outcome, lease_epoch, client)
    VALUES (:usage, :receipt, :content, :session, :node, :started, :finished, :bytes, :requests, :outcome, :epoch,
        :client)
    ON CONFLICT (usage_id) DO NOTHING";

/// Served by `streaming_usage_receipt`, in its order.
pub(super) const USAGE_PAGE: &str = "
    SELECT usage_id, receipt_id, content_hash, session_id, started_at, finished_at, bytes_sent, requests, outcome,
        lease_epoch, client
    FROM streaming_usage
    WHERE receipt_id = :receipt AND usage_id > :after
    ORDER BY usage_id LIMIT :limit";

/// Served by the primary key.
pub(super) const USAGE_CREDIT: &str = "SELECT bytes_sent, requests FROM streaming_usage WHERE usage_id = :usage";

/// Served by the primary key.
pub(super) const SET_USAGE_CREDIT: &str =
    "UPDATE streaming_usage SET bytes_sent = :bytes, requests = :requests WHERE usage_id = :usage";

/// Served by the primary key.
pub(super) const DELETE_USAGE: &str = "DELETE FROM streaming_usage WHERE usage_id = :usage";

/// Inserts a row; false when it existed already.
pub(super) fn insert(conn: &Connection, row: &UsageRow, node: NodeId) -> rusqlite::Result<bool> {
    let inserted = conn.prepare_cached(INSERT_USAGE)?.execute(named_params! {
        ":usage": Sql(row.usage_id), ":receipt": Sql(row.receipt_id), ":content": Sql(row.content_hash),
        ":session": row.session_id.map(Sql), ":node": Sql(node),
        ":started": Sql(row.started_at), ":finished": Sql(row.finished_at),
        ":bytes": Sql(row.bytes_sent), ":requests": Sql(row.requests),
        ":outcome": Sql(row.outcome), ":epoch": row.lease_epoch,
        ":client": row.client.map(Sql),
    })?;
    Ok(inserted == 1)
}

pub(super) fn page(
    conn: &Connection,
    receipt: ReceiptId,
    after: Option<UsageId>,
    limit: u32,
) -> rusqlite::Result<Page<UsageRow>> {
    // The nil id sorts before every generated id.
    let after = after.unwrap_or(UsageId::from_uuid(uuid::Uuid::nil()));
    let mut statement = conn.prepare_cached(USAGE_PAGE)?;
    // One more than asked for, to know whether more follow.
    let key = named_params! { ":receipt": Sql(receipt), ":after": Sql(after), ":limit": i64::from(limit) + 1 };
    let rows = statement.query_map(key, usage_row)?.collect::<rusqlite::Result<_>>()?;
    Ok(Page::of(rows, limit))
}

pub(super) fn usage_row(row: &Row<'_>) -> rusqlite::Result<UsageRow> {
    Ok(UsageRow {
        usage_id: get(row, "usage_id")?,
        receipt_id: get(row, "receipt_id")?,
        content_hash: get(row, "content_hash")?,
        session_id: get_opt(row, "session_id")?,
        client: get_opt(row, "client")?,
        started_at: get(row, "started_at")?,
        finished_at: get(row, "finished_at")?,
        bytes_sent: get(row, "bytes_sent")?,
        requests: get(row, "requests")?,
        outcome: get(row, "outcome")?,
        lease_epoch: row.get("lease_epoch")?,
    })
}

/// Takes up to `credit` off a row, and deletes an empty row; returns what was taken.
pub(super) fn shrink(conn: &Connection, usage: UsageId, credit: Credit) -> rusqlite::Result<Credit> {
    let recorded = conn
        .prepare_cached(USAGE_CREDIT)?
        .query_row(named_params! { ":usage": Sql(usage) }, |row| get_credit(row, "bytes_sent", "requests"))
        .optional()?;
    let Some(recorded) = recorded else { return Ok(Credit::ZERO) };
    let taken = recorded.min(credit);
    let left = recorded - taken;
    if left.is_zero() {
        conn.prepare_cached(DELETE_USAGE)?.execute(named_params! { ":usage": Sql(usage) })?;
    } else {
        conn.prepare_cached(SET_USAGE_CREDIT)?.execute(named_params! {
            ":usage": Sql(usage), ":bytes": Sql(left.bytes), ":requests": Sql(left.requests),
        })?;
    }
    Ok(taken)
}
