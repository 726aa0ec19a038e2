//! Receipts, quotas, sessions and usage.

use utoipa::ToSchema;

use super::{
    super::scalars::{Cursor, Hash, Id, Moment, Object},
    Reason,
};

/// The right to stream one content.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Receipt {
    pub receipt_id: Id,
    pub version_id: Id,
    pub content_hash: Hash,
    #[schema(example = "premium")]
    pub quota_tier: String,
    /// `pending`, `confirmed`, `settled`, `consumed`, `expired` or `refunded`.
    #[schema(example = "confirmed")]
    pub status: String,
    pub expires_at: Moment,
    #[schema(example = 1000)]
    pub total_satoshis: u64,
    pub created_at: Moment,
    /// Where the node signs receipts.
    pub receipt_token: Option<String>,
    /// Warnings of the node's policy, only in the answer that issues the receipt.
    pub warnings: Option<Vec<Reason>>,
}

/// The limits of a tier; `null` is no limit.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct QuotaPolicy {
    #[schema(example = "standard")]
    pub policy_name: String,
    pub description: Option<String>,
    #[schema(example = 1_073_741_824)]
    pub bytes_per_hour: Option<u64>,
    pub bytes_per_day: Option<u64>,
    pub bytes_per_month: Option<u64>,
    pub requests_per_hour: Option<u64>,
    pub requests_per_day: Option<u64>,
    pub requests_per_month: Option<u64>,
    pub max_concurrent_streams: Option<u32>,
    pub max_bandwidth_mbps: Option<f64>,
    pub burst_bytes_allowance: Option<u64>,
    pub burst_duration_minutes: Option<u32>,
    pub max_file_size_bytes: Option<u64>,
    pub allowed_content_types: Option<Vec<String>>,
}

/// All quota policies.
#[derive(ToSchema)]
pub struct QuotaPolicies {
    pub items: Vec<QuotaPolicy>,
}

/// A receipt's quota, and what is left of it.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Quota {
    pub receipt_id: Id,
    pub quota_policy: QuotaPolicy,
    pub windows: QuotaWindows,
    pub burst: Burst,
    pub concurrent: ConcurrentStreams,
    pub projections: Projections,
    /// Whether the answer has all usage of this instance.
    pub settled: bool,
}

/// The windows of a quota.
#[derive(ToSchema)]
pub struct QuotaWindows {
    pub hour: QuotaWindow,
    pub day: QuotaWindow,
    pub month: QuotaWindow,
}

/// Usage and limits of one window.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct QuotaWindow {
    pub window_start: Moment,
    pub window_end: Moment,
    pub bytes_used: u64,
    pub bytes_reserved: u64,
    pub bytes_allowed: Option<u64>,
    pub requests_used: u64,
    pub requests_reserved: u64,
    pub requests_allowed: Option<u64>,
    #[schema(example = 12.5)]
    pub utilization_percentage: Option<f64>,
}

/// What may be sent above the sustained rate.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Burst {
    pub bytes_allowance: u64,
    pub duration_minutes: Option<u32>,
}

/// Streams at the same time.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ConcurrentStreams {
    /// `null` while the shared state does not answer.
    pub active_streams: Option<u64>,
    pub max_allowed: Option<u32>,
}

/// The projections of all windows.
#[derive(ToSchema)]
pub struct Projections {
    pub hour: Projection,
    pub day: Projection,
    pub month: Projection,
}

/// The usage at the end of a window, if it continues as it began.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Projection {
    pub bytes_at_end: u64,
    /// When the bytes of the window run out, if they do.
    pub exhausted_at: Option<Moment>,
}

/// A session: the sum of a client's streams under one receipt.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Session {
    pub session_id: Id,
    pub receipt_id: Id,
    pub content_hash: Hash,
    pub size_bytes: u64,
    /// `new`, `active` or `complete`.
    #[schema(example = "active")]
    pub state: String,
    pub streams: u64,
    pub bytes_delivered: u64,
    pub position: u64,
    #[schema(example = 38.1)]
    pub progress_percentage: f64,
    pub created_at: Moment,
    pub last_active_at: Option<Moment>,
}

/// Usage of a receipt, page by page.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct UsagePage {
    pub items: Vec<UsageRow>,
    pub next_cursor: Option<Cursor>,
}

/// One stream.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct UsageRow {
    pub usage_id: Id,
    pub receipt_id: Id,
    pub content_hash: Hash,
    pub session_id: Option<Id>,
    /// The mark of the client's address, for an admin.
    pub client: Option<String>,
    pub started_at: Moment,
    pub finished_at: Moment,
    #[schema(example = 2_750_836)]
    pub bytes_sent: u64,
    #[schema(example = 1)]
    pub requests: u64,
    /// `completed`, `aborted`, `revoked`, `failed`, `delegated` or `lost_lease`.
    #[schema(example = "completed")]
    pub outcome: String,
}

/// What is kept about the payer of a receipt.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct PayerData {
    pub receipt: Option<Receipt>,
    pub set_aside: Vec<SetAsideRow>,
    pub usage: Vec<UsageRow>,
    pub next_cursor: Option<Cursor>,
}

/// A usage row that could not be settled.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct SetAsideRow {
    pub row: Object,
    pub set_aside_at: Moment,
    pub reason: String,
}

/// The payer of a receipt is forgotten.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Forgotten {
    /// The usage rows that were made anonymous.
    #[schema(example = 12)]
    pub usage_rows: u64,
}
