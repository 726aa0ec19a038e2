//! The HTTP surface: handlers extract, ask a port or an actor, and answer. They hold no state and no SQL.
//!
//! Each handler takes the ports it uses, as `web::Data<dyn Port>`; there is no state that all of them share.
//!
//! # Middleware, outermost first, and why in this order
//! 1. [`observe`](observe()): request id, span, metrics and the access log. Outermost, so that it also sees what the
//!    others refuse, and counts the bytes that really go out, compressed ones too.
//! 2. `X-Content-Type-Options: nosniff` on every answer, refusals of the next ones among them.
//! 3. [`close_when_leaving`]: on every answer as well.
//! 4. [`serve_older_clients`]: outside of all that may make the length of an answer unknown.
//! 5. [`limit_head`]: before anything looks at the header fields.
//! 6. [`limit_rate`]: inside of the bound on heads, for it reads fields; outside of all that does work for the request, so that what
//!    is refused has cost neither a look-up nor a byte of its body, and so that every answer, also to a path that leads nowhere,
//!    tells its client what is left.
//! 7. [`compress`]: outside of the next one, so that long problem documents are compressed like other JSON.
//! 8. [`compare_signed_body`]: before anything reads a byte of the body.
//! 9. [`document_refusals`]: next to the routes, so that an unknown one, a wrong method or an extractor's error is a problem
//!    document to all the others.
//!
//! # What does not come through here
//! A request that is not HTTP, or whose head breaks the framework's own bounds, is answered by the framework with a bare
//! status and no body.

use std::sync::Arc;

use actix_web::{
    App, Error,
    body::BoxBody,
    dev::{ServiceFactory, ServiceRequest, ServiceResponse},
    error::QueryPayloadError,
    middleware::{DefaultHeaders, from_fn},
    web::{QueryConfig, ServiceConfig},
};

mod admin;
mod announcer;
pub mod answer;
mod api_keys;
mod assets;
pub mod auth;
pub mod body;
mod catalog;
mod compression;
mod content;
mod data;
mod digest;
mod governance;
mod head_limit;
mod health;
mod identities;
mod leaving;
mod lineage;
mod observe;
mod older_clients;
mod paging;
mod policies;
pub mod problem;
mod producers;
mod quotas;
mod rate_limit;
mod receipts;
pub mod routing;
mod scrape;
mod sessions;
mod signed_body;
mod storage;
mod streaming;
mod usage;
pub mod validation;
mod words;

pub use announcer::Announcer;
pub use auth::SignedRequests;
pub use body::JsonBody;
pub use catalog::CatalogueSettings;
pub use content::UploadSettings;
pub use data::Deliverer;
pub use health::Readiness;
pub use lineage::LineageHttpSettings;
pub use observe::RequestId;
pub use problem::{Problem, ProblemType};
pub use rate_limit::{RATE_WINDOW, RateGate, RateGateParts};
pub use sessions::SessionSettings;
pub use streaming::{ContentSizes, StreamingSettings};

use self::{
    compression::compress, head_limit::limit_head, leaving::close_when_leaving, observe::observe,
    older_clients::serve_older_clients, problem::document_refusals, rate_limit::limit_rate,
    signed_body::compare_signed_body,
};
use crate::telemetry::metrics::HttpMetrics;

/// What the middleware needs.
#[derive(Clone)]
pub struct Shell {
    pub metrics: Arc<HttpMetrics>,
    /// The largest head of a request, in bytes.
    pub max_head_bytes: usize,
    pub rates: Arc<RateGate>,
}

/// An application in its shell of middleware, without routes and ports: the caller adds those with `app_data` and
/// [`configure`]. It is called once for each worker, so whatever the workers share is made before.
pub fn app(
    shell: Shell,
) -> App<
    impl ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse<BoxBody>, Error = Error, InitError = ()>,
> {
    let Shell { metrics, max_head_bytes, rates } = shell;
    // The one that is wrapped last is the outermost.
    App::new()
        .wrap(from_fn(document_refusals))
        .wrap(from_fn(compare_signed_body))
        .wrap(from_fn(compress))
        .wrap(from_fn(move |request, next| limit_rate(Arc::clone(&rates), request, next)))
        .wrap(from_fn(move |request, next| limit_head(max_head_bytes, request, next)))
        .wrap(from_fn(serve_older_clients))
        .wrap(from_fn(close_when_leaving))
        .wrap(DefaultHeaders::new().add(("x-content-type-options", "nosniff")))
        .wrap(from_fn(move |request, next| observe(Arc::clone(&metrics), request, next)))
}

/// What is wrong with a query.
fn query_fault(error: &QueryPayloadError) -> String {
    match error {
        QueryPayloadError::Deserialize(error) => {
            format!("the query cannot be read: {}", words::of_fault(&error.to_string()))
        }
        _ => "the query cannot be read".to_owned(),
    }
}

/// Registers the routes. They are tried in this order, so what is asked for most comes first.
pub fn configure(cfg: &mut ServiceConfig) {
    streaming::configure(cfg);
    data::configure(cfg);
    content::configure(cfg);
    quotas::configure(cfg);
    sessions::configure(cfg);
    cfg.app_data(
        QueryConfig::default()
            .error_handler(|error, _| Problem::new(ProblemType::MalformedRequest).detail(query_fault(&error)).into()),
    );
    assets::configure(cfg);
    catalog::configure(cfg);
    receipts::configure(cfg);
    policies::configure(cfg);
    governance::configure(cfg);
    usage::configure(cfg);
    lineage::configure(cfg);
    producers::configure(cfg);
    storage::configure(cfg);
    identities::configure(cfg);
    api_keys::configure(cfg);
    admin::configure(cfg);
    health::configure(cfg);
    scrape::configure(cfg);
}
