//! Stores of blobs that do not belong to the database, or are not there: nothing is removed, stored or found missing, the node says
//! what to do, and goes on by itself once the right store is there.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use penstock::config::S3Client;
use reqwest::Method;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::ChildStderr,
};

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

/// Waits until the node says this of its storage: what it says may be of a look from before.
async fn storage_is(node: &TestNode, state: &str) {
    eventually("the storage is as it should be", async || {
        let ready = node.get("/health/ready").send().await.unwrap().json::<serde_json::Value>().await.unwrap();
        ready["dependencies"]["storage"] == state
    })
    .await;
}

/// The status code and the status of readiness, and the reason for a store that is not used.
async fn readiness(node: &TestNode) -> (u16, String, String) {
    let ready = node.get("/health/ready").send().await.unwrap();
    let code = ready.status().as_u16();
    let told = ready.json::<serde_json::Value>().await.unwrap();
    let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
    (code, text("status"), text("reason"))
}

async fn stands(node: &TestNode, tier: &str, standing: &str) -> bool {
    node.metric("penstock_store_standing", &format!("standing=\"{standing}\",tier=\"{tier}\"")).await == 1.0
}

/// What a node logs.
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn of(stderr: ChildStderr) -> Self {
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let written = Arc::clone(&lines);
        tokio::spawn(async move {
            let mut read = BufReader::new(stderr).lines();
            while let Some(line) = read.next_line().await.unwrap() {
                written.lock().unwrap().push(line);
            }
        });
        Self(lines)
    }

    fn lines_with(&self, words: &[&str]) -> usize {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|line| words.iter().all(|words| line.contains(words))).count()
    }
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
    storage_is(&node, "ok").await;
    node.finish().await;
    let kept = blobs(root.path());
    assert_eq!(kept.len(), 4);
    age(&kept);

    let mut other = swept_often(on, root.path()).start().await;
    storage_is(&other, "down").await;
    eventually("several passes of the janitor", async || passes(&other).await >= 4.0).await;
    assert_eq!(blobs(root.path()), kept);
    expect_problem(upload(&other, b"lost").await, 503, "dependency-unavailable").await;
    let (is_well, told) = checked(&other).await;
    assert!(!is_well && told.contains("belongs to installation") && told.contains("adopt-store"), "{told}");
    let (adopted, told) = adopt(&other, &[]).await;
    assert!(!adopted && told.contains("another installation") && told.contains("--yes"), "{told}");
    storage_is(&other, "down").await;
    assert_eq!(blobs(root.path()), kept);
    other.finish().await;

    node.boot().await;
    storage_is(&node, "ok").await;
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
    storage_is(&node, "down").await;
    let (is_well, told) = checked(&node).await;
    assert!(!is_well && told.contains("has no mark") && told.contains("knows 1 of 1"), "{told}");
    let (adopted, told) = adopt(&node, &["--tier", "warm"]).await;
    assert!(!adopted, "{told}");
    let (adopted, told) = adopt(&node, &[]).await;
    assert!(!adopted && told.contains("--yes"), "the database knows of a store, and this is not it: {told}");
    let (adopted, told) = adopt(&node, &["--yes"]).await;
    assert!(adopted, "{told}");
    storage_is(&node, "ok").await;
    assert!(is_whole(&node, &paid).await);
    node.put(&sample(2, SIZE), "text/plain").await;
    let (adopted, told) = adopt(&node, &["--tier", "hot"]).await;
    assert!(adopted && told.contains("there is nothing to do"), "{told}");
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
    storage_is(&node, "ok").await;
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
    storage_is(&node, "down").await;
    let (is_well, told) = checked(&node).await;
    assert!(!is_well && told.contains("mounted") && told.contains(mount.to_str().unwrap()), "{told}");
    node.terminate().await;
    node.boot().await;
    storage_is(&node, "down").await;
    let (code, status, reason) = readiness(&node).await;
    assert_eq!((code, status.as_str()), (503, "down"), "another instance that has the disk is asked");
    assert!(reason.contains("the hot store is empty or missing") && reason.contains("mounted"), "{reason}");
    assert!(!reason.contains(mount.to_str().unwrap()), "health checks need no key, so they show no path: {reason}");
    assert!(stands(&node, "hot", "missing").await && !stands(&node, "hot", "own").await);
    let looks = node.admin(Method::GET, &format!("/v1/storage/verifications/{}", paid.hash)).send().await.unwrap();
    assert_eq!(expect(looks, &[200]).await["items"], serde_json::json!([]), "nothing was found");
    assert_eq!(fs::read_dir(&mount).unwrap().count(), 0, "nothing was made in its place");

    fs::remove_dir(&mount).unwrap();
    fs::rename(&away, &mount).unwrap();
    storage_is(&node, "ok").await;
    assert_eq!(readiness(&node).await, (200, "ok".to_owned(), String::new()));
    assert!(stands(&node, "hot", "own").await && !stands(&node, "hot", "missing").await);
    assert!(is_whole(&node, &paid).await && is_whole(&node, &unread).await);
    node.put(&sample(3, SIZE), "text/plain").await;
    node.finish().await;
}

/// Uploads go to the hot tier, and most of what is asked for is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_its_warm_store_serves_and_stores_in_the_hot_one() {
    let folder = tempfile::tempdir().unwrap();
    let (hot, warm, away) = (folder.path().join("hot"), folder.path().join("warm"), folder.path().join("away"));
    let setup = swept_often(On::Sqlite, &hot).env("PENSTOCK_STORAGE__WARM_ROOT", warm.to_str().unwrap());
    let mut node = setup.start().await;
    let paid = node.paid(&sample(1, SIZE), "unlimited").await;
    fs::rename(&warm, &away).unwrap();
    storage_is(&node, "down").await;
    let (code, status, reason) = readiness(&node).await;
    assert_eq!((code, status.as_str()), (200, "degraded"));
    assert!(reason.contains("the warm store is empty or missing"), "{reason}");
    assert!(stands(&node, "warm", "missing").await && stands(&node, "hot", "own").await);
    assert!(is_whole(&node, &paid).await);
    node.put(&sample(2, SIZE), "text/plain").await;
    fs::rename(&away, &warm).unwrap();
    storage_is(&node, "ok").await;
    assert!(stands(&node, "warm", "own").await);
    node.finish().await;
}

/// A log that says the same with each pass hides what is new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_down_for_many_passes_of_the_janitor_is_reported_once() {
    let folder = tempfile::tempdir().unwrap();
    let (root, away) = (folder.path().join("root"), folder.path().join("away"));
    let mut node = swept_often(On::Sqlite, &root).start().await;
    node.terminate().await;
    let log = Log::of(node.boot_with_stderr().await);
    storage_is(&node, "ok").await;
    fs::rename(&root, &away).unwrap();
    eventually("several passes of the janitor", async || passes(&node).await >= 9.0).await;
    fs::rename(&away, &root).unwrap();
    let swept = |words: &str| log.lines_with(&["step=\"read the storage's clock\"", words]);
    eventually("the step works", async || swept("works again") == 1).await;
    assert_eq!(swept("a clean-up step failed; each pass tries it again"), 1);
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
    storage_is(&other, "down").await;
    expect_problem(upload(&other, b"lost").await, 503, "dependency-unavailable").await;
    for paid in &paid {
        expect_problem(other.stream(paid).send().await.unwrap(), 503, "dependency-unavailable").await;
        let verify = other.admin(Method::POST, &format!("/v1/storage/verify/{}", paid.hash)).send().await.unwrap();
        expect_problem(verify, 503, "dependency-unavailable").await;
        assert!(is_whole(&one, paid).await);
    }
    assert!(!hole.exists());
    storage_is(&one, "ok").await;
    assert_eq!(one.metric("penstock_storage_quarantined", "").await, 0.0);
    assert_eq!(other.metric("penstock_storage_quarantined", "").await, 0.0);
    for node in [&mut one, &mut other] {
        node.finish().await;
    }
}

/// One of two instances was not told of the warm tier: what it does not find there is not lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_without_a_configured_tier_takes_nothing_from_the_others() {
    let database = TestDatabase::empty().await;
    let folder = tempfile::tempdir().unwrap();
    let (hot, warm) = (folder.path().join("hot"), folder.path().join("warm"));
    let setup = || Setup::on_database_of(&database.url()).env("DATA_ROOT", hot.to_str().unwrap());
    let told =
        setup().env("PENSTOCK_STORAGE__WARM_ROOT", warm.to_str().unwrap()).env("PENSTOCK_LIFECYCLE__GRACE", "1s");
    let mut one = told.env("PENSTOCK_VERIFICATION__INTERVAL", "100ms").start().await;
    let paid = one.paid(&sample(1, SIZE), "unlimited").await;
    let to_warm = one.admin(Method::POST, &format!("/v1/storage/move/{}", paid.hash));
    let moved = to_warm.json(&serde_json::json!({ "tier": "warm" })).send().await.unwrap();
    assert_eq!(expect(moved, &[200]).await["status"], "moved");
    eventually("the copy that was left is gone", async || blobs(&hot).is_empty()).await;

    let mut other = setup().start().await;
    assert_eq!(other.stream(&paid).send().await.unwrap().status(), 503);
    let verify = other.admin(Method::POST, &format!("/v1/storage/verify/{}", paid.hash)).send().await.unwrap();
    expect_problem(verify, 503, "dependency-unavailable").await;
    let looks = other.admin(Method::GET, &format!("/v1/storage/verifications/{}", paid.hash)).send().await.unwrap();
    let looks = expect(looks, &[200]).await["items"].as_array().unwrap().clone();
    assert!(looks.iter().all(|look| look["finding"] == "intact"), "{looks:?}");
    for node in [&one, &other] {
        assert_eq!(node.metric("penstock_storage_quarantined", "").await, 0.0);
    }
    assert!(is_whole(&one, &paid).await);
    for node in [&mut one, &mut other] {
        node.finish().await;
    }
}

async fn two_installations_in_one_bucket(client: S3Client) {
    let buckets = TestBuckets::new(client);
    let mut one = Setup::new(On::Sqlite).envs(buckets.env()).start().await;
    let paid = one.paid(&sample(1, SIZE), "unlimited").await;
    let setup = Setup::new(On::Sqlite).envs(buckets.env()).env("PENSTOCK_JANITOR__INTERVAL", "50ms");
    let mut other = setup.env("PENSTOCK_JANITOR__TEMPORARY_AGE", "20min").start().await;
    storage_is(&other, "down").await;
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
    storage_is(&one, "down").await;
    let (_, told) = checked(&one).await;
    assert!(told.contains("is empty or missing") && told.contains(&buckets.prefix), "{told}");
    one.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_installations_in_one_bucket_do_not_touch_each_other() {
    two_installations_in_one_bucket(S3Client::ObjectStore).await;
}

#[cfg(feature = "rusoto")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_installations_in_one_bucket_do_not_touch_each_other_by_the_other_client() {
    two_installations_in_one_bucket(S3Client::Rusoto).await;
}

fn copy_database(from: &Path, to: &Path) {
    let database = rusqlite::Connection::open(from).unwrap();
    database.execute("VACUUM INTO ?1", [to.to_str().unwrap()]).unwrap();
}

/// With nothing left of what was there before.
fn restore_database(from: &Path, to: &Path) {
    for beside in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{beside}", to.display()));
    }
    fs::copy(from, to).unwrap();
}

/// A dump from before an upload is restored: the blob goes out of sight, and is back with the database that knows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_database_does_not_know_comes_back_with_the_newer_one() {
    let root = tempfile::tempdir().unwrap();
    let mut node = swept_often(On::Sqlite, root.path()).start().await;
    let early = node.paid(&sample(1, SIZE), "unlimited").await;
    node.terminate().await;
    let database = node.data_dir().join("penstock.sqlite3");
    let (dump, newer) = (database.with_extension("dump"), database.with_extension("newer"));
    copy_database(&database, &dump);
    node.boot().await;
    let late = node.paid(&sample(2, SIZE), "unlimited").await;
    node.terminate().await;
    copy_database(&database, &newer);
    age(&blobs(&root.path().join("blobs")));

    // As old as the blobs are made to be: a database that began after them would leave them alone.
    let restored = rusqlite::Connection::open(&dump).unwrap();
    restored.execute("UPDATE installation SET created_at = 0", []).unwrap();
    drop(restored);
    restore_database(&dump, &database);
    node.boot().await;
    let trash = root.path().join("trash");
    eventually("the blob is in the trash", async || blobs(&trash).len() == 1).await;
    assert_eq!(node.metric("penstock_janitor_items_total", "orphan_trashed").await, 1.0);
    assert!(is_whole(&node, &early).await);
    node.terminate().await;

    restore_database(&newer, &database);
    node.boot().await;
    assert!(is_whole(&node, &late).await, "a reader need not wait for the janitor");
    assert!(is_whole(&node, &early).await);
    assert_eq!((blobs(&trash).len(), blobs(&root.path().join("blobs")).len()), (0, 2));
    node.finish().await;
}

/// An index that began after the blobs were written never takes them for garbage by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_the_database_goes_to_the_trash_only_when_that_is_confirmed() {
    let root = tempfile::tempdir().unwrap();
    let mut node = swept_often(On::Sqlite, root.path()).start().await;
    node.put(&sample(1, SIZE), "text/plain").await;
    node.finish().await;
    age(&blobs(root.path()));
    let mut other = swept_often(On::Sqlite, root.path()).start().await;
    let (adopted, told) = adopt(&other, &["--yes"]).await;
    assert!(adopted, "{told}");
    storage_is(&other, "ok").await;
    other.metric_becomes("penstock_janitor_left_alone", "orphan", 1.0).await;
    assert_eq!(blobs(&root.path().join("blobs")).len(), 1);
    let swept = async |how: &str| {
        let swept = other.run(&["sweep", how]).await;
        assert!(swept.status.success());
        String::from_utf8(swept.stdout).unwrap()
    };
    assert!(swept("--dry-run").await.contains(" 1 blobs that the index does not know"));
    assert_eq!(blobs(&root.path().join("blobs")).len(), 1);
    assert!(swept("--confirm").await.starts_with("1 blobs that the index does not know were moved to the trash"));
    assert_eq!((blobs(&root.path().join("blobs")).len(), blobs(&root.path().join("trash")).len()), (0, 1));
    other.finish().await;
}

/// A folder of which a part is gone, with its mark still there: the instance doubts itself before it takes all of it from the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_misses_much_at_once_doubts_itself() {
    let root = tempfile::tempdir().unwrap();
    let setup = swept_often(On::Sqlite, root.path()).env("PENSTOCK_VERIFICATION__MISSING_PER_HOUR", "2");
    let mut node = setup.env("PENSTOCK_VERIFICATION__INTERVAL", "100ms").start().await;
    let mut hashes = Vec::new();
    for seed in 0..5 {
        hashes.push(node.put(&sample(seed, SIZE), "text/plain").await);
    }
    for blob in blobs(root.path()) {
        fs::remove_file(blob).unwrap();
    }
    let verify =
        async |hash: &str| node.admin(Method::POST, &format!("/v1/storage/verify/{hash}")).send().await.unwrap();
    for hash in &hashes[..2] {
        assert_eq!(expect(verify(hash).await, &[200]).await["copies"][0]["finding"], "missing");
    }
    storage_is(&node, "ok").await;
    for hash in &hashes[2..] {
        expect_problem(verify(hash).await, 503, "dependency-unavailable").await;
    }
    storage_is(&node, "degraded").await;
    assert!(node.metric("penstock_storage_missing_held_back_total", "").await >= 3.0);
    assert_eq!(node.metric("penstock_storage_quarantined", "").await, 2.0);
    let looks = node.admin(Method::GET, &format!("/v1/storage/verifications/{}", hashes[4])).send().await.unwrap();
    assert_eq!(expect(looks, &[200]).await["items"], serde_json::json!([]), "nothing is put down");
    expect(verify(&hashes[0]).await, &[200]).await;
    node.finish().await;
}
