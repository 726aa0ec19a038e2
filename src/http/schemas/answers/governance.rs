//! Governance policies and their runs.

use utoipa::ToSchema;

use super::super::scalars::{Cursor, Id, Json, Moment, Object};

/// A version of a policy.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct StoredPolicy {
    #[schema(example = "open-data")]
    pub policy_id: String,
    #[schema(example = 3)]
    pub version: u32,
    pub created_at: Moment,
    #[schema(value_type = Object, example = json!({ "rules": [{ "id": "open-licence", "require": { "licence": ["CC0-1.0", "CC-BY-4.0"] } }] }))]
    pub policy: Object,
}

/// Policies, page by page.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct PolicyPage {
    pub items: Vec<PolicySummary>,
    pub next_cursor: Option<Cursor>,
}

/// The current version of a policy.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct PolicySummary {
    #[schema(example = "open-data")]
    pub policy_id: String,
    pub version: u32,
    pub created_at: Moment,
    pub description: Option<String>,
}

/// An asset judged by a policy.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct PolicyRun {
    pub run_id: Id,
    #[schema(example = "open-data")]
    pub policy_id: String,
    pub policy_version: u32,
    pub version_id: Id,
    /// `evaluate`, `publish` or `receipt`.
    #[schema(example = "evaluate")]
    pub occasion: String,
    pub evaluated_at: Moment,
    /// `allow`, `warn` or `block`.
    #[schema(example = "block")]
    pub decision: String,
    pub reasons: Vec<Reason>,
    pub passed: Vec<String>,
    pub not_applicable: Vec<String>,
}

/// Runs, newest first.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct PolicyRunPage {
    pub items: Vec<PolicyRun>,
    pub next_cursor: Option<Cursor>,
}

/// A rule that an asset breaks.
#[derive(ToSchema)]
pub struct Reason {
    #[schema(example = "open-licence")]
    pub rule: String,
    /// `warn` or `block`.
    #[schema(example = "warn")]
    pub decision: String,
    pub reason: String,
    pub evidence: Vec<Evidence>,
}

/// The evidence for a reason.
#[derive(ToSchema)]
pub struct Evidence {
    #[schema(example = "rules[0].require.licence")]
    pub path: String,
    #[schema(example = "policyMeta.license")]
    pub fact: String,
    pub expected: String,
    /// `null` where the value is absent.
    #[schema(required = false)]
    pub found: Json,
}
