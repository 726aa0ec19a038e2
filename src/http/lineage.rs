//! Lineage: takes OpenLineage events, and serves the graph.
//!
//! A producer gets the answer when its events are durable. Anyone may read the graph.

mod intake;
pub(crate) mod node_id;
mod query;
mod show;
mod walked;

use std::sync::Arc;

use actix_web::web::{self, Data, ServiceConfig};
use penstock_actors::{clock::Clock, lineage::Lineage, ports::LineageStore};

use super::routing;
use crate::openlineage::EventReader;

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

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub lineage: Lineage,
    pub reader: Arc<EventReader>,
    pub store: Arc<dyn LineageStore>,
    pub settings: LineageHttpSettings,
    pub clock: Arc<dyn Clock>,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(intake::one, intake::batch, query::graph, query::dataset, query::job, query::run, query::search))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps))
        .service(routing::resource("/api/v1/lineage").route(web::post().to(intake::one)))
        .service(routing::resource("/api/v1/lineage/batch").route(web::post().to(intake::batch)))
        .service(routing::resource("/v1/openlineage/lineage").route(routing::read().to(query::graph)))
        .service(
            routing::resource("/v1/openlineage/nodes/dataset/{namespace}/{name}")
                .route(routing::read().to(query::dataset)),
        )
        .service(routing::resource("/v1/openlineage/jobs/{namespace}/{name}").route(routing::read().to(query::job)))
        .service(routing::resource("/v1/openlineage/runs/{runId}").route(routing::read().to(query::run)))
        .service(routing::resource("/v1/openlineage/search").route(routing::read().to(query::search)));
}
