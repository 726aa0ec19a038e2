//! Random histories: for every order, batching and repetition the graph comes out the same, and equals a plain count of
//! the distinct events.

use std::collections::BTreeMap;

use super::*;
use crate::{
    ids::RunId,
    model::{Direction, Facets, GraphWalk, LineageNode, NodeKey, RunSummary},
};

pub(super) const SEEDS: [u64; 3] = [7, 1234, 987_654_321];

/// All answers about a node, without the ids and namespaces in which two worlds differ.
#[derive(Debug, PartialEq)]
struct NodeSnapshot {
    node: LineageNode,
    facets: Vec<(String, Value)>,
    edges: Vec<(String, i64, i64, u64)>,
    runs: Vec<RunSummary>,
}

/// A random generator that needs no crate and gives the same numbers everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % sides as u64).unwrap_or(0)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for place in (1..items.len()).rev() {
            let other = self.roll(place + 1);
            items.swap(place, other);
        }
    }
}

pub(super) async fn neither_order_nor_repetition_nor_batches_change_what_comes_out(store: &Store, seed: u64) {
    let mut dice = Dice(seed);
    let scenes = [Scene::new(), Scene::new()];
    let runs: Vec<[Uuid; 2]> = (0..6).map(|_| [Uuid::new_v4(), Uuid::new_v4()]).collect();
    let plan: Vec<Vec<usize>> = (0..80).map(|_| (0..8).map(|_| dice.roll(100)).collect()).collect();
    let mut worlds = Vec::new();
    for (world, scene) in scenes.iter().enumerate() {
        let scene = Scene { base: scenes[0].base, namespace: scene.namespace.clone() };
        let mut events: Vec<_> = plan.iter().map(|rolls| event(&scene, world, &runs, rolls)).collect();
        let distinct: std::collections::HashSet<_> = events.iter().map(|event| event.hash).collect();
        // Some events come again.
        for _ in 0..40 {
            let again = events[dice.roll(80)].clone();
            events.push(again);
        }
        dice.shuffle(&mut events);
        let mut new = 0;
        let mut rest = events.as_slice();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at((1 + dice.roll(25)).min(rest.len()));
            new += ingest(store, batch).await.iter().filter(|kept| **kept == EventOutcome::New).count();
            rest = later;
        }
        assert_eq!(new, distinct.len());
        worlds.push(seen(store, &scene).await);
    }
    assert_eq!(worlds[0], worlds[1]);
    let jobs = worlds[0].iter().filter(|(name, _)| name.starts_with("job"));
    let total: u64 = jobs.map(|(_, seen)| seen.node.events).sum();
    assert!(total > 0 && total <= 80, "{total}");
}

fn event(scene: &Scene, world: usize, runs: &[[Uuid; 2]], rolls: &[usize]) -> LineageEvent {
    const STATES: [&str; 6] = ["START", "RUNNING", "RUNNING", "COMPLETE", "FAIL", "OTHER"];
    let name = |roll: usize| format!("d{}", roll % 5);
    let run = rolls[0] % runs.len();
    let job = format!("job{}", run % 3);
    let (inputs, outputs) = ([name(rolls[1]), name(rolls[2])], [name(rolls[3])]);
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    // Few seconds, so that times tie.
    let mut value =
        scene.run_value(STATES[rolls[4] % 6], (rolls[5] % 12) as i64, runs[run][world], &job, &inputs, &outputs);
    // Two events at one time never give different values of one facet: their hashes decide which one wins, and those
    // differ between the worlds.
    let facet = format!("f{}", rolls[6] % 4);
    value["inputs"][0]["facets"] =
        json!({ facet: { "_producer": "urn:me:x", "_schemaURL": "urn:me:y", "is": rolls[5] % 12 } });
    scene.event(EventKind::Run, &value)
}

async fn seen(store: &Store, scene: &Scene) -> BTreeMap<String, NodeSnapshot> {
    let mut world = BTreeMap::new();
    let names =
        (0..5).map(|number| scene.dataset(&format!("d{number}"))).chain((0..3).map(|n| scene.job(&format!("job{n}"))));
    for name in names {
        let Some(detail) = store.node(name.key()).await.expect("an answer") else { continue };
        let nameless = |run: &RunSummary| RunSummary { run_id: RunId::from_uuid(Uuid::nil()), ..run.clone() };
        let mut runs: Vec<_> = detail.runs.iter().map(nameless).collect();
        runs.sort_by_key(|run| format!("{run:?}"));
        let mut node = detail.node;
        node.name.namespace.clear();
        let (facets, edges) = (shown(&detail.facets), edges(store, scene, name.key()).await);
        world.insert(name.name, NodeSnapshot { node, facets, edges, runs });
    }
    world
}

fn shown(facets: &Facets) -> Vec<(String, Value)> {
    facets.shown().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

async fn edges(store: &Store, scene: &Scene, root: NodeKey) -> Vec<(String, i64, i64, u64)> {
    let walk = GraphWalk {
        root,
        direction: Direction::Down,
        depth: 1,
        nodes: 100,
        edges: 100,
        budget: Duration::from_secs(60),
    };
    let graph = store.graph(&walk).await.expect("an answer").expect("the root");
    let name = |key: NodeKey| {
        let of = graph.nodes.iter().find(|node| node.node.name.key() == key).expect("both ends are there");
        assert_eq!(of.node.name.namespace, scene.namespace);
        of.node.name.name.clone()
    };
    let mut edges: Vec<_> = graph
        .edges
        .iter()
        .map(|edge| (name(edge.target), edge.first_seen.as_microsecond(), edge.last_seen.as_microsecond(), edge.events))
        .collect();
    edges.sort();
    edges
}
