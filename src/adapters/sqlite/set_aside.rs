//! Usage that could not be settled, stored for a person to decide about.

use penstock_actors::{
    ids::{NodeId, ReceiptId, UsageId},
    model::UsageRow,
    ports::SetAside,
};
use rusqlite::{Connection, Row, named_params};

use super::{
    columns::{Sql, get},
    usage::usage_row,
};

/// The primary key makes a repeated row count once.
pub(super) const SET_ASIDE: &str = "
    INSERT INTO usage_set_aside
        (usage_id, node_id, receipt_id, content_hash, session_id, started_at, finished_at, bytes_sent, requests,
         outcome, lease_epoch, reason)
    VALUES (:usage, :node, :receipt, :content, :session, :started, :finished, :bytes, :requests, :outcome, :epoch,
        :reason)
    ON CONFLICT (usage_id) DO NOTHING";

/// Served by the primary key. These rows wait for a person, so they do not have the mark of the client.
pub(super) const USAGE_SET_ASIDE: &str =
    "SELECT *, NULL AS client FROM usage_set_aside WHERE usage_id > :after ORDER BY usage_id LIMIT :limit";

/// Served by `usage_set_aside_receipt`.
pub(super) const SET_ASIDE_UNDER: &str = "
    SELECT *, NULL AS client FROM usage_set_aside WHERE receipt_id = :receipt ORDER BY usage_id LIMIT :limit";

pub(super) fn set_aside(conn: &Connection, node: NodeId, row: &UsageRow, reason: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(SET_ASIDE)?.execute(named_params! {
        ":usage": Sql(row.usage_id), ":receipt": Sql(row.receipt_id), ":content": Sql(row.content_hash),
        ":session": row.session_id.map(Sql), ":node": Sql(node),
        ":started": Sql(row.started_at), ":finished": Sql(row.finished_at),
        ":bytes": Sql(row.bytes_sent), ":requests": Sql(row.requests),
        ":outcome": Sql(row.outcome), ":epoch": row.lease_epoch, ":reason": reason,
    })?;
    Ok(())
}

pub(super) fn page(conn: &Connection, after: Option<UsageId>, limit: u32) -> rusqlite::Result<Vec<SetAside>> {
    // The nil id sorts before every generated id.
    let after = after.unwrap_or(UsageId::from_uuid(uuid::Uuid::nil()));
    let page = named_params! { ":after": Sql(after), ":limit": limit };
    conn.prepare_cached(USAGE_SET_ASIDE)?.query_map(page, kept)?.collect()
}

pub(super) fn under(conn: &Connection, receipt: ReceiptId, limit: u32) -> rusqlite::Result<Vec<SetAside>> {
    let rows = named_params! { ":receipt": Sql(receipt), ":limit": limit };
    conn.prepare_cached(SET_ASIDE_UNDER)?.query_map(rows, kept)?.collect()
}

fn kept(row: &Row<'_>) -> rusqlite::Result<SetAside> {
    Ok(SetAside {
        row: usage_row(row)?,
        node: get(row, "node_id")?,
        set_aside_at: get(row, "set_aside_at")?,
        reason: row.get("reason")?,
    })
}
