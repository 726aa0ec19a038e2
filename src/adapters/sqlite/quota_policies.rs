//! The rows of `quota_policies`.

use jiff::Timestamp;
use penstock_actors::model::QuotaPolicy;
use rusqlite::{Connection, Row, named_params};

use super::columns::{Sql, get_opt};

/// Served by the primary key, in its order. There are a handful of policies.
pub(super) const POLICIES: &str = "
    SELECT policy_name, description AS policy_description, bytes_per_hour, bytes_per_day, bytes_per_month,
        requests_per_hour, requests_per_day, requests_per_month, max_concurrent_streams, max_bandwidth_mbps,
        burst_bytes_allowance, burst_duration_minutes, max_file_size_bytes, allowed_content_types
    FROM quota_policies ORDER BY policy_name";

/// Served by the primary key.
pub(super) const POLICY_EXISTS: &str = "SELECT 1 FROM quota_policies WHERE policy_name = :name";

/// Served by the primary key.
pub(super) const PUT_POLICY: &str = "
    INSERT INTO quota_policies
        (policy_name, description, bytes_per_hour, bytes_per_day, bytes_per_month, requests_per_hour, requests_per_day,
         requests_per_month, max_concurrent_streams, max_bandwidth_mbps, burst_bytes_allowance, burst_duration_minutes,
         max_file_size_bytes, allowed_content_types, updated_at)
    VALUES (:name, :description, :bytes_per_hour, :bytes_per_day, :bytes_per_month, :requests_per_hour,
        :requests_per_day, :requests_per_month, :streams, :mbps, :burst_bytes, :burst_minutes, :file_size,
        :content_types, :now)
    ON CONFLICT (policy_name) DO UPDATE SET
        description = excluded.description,
        bytes_per_hour = excluded.bytes_per_hour,
        bytes_per_day = excluded.bytes_per_day,
        bytes_per_month = excluded.bytes_per_month,
        requests_per_hour = excluded.requests_per_hour,
        requests_per_day = excluded.requests_per_day,
        requests_per_month = excluded.requests_per_month,
        max_concurrent_streams = excluded.max_concurrent_streams,
        max_bandwidth_mbps = excluded.max_bandwidth_mbps,
        burst_bytes_allowance = excluded.burst_bytes_allowance,
        burst_duration_minutes = excluded.burst_duration_minutes,
        max_file_size_bytes = excluded.max_file_size_bytes,
        allowed_content_types = excluded.allowed_content_types,
        updated_at = excluded.updated_at";

pub(super) fn all(conn: &Connection) -> rusqlite::Result<Vec<QuotaPolicy>> {
    conn.prepare_cached(POLICIES)?.query_map([], from_row)?.collect()
}

pub(super) fn exists(conn: &Connection, name: &str) -> rusqlite::Result<bool> {
    conn.prepare_cached(POLICY_EXISTS)?.exists(named_params! { ":name": name })
}

/// Creates or replaces a policy; true when it is new.
pub(super) fn put(conn: &Connection, policy: &QuotaPolicy, now: Timestamp) -> rusqlite::Result<bool> {
    let new = !exists(conn, &policy.policy_name)?;
    let content_types = policy.allowed_content_types.as_ref().map(|types| serde_json::json!(types).to_string());
    conn.prepare_cached(PUT_POLICY)?.execute(named_params! {
        ":name": policy.policy_name,
        ":description": policy.description,
        ":bytes_per_hour": policy.bytes_per_hour.map(Sql),
        ":bytes_per_day": policy.bytes_per_day.map(Sql),
        ":bytes_per_month": policy.bytes_per_month.map(Sql),
        ":requests_per_hour": policy.requests_per_hour.map(Sql),
        ":requests_per_day": policy.requests_per_day.map(Sql),
        ":requests_per_month": policy.requests_per_month.map(Sql),
        ":streams": policy.max_concurrent_streams,
        ":mbps": policy.max_bandwidth_mbps,
        ":burst_bytes": policy.burst_bytes_allowance.map(Sql),
        ":burst_minutes": policy.burst_duration_minutes,
        ":file_size": policy.max_file_size_bytes.map(Sql),
        ":content_types": content_types,
        ":now": Sql(now),
    })?;
    Ok(new)
}

/// Reads a policy from a row that holds its columns, with its description under the name `policy_description`, because
/// joined tables have a column `description` too.
pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<QuotaPolicy> {
    Ok(QuotaPolicy {
        policy_name: row.get("policy_name")?,
        description: row.get("policy_description")?,
        bytes_per_hour: get_opt(row, "bytes_per_hour")?,
        bytes_per_day: get_opt(row, "bytes_per_day")?,
        bytes_per_month: get_opt(row, "bytes_per_month")?,
        requests_per_hour: get_opt(row, "requests_per_hour")?,
        requests_per_day: get_opt(row, "requests_per_day")?,
        requests_per_month: get_opt(row, "requests_per_month")?,
        max_concurrent_streams: row.get("max_concurrent_streams")?,
        max_bandwidth_mbps: row.get("max_bandwidth_mbps")?,
        burst_bytes_allowance: get_opt(row, "burst_bytes_allowance")?,
        burst_duration_minutes: row.get("burst_duration_minutes")?,
        max_file_size_bytes: get_opt(row, "max_file_size_bytes")?,
        allowed_content_types: get_opt(row, "allowed_content_types")?,
    })
}
