//! Refill: loads receipts, and takes leases for them.

use jiff::Timestamp;
use penstock_actors::{
    model::{ContentMeta, Credit, LeaseSizing, NodeEpoch, WindowSet, WindowUsage},
    ports::{ReceiptView, Refill, RefillRequest, Want},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::{
    super::{
        columns::{Sql, get, get_credit, get_opt},
        error::JobFailure,
        leases::{self, LeaseKey},
        quota_policies, receipts,
        windows::{self, WindowChange},
    },
    nodes,
};

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

/// Served by the primary key.
pub(in super::super) const ANSWERED_AGAIN: &str = "
    SELECT refill_id, bytes, requests FROM quota_refills_again
    WHERE node_id = :node AND epoch = :epoch AND receipt_id = :receipt";

/// Served by the primary key.
pub(in super::super) const NOTE_AGAIN: &str = "
    INSERT INTO quota_refills_again AS a (node_id, epoch, receipt_id, refill_id, bytes, requests)
    VALUES (:node, :epoch, :receipt, :refill, :bytes, :requests)
    ON CONFLICT (node_id, epoch, receipt_id) DO UPDATE SET
        refill_id = excluded.refill_id, bytes = excluded.bytes, requests = excluded.requests
    WHERE a.refill_id < excluded.refill_id";

/// Served by the primary key.
pub(in super::super) const FORGET_AGAIN: &str =
    "DELETE FROM quota_refills_again WHERE node_id = :node AND epoch = :epoch";

pub(super) fn refill(
    conn: &Connection,
    node: NodeEpoch,
    requests: &[RefillRequest],
    sizing: LeaseSizing,
    now: Timestamp,
) -> Result<Vec<Refill>, JobFailure> {
    nodes::check_alive(conn, node)?;
    let set = WindowSet::at(now);
    let mut answers = Vec::with_capacity(requests.len());
    for request in requests {
        let want = &request.want;
        let view = conn
            .prepare_cached(RECEIPT_VIEW)?
            .query_row(named_params! { ":receipt": Sql(want.receipt_id) }, view_from_row)
            .optional()?;
        let mut windows = windows::load(conn, want.receipt_id, &set)?;
        let mut granted = Credit::ZERO;
        if let Some(view) = view.as_ref().filter(|_| !want.want.is_zero()) {
            let key = LeaseKey { receipt: want.receipt_id, node, hour: set.hour().start };
            granted = match answered(conn, key, request.id)? {
                Some(told) => told,
                None => {
                    let granted = grant(view, want, &windows, sizing, now);
                    if !granted.is_zero() {
                        windows::add(
                            conn,
                            want.receipt_id,
                            &set,
                            WindowChange { reserved: granted, ..WindowChange::default() },
                        )?;
                        leases::add(conn, key, request.id, granted)?;
                        for window in &mut windows {
                            window.reserved += granted;
                        }
                    }
                    granted
                }
            };
            if request.again {
                note_again(conn, key, request.id, granted)?;
            }
        }
        answers.push(Refill { view, windows, granted });
    }
    Ok(answers)
}

/// The grant of a request that was answered before; zero if a later request has been answered.
fn answered(conn: &Connection, key: LeaseKey, id: i64) -> rusqlite::Result<Option<Credit>> {
    let again = conn
        .prepare_cached(ANSWERED_AGAIN)?
        .query_row(
            named_params! {
                ":node": Sql(key.node.node), ":epoch": key.node.epoch, ":receipt": Sql(key.receipt),
            },
            |row| Ok((row.get("refill_id")?, get_credit(row, "bytes", "requests")?)),
        )
        .optional()?;
    let last = leases::last_refill(conn, key)?;
    let known: Vec<(i64, Credit)> = last.into_iter().chain(again).filter(|&(known, _)| known >= id).collect();
    let told = known.iter().find(|&&(known, _)| known == id).map_or(Credit::ZERO, |&(_, told)| told);
    Ok((!known.is_empty()).then_some(told))
}

fn note_again(conn: &Connection, key: LeaseKey, id: i64, granted: Credit) -> rusqlite::Result<()> {
    conn.prepare_cached(NOTE_AGAIN)?.execute(named_params! {
        ":node": Sql(key.node.node), ":epoch": key.node.epoch, ":receipt": Sql(key.receipt), ":refill": id,
        ":bytes": Sql(granted.bytes), ":requests": Sql(granted.requests),
    })?;
    Ok(())
}

/// The grant: nothing unless a stream of this content may start and the whole need fits.
fn grant(view: &ReceiptView, want: &Want, windows: &[WindowUsage; 3], sizing: LeaseSizing, now: Timestamp) -> Credit {
    let Some(content) = &view.content else { return Credit::ZERO };
    let may_stream = view.receipt.status_at(now).may_stream() && content.content_hash == want.content_hash;
    if !may_stream || !view.policy.is_metered() || want.want.is_zero() {
        return Credit::ZERO;
    }
    let taken = windows.map(|window| window.used + window.reserved);
    // A caller that does not know the size asks for the maximum.
    let need = Credit::new(want.need.bytes.min(content.size_bytes), want.need.requests);
    let limits = windows.iter().map(|usage| view.policy.limits(usage.window.kind)).zip(taken);
    sizing.grant_all(limits, need, want.want).unwrap_or(Credit::ZERO)
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
    Ok(ReceiptView { receipt, policy: quota_policies::from_row(row)?, content, asset_name: row.get("asset_name")? })
}
