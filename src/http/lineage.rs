//! Lineage: takes OpenLineage events, and serves the graph.
//!
//! A producer gets the answer when its events are durable. Anyone may read the graph.

mod intake;
mod node_id;
mod query;
mod show;
mod walked;

use actix_web::web::{self, ServiceConfig};

use super::routing;

/// Limits of events and walks.
#[derive(Debug, Clone, Copy)]
pub struct LineageHttpSettings {
    /// Bytes per event.
    pub max_event: usize,
    /// Bytes per batch.
    pub max_batch: usize,
    /// Events per batch.
    pub max_batch_events: usize,
    /// Nodes in an answer.
    pub graph_nodes: u32,
    /// The time budget of a walk.
    pub graph_time: std::time::Duration,
}

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/api/v1/lineage").route(web::post().to(intake::one)))
        .service(web::resource("/api/v1/lineage/batch").route(web::post().to(intake::batch)))
        .service(web::resource("/v1/openlineage/lineage").route(routing::read().to(query::graph)))
        .service(
            web::resource("/v1/openlineage/nodes/dataset/{namespace}/{name}").route(routing::read().to(query::dataset)),
        )
        .service(web::resource("/v1/openlineage/jobs/{namespace}/{name}").route(routing::read().to(query::job)))
        .service(web::resource("/v1/openlineage/runs/{runId}").route(routing::read().to(query::run)))
        .service(web::resource("/v1/openlineage/search").route(routing::read().to(query::search)));
}
