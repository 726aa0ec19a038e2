//! The rows of `quota_policies`.

use jiff::Timestamp;
use penstock_actors::{model::QuotaPolicy, ports::PortResult};
use tokio_postgres::types::Type;

use super::{
    PostgresStore,
    columns::{Columns, signed},
    db::Statement,
    replicas::Topic,
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

pub(super) async fn all(store: &PostgresStore) -> PortResult<Vec<QuotaPolicy>> {
    let rows = store.replicas.rows(Topic::Policies, &POLICIES, &[]).await?;
    rows.iter().map(|row| Columns(row).policy()).collect()
}

/// Creates or replaces a policy; true when it is new.
pub(super) async fn put(store: &PostgresStore, policy: &QuotaPolicy, now: Timestamp) -> PortResult<bool> {
    let limit = |limit: Option<u64>| limit.map(signed);
    let row = store
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
    store.replicas.changed([Topic::Policies]);
    Columns(&row?).get("made")
}
