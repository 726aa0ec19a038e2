//! Refill: receipts are loaded, and leases taken for them.

use jiff::Timestamp;
use penstock_actors::{
    model::{ContentMeta, Credit, LeaseSizing, NodeEpoch, WindowSet, WindowUsage},
    ports::{ReceiptView, Refill, Want},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::{
    super::{
        failure::Failure,
        leases::{self, LeaseKey},
        policies, receipts,
        values::{Sql, get, get_opt},
        windows::{self, Change},
    },
    nodes,
};

/// The largest amount that a column holds.
const LARGEST: u64 = i64::MAX as u64;

/// Served by the primary keys of receipts, policies, assets and the storage index.
pub(in super::super) const RECEIPT_VIEW: &str = "
    SELECT r.receipt_id, r.version_id, r.content_hash, r.quota_tier, r.status, r.expires_at, r.total_satoshis,
        r.created_at, r.epoch,
        p.policy_name, p.description AS policy_description, p.bytes_per_hour, p.bytes_per_day, p.bytes_per_month,
        p.requests_per_hour, p.requests_per_day, p.requests_per_month, p.max_concurrent_streams, p.max_bandwidth_mbps,
        p.burst_bytes_allowance, p.burst_duration_minutes, p.max_file_size_bytes, p.allowed_content_types,
        a.name AS asset_name, a.media_type, c.size_bytes, c.stored_at
    FROM overlay_receipts r
    JOIN quota_policies p ON p.policy_name = r.quota_tier
    JOIN assets a ON a.version_id = r.version_id
    LEFT JOIN overlay_storage_index c ON c.content_hash = r.content_hash AND c.state = 'stored'
    WHERE r.receipt_id = :receipt";

pub(super) fn refill(
    conn: &Connection,
    node: NodeEpoch,
    wants: &[Want],
    sizing: LeaseSizing,
    now: Timestamp,
) -> Result<Vec<Refill>, Failure> {
    nodes::check_alive(conn, node)?;
    let set = WindowSet::at(now);
    let mut answers = Vec::with_capacity(wants.len());
    for want in wants {
        let view = conn
            .prepare_cached(RECEIPT_VIEW)?
            .query_row(named_params! { ":receipt": Sql(want.receipt_id) }, view_from_row)
            .optional()?;
        let mut windows = windows::load(conn, want.receipt_id, &set)?;
        let granted = view.as_ref().map_or(Credit::ZERO, |view| grant(view, want, &windows, sizing, now));
        if !granted.is_zero() {
            windows::add(conn, want.receipt_id, &set, Change { reserved: granted, ..Change::default() })?;
            leases::add(conn, LeaseKey { receipt: want.receipt_id, node, hour: set.hour().start }, granted)?;
            for window in &mut windows {
                window.reserved += granted;
            }
        }
        answers.push(Refill { view, windows, granted });
    }
    Ok(answers)
}

/// What to grant: nothing unless a stream of this content may start, and all of the need fits.
fn grant(view: &ReceiptView, want: &Want, windows: &[WindowUsage; 3], sizing: LeaseSizing, now: Timestamp) -> Credit {
    let Some(content) = &view.content else { return Credit::ZERO };
    let may_stream = view.receipt.status_at(now).may_stream() && content.content_hash == want.content_hash;
    if !may_stream || !view.policy.is_metered() || want.want.is_zero() {
        return Credit::ZERO;
    }
    let taken = windows.map(|window| window.used + window.reserved);
    // Where a dimension has no limit, the columns' range is one.
    let room = taken.iter().fold(Credit::new(LARGEST, LARGEST), |room, taken| {
        room.min(Credit::new(LARGEST.saturating_sub(taken.bytes), LARGEST.saturating_sub(taken.requests)))
    });
    // A caller that does not know the size asks for everything.
    let need = Credit::new(want.need.bytes.min(content.size_bytes), want.need.requests);
    if !room.covers(need) {
        return Credit::ZERO;
    }
    let limits = windows.iter().map(|usage| view.policy.limits(usage.window.kind)).zip(taken);
    sizing.grant_all(limits, need, want.want.min(room)).unwrap_or(Credit::ZERO)
}

fn view_from_row(row: &Row<'_>) -> rusqlite::Result<ReceiptView> {
    let receipt = receipts::from_row(row)?;
    let stored_at: Option<Timestamp> = get_opt(row, "stored_at")?;
    let content = match stored_at {
        Some(stored_at) => Some(ContentMeta {
            content_hash: receipt.content_hash,
            size_bytes: get(row, "size_bytes")?,
            media_type: row.get("media_type")?,
            stored_at,
        }),
        None => None,
    };
    Ok(ReceiptView { receipt, policy: policies::from_row(row)?, content, asset_name: row.get("asset_name")? })
}
