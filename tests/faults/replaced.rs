//! A database that is emptied, or made anew, under a running node: the node takes it for no database of its own, and no blob goes.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::{
    cluster::program,
    node::{Paid, Setup, TestNode, sample},
    patience::eventually,
    postgres::TestDatabase,
};

const SIZE: usize = 100_000;

/// Every table but the one of migrations.
const EMPTY: &str = "
    DO $$ DECLARE tables text; BEGIN
        SELECT string_agg(format('%I', tablename), ', ') INTO tables FROM pg_tables
        WHERE schemaname = 'public' AND tablename NOT LIKE 'refinery%';
        EXECUTE 'TRUNCATE ' || tables || ' CASCADE';
    END $$";

fn setup(database: &TestDatabase, root: &Path) -> Setup {
    Setup::on_database_of(&database.url())
        .env("DATA_ROOT", root.to_str().unwrap())
        .env("PENSTOCK_JANITOR__INTERVAL", "50ms")
        .env("PENSTOCK_LINEAGE__EMIT", "false")
}

/// The blobs in sight, made so old that a janitor would take what no row names.
fn aged(root: &Path) -> Vec<PathBuf> {
    let then = SystemTime::now() - Duration::from_secs(2 * 86_400);
    let found = blobs(&root.join("blobs"));
    for blob in &found {
        fs::File::options().append(true).open(blob).unwrap().set_modified(then).unwrap();
    }
    found
}

fn blobs(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(blobs(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// What readiness says of the database and of the storage.
async fn dependencies(node: &TestNode) -> [Value; 2] {
    let ready = node.get("/health/ready").send().await.unwrap().json::<Value>().await.unwrap();
    ["database", "storage"].map(|name| ready["dependencies"][name].clone())
}

async fn takes_nothing(node: &TestNode, paid: &Paid) {
    let upload = node.admin(Method::POST, "/v1/content").header("content-type", "text/plain").body("lost");
    // Or its key is not known any more.
    assert!(!upload.send().await.unwrap().status().is_success());
    let sale = node.admin(Method::POST, "/v1/receipts").json(&json!({ "versionId": paid.version }));
    assert!(!sale.send().await.unwrap().status().is_success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_emptied_under_a_node_is_down_until_it_is_restored() {
    let (database, folder) = (TestDatabase::empty().await, tempfile::tempdir().unwrap());
    let (root, dump) = (folder.path().join("blobs"), folder.path().join("dump"));
    let mut node = setup(&database, &root).start().await;
    let paid = node.paid(&sample(1, SIZE), "unlimited").await;
    database.dump(&program("pg_dump"), &dump);
    let kept = aged(&root);

    database.client().await.batch_execute(EMPTY).await.unwrap();
    eventually("neither can be used", async || dependencies(&node).await == ["down", "down"]).await;
    takes_nothing(&node, &paid).await;
    let failed = async || node.metric("penstock_janitor_items_total", "failed_step").await;
    let before = failed().await;
    eventually("several passes of the janitor", async || failed().await >= before + 4.0).await;
    assert_eq!(blobs(&root.join("blobs")), kept);
    let check = node.run(&["check"]).await;
    let told = String::from_utf8(check.stdout).unwrap();
    assert!(!check.status.success() && told.contains("the table installation has no row"), "{told}");

    database.restore(&program("pg_restore"), &dump).await;
    eventually("both are used again", async || dependencies(&node).await == ["ok", "ok"]).await;
    eventually("what was sold streams again", async || {
        let answer = node.stream(&paid).send().await.unwrap();
        answer.status() == 200 && answer.bytes().await.unwrap().len() == SIZE
    })
    .await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_made_anew_under_a_node_stops_it() {
    let (database, folder) = (TestDatabase::empty().await, tempfile::tempdir().unwrap());
    let root = folder.path().join("blobs");
    let mut node = setup(&database, &root).start().await;
    let paid = node.paid(&sample(2, SIZE), "unlimited").await;
    let kept = aged(&root);
    node.terminate().await;
    let mut stderr = node.boot_with_stderr().await;
    let log = tokio::spawn(async move {
        let mut log = String::new();
        stderr.read_to_string(&mut log).await.unwrap();
        log
    });

    database.make_anew().await;
    assert!(node.run(&["migrate"]).await.status.success());
    assert!(!node.ended().await.success());
    let log = log.await.unwrap();
    assert!(log.contains("it was created again or exchanged while the node ran"), "{log}");
    assert_eq!(blobs(&root.join("blobs")), kept);

    // The next one knows the blobs as another installation's.
    node.boot().await;
    eventually("the store is not used", async || dependencies(&node).await == ["ok", "down"]).await;
    takes_nothing(&node, &paid).await;
    assert_eq!(blobs(&root.join("blobs")), kept);
    node.finish().await;
}
