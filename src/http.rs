//! The HTTP interface: handlers extract, ask a port or an actor, and answer. They hold no state and no SQL.
//!
//! Each handler takes the ports that it uses, as `web::Data<dyn Port>`; there is no state that all handlers share.
//!
//! # Middleware, outermost first, with the reason for this order
//! 1. [`observe`](observe()): request id, span, metrics and the access log. Outermost, so that it also sees answers that
//!    other middleware gives, and counts the bytes that are really sent, compressed ones too.
//! 2. `X-Content-Type-Options: nosniff` on every answer, including refusals by later middleware.
//! 3. [`close_when_draining`]: on every answer as well.
//! 4. [`serve_older_clients`]: outside all middleware that may make the length of an answer unknown.
//! 5. [`limit_head`]: before anything reads the header fields.
//! 6. [`limit_rate`]: inside the limit on heads, because it reads fields; outside all middleware that does work for the
//!    request, so that a refused request costs neither a look-up nor a byte of its body, and so that every answer, even
//!    for an unknown path, tells the client what is left of its limit.
//! 7. [`compress`]: outside the refusals below, so that long problem documents are compressed like other JSON.
//! 8. [`compare_signed_body`]: before anything reads a byte of the body.
//! 9. [`document_refusals`]: next to the routes, so that the other middleware sees an unknown route, a wrong method or
//!    an extractor's error as a problem document.
//!
//! # Requests that do not reach this code
//! The framework itself answers a request that is not HTTP, or whose head exceeds the framework's own limits, with a
//! bare status and no body.

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
pub mod answer;
mod api_keys;
mod assets;
pub mod auth;
pub mod body;
mod catalog;
mod change_publisher;
mod content;
mod data;
mod digest;
mod governance;
mod health;
mod identities;
mod lineage;
mod middleware;
mod paging;
pub mod problem;
mod producers;
mod quota_policies;
mod quotas;
mod receipts;
pub mod routing;
mod scrape;
mod sessions;
mod storage;
mod streaming;
mod usage;
pub mod validation;

pub use auth::SignedRequests;
pub use body::JsonBody;
pub use catalog::CatalogueSettings;
pub use change_publisher::ChangePublisher;
pub use content::UploadSettings;
pub use data::Deliverer;
pub use health::Readiness;
pub use lineage::LineageHttpSettings;
pub use middleware::observe::RequestId;
pub use middleware::rate_limit::{RATE_WINDOW, RateGate, RateGateParts};
pub use problem::{Problem, ProblemType};
pub use sessions::SessionSettings;
pub use streaming::StreamingSettings;

use self::{
    middleware::{
        close_when_draining::close_when_draining, compression::compress, head_limit::limit_head, observe::observe,
        older_clients::serve_older_clients, rate_limit::limit_rate, signed_body::compare_signed_body,
    },
    problem::document_refusals,
};
use crate::{telemetry::metrics::HttpMetrics, words};

/// The settings of the middleware.
#[derive(Clone)]
pub struct Shell {
    pub metrics: Arc<HttpMetrics>,
    /// The largest head of a request, in bytes.
    pub max_head_bytes: usize,
    pub rates: Arc<RateGate>,
}

/// An application with its middleware, without routes and ports: the caller adds those with `app_data` and
/// [`configure`]. It is called once per worker, so the caller creates everything that the workers share beforehand.
pub fn app(
    shell: Shell,
) -> App<
    impl ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse<BoxBody>, Error = Error, InitError = ()>,
> {
    let Shell { metrics, max_head_bytes, rates } = shell;
    // The last `wrap` is the outermost.
    App::new()
        .wrap(from_fn(document_refusals))
        .wrap(from_fn(compare_signed_body))
        .wrap(from_fn(compress))
        .wrap(from_fn(move |request, next| limit_rate(Arc::clone(&rates), request, next)))
        .wrap(from_fn(move |request, next| limit_head(max_head_bytes, request, next)))
        .wrap(from_fn(serve_older_clients))
        .wrap(from_fn(close_when_draining))
        .wrap(DefaultHeaders::new().add(("x-content-type-options", "nosniff")))
        .wrap(from_fn(move |request, next| observe(Arc::clone(&metrics), request, next)))
}

/// Describes the fault of a query.
fn query_fault(error: &QueryPayloadError) -> String {
    match error {
        QueryPayloadError::Deserialize(error) => {
            format!("the query cannot be read: {}", words::of_fault(&error.to_string()))
        }
        _ => "the query cannot be read".to_owned(),
    }
}

/// Registers the routes. They are tried in this order, so the most frequent ones come first.
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
    quota_policies::configure(cfg);
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
