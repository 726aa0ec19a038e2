//! Refilling: leases, and the receipts that they are for.

use std::collections::HashMap;

use jiff::Timestamp;
use penstock_actors::{
    ids::ReceiptId,
    model::{ContentMeta, LeaseSizing, NodeEpoch, WindowKind, WindowSet},
    ports::{PortError, PortResult, ReceiptView, Refill, RefillRequest, Want},
};
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::{
    super::{
        PostgresStore,
        columns::{Columns, signed},
        db::Statement,
    },
    MOST_WANTED,
};

/// Receipts with policy, content and asset by their primary keys; windows, nodes and leases by theirs inside the
/// function.
const REFILL: Statement = Statement {
    name: "refill",
    sql: "
        SELECT t.*, r.receipt_id IS NOT NULL AS known,
               r.version_id, r.content_hash, r.quota_tier, r.status, r.expires_at, r.total_satoshis, r.created_at,
               r.epoch, a.name AS asset_name, a.media_type, c.state AS content_state, c.size_bytes, c.stored_at,
               p.policy_name, p.description, p.bytes_per_hour, p.bytes_per_day, p.bytes_per_month,
               p.requests_per_hour, p.requests_per_day, p.requests_per_month, p.max_concurrent_streams,
               p.max_bandwidth_mbps, p.burst_bytes_allowance, p.burst_duration_minutes, p.max_file_size_bytes,
               p.allowed_content_types
        FROM penstock_refill($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) AS t
        LEFT JOIN overlay_receipts r ON r.receipt_id = t.receipt_id
        LEFT JOIN quota_policies p ON p.policy_name = r.quota_tier
        LEFT JOIN overlay_storage_index c ON c.content_hash = r.content_hash
        LEFT JOIN assets a ON a.version_id = r.version_id",
    types: &[
        Type::UUID,
        Type::INT8,
        Type::INT8,
        Type::TIMESTAMPTZ,
        Type::UUID_ARRAY,
        Type::BYTEA_ARRAY,
        Type::INT8_ARRAY,
        Type::BOOL_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
    ],
};

pub(super) async fn refill(
    store: &PostgresStore,
    node: NodeEpoch,
    requests: &[RefillRequest],
    sizing: LeaseSizing,
    now: Timestamp,
) -> PortResult<Vec<Refill>> {
    let wants = || requests.iter().map(|request| &request.want);
    let receipts: Vec<Uuid> = wants().map(|want| want.receipt_id.as_uuid()).collect();
    let contents: Vec<&[u8]> = wants().map(|want| want.content_hash.as_bytes().as_slice()).collect();
    let ids: Vec<i64> = requests.iter().map(|request| request.id).collect();
    let again: Vec<bool> = requests.iter().map(|request| request.again).collect();
    let amounts = |amount: fn(&Want) -> u64| wants().map(|want| signed(amount(want))).collect::<Vec<i64>>();
    let rows = store
        .ledger
        .rows(
            &REFILL,
            &[
                &node.node.as_uuid(),
                &node.epoch,
                &signed(sizing.divisor.max(1)),
                &now,
                &receipts,
                &contents,
                &ids,
                &again,
                &amounts(|want| want.need.bytes),
                &amounts(|want| want.need.requests.min(MOST_WANTED)),
                &amounts(|want| want.want.bytes.min(MOST_WANTED)),
                &amounts(|want| want.want.requests.min(MOST_WANTED)),
            ],
        )
        .await?;
    let windows = WindowSet::at(now);
    let mut answers = HashMap::with_capacity(rows.len());
    for row in &rows {
        let id = ReceiptId::from_uuid(Columns(row).get("receipt_id")?);
        answers.insert(id, refill_of(row, &windows)?);
    }
    let answer = |want: &Want| {
        answers
            .remove(&want.receipt_id)
            .ok_or_else(|| PortError::Corrupt("a receipt that needs a lease got no answer".into()))
    };
    wants().map(answer).collect()
}

fn refill_of(row: &Row, windows: &WindowSet) -> PortResult<Refill> {
    const HOUR: [&str; 4] = ["hour_bytes_used", "hour_bytes_reserved", "hour_requests_used", "hour_requests_reserved"];
    const DAY: [&str; 4] = ["day_bytes_used", "day_bytes_reserved", "day_requests_used", "day_requests_reserved"];
    const MONTH: [&str; 4] =
        ["month_bytes_used", "month_bytes_reserved", "month_requests_used", "month_requests_reserved"];
    let row = Columns(row);
    Ok(Refill {
        view: if row.get("known")? { Some(view(&row)?) } else { None },
        windows: [
            row.window(windows.get(WindowKind::Hour), &HOUR)?,
            row.window(windows.get(WindowKind::Day), &DAY)?,
            row.window(windows.get(WindowKind::Month), &MONTH)?,
        ],
        granted: row.credit("granted_bytes", "granted_requests")?,
    })
}

fn view(row: &Columns<'_>) -> PortResult<ReceiptView> {
    let receipt = row.receipt()?;
    let content = match row.get("content_state")? {
        Some("stored") => Some(ContentMeta {
            content_hash: receipt.content_hash,
            size_bytes: row.amount("size_bytes")?,
            media_type: row.get("media_type")?,
            stored_at: row.get("stored_at")?,
        }),
        _ => None,
    };
    Ok(ReceiptView { receipt, policy: row.policy()?, content, asset_name: row.get("asset_name")? })
}
