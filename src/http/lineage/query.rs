//! Reads of the graph.

use actix_web::{
    HttpResponse,
    web::{Data, Path, Query},
};
use penstock_actors::{
    ids::RunId,
    model::{Direction, GraphWalk, NodeName, words_of},
    ports::LineageStore,
};
use serde::Deserialize;
use serde_json::json;

use super::{
    super::{Problem, answer, paging},
    Deps,
    node_id::{resolve, unknown},
    show,
    walked::{Format, Walked},
};
use crate::http::schemas::{answers, scalars};

/// Edges from the root by default: two jobs far in either direction.
const DEPTH: u32 = 4;

/// The longest walk.
const MAX_DEPTH: u32 = 10;

/// Edges per node in an answer. Jobs with a few inputs and outputs have two edges per dataset.
const EDGES_PER_NODE: u32 = 4;

/// Nodes that a search returns by default, and at most.
const FOUND: u32 = 20;
const MAX_FOUND: u32 = 100;

/// Words of a search: each is a look-up in the index.
const MAX_WORDS: usize = 8;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct GraphQuery {
    /// `job:NAMESPACE:NAME` or `dataset:NAMESPACE:NAME`
    #[param(example = "job:etl:daily.report")]
    node: String,
    /// The longest path
    #[param(minimum = 1, maximum = 10)]
    depth: Option<u32>,
    /// The direction from the node
    #[param(inline)]
    direction: Option<GraphDirection>,
    /// The form of the answer
    #[param(inline)]
    format: Option<Format>,
}

#[derive(Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum GraphDirection {
    Up,
    Down,
    Both,
}

impl From<GraphDirection> for Direction {
    fn from(way: GraphDirection) -> Self {
        match way {
            GraphDirection::Up => Self::Up,
            GraphDirection::Down => Self::Down,
            GraphDirection::Both => Self::Both,
        }
    }
}

/// `GET /v1/openlineage/lineage`.
#[utoipa::path(
    get,
    path = "/v1/openlineage/lineage",
    operation_id = "walkGraph",
    tag = "Lineage",
    summary = "Walk the graph from a node",
    description = "",
    params(GraphQuery),
    responses(
        (status = 200, description = "The nodes and edges within the bounds", body = answers::LineageGraph),
    ),
    extensions(("x-problems" = json!(["unknown-lineage"]))),
)]
pub(super) async fn graph(query: Query<GraphQuery>, deps: Data<Deps>) -> Result<HttpResponse, Problem> {
    let depth = query.depth.unwrap_or(DEPTH);
    if !(1..=MAX_DEPTH).contains(&depth) {
        return Err(Problem::malformed(format!("depth must be 1 to {MAX_DEPTH}")));
    }
    let direction = query.direction.map_or(Direction::Both, Direction::from);
    let root = resolve(&query.node, &*deps.store).await?;
    let walk = GraphWalk {
        root: root.key(),
        direction,
        depth,
        nodes: deps.settings.graph_nodes,
        edges: deps.settings.graph_nodes.saturating_mul(EDGES_PER_NODE),
        budget: deps.settings.graph_time,
    };
    let graph = deps.store.graph(&walk).await?.ok_or_else(unknown)?;
    Ok(answer::ok(&Walked::new(&root, depth, direction, query.format.unwrap_or(Format::Simple), &graph)))
}

/// `GET /v1/openlineage/nodes/dataset/{namespace}/{name}`.
#[utoipa::path(
    get,
    path = "/v1/openlineage/nodes/dataset/{namespace}/{name}",
    operation_id = "showDataset",
    tag = "Lineage",
    summary = "Show a dataset",
    description = "",
    params(("namespace" = String, Path, description = "The namespace"), ("name" = String, Path, description = "The name")),
    responses(
        (status = 200, description = "The dataset", body = answers::LineageNodeDetail),
    ),
    extensions(("x-problems" = json!(["unknown-lineage"]))),
)]
pub(super) async fn dataset(path: Path<(String, String)>, deps: Data<Deps>) -> Result<HttpResponse, Problem> {
    let (namespace, name) = path.into_inner();
    node(&NodeName::dataset(namespace, name), &*deps.store).await
}

/// `GET /v1/openlineage/jobs/{namespace}/{name}`.
#[utoipa::path(
    get,
    path = "/v1/openlineage/jobs/{namespace}/{name}",
    operation_id = "showJob",
    tag = "Lineage",
    summary = "Show a job",
    description = "",
    params(("namespace" = String, Path, description = "The namespace"), ("name" = String, Path, description = "The name")),
    responses(
        (status = 200, description = "The job", body = answers::LineageNodeDetail),
    ),
    extensions(("x-problems" = json!(["unknown-lineage"]))),
)]
pub(super) async fn job(path: Path<(String, String)>, deps: Data<Deps>) -> Result<HttpResponse, Problem> {
    let (namespace, name) = path.into_inner();
    node(&NodeName::job(namespace, name), &*deps.store).await
}

async fn node(name: &NodeName, store: &dyn LineageStore) -> Result<HttpResponse, Problem> {
    let detail = store.node(name.key()).await?.ok_or_else(unknown)?;
    Ok(answer::ok(&show::detail(&detail)))
}

/// `GET /v1/openlineage/runs/{runId}`.
#[utoipa::path(
    get,
    path = "/v1/openlineage/runs/{runId}",
    operation_id = "showRun",
    tag = "Lineage",
    summary = "Show a run",
    description = "",
    params(("runId" = scalars::Id, Path, description = "The run"), RunQuery),
    responses(
        (status = 200, description = "The run", body = answers::Run),
    ),
    extensions(("x-problems" = json!(["unknown-lineage"]))),
)]
pub(super) async fn run(run: Path<String>, query: Query<RunQuery>, deps: Data<Deps>) -> Result<HttpResponse, Problem> {
    let id: RunId = run.to_ascii_lowercase().parse()?;
    let detail = deps.store.run(id).await?.ok_or_else(unknown)?;
    Ok(answer::ok(&show::run(&detail, query.include.is_some())))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RunQuery {
    /// Whether the answer has the events
    #[param(inline)]
    include: Option<Include>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Include {
    /// The events as they were sent.
    Events,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SearchQuery {
    /// Words; a name must have a word that begins with each
    #[param(example = "orders shop")]
    q: String,
    /// Items
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// `GET /v1/openlineage/search`.
#[utoipa::path(
    get,
    path = "/v1/openlineage/search",
    operation_id = "searchLineage",
    tag = "Lineage",
    summary = "Search for jobs and datasets",
    description = "",
    params(SearchQuery),
    responses(
        (status = 200, description = "Those that were seen last come first", body = answers::LineageFound),
    ),
)]
pub(super) async fn search(query: Query<SearchQuery>, deps: Data<Deps>) -> Result<HttpResponse, Problem> {
    let limit = paging::limit(query.limit, FOUND, MAX_FOUND)?;
    let mut words = words_of(&query.q);
    words.truncate(MAX_WORDS);
    // A search without words finds nothing.
    let found = if words.is_empty() { Vec::new() } else { deps.store.search(&words, limit).await? };
    Ok(answer::ok(&json!({ "items": show::nodes(&found) })))
}
