//! The rows of `quota_usage_windows`.

use penstock_actors::{
    ids::ReceiptId,
    model::{Credit, WindowSet, WindowUsage},
};
use rusqlite::{Connection, OptionalExtension as _, named_params};

use super::columns::{Sql, get_credit};

/// Served by `quota_usage_windows_span`, which holds every compared column. The statement names the index: without it,
/// the statement fails instead of becoming slow.
pub(super) const WINDOW: &str = "
    SELECT bytes_used, requests_used, bytes_reserved, requests_reserved
    FROM quota_usage_windows INDEXED BY quota_usage_windows_span
    WHERE receipt_id = :receipt AND window_type = :kind AND window_start = :start AND window_end = :end";

/// Served by the primary key.
pub(super) const ADD_TO_WINDOW: &str = "
    INSERT INTO quota_usage_windows
        (receipt_id, window_type, window_start, window_end, bytes_used, requests_used, bytes_reserved,
         requests_reserved)
    VALUES (:receipt, :kind, :start, :end, :used_bytes, :used_requests, :reserved_bytes, :reserved_requests)
    ON CONFLICT (receipt_id, window_type, window_start) DO UPDATE SET
        bytes_used = bytes_used + excluded.bytes_used,
        requests_used = requests_used + excluded.requests_used,
        bytes_reserved = bytes_reserved + excluded.bytes_reserved,
        requests_reserved = requests_reserved + excluded.requests_reserved";

/// Served by the primary key. A check of the table refuses to go below zero.
pub(super) const TAKE_FROM_WINDOW: &str = "
    UPDATE quota_usage_windows SET
        bytes_used = bytes_used - :used_bytes,
        requests_used = requests_used - :used_requests,
        bytes_reserved = bytes_reserved - :reserved_bytes,
        requests_reserved = requests_reserved - :reserved_requests
    WHERE receipt_id = :receipt AND window_type = :kind AND window_start = :start";

/// The two sums of a window that change together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WindowChange {
    pub(super) used: Credit,
    pub(super) reserved: Credit,
}

/// The present windows of a set; a missing row counts as empty.
pub(super) fn load(conn: &Connection, receipt: ReceiptId, set: &WindowSet) -> rusqlite::Result<[WindowUsage; 3]> {
    let mut windows = [WindowUsage::empty(set.hour()); 3];
    let mut statement = conn.prepare_cached(WINDOW)?;
    for (usage, window) in windows.iter_mut().zip(set.iter()) {
        let key = named_params! {
            ":receipt": Sql(receipt), ":kind": window.kind.as_str(),
            ":start": Sql(window.start), ":end": Sql(window.end),
        };
        let sums = statement
            .query_row(key, |row| {
                let used = get_credit(row, "bytes_used", "requests_used")?;
                let reserved = get_credit(row, "bytes_reserved", "requests_reserved")?;
                Ok(WindowUsage { window, used, reserved })
            })
            .optional()?;
        *usage = sums.unwrap_or(WindowUsage::empty(window));
    }
    Ok(windows)
}

/// Adds to every window of the set, and creates missing rows.
pub(super) fn add(
    conn: &Connection,
    receipt: ReceiptId,
    set: &WindowSet,
    change: WindowChange,
) -> rusqlite::Result<()> {
    let mut statement = conn.prepare_cached(ADD_TO_WINDOW)?;
    for window in set.iter() {
        statement.execute(named_params! {
            ":receipt": Sql(receipt), ":kind": window.kind.as_str(),
            ":start": Sql(window.start), ":end": Sql(window.end),
            ":used_bytes": Sql(change.used.bytes), ":used_requests": Sql(change.used.requests),
            ":reserved_bytes": Sql(change.reserved.bytes), ":reserved_requests": Sql(change.reserved.requests),
        })?;
    }
    Ok(())
}

/// Subtracts from every window of the set.
pub(super) fn take(
    conn: &Connection,
    receipt: ReceiptId,
    set: &WindowSet,
    change: WindowChange,
) -> rusqlite::Result<()> {
    let mut statement = conn.prepare_cached(TAKE_FROM_WINDOW)?;
    for window in set.iter() {
        statement.execute(named_params! {
            ":receipt": Sql(receipt), ":kind": window.kind.as_str(), ":start": Sql(window.start),
            ":used_bytes": Sql(change.used.bytes), ":used_requests": Sql(change.used.requests),
            ":reserved_bytes": Sql(change.reserved.bytes), ":reserved_requests": Sql(change.reserved.requests),
        })?;
    }
    Ok(())
}
