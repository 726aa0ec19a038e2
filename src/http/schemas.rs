//! The forms of answers and of some requests, for the OpenAPI document. Types that the handlers read describe themselves.

use utoipa::ToSchema;

pub mod answers;
pub mod scalars;

/// A refusal (RFC 9457). docs/problems.md lists the types; some have more members.
#[derive(ToSchema)]
#[schema(as = Problem, rename_all = "camelCase")]
pub struct ProblemDocument {
    #[schema(example = "urn:penstock:problem:unknown-receipt")]
    pub r#type: String,
    #[schema(example = "There is no such receipt")]
    pub title: String,
    #[schema(example = 404)]
    pub status: u16,
    /// What is wrong with this request.
    pub detail: Option<String>,
    /// Seconds after which the same request may succeed, as in `Retry-After`.
    pub retry_after: Option<u64>,
    /// All values that break rules.
    pub errors: Option<Vec<Fault>>,
}

/// A value that breaks a rule.
#[derive(ToSchema)]
pub struct Fault {
    #[schema(example = "priceSatoshis")]
    pub path: String,
    #[schema(example = "must be at most 2100000000000000")]
    pub detail: String,
}

/// A document in the language of governance policies.
#[derive(ToSchema)]
#[schema(example = json!({ "rules": [{ "id": "open-licence", "require": { "licence": ["CC0-1.0", "CC-BY-4.0"] }, "reason": "We publish openly licensed data only." }] }))]
pub struct PolicyDocument {
    pub description: Option<String>,
    pub rules: Vec<scalars::Object>,
}

/// A RunEvent, JobEvent or DatasetEvent of OpenLineage 2-0-2; the published schema says what else it must have.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", as = LineageEvent)]
pub struct LineageEventDocument {
    pub event_time: scalars::Moment,
    #[schema(example = "https://example.org/etl")]
    pub producer: String,
    #[schema(rename = "schemaURL", example = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent")]
    pub schema_url: Option<String>,
}
