//! Stores of blobs that do not belong to the database, or are not there: nothing is removed, stored or found missing, the node says
//! what to do, and goes on by itself once the right store is there.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use penstock::adapters::s3::ClientKind;
use reqwest::Method;

use crate::{
    node::{On, Paid, Setup, TestNode, expect, expect_problem, hex_sha256, sample},
    patience::eventually,
    postgres::TestDatabase,
    s3::TestBuckets,
};

const SIZE: usize = 300_000;

/// Every file below a folder that is named by a hash, wherever it is.
fn blobs(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(blobs(&path));
        } else if path.file_name().is_some_and(|name| name.len() == 64) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// So old that a janitor would take what nobody knows.
fn age(files: &[PathBuf]) {
    let then = SystemTime::now() - Duration::from_secs(2 * 86_400);
    for path in files {
        fs::File::options().append(true).open(path).unwrap().set_modified(then).unwrap();
    }
}

async fn storage(node: &TestNode) -> String {
    let ready = node.get("/health/ready").send().await.unwrap().json::<serde_json::Value>().await.unwrap();
    ready["dependencies"]["storage"].as_str().unwrap().to_owned()
}

async fn checked(node: &TestNode) -> (bool, String) {
    let check = node.run(&["check"]).await;
    (check.status.success(), String::from_utf8(check.stdout).unwrap())
}

async fn adopt(node: &TestNode, arguments: &[&str]) -> (bool, String) {
    let adopted = node.run(&[&["adopt-store"], arguments].concat()).await;
    (adopted.status.success(), String::from_utf8(adopted.stdout).unwrap())
}

async fn upload(node: &TestNode, bytes: &[u8]) -> reqwest::Response {
    let upload = node.admin(Method::POST, "/v1/content").header("content-type", "text/plain");
    upload.body(bytes.to_vec()).send().await.unwrap()
}

async fn is_whole(node: &TestNode, paid: &Paid) -> bool {
    let answer = node.stream(paid).send().await.unwrap();
    answer.status() == 200 && hex_sha256(&answer.bytes().await.unwrap()) == paid.hash
}

/// Passes of the Janitor that had something to say since the node started.
async fn passes(node: &TestNode) -> f64 {
    node.metric("penstock_janitor_items_total", "failed_step").await
}

fn swept_often(on: On, root: &Path) -> Setup {
    Setup::new(on).env("DATA_ROOT", root.to_str().unwrap()).env("PENSTOCK_JANITOR__INTERVAL", "50ms")
}

async fn the_right_blobs_with_an_empty_database_are_left_alone(on: On) {
    let root = tempfile::tempdir().unwrap();
    let mut node = swept_often(on, root.path()).start().await;
    let paid = node.paid(&sample(1, SIZE), "unlimited").await;
    for seed in 2..5 {
        node.put(&sample(seed, SIZE), "text/plain").await;
    }
    assert_eq!(storage(&node).await, "ok");
    node.finish().await;
    let kept = blobs(root.path());
    assert_eq!(kept.len(), 4);
    age(&kept);

    let mut other = swept_often(on, root.path()).start().await;
    assert_eq!(storage(&other).await, "down");
    eventually("several passes of the janitor", async || passes(&other).await >= 4.0).await;
    assert_eq!(blobs(root.path()), kept);
    expect_problem(upload(&other, b"lost").await, 503, "dependency-unavailable").await;
    let (is_well, told) = checked(&other).await;
    assert!(!is_well && told.contains("belongs to installation") && told.contains("adopt-store"), "{told}");
    let (adopted, told) = adopt(&other, &[]).await;
    assert!(!adopted && told.contains("another installation") && told.contains("--yes"), "{told}");
    assert_eq!(storage(&other).await, "down");
    assert_eq!(blobs(root.path()), kept);
    other.finish().await;

    node.boot().await;
    assert_eq!(storage(&node).await, "ok");
    assert!(is_whole(&node, &paid).await, "with its own database all is as it was");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_sqlite_removes_no_blob() {
    the_right_blobs_with_an_empty_database_are_left_alone(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_postgres_removes_no_blob() {
    the_right_blobs_with_an_empty_database_are_left_alone(On::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_adopted_is_used_by_the_running_node() {
    let root = tempfile::tempdir().unwrap();
    let mut node = swept_often(On::Sqlite, root.path()).start().await;
    let paid = node.paid(&sample(1, SIZE), "unlimited").await;
    fs::remove_file(root.path().join("penstock-store")).unwrap();
    assert_eq!(storage(&node).await, "down");
    let (is_well, told) = checked(&node).await;
    assert!(!is_well && told.contains("has no mark") && told.contains("knows 1 of 1"), "{told}");
    let (adopted, told) = adopt(&node, &["--tier", "warm"]).await;
    assert!(!adopted, "{told}");
    let (adopted, told) = adopt(&node, &[]).await;
    assert!(!adopted && told.contains("--yes"), "the database knows of a store, and this is not it: {told}");
    let (adopted, told) = adopt(&node, &["--yes"]).await;
    assert!(adopted, "{told}");
    assert_eq!(storage(&node).await, "ok");
    assert!(is_whole(&node, &paid).await);
    node.put(&sample(2, SIZE), "text/plain").await;
    let (adopted, told) = adopt(&node, &["--tier", "hot"]).await;
    assert!(adopted && told.contains("nothing is to be done"), "{told}");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_from_before_there_were_marks_is_known_by_its_contents() {
    let root = tempfile::tempdir().unwrap();
    let mut node = swept_often(On::Sqlite, root.path()).start().await;
    let paid = node.paid(&sample(1, SIZE), "unlimited").await;
    node.terminate().await;
    let mark = root.path().join("penstock-store");
    fs::remove_file(&mark).unwrap();
    let database = rusqlite::Connection::open(node.data_dir().join("penstock.sqlite3")).unwrap();
    database.execute("DELETE FROM installation_stores", []).unwrap();
    drop(database);
    let (is_well, told) = checked(&node).await;
    assert!(is_well && !mark.exists(), "a look changes nothing: {told}");
    node.boot().await;
    assert_eq!(storage(&node).await, "ok");
    assert!(mark.exists());
    assert!(is_whole(&node, &paid).await);
    node.finish().await;
}

/// A disk that goes away under a running node, and comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_unmounted_for_a_while_is_neither_damage_nor_new() {
    let folder = tempfile::tempdir().unwrap();
    let (mount, away) = (folder.path().join("mount"), folder.path().join("away"));
    let mut node = swept_often(On::Sqlite, &mount).start().await;
    let (paid, unread) =
        (node.paid(&sample(1, SIZE), "unlimited").await, node.paid(&sample(2, SIZE), "unlimited").await);
    fs::rename(&mount, &away).unwrap();
    fs::create_dir(&mount).unwrap();
    expect_problem(node.stream(&unread).send().await.unwrap(), 503, "dependency-unavailable").await;
    let verify = node.admin(Method::POST, &format!("/v1/storage/verify/{}", paid.hash)).send().await.unwrap();
    expect_problem(verify, 503, "dependency-unavailable").await;
    expect_problem(upload(&node, b"lost").await, 503, "dependency-unavailable").await;
    assert_eq!(storage(&node).await, "down");
    let (is_well, told) = checked(&node).await;
    assert!(!is_well && told.contains("mounted") && told.contains(mount.to_str().unwrap()), "{told}");
    node.terminate().await;
    node.boot().await;
    assert_eq!(storage(&node).await, "down", "nor is it new after a start");
    let looks = node.admin(Method::GET, &format!("/v1/storage/verifications/{}", paid.hash)).send().await.unwrap();
    assert_eq!(expect(looks, &[200]).await["items"], serde_json::json!([]), "nothing was found");
    assert_eq!(fs::read_dir(&mount).unwrap().count(), 0, "nothing was made in its place");

    fs::remove_dir(&mount).unwrap();
    fs::rename(&away, &mount).unwrap();
    assert_eq!(storage(&node).await, "ok");
    assert!(is_whole(&node, &paid).await && is_whole(&node, &unread).await);
    node.put(&sample(3, SIZE), "text/plain").await;
    node.finish().await;
}

/// One of two instances has not got the share: the other serves all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_without_its_mount_takes_nothing_from_the_others() {
    let database = TestDatabase::empty().await;
    let folder = tempfile::tempdir().unwrap();
    let (share, hole) = (folder.path().join("share"), folder.path().join("hole/blobs"));
    let setup = |root: &Path| Setup::on_database_of(&database.url()).env("DATA_ROOT", root.to_str().unwrap());
    let mut one = setup(&share).start().await;
    let mut paid = Vec::new();
    for seed in 0..4 {
        paid.push(one.paid(&sample(seed, SIZE), "unlimited").await);
    }
    let mut other = setup(&hole).start().await;
    assert_eq!(storage(&other).await, "down");
    expect_problem(upload(&other, b"lost").await, 503, "dependency-unavailable").await;
    for paid in &paid {
        expect_problem(other.stream(paid).send().await.unwrap(), 503, "dependency-unavailable").await;
        let verify = other.admin(Method::POST, &format!("/v1/storage/verify/{}", paid.hash)).send().await.unwrap();
        expect_problem(verify, 503, "dependency-unavailable").await;
        assert!(is_whole(&one, paid).await);
    }
    assert!(!hole.exists());
    assert_eq!((storage(&one).await.as_str(), one.metric("penstock_storage_quarantined", "").await), ("ok", 0.0));
    assert_eq!(other.metric("penstock_storage_quarantined", "").await, 0.0);
    for node in [&mut one, &mut other] {
        node.finish().await;
    }
}

async fn two_installations_in_one_bucket(client: ClientKind) {
    let buckets = TestBuckets::new(client);
    let mut one = Setup::new(On::Sqlite).envs(buckets.env()).start().await;
    let paid = one.paid(&sample(1, SIZE), "unlimited").await;
    let setup = Setup::new(On::Sqlite).envs(buckets.env()).env("PENSTOCK_JANITOR__INTERVAL", "50ms");
    let mut other = setup.env("PENSTOCK_JANITOR__TEMPORARY_AGE", "20min").start().await;
    assert_eq!(storage(&other).await, "down");
    expect_problem(upload(&other, b"lost").await, 503, "dependency-unavailable").await;
    eventually("several passes of the janitor", async || passes(&other).await >= 4.0).await;
    assert!(is_whole(&one, &paid).await);
    let (is_well, told) = checked(&other).await;
    assert!(!is_well && told.contains(&format!("s3://penstock-hot/{}", buckets.prefix)), "{told}");
    assert!(told.contains("belongs to installation"), "{told}");
    other.finish().await;

    // Another prefix than the installation's store has.
    one.terminate().await;
    one.set_env("PENSTOCK_S3__PREFIX", &format!("{}-wrong", buckets.prefix));
    one.boot().await;
    assert_eq!(storage(&one).await, "down");
    let (_, told) = checked(&one).await;
    assert!(told.contains("is empty or missing") && told.contains(&buckets.prefix), "{told}");
    one.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_installations_in_one_bucket_do_not_touch_each_other() {
    two_installations_in_one_bucket(ClientKind::ObjectStore).await;
}

#[cfg(feature = "rusoto")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_installations_in_one_bucket_do_not_touch_each_other_by_the_other_client() {
    two_installations_in_one_bucket(ClientKind::Rusoto).await;
}
