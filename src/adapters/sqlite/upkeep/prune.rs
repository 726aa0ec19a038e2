//! Pruning: windows that ended long ago, with the usage rows that they sum up, and epochs of instances that are long
//! gone.

use jiff::Timestamp;
use penstock_actors::{
    ids::{NodeId, ReceiptId},
    model::{Credit, Window, WindowKind},
};
use rusqlite::{Connection, Row, named_params};

use super::super::columns::{Sql, get, get_credit};

/// Usage rows removed in one step: about 50 ms of the writer, for which starting streams may have to wait.
pub(super) const ROWS_PER_STEP: usize = 10_000;

/// Served by `quota_usage_windows_end`, in its order: a month comes after the days and hours that end with it.
pub(in super::super) const OLD_WINDOWS: &str = "
    SELECT receipt_id, window_type, window_start, window_end FROM quota_usage_windows
    WHERE window_end < :before AND bytes_reserved = 0 AND requests_reserved = 0
    ORDER BY window_end, window_type LIMIT :limit";

/// Served by the primary key.
pub(in super::super) const DELETE_WINDOW: &str = "
    DELETE FROM quota_usage_windows
    WHERE receipt_id = :receipt AND window_type = :kind AND window_start = :start";

/// Served by `streaming_usage_receipt`. Ids grow with time, so the old rows of a receipt come first.
pub(in super::super) const DELETE_USAGE_OF_MONTH: &str = "
    DELETE FROM streaming_usage WHERE usage_id IN (
        SELECT usage_id FROM streaming_usage
        WHERE receipt_id = :receipt AND started_at >= :start AND started_at < :end
        ORDER BY usage_id LIMIT :limit)
    RETURNING bytes_sent, requests";

/// Served by the primary key.
pub(in super::super) const SHRINK_WINDOW: &str = "
    UPDATE quota_usage_windows SET bytes_used = bytes_used - :bytes, requests_used = requests_used - :requests
    WHERE receipt_id = :receipt AND window_type = :kind AND window_start = :start";

/// Scans the few nodes, and finds the leases of each by `quota_leases_node`.
pub(in super::super) const OLD_NODES: &str = "
    SELECT node_id, epoch FROM ledger_nodes n
    WHERE fenced = 1 AND alive_until < :before AND NOT EXISTS (
        SELECT 1 FROM quota_leases l WHERE l.node_id = n.node_id AND l.epoch = n.epoch AND l.state = 'live')
    LIMIT :limit";

/// Served by `quota_leases_node`.
pub(in super::super) const DELETE_LOST_LEASES: &str =
    "DELETE FROM quota_leases WHERE node_id = :node AND epoch = :epoch AND state = 'lost'";

/// Served by the primary key.
pub(in super::super) const DELETE_NODE: &str = "DELETE FROM ledger_nodes WHERE node_id = :node AND epoch = :epoch";

/// Removes up to `limit` windows and up to `rows_left` usage rows; returns how many windows.
pub(super) fn windows(conn: &Connection, before: Timestamp, limit: u32, mut rows_left: usize) -> rusqlite::Result<u64> {
    let mut pruned = 0;
    for (receipt, window) in old_windows(conn, before, limit)? {
        if window.kind == WindowKind::Month {
            rows_left -= prune_usage(conn, receipt, &window, rows_left)?;
            // The next step removes the rest of this month's rows, if there are any.
            if rows_left == 0 {
                break;
            }
        }
        conn.prepare_cached(DELETE_WINDOW)?.execute(named_params! {
            ":receipt": Sql(receipt), ":kind": Sql(window.kind), ":start": Sql(window.start),
        })?;
        pruned += 1;
    }
    Ok(pruned)
}

fn old_windows(conn: &Connection, before: Timestamp, limit: u32) -> rusqlite::Result<Vec<(ReceiptId, Window)>> {
    let from_row = |row: &Row<'_>| {
        let (kind, start) = (get(row, "window_type")?, get(row, "window_start")?);
        Ok((get(row, "receipt_id")?, Window { kind, start, end: get(row, "window_end")? }))
    };
    let range = named_params! { ":before": Sql(before), ":limit": limit };
    conn.prepare_cached(OLD_WINDOWS)?.query_map(range, from_row)?.collect()
}

/// Removes up to `limit` usage rows of a month and subtracts them from its window, so that the two also agree between
/// steps; returns how many.
fn prune_usage(conn: &Connection, receipt: ReceiptId, month: &Window, limit: usize) -> rusqlite::Result<usize> {
    let mut statement = conn.prepare_cached(DELETE_USAGE_OF_MONTH)?;
    let range = named_params! {
        ":receipt": Sql(receipt), ":start": Sql(month.start), ":end": Sql(month.end), ":limit": Sql(limit as u64),
    };
    let mut removed = Credit::ZERO;
    let mut rows = 0;
    for credit in statement.query_map(range, |row| get_credit(row, "bytes_sent", "requests"))? {
        removed += credit?;
        rows += 1;
    }
    conn.prepare_cached(SHRINK_WINDOW)?.execute(named_params! {
        ":receipt": Sql(receipt), ":kind": Sql(month.kind), ":start": Sql(month.start),
        ":bytes": Sql(removed.bytes), ":requests": Sql(removed.requests),
    })?;
    Ok(rows)
}

pub(super) fn nodes(conn: &Connection, before: Timestamp, limit: u32) -> rusqlite::Result<u64> {
    let from_row = |row: &Row<'_>| Ok((get::<NodeId>(row, "node_id")?, row.get::<_, i64>("epoch")?));
    let range = named_params! { ":before": Sql(before), ":limit": limit };
    let old = conn.prepare_cached(OLD_NODES)?.query_map(range, from_row)?.collect::<rusqlite::Result<Vec<_>>>()?;
    for &(node, epoch) in &old {
        conn.prepare_cached(DELETE_LOST_LEASES)?.execute(named_params! { ":node": Sql(node), ":epoch": epoch })?;
        conn.prepare_cached(DELETE_NODE)?.execute(named_params! { ":node": Sql(node), ":epoch": epoch })?;
    }
    Ok(old.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use penstock_actors::{
        ids::UsageId,
        model::{Outcome, UsageRow},
        ports::{Ledger as _, SettleBatch, Upkeep as _},
    };

    use super::{
        super::super::testing::{Database, live_node, metered_receipt},
        *,
    };

    #[tokio::test]
    async fn a_month_with_many_rows_goes_in_steps_and_agrees_with_them_in_between() {
        let database = Database::new();
        let store = database.open();
        let now: Timestamp = "2026-01-31T23:59:59Z".parse().expect("a time");
        let receipt = metered_receipt(&store, 1000, now).await;
        let node = live_node(&store).await;
        let row = |bytes_sent| UsageRow {
            usage_id: UsageId::next(),
            receipt_id: receipt.receipt_id,
            content_hash: receipt.content_hash,
            session_id: None,
            client: None,
            started_at: now,
            finished_at: now,
            bytes_sent,
            requests: 1,
            outcome: Outcome::Aborted,
            lease_epoch: None,
        };
        let batch = SettleBatch { node, sequence: 1, rows: (1..=5).map(row).collect(), releases: Vec::new() };
        assert_eq!(store.settle(&batch).await.expect("settled").inserted, 5);

        let before = now + Duration::from_secs(3600);
        let conn = database.raw();
        let mut steps = Vec::new();
        for _ in 0..3 {
            let pruned = super::windows(&conn, before, 10, 3).expect("pruned");
            let audit = store.audit(None, 10).await.expect("an audit");
            assert_eq!(audit.differences, []);
            steps.push((pruned, audit.windows));
        }
        assert_eq!(steps, [(2, 1), (1, 0), (0, 0)], "hour and day first, then the month in two steps");
    }
}
