//! The HTTP interface: handlers extract, ask a port or an actor, and answer. They hold no state and no SQL.
//!
//! Each module of routes has a struct `Deps` of the ports, actors and settings that it uses; its `configure` takes one, and
//! its handlers extract it. A dependency that is not given does not compile, and there is no state that all handlers share.
//!
//! A module has the name of what its calls are about. Some are easy to confuse: [`content`] takes an upload in one request, [`uploads`] takes resumable
//! ones, and [`streaming`] and [`data`] deliver; [`quota_policies`] has the limits of tiers, and [`governance`] the policies that judge assets.
//!
//! # Middleware, outermost first, with the reason for this order
//! 1. [`observe`](observe()): request id, span, metrics and the access log. Outermost, so that it also sees answers that
//!    other middleware gives, and counts the bytes that are really sent, compressed ones too.
//! 2. `X-Content-Type-Options: nosniff` on every answer, including refusals by later middleware.
//! 3. [`close_when_draining`]: on every answer as well.
//! 4. [`serve_older_clients`]: outside all middleware that may make the length of an answer unknown.
//! 5. [`limit_head`]: before anything reads the header fields.
//! 6. If pages of other origins may call: [`limit_preflights`], [`document_preflights`] and the library for CORS
//!    ([`Origins`]), which answers preflights. Outside the limit on calls, so that such pages can read its refusals.
//! 7. [`limit_rate`]: inside the limit on heads, because it reads fields; outside all middleware that does work for the
//!    request, so that a refused request costs neither a look-up nor a byte of its body, and so that every answer, even
//!    for an unknown path, tells the client what is left of its limit.
//! 8. [`compress`]: outside the refusals below, so that long problem documents are compressed like other JSON.
//! 9. [`compare_signed_body`]: before anything reads a byte of the body.
//! 10. [`document_refusals`]: next to the routes, so that the other middleware sees an unknown route, a wrong method or
//!     an extractor's error as a problem document.
//!
//! # Requests that do not reach this code
//! A request that is not HTTP, whose head exceeds the framework's own limits, or whose head does not come in time, is answered by the
//! socket of its client ([`RefusalTexts`](crate::http_server::client_socket::RefusalTexts)).

use std::{rc::Rc, sync::Arc, time::Duration};

use actix_web::{
    App, Error,
    body::BoxBody,
    dev::{ServiceFactory, ServiceRequest, ServiceResponse},
    error::QueryPayloadError,
    middleware::{Compat, Condition, DefaultHeaders, from_fn},
    web::{Data, QueryConfig, ServiceConfig},
};

pub mod admin;
pub mod answer;
pub mod api_keys;
pub mod assets;
pub mod auth;
pub mod body;
pub mod catalog;
mod change_publisher;
pub(crate) mod client_address;
pub mod console;
pub mod content;
mod credentials;
pub mod dashboard;
pub mod data;
pub(crate) mod digest;
pub mod docs;
pub mod governance;
pub mod health;
pub mod identities;
pub mod lineage;
pub mod log_level;
mod middleware;
pub mod openapi;
mod origins;
mod paced_body;
mod pages;
mod paging;
mod player;
pub mod privacy;
pub mod problem;
pub mod producers;
pub mod purchase;
pub mod quota_policies;
pub mod quotas;
pub mod receipt_reader;
pub mod receipts;
pub mod routes;
pub mod routing;
pub mod schemas;
pub mod scrape;
pub mod sessions;
pub mod storage;
pub mod streaming;
pub mod uploads;
pub mod usage;
pub mod validation;

pub use auth::SignedRequests;
pub use body::JsonBody;
pub use catalog::CatalogueSettings;
pub use change_publisher::ChangePublisher;
pub use client_address::Proxies;
pub use content::UploadSettings;
pub use data::Deliverer;
pub use health::Readiness;
pub use lineage::LineageHttpSettings;
pub use middleware::observe::RequestId;
pub use middleware::rate_limit::{RATE_WINDOW, RateGate, RateGateParts};
pub use origins::Origins;
pub use problem::{Problem, ProblemType};
pub use receipt_reader::ReceiptReader;
pub use sessions::SessionSettings;
pub use streaming::StreamingSettings;

use self::{
    middleware::{
        close_when_draining::close_when_draining,
        compression::compress,
        head_limit::limit_head,
        observe::{FailureLog, Observing, observe},
        older_clients::serve_older_clients,
        preflights::{document_preflights, limit_preflights},
        rate_limit::limit_rate,
        signed_body::compare_signed_body,
    },
    problem::document_refusals,
};
use crate::{
    telemetry::{Spans, metrics::HttpMetrics},
    words,
};

/// The settings of the middleware.
#[derive(Clone)]
pub struct Shell {
    pub metrics: Arc<HttpMetrics>,
    pub spans: Spans,
    /// The largest head of a request, in bytes.
    pub max_head_bytes: usize,
    pub rates: Arc<RateGate>,
    pub readiness: Arc<Readiness>,
    pub auth: auth::Deps,
    /// Pages that may call the API, beside the node's own.
    pub origins: Origins,
    /// On an encrypted listener: for how long browsers shall use nothing but HTTPS for its host.
    pub hsts_max_age: Option<Duration>,
}

/// An application with its middleware and the means to identify callers, without routes: the caller adds those with
/// [`configure`]. It is called once per worker, so the caller creates everything that the workers share beforehand.
pub fn app(
    shell: Shell,
) -> App<
    impl ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse<BoxBody>, Error = Error, InitError = ()>,
> {
    let Shell { metrics, spans, max_head_bytes, rates, readiness, auth, origins, hsts_max_age } = shell;
    let failures = Rc::<FailureLog>::default();
    let mut on_each_answer = DefaultHeaders::new().add(("x-content-type-options", "nosniff"));
    if let Some(age) = hsts_max_age {
        on_each_answer = on_each_answer.add(("strict-transport-security", format!("max-age={}", age.as_secs())));
    }
    let queries = QueryConfig::default()
        .error_handler(|error, _| Problem::new(ProblemType::MalformedRequest).detail(query_fault(&error)).into());
    let (open, preflights) = (!origins.is_empty(), Arc::clone(&rates));
    // The last `wrap` is the outermost.
    App::new()
        .app_data(Data::new(auth))
        .app_data(queries)
        .wrap(from_fn(document_refusals))
        .wrap(from_fn(compare_signed_body))
        .wrap(from_fn(compress))
        .wrap(from_fn(move |request, next| limit_rate(Arc::clone(&rates), request, next)))
        .wrap(Compat::new(Condition::new(open, origins.permissions())))
        .wrap(Compat::new(Condition::new(open, from_fn(document_preflights))))
        .wrap(Compat::new(Condition::new(
            open,
            from_fn(move |request, next| limit_preflights(Arc::clone(&preflights), request, next)),
        )))
        .wrap(from_fn(move |request, next| limit_head(max_head_bytes, request, next)))
        .wrap(from_fn(serve_older_clients))
        .wrap(from_fn(move |request, next| close_when_draining(Arc::clone(&readiness), request, next)))
        .wrap(on_each_answer)
        .wrap(from_fn(move |request, next| {
            let log = Observing { metrics: Arc::clone(&metrics), spans: spans.clone(), failures: Rc::clone(&failures) };
            observe(log, request, next)
        }))
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

/// The dependencies of all routes, by module.
#[derive(Clone)]
pub struct Deps {
    pub streaming: streaming::Deps,
    pub data: data::Deps,
    pub content: content::Deps,
    pub uploads: uploads::Deps,
    pub quotas: quotas::Deps,
    pub sessions: sessions::Deps,
    pub assets: assets::Deps,
    pub catalog: catalog::Deps,
    pub receipts: receipts::Deps,
    pub purchase: purchase::Deps,
    pub quota_policies: quota_policies::Deps,
    pub governance: governance::Deps,
    pub usage: usage::Deps,
    pub privacy: privacy::Deps,
    pub lineage: lineage::Deps,
    pub producers: producers::Deps,
    pub storage: storage::Deps,
    pub identities: identities::Deps,
    pub api_keys: api_keys::Deps,
    pub admin: admin::Deps,
    pub health: health::Deps,
    pub scrape: scrape::Deps,
    pub dashboard: dashboard::Deps,
    pub console: console::Deps,
    /// Whether the page that plays the sample is served.
    pub has_player: bool,
}

/// Registers the routes. They are tried in this order, so the most frequent ones come first.
pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    streaming::configure(cfg, deps.streaming);
    data::configure(cfg, deps.data);
    content::configure(cfg, deps.content);
    uploads::configure(cfg, deps.uploads);
    quotas::configure(cfg, deps.quotas);
    sessions::configure(cfg, deps.sessions);
    assets::configure(cfg, deps.assets);
    catalog::configure(cfg, deps.catalog);
    receipts::configure(cfg, deps.receipts);
    purchase::configure(cfg, deps.purchase);
    quota_policies::configure(cfg, deps.quota_policies);
    governance::configure(cfg, deps.governance);
    usage::configure(cfg, deps.usage);
    privacy::configure(cfg, deps.privacy);
    lineage::configure(cfg, deps.lineage);
    producers::configure(cfg, deps.producers);
    storage::configure(cfg, deps.storage);
    identities::configure(cfg, deps.identities);
    api_keys::configure(cfg, deps.api_keys);
    admin::configure(cfg, deps.admin);
    log_level::configure(cfg);
    health::configure(cfg, deps.health);
    scrape::configure(cfg, deps.scrape);
    dashboard::configure(cfg, deps.dashboard);
    console::configure(cfg, deps.console);
    docs::configure(cfg);
    openapi::configure(cfg);
    if deps.has_player {
        player::configure(cfg);
    }
}
