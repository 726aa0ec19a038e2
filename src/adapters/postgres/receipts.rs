//! The port `Receipts`: receipts, quota policies, and the usage of a receipt.

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::{ReceiptId, UsageId},
    model::{QuotaPolicy, Receipt, ReceiptStatus, UsageRow, WindowKind, WindowSet, WindowUsage},
    ports::{Missing, NewReceipt, Page, PortError, PortResult, QuotaView, Receipts, StatusChange},
};
use tokio_postgres::types::Type;

use super::{PostgresStore, columns::Columns, db::Statement, quota_policies, usage};

/// Asset, price, policy and receipt by their primary keys. An existing receipt is returned unchanged: the caller may
/// repeat a call whose answer was lost.
const CREATE_RECEIPT: Statement = Statement {
    name: "create_receipt",
    sql: "
        WITH asset AS (
            SELECT a.version_id, a.content_hash, p.satoshis
            FROM assets a JOIN prices p ON p.version_id = a.version_id
            WHERE a.version_id = $2
        ),
        tier AS (SELECT policy_name FROM quota_policies WHERE policy_name = $3),
        made AS (
            INSERT INTO overlay_receipts AS r (receipt_id, version_id, content_hash, quota_tier, status, expires_at,
                                               total_satoshis, created_at, updated_at)
            SELECT $1, asset.version_id, asset.content_hash, tier.policy_name, $4, $5, asset.satoshis, $6, $6
            FROM asset CROSS JOIN tier
            ON CONFLICT (receipt_id) DO UPDATE SET updated_at = r.updated_at
            RETURNING *
        )
        SELECT EXISTS (SELECT FROM asset) AS has_asset, EXISTS (SELECT FROM tier) AS has_tier,
               made.receipt_id, made.version_id, made.content_hash, made.quota_tier, made.status, made.expires_at,
               made.total_satoshis, made.created_at, made.epoch
        FROM (SELECT) AS always LEFT JOIN made ON true",
    types: &[Type::UUID, Type::UUID, Type::TEXT, Type::TEXT, Type::TIMESTAMPTZ, Type::TIMESTAMPTZ],
};

/// By the primary key.
const RECEIPT: Statement = Statement {
    name: "receipt",
    sql: "
        SELECT receipt_id, version_id, content_hash, quota_tier, status, expires_at, total_satoshis, created_at, epoch
        FROM overlay_receipts
        WHERE receipt_id = $1",
    types: &[Type::UUID],
};

/// By the primary key. The row is locked before it is read, so that of two changes at once the second sees the first.
const SET_STATUS: Statement = Statement {
    name: "set_receipt_status",
    sql: "
        WITH before AS MATERIALIZED (
            SELECT receipt_id, version_id, content_hash, quota_tier, status, expires_at, total_satoshis, created_at,
                epoch
            FROM overlay_receipts
            WHERE receipt_id = $1
            FOR NO KEY UPDATE
        ),
        changed AS (
            UPDATE overlay_receipts r SET status = $2, epoch = before.epoch + 1, updated_at = $3
            FROM before
            WHERE r.receipt_id = before.receipt_id AND before.status = ANY ($4)
            RETURNING r.status, r.epoch
        )
        SELECT b.receipt_id, b.version_id, b.content_hash, b.quota_tier, coalesce(c.status, b.status) AS status,
               b.expires_at, b.total_satoshis, b.created_at, coalesce(c.epoch, b.epoch) AS epoch
        FROM before b LEFT JOIN changed c ON true",
    types: &[Type::UUID, Type::TEXT, Type::TIMESTAMPTZ, Type::TEXT_ARRAY],
};

/// Receipt and policy by their primary keys, windows by `quota_usage_windows_time_range`. One row per window kind.
const QUOTA: Statement = Statement {
    name: "quota",
    sql: "
        SELECT k.window_type, coalesce(w.bytes_used, 0) AS bytes_used, coalesce(w.bytes_reserved, 0) AS bytes_reserved,
               coalesce(w.requests_used, 0) AS requests_used, coalesce(w.requests_reserved, 0) AS requests_reserved,
               p.policy_name, p.description, p.bytes_per_hour, p.bytes_per_day, p.bytes_per_month, p.requests_per_hour,
               p.requests_per_day, p.requests_per_month, p.max_concurrent_streams, p.max_bandwidth_mbps,
               p.burst_bytes_allowance, p.burst_duration_minutes, p.max_file_size_bytes, p.allowed_content_types
        FROM overlay_receipts r
        JOIN quota_policies p ON p.policy_name = r.quota_tier
        CROSS JOIN penstock_windows($2) AS k
        LEFT JOIN quota_usage_windows w ON w.receipt_id = r.receipt_id AND w.window_type = k.window_type
            AND w.window_start = k.window_start AND w.window_end = k.window_end
        WHERE r.receipt_id = $1
        ORDER BY k.rank",
    types: &[Type::UUID, Type::TIMESTAMPTZ],
};

#[async_trait]
impl Receipts for PostgresStore {
    async fn create_receipt(&self, new: &NewReceipt) -> PortResult<Receipt> {
        let row = self
            .db
            .row(
                &CREATE_RECEIPT,
                &[
                    &new.receipt_id.as_uuid(),
                    &new.version_id.as_uuid(),
                    &new.quota_tier,
                    &new.status.as_str(),
                    &new.expires_at,
                    &new.created_at,
                ],
            )
            .await?;
        let row = Columns(&row);
        if !row.get::<bool>("has_asset")? {
            return Err(PortError::NotFound(Missing::Asset));
        }
        if !row.get::<bool>("has_tier")? {
            return Err(PortError::NotFound(Missing::QuotaTier));
        }
        row.receipt()
    }

    async fn receipt(&self, id: ReceiptId) -> PortResult<Option<Receipt>> {
        let row = self.db.row_opt(&RECEIPT, &[&id.as_uuid()]).await?;
        row.map(|row| Columns(&row).receipt()).transpose()
    }

    async fn set_receipt_status(&self, id: ReceiptId, to: ReceiptStatus, now: Timestamp) -> PortResult<StatusChange> {
        let from: Vec<&str> = ReceiptStatus::ALL
            .into_iter()
            .filter(|&from| from != to && from.may_become(to))
            .map(ReceiptStatus::as_str)
            .collect();
        let row = self.db.row_opt(&SET_STATUS, &[&id.as_uuid(), &to.as_str(), &now, &from]).await?;
        let Some(row) = row else { return Ok(StatusChange::NotFound) };
        let receipt = Columns(&row).receipt()?;
        Ok(if receipt.status == to { StatusChange::Changed(receipt) } else { StatusChange::Refused(receipt.status) })
    }

    async fn put_quota_policy(&self, policy: &QuotaPolicy, now: Timestamp) -> PortResult<bool> {
        quota_policies::put(self, policy, now).await
    }

    async fn policies(&self) -> PortResult<Vec<QuotaPolicy>> {
        quota_policies::all(self).await
    }

    async fn quota(&self, id: ReceiptId, now: Timestamp) -> PortResult<Option<QuotaView>> {
        const COUNTERS: [&str; 4] = ["bytes_used", "bytes_reserved", "requests_used", "requests_reserved"];
        let rows = self.db.rows(&QUOTA, &[&id.as_uuid(), &now]).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let mut windows = WindowKind::ALL.map(|kind| WindowUsage::empty(WindowSet::at(now).get(kind)));
        for (window, row) in windows.iter_mut().zip(&rows) {
            *window = Columns(row).window(window.window, &COUNTERS)?;
        }
        Ok(Some(QuotaView { policy: Columns(first).policy()?, windows }))
    }

    async fn usage(&self, id: ReceiptId, after: Option<UsageId>, limit: u32) -> PortResult<Page<UsageRow>> {
        usage::page(self, id, after, limit).await
    }
}
