//! `penstock check`: every dependency is asked, whatever the state of the others.

use std::process::Output;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::node::{On, TestNode, sample};

/// Nothing listens there.
const AWAY: &str = "127.0.0.1:1";

/// What `check` says of the dependencies on a machine that has nothing of the node yet, and how it ends.
async fn check_on_a_new_machine(variables: &[(&str, String)]) -> (Vec<String>, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut check = Command::new(env!("CARGO_BIN_EXE_penstock"));
    check.arg("check").env_clear().env("PENSTOCK_DATA_DIR", &data).envs(variables.iter().cloned());
    let output = check.kill_on_drop(true).output().await.unwrap();
    assert!(!data.exists(), "to look makes nothing");
    (told(&output), output.status.code())
}

/// The lines about dependencies.
fn told(output: &Output) -> Vec<String> {
    const NAMES: [&str; 5] = ["database: ", "replica 1: ", "governance: ", "storage: ", "shared state: "];
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.lines().filter(|line| NAMES.iter().any(|name| line.starts_with(name))).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_new_machine_lacks_nothing() {
    let (said, code) = check_on_a_new_machine(&[]).await;
    let new = "not there yet; `penstock serve` makes it";
    assert_eq!(said, [format!("database: {new}"), format!("storage: {new}"), "shared state: ok".to_owned()]);
    assert_eq!(code, Some(0));
}

#[tokio::test]
async fn before_the_first_start_what_is_away_is_found() {
    let of = |name, value: String| (name, value);
    let variables = [
        of("S3_BUCKET_HOT", "bucket".to_owned()),
        of("STORAGE_BACKEND", "s3".to_owned()),
        of("S3_ENDPOINT", format!("http://{AWAY}")),
        of("S3_ACCESS_KEY", "key".to_owned()),
        of("S3_SECRET_KEY", "secret".to_owned()),
        of("REDIS_URL", format!("redis://{AWAY}")),
    ];
    let (said, code) = check_on_a_new_machine(&variables).await;
    let [database, storage, shared] = &said[..] else { panic!("{said:?}") };
    assert!(database.contains("not there yet"), "{database}");
    assert!(storage.contains("S3 is unavailable"), "{storage}");
    assert!(shared.contains("redis") && !shared.ends_with("ok"), "{shared}");
    assert_eq!(code, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dependency_that_is_down_hides_no_other() {
    let mut node = TestNode::start(On::Postgres).await;
    let url = node.database.as_ref().unwrap().url();
    // The primary is not a replica.
    node.set_env("PG_REPLICA_URLS", &url);
    let output = node.run(&["check"]).await;
    let said = told(&output);
    assert_eq!(said[0], "database: ok");
    assert!(said[1].starts_with("replica 1: ") && said[1].ends_with("not a replica"), "{said:?}");
    assert_eq!(&said[2..], ["storage: ok", "shared state: ok"]);
    assert_eq!(output.status.code(), Some(1));

    node.set_env("PG_REPLICA_URLS", &format!("postgres://nobody@{AWAY}/none"));
    node.set_env("REDIS_URL", &format!("redis://{AWAY}"));
    let output = node.run(&["check"]).await;
    let said = told(&output);
    assert_eq!((&*said[0], &*said[2]), ("database: ok", "storage: ok"));
    assert!(!said[1].ends_with("ok") && !said[3].ends_with("ok"), "{said:?}");
    assert_eq!(output.status.code(), Some(1));

    node.set_env("DATABASE_URL", &format!("postgres://nobody@{AWAY}/none"));
    let output = node.run(&["check"]).await;
    let said = told(&output);
    assert!(said[0].starts_with("database: cannot connect to PostgreSQL"), "{said:?}");
    assert_eq!(said[1], "storage: ok");
    assert_eq!(output.status.code(), Some(1));
    node.set_env("DATABASE_URL", &url);
    node.finish().await;
}

/// Scripts read what operators read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_for_operators_tell_their_results_as_json_too() {
    let mut node = TestNode::start(On::Sqlite).await;
    let bytes = sample(3, 10_000);
    let paid = node.paid(&bytes, "standard").await;
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap(), bytes);
    let lines = async |arguments: &[&str], code: i32| {
        let output = node.run(arguments).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        let told = String::from_utf8(output.stdout).unwrap();
        told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>()
    };
    assert_eq!(lines(&["migrate", "--json"], 0).await, [json!({ "applied": 0 })]);
    let swept = lines(&["sweep", "--dry-run", "--json"], 0).await;
    assert_eq!(swept, [json!({ "temporaryFiles": 0, "temporaryBytes": 0, "orphans": 0, "uploadsRefused": 0 })]);
    let audited = lines(&["audit", "--json"], 0).await;
    assert!(audited[0]["compared"]["windows"].as_u64().is_some_and(|windows| windows > 0), "{audited:?}");
    assert_eq!(audited[0]["compared"]["differences"], 0);
    assert!(audited.iter().any(|line| line["instances"]["alive"] == 1), "{audited:?}");
    let checked = lines(&["check", "--json"], 0).await;
    assert_eq!(checked[0]["ok"], true);
    assert_eq!(checked[0]["dependencies"][0], json!({ "name": "database", "state": "ok", "reason": null }));
    node.finish().await;
}
