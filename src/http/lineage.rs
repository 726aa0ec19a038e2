//! Lineage: OpenLineage events in, the graph out.
//!
//! A producer's events are answered when they are durable. Anyone may look at the graph.

mod intake;
mod node_id;
mod query;
mod show;
mod walked;

use actix_web::web::{self, ServiceConfig};

use super::routing;

/// How events are taken, and how far a walk may go.
#[derive(Debug, Clone, Copy)]
pub struct LineageHttpSettings {
    /// Bytes of one event.
    pub max_event: usize,
    /// Bytes of a batch.
    pub max_batch: usize,
    /// Events of a batch.
    pub max_batch_events: usize,
    /// Nodes in an answer.
    pub graph_nodes: u32,
    /// Time of a walk.
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
