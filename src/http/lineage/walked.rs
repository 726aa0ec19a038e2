//! The answer to a walk as JSON. It may have thousands of nodes and is serialized directly, without a tree in between.

use std::collections::HashMap;

use jiff::Timestamp;
use penstock_actors::model::{Direction, Graph, LineageEdge, NodeKey, NodeKind, NodeName};
use serde::{Deserialize, Serialize};

use super::show::{NodeDocument, as_text};

/// The output format of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// Nodes and edges.
    Simple,
    /// The elements of Cytoscape.js.
    Cyto,
}

/// The question, the result, and its size.
#[derive(Serialize)]
pub(super) struct Walked<'a> {
    #[serde(serialize_with = "as_text")]
    node: &'a NodeName,
    depth: u32,
    direction: &'static str,
    #[serde(flatten)]
    graph: GraphDocument<'a>,
    stats: Stats,
}

#[derive(Serialize)]
#[serde(untagged)]
enum GraphDocument<'a> {
    Simple { nodes: Vec<NodeDocument<'a>>, edges: Vec<EdgeDocument<'a>> },
    Cyto { elements: Elements<'a> },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EdgeDocument<'a> {
    #[serde(serialize_with = "as_text")]
    source: &'a NodeName,
    #[serde(serialize_with = "as_text")]
    target: &'a NodeName,
    first_seen: Timestamp,
    last_seen: Timestamp,
    events: u64,
}

#[derive(Serialize)]
struct Elements<'a> {
    nodes: Vec<NodeElement<'a>>,
    edges: Vec<EdgeElement<'a>>,
}

#[derive(Serialize)]
struct NodeElement<'a> {
    data: NodeData<'a>,
    classes: NodeKind,
}

#[derive(Serialize)]
struct NodeData<'a> {
    #[serde(flatten)]
    node: NodeDocument<'a>,
    label: &'a str,
}

#[derive(Serialize)]
struct EdgeElement<'a> {
    data: EdgeData<'a>,
}

#[derive(Serialize)]
struct EdgeData<'a> {
    id: String,
    #[serde(serialize_with = "as_text")]
    source: &'a NodeName,
    #[serde(serialize_with = "as_text")]
    target: &'a NodeName,
    events: u64,
}

#[derive(Serialize)]
struct Stats {
    nodes: usize,
    edges: usize,
    truncated: bool,
}

impl<'a> Walked<'a> {
    pub(super) fn new(root: &'a NodeName, depth: u32, way: Direction, format: Format, graph: &'a Graph) -> Self {
        let (nodes, edges) = (nodes(graph), edges(graph));
        let stats = Stats { nodes: nodes.len(), edges: edges.len(), truncated: graph.truncated };
        let graph = match format {
            Format::Simple => GraphDocument::Simple { nodes, edges },
            Format::Cyto => GraphDocument::Cyto { elements: Elements::of(nodes, edges) },
        };
        Self { node: root, depth, direction: direction(way), graph, stats }
    }
}

fn nodes(graph: &Graph) -> Vec<NodeDocument<'_>> {
    graph.nodes.iter().map(|node| NodeDocument::of(&node.node, Some(node.depth))).collect()
}

fn edges(graph: &Graph) -> Vec<EdgeDocument<'_>> {
    let names: HashMap<NodeKey, &NodeName> =
        graph.nodes.iter().map(|node| (node.node.name.key(), &node.node.name)).collect();
    let edge = |edge: &LineageEdge| {
        Some(EdgeDocument {
            source: names.get(&edge.source)?,
            target: names.get(&edge.target)?,
            first_seen: edge.first_seen,
            last_seen: edge.last_seen,
            events: edge.events,
        })
    };
    graph.edges.iter().filter_map(edge).collect()
}

impl<'a> Elements<'a> {
    fn of(nodes: Vec<NodeDocument<'a>>, edges: Vec<EdgeDocument<'a>>) -> Self {
        let node = |node: NodeDocument<'a>| {
            let (classes, label) = (node.name().kind, node.name().name.as_str());
            NodeElement { data: NodeData { node, label }, classes }
        };
        let edge = |(number, EdgeDocument { source, target, events, .. }): (usize, EdgeDocument<'a>)| EdgeElement {
            data: EdgeData { id: format!("e{number}"), source, target, events },
        };
        Self { nodes: nodes.into_iter().map(node).collect(), edges: edges.into_iter().enumerate().map(edge).collect() }
    }
}

const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "up",
        Direction::Down => "down",
        Direction::Both => "both",
    }
}
