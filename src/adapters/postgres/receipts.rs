//! The port `Receipts`: receipts, quota policies, and the usage of a receipt.

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::{ReceiptId, UsageId},
    model::{QuotaPolicy, Receipt, ReceiptStatus, UsageRow, WindowKind, WindowSet, WindowUsage},
    ports::{Missing, NewReceipt, Page, PortError, PortResult, QuotaView, Receipts, StatusChange},
};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{
    PostgresStore,
    columns::{Columns, signed},
    db::{Param, Statement},
    replicas::Topic,
};

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

/// By the primary key. A row that was just inserted has no deleting transaction.
const PUT_POLICY: Statement = Statement {
    name: "put_policy",
    sql: "
        INSERT INTO quota_policies AS p (
            policy_name, description, bytes_per_hour, bytes_per_day, bytes_per_month, requests_per_hour,
            requests_per_day, requests_per_month, max_concurrent_streams, max_bandwidth_mbps, burst_bytes_allowance,
            burst_duration_minutes, max_file_size_bytes, allowed_content_types, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
        ON CONFLICT (policy_name) DO UPDATE SET
            description = excluded.description, bytes_per_hour = excluded.bytes_per_hour,
            bytes_per_day = excluded.bytes_per_day, bytes_per_month = excluded.bytes_per_month,
            requests_per_hour = excluded.requests_per_hour, requests_per_day = excluded.requests_per_day,
            requests_per_month = excluded.requests_per_month, max_concurrent_streams = excluded.max_concurrent_streams,
            max_bandwidth_mbps = excluded.max_bandwidth_mbps, burst_bytes_allowance = excluded.burst_bytes_allowance,
            burst_duration_minutes = excluded.burst_duration_minutes,
                max_file_size_bytes = excluded.max_file_size_bytes,
            allowed_content_types = excluded.allowed_content_types, updated_at = excluded.updated_at
        RETURNING p.xmax = 0 AS made",
    types: &[
        Type::TEXT,
        Type::TEXT,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::FLOAT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::TEXT_ARRAY,
        Type::TIMESTAMPTZ,
    ],
};

/// A whole small table, in the order of its primary key.
const POLICIES: Statement = Statement {
    name: "policies",
    sql: "
        SELECT policy_name, description, bytes_per_hour, bytes_per_day, bytes_per_month, requests_per_hour,
               requests_per_day, requests_per_month, max_concurrent_streams, max_bandwidth_mbps, burst_bytes_allowance,
               burst_duration_minutes, max_file_size_bytes, allowed_content_types
        FROM quota_policies
        ORDER BY policy_name COLLATE \"C\"",
    types: &[],
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

/// By `streaming_usage_receipt` of each partition, merged.
const USAGE: Statement = Statement {
    name: "usage",
    sql: "
        SELECT usage_id, receipt_id, content_hash, session_id, started_at, finished_at, bytes_sent, requests, outcome,
               lease_epoch
        FROM streaming_usage
        WHERE receipt_id = $1 AND usage_id > $2
        ORDER BY usage_id
        LIMIT $3",
    types: &[Type::UUID, Type::UUID, Type::INT8],
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
        let limit = |limit: Option<u64>| limit.map(signed);
        let row = self
            .db
            .row(
                &PUT_POLICY,
                &[
                    &policy.policy_name,
                    &policy.description,
                    &limit(policy.bytes_per_hour),
                    &limit(policy.bytes_per_day),
                    &limit(policy.bytes_per_month),
                    &limit(policy.requests_per_hour),
                    &limit(policy.requests_per_day),
                    &limit(policy.requests_per_month),
                    &policy.max_concurrent_streams.map(i64::from),
                    &policy.max_bandwidth_mbps,
                    &limit(policy.burst_bytes_allowance),
                    &policy.burst_duration_minutes.map(i64::from),
                    &limit(policy.max_file_size_bytes),
                    &policy.allowed_content_types,
                    &now,
                ],
            )
            .await;
        self.replicas.changed([Topic::Policies]);
        Columns(&row?).get("made")
    }

    async fn policies(&self) -> PortResult<Vec<QuotaPolicy>> {
        let rows = self.replicas.rows(Topic::Policies, &POLICIES, &[]).await?;
        rows.iter().map(|row| Columns(row).policy()).collect()
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
        let after = after.map_or(Uuid::nil(), |id| id.as_uuid());
        let params: [Param<'_>; 3] = [&id.as_uuid(), &after, &(i64::from(limit) + 1)];
        let rows = self.replicas.rows(Topic::Usage(id), &USAGE, &params).await?;
        let rows = rows.iter().map(|row| Columns(row).usage_row()).collect::<PortResult<_>>()?;
        Ok(Page::of(rows, limit))
    }
}
