//! The port `Receipts`: receipts, quota policies, and the usage of a receipt.

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::{ReceiptId, UsageId},
    model::{QuotaPolicy, Receipt, ReceiptStatus, UsageRow, WindowSet},
    ports::{Missing, NewReceipt, Page, PortError, PortResult, QuotaView, Receipts, StatusChange},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::{
    SqliteStore, assets,
    columns::{Sql, get},
    error::JobFailure,
    quota_policies, usage, windows,
};

/// Served by the primary keys of assets, policies and prices. A receipt that exists (a repeated call) is left
/// unchanged.
pub(super) const CREATE_RECEIPT: &str = "
    INSERT INTO overlay_receipts
        (receipt_id, version_id, content_hash, quota_tier, status, expires_at, total_satoshis, created_at, updated_at)
    SELECT :receipt, a.version_id, a.content_hash, p.policy_name, :status, :expires, coalesce(pr.satoshis, 0), :now,
        :now
    FROM assets a
    JOIN quota_policies p ON p.policy_name = :tier
    LEFT JOIN prices pr ON pr.version_id = a.version_id
    WHERE a.version_id = :version
    ON CONFLICT (receipt_id) DO NOTHING";

/// Served by the primary key.
pub(super) const RECEIPT: &str = "
    SELECT receipt_id, version_id, content_hash, quota_tier, status, expires_at, total_satoshis, created_at, epoch
    FROM overlay_receipts WHERE receipt_id = :receipt";

/// Served by the primary key. `:from`: the statuses that may change to `:to`, as a JSON array.
pub(super) const SET_RECEIPT_STATUS: &str = "
    UPDATE overlay_receipts SET status = :to, epoch = epoch + 1, updated_at = :now
    WHERE receipt_id = :receipt AND status IN (SELECT value FROM json_each(:from))";

/// Served by the primary keys of receipts and policies.
pub(super) const RECEIPT_POLICY: &str = "
    SELECT p.policy_name, p.description AS policy_description, p.bytes_per_hour, p.bytes_per_day, p.bytes_per_month,
        p.requests_per_hour, p.requests_per_day, p.requests_per_month, p.max_concurrent_streams, p.max_bandwidth_mbps,
        p.burst_bytes_allowance, p.burst_duration_minutes, p.max_file_size_bytes, p.allowed_content_types
    FROM overlay_receipts r JOIN quota_policies p ON p.policy_name = r.quota_tier
    WHERE r.receipt_id = :receipt";

#[async_trait]
impl Receipts for SqliteStore {
    async fn create_receipt(&self, new: &NewReceipt) -> PortResult<Receipt> {
        let new = new.clone();
        self.workers.write("create_receipt", move |conn| create(conn, &new)).await
    }

    async fn receipt(&self, id: ReceiptId) -> PortResult<Option<Receipt>> {
        self.workers.read("receipt", move |conn| Ok(load(conn, id)?)).await
    }

    async fn set_receipt_status(&self, id: ReceiptId, to: ReceiptStatus, now: Timestamp) -> PortResult<StatusChange> {
        self.workers.write("set_receipt_status", move |conn| Ok(set_status(conn, id, to, now)?)).await
    }

    async fn put_quota_policy(&self, policy: &QuotaPolicy, now: Timestamp) -> PortResult<bool> {
        let policy = policy.clone();
        self.workers.write("put_policy", move |conn| Ok(quota_policies::put(conn, &policy, now)?)).await
    }

    async fn policies(&self) -> PortResult<Vec<QuotaPolicy>> {
        self.workers.read("policies", |conn| Ok(quota_policies::all(conn)?)).await
    }

    async fn quota(&self, id: ReceiptId, now: Timestamp) -> PortResult<Option<QuotaView>> {
        self.workers.read("quota", move |conn| Ok(quota(conn, id, now)?)).await
    }

    async fn usage(&self, id: ReceiptId, after: Option<UsageId>, limit: u32) -> PortResult<Page<UsageRow>> {
        self.workers.read("usage", move |conn| Ok(usage::page(conn, id, after, limit)?)).await
    }
}

fn create(conn: &Connection, new: &NewReceipt) -> Result<Receipt, JobFailure> {
    conn.prepare_cached(CREATE_RECEIPT)?.execute(named_params! {
        ":receipt": Sql(new.receipt_id), ":version": Sql(new.version_id), ":tier": new.quota_tier,
        ":status": Sql(new.status), ":expires": Sql(new.expires_at), ":now": Sql(new.created_at),
    })?;
    if let Some(receipt) = load(conn, new.receipt_id)? {
        return Ok(receipt);
    }
    let missing = if assets::asset_exists(conn, new.version_id)? { Missing::QuotaTier } else { Missing::Asset };
    Err(PortError::NotFound(missing).into())
}

pub(super) fn load(conn: &Connection, id: ReceiptId) -> rusqlite::Result<Option<Receipt>> {
    conn.prepare_cached(RECEIPT)?.query_row(named_params! { ":receipt": Sql(id) }, from_row).optional()
}

fn set_status(conn: &Connection, id: ReceiptId, to: ReceiptStatus, now: Timestamp) -> rusqlite::Result<StatusChange> {
    let from: Vec<_> = ReceiptStatus::ALL
        .into_iter()
        .filter(|&from| from != to && from.may_become(to))
        .map(ReceiptStatus::as_str)
        .collect();
    let changed = conn.prepare_cached(SET_RECEIPT_STATUS)?.execute(named_params! {
        ":receipt": Sql(id), ":to": Sql(to), ":now": Sql(now), ":from": serde_json::json!(from).to_string(),
    })?;
    let receipt = load(conn, id)?;
    Ok(match receipt {
        None => StatusChange::NotFound,
        Some(receipt) if changed == 1 || receipt.status == to => StatusChange::Changed(receipt),
        Some(receipt) => StatusChange::Refused(receipt.status),
    })
}

fn quota(conn: &Connection, id: ReceiptId, now: Timestamp) -> rusqlite::Result<Option<QuotaView>> {
    let policy = conn
        .prepare_cached(RECEIPT_POLICY)?
        .query_row(named_params! { ":receipt": Sql(id) }, quota_policies::from_row)
        .optional()?;
    let Some(policy) = policy else { return Ok(None) };
    let windows = windows::load(conn, id, &WindowSet::at(now))?;
    Ok(Some(QuotaView { policy, windows }))
}

/// Reads a receipt from a row that holds its columns.
pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Receipt> {
    Ok(Receipt {
        receipt_id: get(row, "receipt_id")?,
        version_id: get(row, "version_id")?,
        content_hash: get(row, "content_hash")?,
        quota_tier: row.get("quota_tier")?,
        status: get(row, "status")?,
        expires_at: get(row, "expires_at")?,
        total_satoshis: get(row, "total_satoshis")?,
        created_at: get(row, "created_at")?,
        epoch: row.get("epoch")?,
    })
}
