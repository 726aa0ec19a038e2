//! The main job with blobs in S3: what is on files elsewhere is the same here.

use penstock::config::S3Client;
use penstock_actors::testkit::blob_store_suite::Sample;
use reqwest::Method;

use crate::{
    node::{On, Setup, expect, expect_problem, sample},
    patience::eventually,
    s3::TestBuckets,
};

const SIZE: usize = 12_345_678;

fn setup(on: On, buckets: &TestBuckets) -> Setup {
    Setup::new(on).envs(buckets.env())
}

async fn content_goes_in_and_comes_out(on: On) {
    let buckets = TestBuckets::new(S3Client::ObjectStore);
    let mut node = setup(on, &buckets).start().await;
    let bytes = sample(1, SIZE);
    let paid = node.paid(&bytes, "unlimited").await;
    assert!(!node.data_dir().join("blobs").exists(), "nothing is on the node's disk");

    let answer = node.stream(&paid).send().await.unwrap();
    assert_eq!(answer.headers()["etag"], format!("\"{}\"", paid.hash));
    assert!(answer.bytes().await.unwrap() == bytes);
    for (field, first, last) in
        [("bytes=0-0", 0, 0), ("bytes=5242870-5242890", 5_242_870, 5_242_890), ("bytes=-7", SIZE - 7, SIZE - 1)]
    {
        let answer = node.stream(&paid).header("range", field).send().await.unwrap();
        assert_eq!(answer.status(), 206, "{field}");
        assert_eq!(answer.headers()["content-range"], format!("bytes {first}-{last}/{SIZE}"));
        assert!(answer.bytes().await.unwrap() == bytes[first..=last], "{field}");
    }
    assert_eq!(node.charged(&paid.receipt).await, ((SIZE + 1 + 21 + 7) as u64, 4));

    // A client that left in the middle goes on where it was.
    let mut got = Vec::new();
    let mut answer = node.stream(&paid).send().await.unwrap();
    while got.len() < 3_000_000 {
        got.extend(answer.chunk().await.unwrap().expect("more"));
    }
    drop(answer);
    let rest = node.stream(&paid).header("range", format!("bytes={}-", got.len()));
    let rest = rest.header("if-range", format!("\"{}\"", paid.hash)).send().await.unwrap();
    assert_eq!(rest.status(), 206);
    got.extend(rest.bytes().await.unwrap());
    assert!(got == bytes);

    // The same content again, and a node that starts anew.
    let again = node.admin(Method::POST, "/v1/content").body(bytes.clone()).send().await.unwrap();
    assert_eq!(expect(again, &[200]).await["created"], false);
    assert_eq!(buckets.all_keys("data").await.len(), 1);
    assert!(node.terminate().await.success());
    node.boot().await;
    assert!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap() == bytes);

    // What the node says is what operators look at.
    let ready = expect(node.get("/health/ready").send().await.unwrap(), &[200]).await;
    assert_eq!(ready["dependencies"]["storage"], "ok");
    assert!(node.metric("penstock_s3_requests_total", "operation=\"get\",outcome=\"ok\"").await >= 12.0);
    assert!(node.metric("penstock_s3_bytes_total", "read").await >= SIZE as f64);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_goes_in_and_comes_out_with_sqlite() {
    content_goes_in_and_comes_out(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_goes_in_and_comes_out_with_postgres() {
    content_goes_in_and_comes_out(On::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_refused_leaves_nothing_in_the_buckets() {
    let buckets = TestBuckets::new(S3Client::ObjectStore);
    let mut node = setup(On::Sqlite, &buckets).env("PENSTOCK_UPLOADS__MAX_BYTES", "8MiB").start().await;
    let wrong = node.admin(Method::POST, &format!("/v1/content?contentHash={}", "0".repeat(64)));
    expect_problem(wrong.body(sample(2, 6_000_000)).send().await.unwrap(), 422, "digest-mismatch").await;
    let long = node.admin(Method::POST, "/v1/content").body(sample(3, 9_000_000)).send().await;
    // The node may close the connection before all of it was sent.
    if let Ok(answer) = long {
        expect_problem(answer, 413, "upload-too-large").await;
    }
    node.metric_becomes("penstock_uploads_active", "", 0.0).await;
    eventually("nothing is left", async || {
        buckets.all_keys("data").await.is_empty()
            && buckets.all_keys("uploads").await.is_empty()
            && buckets.unfinished().await.is_empty()
    })
    .await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_no_catalogue_knows_is_swept_up() {
    let buckets = TestBuckets::new(S3Client::ObjectStore);
    let blobs = buckets.store().await;
    let (one, large) = (Sample::of(1000), Sample::of(6_000_000));
    let mut node = setup(On::Sqlite, &buckets)
        .env("PENSTOCK_S3__PART_TIMEOUT", "500ms")
        .env("PENSTOCK_JANITOR__TEMPORARY_AGE", "4s")
        .env("PENSTOCK_LIFECYCLE__GRACE", "1s")
        .env("PENSTOCK_UPLOADS__IDLE_TIMEOUT", "3s")
        .env("PENSTOCK_JANITOR__INTERVAL", "200ms")
        .env("PENSTOCK_JANITOR__TRASH_TTL", "1s")
        .start()
        .await;
    one.store(&blobs).await.unwrap();
    large.store(&blobs).await.unwrap();
    let kept = node.put(b"kept", "text/plain").await;
    node.metric_becomes("penstock_janitor_items_total", "trash_removed", 2.0).await;
    eventually("their bytes go too, once nobody can be reading them", async || {
        buckets.all_keys("data").await.len() == 1 && buckets.all_keys("uploads").await.is_empty()
    })
    .await;
    assert!(buckets.all_keys("blobs").await[0].ends_with(&kept));
    assert!(buckets.all_keys("retired").await.is_empty() && buckets.all_keys("trash").await.is_empty());
    assert!(node.metric("penstock_storage_trash_removed_bytes_total", "").await == 6_001_000.0);
    node.finish().await;
}
