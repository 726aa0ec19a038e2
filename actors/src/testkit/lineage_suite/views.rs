//! Nodes, runs and search, as far as the promises about events do not cover them.

use super::*;
use crate::{
    ids::RunId,
    model::words_of,
    ports::{EVENTS, NEIGHBOURS, RUNS},
};

pub(super) async fn run(store: &Store) {
    a_name_that_no_event_has_used_is_not_found(store).await;
    lists_are_bounded(store).await;
    long_bodies_are_left_out_of_a_run(store).await;
    search_finds_by_the_beginnings_of_words(store).await;
}

async fn a_name_that_no_event_has_used_is_not_found(store: &Store) {
    let scene = Scene::new();
    assert_eq!(store.node(scene.job("x").key()).await.expect("an answer"), None);
    assert_eq!(store.run(RunId::next()).await.expect("an answer"), None);
    assert_eq!(store.nodes(&[scene.job("x").key()]).await.expect("an answer"), []);
}

async fn lists_are_bounded(store: &Store) {
    let scene = Scene::new();
    let many: Vec<String> = (0..NEIGHBOURS + 20).map(|number| format!("d{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let run = Uuid::new_v4();
    let mut events = vec![scene.run("START", 0, Uuid::new_v4(), "busy", &many, &many)];
    events.extend((0..i64::from(RUNS) + 5).map(|second| scene.run("START", second, Uuid::new_v4(), "busy", &[], &[])));
    events.extend((0..i64::from(EVENTS) + 5).map(|second| scene.run("RUNNING", second, run, "other", &[], &[])));
    ingest(store, &events).await;
    let node = store.node(scene.job("busy").key()).await.expect("an answer").expect("the job");
    assert_eq!((node.sources.len(), node.targets.len()), (NEIGHBOURS as usize, NEIGHBOURS as usize));
    assert_eq!(node.runs.len(), RUNS as usize);
    let run = store.run(RunId::from_uuid(run)).await.expect("an answer").expect("the run");
    assert_eq!((run.history.len(), run.run.events), (EVENTS as usize, u64::from(EVENTS) + 5));
    assert_eq!(run.history[0].time, at(scene.base, i64::from(EVENTS) + 4), "newest first");
}

async fn long_bodies_are_left_out_of_a_run(store: &Store) {
    let scene = Scene::new();
    let run = Uuid::new_v4();
    let events: Vec<_> = (0..5)
        .map(|second| {
            let mut value = scene.run_value("RUNNING", second, run, "wordy", &[], &[]);
            value["run"]["facets"] =
                json!({ "log": { "_producer": "urn:me:x", "_schemaURL": "urn:me:y", "is": "x".repeat(1 << 20) } });
            scene.event(EventKind::Run, &value)
        })
        .collect();
    ingest(store, &events).await;
    let run = store.run(RunId::from_uuid(run)).await.expect("an answer").expect("the run");
    let there: Vec<bool> = run.history.iter().map(|event| event.body.is_some()).collect();
    assert_eq!(there, [true, true, true, false, false]);
    assert!(run.history[0].body.as_ref() == Some(&events[4].body), "kept to the byte");
}

async fn search_finds_by_the_beginnings_of_words(store: &Store) {
    let mark = Uuid::new_v4().simple().to_string();
    let scene = Scene { namespace: format!("Warehouse-{mark}"), base: at(now(), -100) };
    let events = [
        scene.run("START", 0, Uuid::new_v4(), "nightly.load_Übersicht", &["raw/Orders 2026"], &["orders_clean"]),
        scene.run("START", 1, Uuid::new_v4(), "hourly.refresh", &["orders_clean"], &[]),
    ];
    ingest(store, &events).await;
    let search = async |text: &str, limit| {
        let found = store.search(&words_of(&format!("{mark} {text}")), limit).await.expect("an answer");
        found.into_iter().map(|node| node.name.name).collect::<Vec<_>>()
    };
    assert_eq!(search("orders", 10).await, ["orders_clean", "raw/Orders 2026"], "last seen first");
    assert_eq!(search("ORD 20", 10).await, ["raw/Orders 2026"]);
    assert_eq!(search("über", 10).await, ["nightly.load_Übersicht"]);
    assert_eq!(search("wareh load", 10).await, ["nightly.load_Übersicht"]);
    assert_eq!(search("rders", 10).await, Vec::<String>::new(), "words are found by their beginnings");
    assert_eq!(search("", 2).await, ["orders_clean", "hourly.refresh"], "datasets before jobs, where times tie");
    assert_eq!(search("or and not near", 10).await, Vec::<String>::new(), "no word is a command");
}
