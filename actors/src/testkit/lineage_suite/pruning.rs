//! The sliding window, which moves under the lease of its pruner, and the rows that stay.

use super::*;
use crate::{
    lineage::event::day_of,
    model::{Direction, GraphWalk, NamespaceKey},
    ports::{LeasedTask, PortError, PortResult, TaskLease},
};

const TTL: Duration = Duration::from_secs(3600);
const DAY: i64 = 86_400;

pub(super) async fn run(store: &Store) {
    a_step_without_the_lease_is_refused(store).await;
    a_namespace_keeps_its_newest_events(store).await;
    what_has_left_is_not_counted_again(store).await;
    a_run_goes_with_its_last_event(store).await;
    a_run_stays_for_its_events_in_another_namespace(store).await;
    old_days_leave_and_the_graph_stays(store).await;
    what_nothing_refers_to_goes(store).await;
    the_days_ahead_can_be_prepared(store).await;
}

async fn leased(store: &Store) -> TaskLease {
    store.acquire(LeasedTask::PruneLineage, Uuid::new_v4(), TTL).await.expect("an answer").expect("free")
}

async fn release(store: &Store, lease: TaskLease) {
    store.release(LeasedTask::PruneLineage, lease).await.expect("released");
}

fn fenced<T: std::fmt::Debug>(result: &PortResult<T>) {
    assert!(matches!(result, Err(PortError::Fenced)), "{result:?}");
}

async fn a_step_without_the_lease_is_refused(store: &Store) {
    let old = leased(store).await;
    release(store, old).await;
    let lease = leased(store).await;
    let day = day_of(at(now(), -3000 * DAY));
    for stale in [old, TaskLease { token: lease.token + 1, ..lease }] {
        fenced(&store.drop_days(stale, day, 10).await);
        fenced(&store.trim(stale, NamespaceKey::of("nothing"), 10).await);
        fenced(&store.prune_runs(stale, day, 10).await);
        fenced(&store.prune_edges(stale, day, 10).await);
        fenced(&store.prune_nodes(stale, day, 10).await);
        fenced(&store.prune_namespaces(stale, day, 10).await);
    }
    assert_eq!(store.prune_runs(lease, day, 10).await.expect("held"), 0);
    assert_eq!(store.trim(lease, NamespaceKey::of("nothing"), 10).await.expect("held"), 0);
    release(store, lease).await;
}

/// `count` events of one job, a second apart.
fn events(scene: &Scene, count: i64) -> Vec<LineageEvent> {
    (0..count).map(|second| scene.run("COMPLETE", second, Uuid::new_v4(), "load", &["in"], &["out"])).collect()
}

/// Which of these are kept, found out by sending them again.
async fn kept(store: &Store, events: &[LineageEvent]) -> Vec<EventOutcome> {
    ingest(store, events).await
}

async fn a_namespace_keeps_its_newest_events(store: &Store) {
    let scene = Scene::new();
    let namespace = NamespaceKey::of(&scene.namespace);
    let before = store.window(0).await.expect("an answer").events;
    let events = events(&scene, 50);
    ingest(store, &events).await;
    let window = store.window(20).await.expect("an answer");
    assert_eq!(window.events, before + 50);
    assert!(window.excess >= 30 && window.oldest_day <= Some(day_of(scene.base)));
    let oversized_namespaces = store.oversized_namespaces(20, 1000).await.expect("an answer");
    assert!(oversized_namespaces.is_sorted_by(|one, other| one.1 >= other.1));
    assert_eq!(oversized_namespaces.iter().find(|(key, _)| *key == namespace).map(|(_, excess)| *excess), Some(30));
    let lease = leased(store).await;
    for (asked, gone) in [(20, 20), (10, 10)] {
        assert_eq!(store.trim(lease, namespace, asked).await.expect("held"), gone);
    }
    assert!(store.oversized_namespaces(20, 1000).await.expect("an answer").iter().all(|(key, _)| *key != namespace));
    assert_eq!(store.window(0).await.expect("an answer").events, before + 20);
    let again = kept(store, &events).await;
    assert_eq!((&again[..30], &again[30..]), (&[EventOutcome::Left; 30][..], &[EventOutcome::Known; 20][..]));
    assert_eq!(store.trim(lease, namespace, 100).await.expect("held"), 20, "all that are left");
    release(store, lease).await;
    let node = store.node(scene.job("load").key()).await.expect("an answer").expect("the job");
    assert_eq!((node.node.events, names(&node.sources)), (50, vec!["in".into()]), "the graph outlives its events");
    assert_eq!(node.node.first_seen, scene.base);
}

async fn what_has_left_is_not_counted_again(store: &Store) {
    let scene = Scene::new();
    // All have the same time: only their hashes tell them apart.
    let mut events: Vec<_> = (0..10).map(|_| scene.run("START", 0, Uuid::new_v4(), "load", &[], &[])).collect();
    events.sort_by_key(|event| event.hash);
    ingest(store, &events).await;
    let lease = leased(store).await;
    assert_eq!(store.trim(lease, NamespaceKey::of(&scene.namespace), 4).await.expect("held"), 4);
    release(store, lease).await;
    let again = kept(store, &events).await;
    assert_eq!((&again[..4], &again[4..]), (&[EventOutcome::Left; 4][..], &[EventOutcome::Known; 6][..]));
    let late = scene.run("START", -1, Uuid::new_v4(), "late", &[], &[]);
    assert_eq!(ingest(store, &[late]).await, [EventOutcome::Left], "an event that comes too late is not taken");
    assert_eq!(store.node(scene.job("late").key()).await.expect("an answer"), None);
    let fresh = scene.run("START", 1, Uuid::new_v4(), "load", &[], &[]);
    assert_eq!(ingest(store, &[fresh]).await, [EventOutcome::New]);
    let node = store.node(scene.job("load").key()).await.expect("an answer").expect("the job");
    assert_eq!(node.node.events, 11);
}

async fn a_run_goes_with_its_last_event(store: &Store) {
    let scene = Scene::new();
    let (short, long) = (Uuid::new_v4(), Uuid::new_v4());
    let events = [
        scene.run("START", 0, short, "load", &[], &[]),
        scene.run("START", 1, long, "load", &[], &[]),
        scene.run("COMPLETE", 2, short, "load", &[], &[]),
        scene.run("COMPLETE", 3, long, "load", &[], &[]),
    ];
    ingest(store, &events).await;
    let namespace = NamespaceKey::of(&scene.namespace);
    let known = async |run: Uuid| store.run(crate::ids::RunId::from_uuid(run)).await.expect("an answer").is_some();
    let lease = leased(store).await;
    assert_eq!(store.trim(lease, namespace, 2).await.expect("held"), 2);
    assert_eq!((known(short).await, known(long).await), (true, true), "an event of each is left");
    assert_eq!(store.trim(lease, namespace, 1).await.expect("held"), 1);
    assert_eq!((known(short).await, known(long).await), (false, true));
    release(store, lease).await;
}

async fn a_run_stays_for_its_events_in_another_namespace(store: &Store) {
    let (one, other, run) = (Scene::new(), Scene::new(), Uuid::new_v4());
    let other = Scene { base: one.base, ..other };
    ingest(store, &[other.run("START", 0, run, "load", &[], &[]), one.run("COMPLETE", 1, run, "load", &[], &[])]).await;
    let known =
        async || store.run(crate::ids::RunId::from_uuid(run)).await.expect("an answer").map(|run| run.history.len());
    let lease = leased(store).await;
    assert_eq!(store.trim(lease, NamespaceKey::of(&one.namespace), 10).await.expect("held"), 1);
    assert_eq!(known().await, Some(1), "the older event is there");
    assert_eq!(store.trim(lease, NamespaceKey::of(&other.namespace), 10).await.expect("held"), 1);
    assert_eq!(known().await, None);
    release(store, lease).await;
}

async fn old_days_leave_and_the_graph_stays(store: &Store) {
    let scene = Scene { namespace: namespace(), base: at(now(), -400 * DAY) };
    let old: Vec<_> =
        (0..6).map(|number| scene.run("COMPLETE", number * DAY, Uuid::new_v4(), "load", &["in"], &[])).collect();
    let fresh = scene.run("COMPLETE", 399 * DAY, Uuid::new_v4(), "load", &["in"], &[]);
    ingest(store, &old).await;
    ingest(store, std::slice::from_ref(&fresh)).await;
    let cut = day_of(at(scene.base, 4 * DAY));
    store.prepare_days(&[day_of(at(scene.base, -DAY))]).await.expect("prepared");
    let before = store.window(0).await.expect("an answer").events;
    let lease = leased(store).await;
    let mut dropped = 0;
    while let Some(gone) = store.drop_days(lease, cut, 3).await.expect("held") {
        dropped += gone;
    }
    assert_eq!(dropped, 4, "days without events count as zero");
    let window = store.window(0).await.expect("an answer");
    assert_eq!((before - window.events, window.oldest_day), (4, Some(cut)));
    assert_eq!(store.prune_runs(lease, cut, 3).await.expect("held"), 3);
    assert_eq!(store.prune_runs(lease, cut, 3).await.expect("held"), 1);
    release(store, lease).await;
    let run = async |event: &LineageEvent| store.run(event.run.expect("a run")).await.expect("an answer").is_some();
    assert_eq!((run(&old[3]).await, run(&old[4]).await, run(&fresh).await), (false, true, true));
    assert_eq!(kept(store, &[old[4].clone(), fresh]).await, [EventOutcome::Known; 2]);
    let walk = GraphWalk {
        root: scene.dataset("in").key(),
        direction: Direction::Down,
        depth: 1,
        nodes: 10,
        edges: 10,
        budget: Duration::from_secs(60),
    };
    let graph = store.graph(&walk).await.expect("an answer").expect("the dataset");
    assert_eq!(
        (graph.edges[0].events, graph.edges[0].first_seen),
        (7, scene.base),
        "an edge still counts events that have left"
    );
}

async fn what_nothing_refers_to_goes(store: &Store) {
    let scene = Scene { namespace: namespace(), base: at(now(), -1000 * DAY) };
    ingest(store, &[scene.run("COMPLETE", 0, Uuid::new_v4(), "dead", &["gone", "both"], &["gone too"])]).await;
    ingest(store, &[scene.run("COMPLETE", 500 * DAY, Uuid::new_v4(), "alive", &["both"], &[])]).await;
    let cut = day_of(at(scene.base, DAY));
    let lease = leased(store).await;
    while store.drop_days(lease, cut, 1000).await.expect("held").is_some() {}
    assert_eq!(store.prune_nodes(lease, cut, 100).await.expect("held"), 0, "they have edges");
    assert_eq!(store.prune_edges(lease, cut, 2).await.expect("held"), 2);
    assert_eq!(store.prune_edges(lease, cut, 2).await.expect("held"), 1);
    assert_eq!(store.prune_nodes(lease, cut, 2).await.expect("held"), 2);
    assert_eq!(store.prune_nodes(lease, cut, 2).await.expect("held"), 1);
    let there = async |name: NodeName| store.node(name.key()).await.expect("an answer").is_some();
    let (dead, gone, both, alive) =
        (scene.job("dead"), scene.dataset("gone"), scene.dataset("both"), scene.job("alive"));
    assert_eq!(
        (there(dead).await, there(gone).await, there(both).await, there(alive).await),
        (false, false, true, true)
    );
    assert_eq!(store.search(&crate::model::words_of("gone too"), 10).await.expect("an answer"), []);
    // An empty namespace is forgotten; one with an event is not.
    let empty = Scene { namespace: namespace(), base: scene.base };
    ingest(store, &[empty.run("COMPLETE", 0, Uuid::new_v4(), "only", &[], &[])]).await;
    while store.drop_days(lease, cut, 1000).await.expect("held").is_some() {}
    let forgotten = store.prune_namespaces(lease, cut, 1000).await.expect("held");
    assert!(forgotten >= 1);
    assert_eq!(store.prune_namespaces(lease, cut, 1000).await.expect("held"), 0);
    release(store, lease).await;
    let again = empty.run("COMPLETE", 600 * DAY, Uuid::new_v4(), "only", &[], &[]);
    assert_eq!(ingest(store, &[again]).await, [EventOutcome::New], "it may come back");
}

async fn the_days_ahead_can_be_prepared(store: &Store) {
    let days: Vec<_> = (100..103).map(|day| day_of(at(now(), day * DAY))).collect();
    let made = store.prepare_days(&days).await.expect("prepared");
    assert!(made == 3 || made == 0, "partitions, or nothing where there are none: {made}");
    assert_eq!(store.prepare_days(&days).await.expect("prepared"), 0);
}
