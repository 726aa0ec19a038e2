//! The audit: compares windows with the usage rows and leases that they sum up.
//!
//! Rows and leases are summed by the hour, once per receipt; every window is then a sum of hours. A step reads one
//! snapshot, so that it sees a concurrent settlement whole or not at all.

use std::collections::BTreeMap;

use jiff::Timestamp;
use penstock_actors::{
    ids::ReceiptId,
    model::{Credit, Window, WindowUsage},
    ports::{AuditDifference, AuditPage},
};
use rusqlite::{Connection, Row, Statement, named_params};

use super::super::columns::{Sql, get, get_credit};

/// Served by `quota_usage_windows_span`, in its order and without reading the rows.
pub(in super::super) const AUDITED_RECEIPTS: &str = "
    SELECT DISTINCT receipt_id FROM quota_usage_windows
    WHERE receipt_id > :after ORDER BY receipt_id LIMIT :limit";

/// Served by the primary key.
pub(in super::super) const WINDOWS_OF_RECEIPT: &str = "
    SELECT window_type, window_start, window_end, bytes_used, requests_used, bytes_reserved, requests_reserved
    FROM quota_usage_windows WHERE receipt_id = :receipt";

/// Served by `streaming_usage_receipt`. An hour has 3,600,000,000 microseconds.
pub(in super::super) const USAGE_BY_HOUR: &str = "
    SELECT started_at / 3600000000 * 3600000000 AS hour, sum(bytes_sent) AS bytes, sum(requests) AS requests
    FROM streaming_usage WHERE receipt_id = :receipt GROUP BY 1";

/// Served by the primary key. The plus sign excludes the state from the choice of an index: with statistics, SQLite
/// would otherwise skip through `quota_leases_node` once per node.
pub(in super::super) const LEASES_BY_HOUR: &str = "
    SELECT hour_start AS hour, sum(bytes) AS bytes, sum(requests) AS requests
    FROM quota_leases WHERE receipt_id = :receipt AND +state = 'live' GROUP BY 1";

/// Credit by the hour that it belongs to.
type Hours = BTreeMap<Timestamp, Credit>;

pub(super) fn page(conn: &Connection, after: Option<ReceiptId>, limit: u32) -> rusqlite::Result<AuditPage> {
    // The nil id sorts before every generated id.
    let after = after.unwrap_or(ReceiptId::from_uuid(uuid::Uuid::nil()));
    let receipts = conn
        .prepare_cached(AUDITED_RECEIPTS)?
        .query_map(named_params! { ":after": Sql(after), ":limit": limit }, |row| get(row, "receipt_id"))?
        .collect::<rusqlite::Result<Vec<ReceiptId>>>()?;
    let mut page = AuditPage::default();
    for &receipt in &receipts {
        audit_receipt(conn, receipt, &mut page)?;
    }
    page.next = if receipts.len() == limit as usize { receipts.last().copied() } else { None };
    Ok(page)
}

fn audit_receipt(conn: &Connection, receipt: ReceiptId, page: &mut AuditPage) -> rusqlite::Result<()> {
    let key = named_params! { ":receipt": Sql(receipt) };
    let used = hours(&mut *conn.prepare_cached(USAGE_BY_HOUR)?, receipt)?;
    let reserved = hours(&mut *conn.prepare_cached(LEASES_BY_HOUR)?, receipt)?;
    let mut statement = conn.prepare_cached(WINDOWS_OF_RECEIPT)?;
    for usage in statement.query_map(key, window_from_row)? {
        let WindowUsage { window, used: recorded_used, reserved: recorded_reserved } = usage?;
        page.windows += 1;
        for (recorded, hours, reserved) in [(recorded_used, &used, false), (recorded_reserved, &reserved, true)] {
            let recomputed = sum(hours, &window);
            if recorded != recomputed {
                page.differences.push(AuditDifference {
                    receipt_id: receipt,
                    window: window.kind,
                    window_start: window.start,
                    recorded,
                    recomputed,
                    reserved,
                });
            }
        }
    }
    Ok(())
}

fn hours(statement: &mut Statement<'_>, receipt: ReceiptId) -> rusqlite::Result<Hours> {
    let from_row = |row: &Row<'_>| Ok((get(row, "hour")?, get_credit(row, "bytes", "requests")?));
    statement.query_map(named_params! { ":receipt": Sql(receipt) }, from_row)?.collect()
}

fn sum(hours: &Hours, window: &Window) -> Credit {
    hours.range(window.start..window.end).fold(Credit::ZERO, |sum, (_, &credit)| sum + credit)
}

fn window_from_row(row: &Row<'_>) -> rusqlite::Result<WindowUsage> {
    let (kind, start) = (get(row, "window_type")?, get(row, "window_start")?);
    Ok(WindowUsage {
        window: Window { kind, start, end: get(row, "window_end")? },
        used: get_credit(row, "bytes_used", "requests_used")?,
        reserved: get_credit(row, "bytes_reserved", "requests_reserved")?,
    })
}
