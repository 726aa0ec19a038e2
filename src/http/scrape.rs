//! `/metrics`, in the Prometheus text format.

use actix_web::{
    HttpResponse,
    web::{self, Data, ServiceConfig},
};

use super::{Problem, ProblemType, answer, routing};
use crate::telemetry::Metrics;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/metrics").route(routing::read().to(scrape)));
}

async fn scrape(metrics: Data<Metrics>) -> Result<HttpResponse, Problem> {
    let text = metrics.render().map_err(|error| Problem::new(ProblemType::Internal).caused_by(error))?;
    Ok(answer::no_store(HttpResponse::Ok()).content_type(prometheus::TEXT_FORMAT).body(text))
}
