//! Walks through the graph.

use std::collections::HashSet;

use super::*;
use crate::{
    model::{Direction, Graph, GraphWalk},
    ports::Tag,
};

pub(super) async fn run(store: &Store) {
    an_unknown_root_has_no_graph(store).await;
    a_node_alone_is_a_graph(store).await;
    a_walk_goes_as_deep_as_it_may(store).await;
    up_and_down_are_not_mixed(store).await;
    cycles_end_and_are_shown(store).await;
    a_bound_that_cuts_is_reported(store).await;
    a_node_with_many_edges_is_read_as_far_as_the_bound(store).await;
    a_budget_that_is_over_cuts_and_is_reported(store).await;
    growth_is_reported_and_stands_in_the_log(store).await;
}

fn walk(root: &NodeName, direction: Direction, depth: u32) -> GraphWalk {
    GraphWalk { root: root.key(), direction, depth, nodes: 5000, edges: 20_000, budget: Duration::from_secs(60) }
}

async fn graph(store: &Store, walk: &GraphWalk) -> Arc<Graph> {
    store.graph(walk).await.expect("an answer").expect("the root is known")
}

fn found(graph: &Graph) -> Vec<(String, u32)> {
    let mut found: Vec<_> = graph.nodes.iter().map(|node| (node.node.name.name.clone(), node.depth)).collect();
    found.sort();
    found
}

fn pairs(expected: &[(&str, u32)]) -> Vec<(String, u32)> {
    expected.iter().map(|(name, depth)| ((*name).to_owned(), *depth)).collect()
}

/// d0 -> j0 -> d1 -> j1 -> d2 ..
async fn chain(store: &Store, length: usize) -> Scene {
    let scene = Scene::new();
    let events: Vec<_> = (0..length)
        .map(|number| {
            let (from, to) = (format!("d{number}"), format!("d{}", number + 1));
            scene.run("RUNNING", number as i64, Uuid::new_v4(), &format!("j{number}"), &[&from], &[&to])
        })
        .collect();
    ingest(store, &events).await;
    scene
}

async fn an_unknown_root_has_no_graph(store: &Store) {
    let unknown = walk(&Scene::new().job("nothing"), Direction::Both, 10);
    assert_eq!(store.graph(&unknown).await.expect("an answer"), None);
}

async fn a_node_alone_is_a_graph(store: &Store) {
    let scene = Scene::new();
    ingest(store, &[scene.run("START", 0, Uuid::new_v4(), "idle", &[], &[])]).await;
    let graph = graph(store, &walk(&scene.job("idle"), Direction::Both, 10)).await;
    assert_eq!((found(&graph), graph.edges.len(), graph.truncated), (pairs(&[("idle", 0)]), 0, false));
}

async fn a_walk_goes_as_deep_as_it_may(store: &Store) {
    let scene = chain(store, 6).await;
    let down = graph(store, &walk(&scene.dataset("d1"), Direction::Down, 3)).await;
    assert_eq!(found(&down), pairs(&[("d1", 0), ("d2", 2), ("j1", 1), ("j2", 3)]));
    assert_eq!((down.edges.len(), down.truncated), (3, false), "deeper nodes are not cut off, they were not requested");
    let up = graph(store, &walk(&scene.job("j1"), Direction::Up, 10)).await;
    assert_eq!(found(&up), pairs(&[("d0", 3), ("d1", 1), ("j0", 2), ("j1", 0)]));
    let both = graph(store, &walk(&scene.dataset("d1"), Direction::Both, 1)).await;
    assert_eq!(found(&both), pairs(&[("d1", 0), ("j0", 1), ("j1", 1)]));
    assert_eq!(both.nodes[0].node.name, scene.dataset("d1"), "the root comes first");
    assert!(both.edges.iter().all(|edge| edge.events == 1 && edge.first_seen == edge.last_seen));
}

async fn up_and_down_are_not_mixed(store: &Store) {
    // Two jobs read one dataset: the output of one has no lineage to the output of the other.
    let scene = Scene::new();
    let events =
        [("left", "x"), ("right", "y")].map(|(job, out)| scene.run("START", 0, Uuid::new_v4(), job, &["raw"], &[out]));
    ingest(store, &events).await;
    let graph = graph(store, &walk(&scene.dataset("x"), Direction::Both, 10)).await;
    assert_eq!(found(&graph), pairs(&[("left", 1), ("raw", 2), ("x", 0)]));
}

async fn cycles_end_and_are_shown(store: &Store) {
    let scene = Scene::new();
    // Two jobs in a circle, each of which rewrites its input.
    let events = [
        scene.run("START", 0, Uuid::new_v4(), "one", &["a"], &["b", "a"]),
        scene.run("START", 0, Uuid::new_v4(), "two", &["b"], &["a"]),
    ];
    ingest(store, &events).await;
    for direction in [Direction::Up, Direction::Down, Direction::Both] {
        let graph = graph(store, &walk(&scene.dataset("a"), direction, 10)).await;
        assert_eq!(graph.nodes.len(), 4, "{direction:?}");
        assert_eq!((graph.edges.len(), graph.truncated), (5, false), "{direction:?}");
    }
}

async fn a_bound_that_cuts_is_reported(store: &Store) {
    let scene = chain(store, 10).await;
    let all = walk(&scene.dataset("d0"), Direction::Down, 20);
    let whole = graph(store, &GraphWalk { nodes: 21, edges: 20, ..all }).await;
    assert_eq!(
        (whole.nodes.len(), whole.edges.len(), whole.truncated),
        (21, 20, false),
        "bounds that fit exactly cut nothing off"
    );
    let cut = graph(store, &GraphWalk { nodes: 5, ..all }).await;
    assert_eq!(found(&cut), pairs(&[("d0", 0), ("d1", 2), ("d2", 4), ("j0", 1), ("j1", 3)]));
    assert_eq!((cut.edges.len(), cut.truncated), (4, true));
    let cut = graph(store, &GraphWalk { edges: 6, ..all }).await;
    assert_eq!((cut.edges.len(), cut.truncated), (6, true));
}

async fn a_node_with_many_edges_is_read_as_far_as_the_bound(store: &Store) {
    let scene = Scene::new();
    let outputs: Vec<String> = (0..300).map(|number| format!("out{number}")).collect();
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    ingest(store, &[scene.run("START", 0, Uuid::new_v4(), "fan", &["in"], &outputs)]).await;
    let all = walk(&scene.dataset("in"), Direction::Both, 10);
    let whole = graph(store, &all).await;
    assert_eq!((whole.nodes.len(), whole.edges.len(), whole.truncated), (302, 301, false));
    let cut = graph(store, &GraphWalk { nodes: 100, edges: 50, ..all }).await;
    assert!(
        cut.truncated && cut.nodes.len() <= 100 && cut.edges.len() == 50,
        "{} {}",
        cut.nodes.len(),
        cut.edges.len()
    );
    let keys: Vec<_> = cut.nodes.iter().map(|node| node.node.name.key()).collect();
    assert!(cut.edges.iter().all(|edge| keys.contains(&edge.source) && keys.contains(&edge.target)));
}

async fn a_budget_that_is_over_cuts_and_is_reported(store: &Store) {
    let scene = chain(store, 8).await;
    let none = GraphWalk { budget: Duration::ZERO, ..walk(&scene.dataset("d0"), Direction::Down, 16) };
    let graph = graph(store, &none).await;
    assert!(graph.truncated && graph.late && graph.nodes.len() < 17, "{}", graph.nodes.len());
    assert_eq!(graph.nodes[0].node.name, scene.dataset("d0"));
}

async fn growth_is_reported_and_stands_in_the_log(store: &Store) {
    let scene = Scene::new();
    let grew = async |events: &[LineageEvent]| {
        let mark = store.changes(None, 1).await.expect("the log").mark;
        // Earlier lines may come again, with the same id.
        let read = async || store.changes(Some(mark), 100).await.expect("the log").changes;
        let before: HashSet<i64> = read().await.iter().map(|change| change.id).collect();
        let grew = store.ingest(events, now()).await.expect("kept").grew;
        let told = read().await.iter().any(|change| change.tag == Tag::Lineage && !before.contains(&change.id));
        assert_eq!(told, grew);
        grew
    };
    let event = |seconds, inputs: &[&str]| scene.run("RUNNING", seconds, Uuid::new_v4(), "load", inputs, &["out"]);
    assert!(grew(&[event(0, &["a"])]).await);
    assert!(!grew(&[event(1, &["a"]), event(2, &["a"])]).await, "more of the same");
    assert!(grew(&[event(3, &["a"]), event(4, &["b"])]).await, "another dataset");
    assert!(!grew(&[event(5, &["b"]), event(6, &[])]).await);
    let crossed = scene.run("RUNNING", 7, Uuid::new_v4(), "load", &["out"], &["a"]);
    assert!(grew(std::slice::from_ref(&crossed)).await, "edges between nodes that were there");
    assert!(!grew(&[crossed]).await, "a known event");
    assert!(!grew(&[]).await);
}
