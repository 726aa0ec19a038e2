//! Events: kept once, and returned as they were.

use super::*;
use crate::model::{NodeKey, RunState};

pub(super) async fn run(store: &Store) {
    an_event_is_new_once_and_known_ever_after(store).await;
    an_event_twice_in_a_batch_counts_once(store).await;
    an_empty_batch_is_nothing(store).await;
    a_known_event_beside_a_new_one_changes_nothing(store).await;
    the_end_of_a_run_stands_against_later_news(store).await;
    an_event_without_a_state_leaves_the_state(store).await;
    a_job_event_and_a_dataset_event_are_kept(store).await;
    facets_of_several_events_come_together(store).await;
    numbers_in_facets_keep_their_text(store).await;
    names_that_differ_in_anything_are_different_nodes(store).await;
    a_batch_may_span_days(store).await;
}

async fn events_of(store: &Store, key: NodeKey) -> u64 {
    store.node(key).await.expect("an answer").expect("a node").node.events
}

async fn an_event_is_new_once_and_known_ever_after(store: &Store) {
    let scene = Scene::new();
    let event = scene.run("COMPLETE", 0, Uuid::new_v4(), "load", &["a"], &["b"]);
    assert_eq!(ingest(store, std::slice::from_ref(&event)).await, [EventOutcome::New]);
    assert_eq!(ingest(store, std::slice::from_ref(&event)).await, [EventOutcome::Known]);
    for name in [scene.job("load"), scene.dataset("a"), scene.dataset("b")] {
        assert_eq!(events_of(store, name.key()).await, 1, "{name}");
    }
    let run = store.run(event.run.expect("a run")).await.expect("an answer").expect("the run");
    assert_eq!((run.run.events, run.history.len()), (1, 1));
    assert_eq!(run.history[0].body.as_deref(), Some(event.body.as_str()), "kept to the byte");
    assert_eq!(run.job, Some(scene.job("load")));
}

async fn an_event_twice_in_a_batch_counts_once(store: &Store) {
    let scene = Scene::new();
    let run = Uuid::new_v4();
    let (start, end) =
        (scene.run("START", 0, run, "load", &["a"], &[]), scene.run("COMPLETE", 1, run, "load", &["a"], &[]));
    let kept = ingest(store, &[start.clone(), end.clone(), start, end]).await;
    assert_eq!(kept, [EventOutcome::New, EventOutcome::New, EventOutcome::Known, EventOutcome::Known]);
    assert_eq!(events_of(store, scene.job("load").key()).await, 2);
}

async fn an_empty_batch_is_nothing(store: &Store) {
    assert_eq!(ingest(store, &[]).await, []);
}

async fn a_known_event_beside_a_new_one_changes_nothing(store: &Store) {
    let scene = Scene::new();
    let known = scene.run("START", 0, Uuid::new_v4(), "load", &["a"], &["b"]);
    ingest(store, std::slice::from_ref(&known)).await;
    let new = scene.run("START", 1, Uuid::new_v4(), "load", &["c"], &["b"]);
    assert_eq!(ingest(store, &[known, new]).await, [EventOutcome::Known, EventOutcome::New]);
    for (name, events) in
        [(scene.job("load"), 2), (scene.dataset("a"), 1), (scene.dataset("b"), 2), (scene.dataset("c"), 1)]
    {
        assert_eq!(events_of(store, name.key()).await, events, "{name}");
    }
}

async fn the_end_of_a_run_stands_against_later_news(store: &Store) {
    let scene = Scene::new();
    let run = Uuid::new_v4();
    // Another host's clock is ahead, and the start event arrives last.
    for (state, seconds) in [("RUNNING", 5), ("COMPLETE", 3), ("RUNNING", 8), ("START", 0)] {
        ingest(store, &[scene.run(state, seconds, run, "load", &[], &[])]).await;
    }
    let run = store.run(crate::ids::RunId::from_uuid(run)).await.expect("an answer").expect("the run");
    assert_eq!(run.run.state, Some(RunState::Complete));
    assert_eq!((run.run.started_at, run.run.ended_at), (Some(at(scene.base, 0)), Some(at(scene.base, 3))));
    assert_eq!((run.run.first_seen, run.run.last_seen), (at(scene.base, 0), at(scene.base, 8)));
    let states: Vec<_> = run.history.iter().map(|event| event.state).collect();
    assert_eq!(
        states,
        [Some(RunState::Running), Some(RunState::Running), Some(RunState::Complete), Some(RunState::Start)]
    );
}

async fn an_event_without_a_state_leaves_the_state(store: &Store) {
    let scene = Scene::new();
    let run = Uuid::new_v4();
    let mut silent = scene.run_value("START", 0, run, "load", &[], &[]);
    silent.as_object_mut().expect("an object").remove("eventType");
    ingest(store, &[scene.event(EventKind::Run, &silent)]).await;
    let id = crate::ids::RunId::from_uuid(run);
    assert_eq!(store.run(id).await.expect("an answer").expect("the run").run.state, None);
    ingest(store, &[scene.run("RUNNING", 1, run, "load", &[], &[])]).await;
    ingest(store, &[scene.run("OTHER", 2, run, "load", &[], &[])]).await;
    assert_eq!(store.run(id).await.expect("an answer").expect("the run").run.state, Some(RunState::Running));
}

async fn a_job_event_and_a_dataset_event_are_kept(store: &Store) {
    let scene = Scene::new();
    let mut job = scene.run_value("START", 0, Uuid::new_v4(), "design", &["a"], &["b"]);
    job.as_object_mut().expect("an object").remove("run");
    let dataset = json!({
        "eventTime": at(scene.base, 1).to_string(), "producer": "urn:penstock:suite", "schemaURL": "urn:penstock:suite",
        "dataset": { "namespace": scene.namespace, "name": "alone" },
    });
    let events = [scene.event(EventKind::Job, &job), scene.event(EventKind::Dataset, &dataset)];
    assert_eq!(ingest(store, &events).await, [EventOutcome::New, EventOutcome::New]);
    let job = store.node(scene.job("design").key()).await.expect("an answer").expect("the job");
    assert_eq!((names(&job.sources), names(&job.targets), job.runs.len()), (vec!["a".into()], vec!["b".into()], 0));
    assert!(store.node(scene.dataset("alone").key()).await.expect("an answer").is_some());
    assert_eq!(ingest(store, &events).await, [EventOutcome::Known, EventOutcome::Known]);
}

async fn facets_of_several_events_come_together(store: &Store) {
    let scene = Scene::new();
    let facet = |is: Value| json!({ "_producer": "urn:me:x", "_schemaURL": "urn:me:y", "is": is });
    let with_facets = |seconds: i64, facets: Value| {
        let mut value = scene.run_value("RUNNING", seconds, Uuid::new_v4(), "load", &["a"], &[]);
        value["inputs"][0]["facets"] = facets;
        scene.event(EventKind::Run, &value)
    };
    let odd: Value =
        serde_json::from_str(r#"{ "deep": [{ "ключ": 1.5e300, "n": -3, "t": true, "": null }] }"#).expect("JSON");
    let events = [
        with_facets(2, json!({ "schema": facet("new".into()), "unknown to all": facet(odd.clone()) })),
        with_facets(1, json!({ "schema": facet("old".into()), "owner": facet("me".into()) })),
        with_facets(3, json!({ "gone": { "_producer": "urn:me:x", "_schemaURL": "urn:me:y", "_deleted": true } })),
        with_facets(0, json!({ "gone": facet("was".into()) })),
    ];
    for event in &events {
        ingest(store, std::slice::from_ref(event)).await;
    }
    let node = store.node(scene.dataset("a").key()).await.expect("an answer").expect("the dataset");
    let shown: Vec<_> = node.facets.shown().into_iter().map(|(name, facet)| (name, facet["is"].clone())).collect();
    assert_eq!(shown, [("owner", json!("me")), ("schema", json!("new")), ("unknown to all", odd)]);
}

async fn numbers_in_facets_keep_their_text(store: &Store) {
    let scene = Scene::new();
    let run = Uuid::new_v4();
    let long = "7".repeat(20_000);
    for (seconds, number) in
        ["12345678901234567890123", "12345678901234567890124", "1e+400", "-0.0", &long].iter().enumerate()
    {
        let seconds = i64::try_from(seconds).expect("a few seconds");
        let is: Value = serde_json::from_str(number).expect("JSON");
        let mut value = scene.run_value("RUNNING", seconds, run, "load", &["a"], &[]);
        value["inputs"][0]["facets"] = json!({
            "rows": { "_producer": "urn:me:x", "_schemaURL": "urn:me:y", "is": is, "also": { "$number 1e7": null } },
        });
        assert_eq!(ingest(store, &[scene.event(EventKind::Run, &value)]).await, [EventOutcome::New]);
        let node = store.node(scene.dataset("a").key()).await.expect("an answer").expect("the dataset");
        let shown = node.facets.shown();
        assert_eq!(shown["rows"]["is"].to_string(), *number);
        assert_eq!(shown["rows"]["also"], json!({ "$number 1e7": null }));
    }
}

async fn names_that_differ_in_anything_are_different_nodes(store: &Store) {
    let scene = Scene::new();
    let odd = [
        "a",
        "A",
        "a ",
        "a:b",
        "a%3Ab",
        "a/b",
        "../a",
        "á",
        "a\u{301}",
        "%",
        "'; DROP TABLE lineage_nodes; --",
        "\"",
        "🦆",
    ];
    let long = "n".repeat(2048);
    let all: Vec<&str> = odd.into_iter().chain([long.as_str()]).collect();
    ingest(store, &[scene.run("START", 0, Uuid::new_v4(), "load", &all, &[])]).await;
    for name in &all {
        let detail = store.node(scene.dataset(name).key()).await.expect("an answer").expect("the dataset");
        assert_eq!(detail.node.name, scene.dataset(name));
        assert_eq!(names(&detail.targets), ["load"]);
    }
    let keys: Vec<_> = all.iter().map(|name| scene.dataset(name).key()).chain([scene.job("a").key()]).collect();
    assert_eq!(store.nodes(&keys).await.expect("an answer").len(), all.len(), "a job is not a dataset");
}

async fn a_batch_may_span_days(store: &Store) {
    let scene = Scene::new();
    const DAY: i64 = 86_400;
    let events =
        [-5 * DAY, 0, -2 * DAY, -5 * DAY + 1].map(|at| scene.run("START", at, Uuid::new_v4(), "load", &[], &[]));
    assert_eq!(ingest(store, &events).await, [EventOutcome::New; 4]);
    assert_eq!(ingest(store, &events).await, [EventOutcome::Known; 4]);
    let job = store.node(scene.job("load").key()).await.expect("an answer").expect("the job");
    assert_eq!((job.node.first_seen, job.node.last_seen), (at(scene.base, -5 * DAY), scene.base));
    let runs: Vec<_> = job.runs.iter().map(|run| run.first_seen).collect();
    assert_eq!(
        runs,
        [0, -2 * DAY, -5 * DAY + 1, -5 * DAY].map(|seconds| at(scene.base, seconds)),
        "latest start first"
    );
}
