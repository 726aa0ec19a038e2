//! The OpenAPI document of this interface: made from the handlers, so that it says what they do.
//!
//! Each module of routes has a `Calls` with the annotations of its handlers, and the types of requests describe themselves.
//! [`answers`] has the forms of answers. What holds for all calls alike is added here: who may call ([`routes`](super::routes)), the
//! refusals ([`ProblemType`](super::ProblemType)), the fields of every answer, HEAD, and the files of pages. Tests compare the document
//! with the table of routes, and a contract test calls a running node as the document says.

use std::sync::LazyLock;

use serde_json::Value;
use utoipa::{OpenApi, ToSchema};

pub mod answers;
mod complete;
mod parts;
mod refusals;
pub mod scalars;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Penstock",
        description = "A streaming node: producers upload content and sell receipts for it, and a client with a receipt streams the \
                       content.\n\nErrors are problem documents (RFC 9457). HEAD works wherever GET does. An optional member with the \
                       value `null` counts as left out, and unknown members of requests are refused. Later versions may add members to \
                       answers."
    ),
    tags(
        (name = "Content", description = "Upload content, and stream it under a receipt."),
        (name = "Uploads", description = "Resumable uploads: the tus protocol, version 1.0."),
        (name = "Assets", description = "Offers of content, with their prices."),
        (name = "Catalogue", description = "Search for assets."),
        (name = "Receipts", description = "The right to stream, its quota, its sessions and its usage."),
        (name = "Privacy", description = "What is kept about a payer."),
        (name = "Quota policies", description = "The limits of each tier."),
        (name = "Governance", description = "Rules about what may be published and sold."),
        (name = "Producers and keys", description = "Producers, their API keys and their identity keys."),
        (name = "Lineage", description = "OpenLineage events, and the graph that they make."),
        (name = "Stored content", description = "Verify the copies of a content, and move them."),
        (name = "Operators", description = "Health, metrics, pages and operations by hand.")
    ),
    components(schemas(ProblemDocument, Fault))
)]
struct Base;

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

/// The document as text.
pub fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());
    &TEXT
}

/// The document.
pub fn document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(|| complete::completed(&generated()));
    &DOCUMENT
}

/// What the handlers say.
fn generated() -> utoipa::openapi::OpenApi {
    let mut all = Base::openapi();
    for calls in [
        super::content::Calls::openapi(),
        super::uploads::Calls::openapi(),
        super::streaming::Calls::openapi(),
        super::data::Calls::openapi(),
        super::assets::Calls::openapi(),
        super::catalog::Calls::openapi(),
        super::receipts::Calls::openapi(),
        super::quotas::Calls::openapi(),
        super::sessions::Calls::openapi(),
        super::usage::Calls::openapi(),
        super::privacy::Calls::openapi(),
        super::quota_policies::Calls::openapi(),
        super::governance::Calls::openapi(),
        super::producers::Calls::openapi(),
        super::api_keys::Calls::openapi(),
        super::identities::Calls::openapi(),
        super::lineage::Calls::openapi(),
        super::storage::Calls::openapi(),
        super::health::Calls::openapi(),
        super::scrape::Calls::openapi(),
        super::dashboard::Calls::openapi(),
        super::console::Calls::openapi(),
        super::docs::Calls::openapi(),
        super::admin::Calls::openapi(),
        super::log_level::Calls::openapi(),
    ] {
        all.merge(calls);
    }
    all
}
