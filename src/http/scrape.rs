//! `/metrics`, in the Prometheus text format.

use std::sync::Arc;

use actix_web::{
    HttpResponse,
    web::{Data, ServiceConfig},
};

use super::{Problem, ProblemType, answer, routing};
use crate::telemetry::Metrics;

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub metrics: Arc<Metrics>,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(scrape))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps)).service(routing::resource("/metrics").route(routing::read().to(scrape)));
}

#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "scrapeMetrics",
    tag = "Operators",
    summary = "Metrics in the Prometheus text format",
    description = "",
    responses(
        (status = 200, description = "The metrics", body = String, content_type = "text/plain"),
    ),
)]
async fn scrape(deps: Data<Deps>) -> Result<HttpResponse, Problem> {
    let text = deps.metrics.render().map_err(|error| Problem::new(ProblemType::Internal).caused_by(error))?;
    Ok(answer::no_store(HttpResponse::Ok()).content_type(prometheus::TEXT_FORMAT).body(text))
}
