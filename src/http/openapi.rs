//! The OpenAPI document of this interface: made from the handlers, so that it says what they do.
//!
//! Each module of routes has a `Calls` with the annotations of its handlers, and the types of requests describe themselves.
//! [`schemas`](super::schemas) has the forms of answers. What holds for all calls alike is added here: who may call ([`routes`](super::routes)), the
//! refusals ([`ProblemType`](super::ProblemType)), the fields of every answer, HEAD, and the files of pages. Tests compare the document
//! with the table of routes, and a contract test calls a running node as the document says.

use std::sync::LazyLock;

use actix_web::{HttpResponse, http::header, web::ServiceConfig};
use serde_json::Value;
use utoipa::OpenApi;

use super::{
    routing,
    schemas::{Fault, ProblemDocument},
};

mod complete;
mod parts;
mod refusals;

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
    paths(show),
    components(schemas(ProblemDocument, Fault))
)]
struct Base;

pub fn configure(cfg: &mut ServiceConfig) {
    cfg.service(routing::resource("/openapi.json").route(routing::read().to(show)));
}

#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "getDocument",
    tag = "Operators",
    summary = "This document",
    description = "",
    responses((status = 200, description = "The OpenAPI document", body = crate::http::schemas::scalars::Object)),
)]
async fn show() -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-cache")).content_type("application/json").body(text())
}

/// The document as text.
fn text() -> &'static str {
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
        super::purchase::Calls::openapi(),
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
