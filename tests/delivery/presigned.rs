//! Delivery by the object storage itself, under URLs that the node signs, and by nginx that fetches with them.

use std::time::Duration;

use jiff::Timestamp;
use penstock::config::S3Client;
use reqwest::Method;
use serde_json::json;
use tokio::process::Command;

use crate::{
    accel::{accel, front},
    given::{ask, header, outsider, path, rows, url},
    nginx::Nginx,
    node::{On, Paid, Setup, TestNode, expect, expect_problem, sample},
    patience::eventually,
    postgres::TestDatabase,
    s3::{BUCKETS, TestBuckets, told},
    shipped::shipped,
};

/// On these buckets.
fn stored(setup: Setup, buckets: &TestBuckets) -> Setup {
    buckets.env().into_iter().fold(setup, |setup, (name, value)| setup.env(name, value))
}

fn presigned(setup: Setup, buckets: &TestBuckets) -> Setup {
    stored(setup, buckets).env("DATA_DELIVERY_MODE", "presigned")
}

/// What `curl` makes of a URL, as anybody would use it: the status and the body.
async fn curl(url: &str, arguments: &[&str]) -> (u16, Vec<u8>) {
    let body = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new("curl")
        .args(["-sS", "-w", "%{http_code}", "-o", body.path().to_str().unwrap()])
        .args(arguments)
        .arg(url)
        .output()
        .await
        .unwrap_or_else(|error| panic!("curl is needed (./test installs it): {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let status = String::from_utf8(output.stdout).unwrap().parse().unwrap();
    (status, std::fs::read(body.path()).unwrap())
}

on_each_client!(a_url_works_with_plain_curl_and_not_when_it_was_tampered_with, async |buckets: TestBuckets| {
    let mut node = presigned(Setup::new(On::Sqlite), &buckets).start().await;
    // More than one part of an upload.
    let bytes = sample(40, 6_500_000);
    let hash = node.put(&bytes, "video/mp4").await;
    let version = node.publish(&hash, "Füße & more.mp4").await;
    let receipt = node.receipt(&version, json!({ "quotaTier": "premium" })).await;
    let paid = Paid { hash, version, receipt };
    let answer = ask(&node, &paid).await;
    let url = url(&answer);
    assert!(url.starts_with(&told("ENDPOINT")), "{url}");

    let (status, body) = curl(&url, &[]).await;
    assert!(status == 200 && body == bytes);
    let (status, body) = curl(&url, &["-r", "6000000-6000099"]).await;
    assert_eq!((status, &*body), (206, &bytes[6_000_000..6_000_100]));
    let named = outsider().get(&url).send().await.unwrap();
    assert_eq!(header(&named, "content-type"), "video/mp4");
    assert_eq!(
        header(&named, "content-disposition"),
        "inline; filename=\"F__e & more.mp4\"; filename*=UTF-8''F%C3%BC%C3%9Fe%20&%20more.mp4"
    );
    assert_eq!(curl(&url.replace("video", "audio"), &[]).await.0, 403);
    assert_eq!(curl(url.split('?').next().unwrap(), &[]).await.0, 403);
    assert_eq!(curl(&url.replace(BUCKETS[0], BUCKETS[1]), &[]).await.0, 403);

    assert_eq!(node.charged(&paid.receipt).await, (6_500_000, 1), "once for the URL, whatever is made of it");
    assert_eq!(rows(&node, &paid.receipt).await, [("delegated".to_owned(), 6_500_000)]);
    let again = node.get(&format!("{}&redirect=true", path(&paid))).send().await.unwrap();
    assert!(again.bytes().await.unwrap() == bytes, "a redirect leads there too");
    assert_eq!(node.charged(&paid.receipt).await, (13_000_000, 2));
    node.finish().await;
});

on_each_client!(a_url_ends_when_it_says, async |buckets: TestBuckets| {
    let mut node = presigned(Setup::new(On::Sqlite), &buckets).env("PRESIGN_TTL_SEC", "2").start().await;
    let paid = node.paid(&sample(41, 1000), "standard").await;
    let asked = Timestamp::now();
    let answer = ask(&node, &paid).await;
    let expires_at: Timestamp = answer["delivery"]["expiresAt"].as_str().unwrap().parse().unwrap();
    assert!(expires_at > asked + Duration::from_millis(900) && expires_at <= Timestamp::now() + Duration::from_secs(2));
    loop {
        let began = Timestamp::now();
        let status = curl(&url(&answer), &[]).await.0;
        if Timestamp::now() < expires_at {
            assert_eq!(status, 200);
        }
        // The storage's clock is the same, but it may count the last second in.
        if began >= expires_at + Duration::from_secs(1) {
            assert_eq!(status, 403);
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(node.charged(&paid.receipt).await, (1000, 1));
    node.finish().await;
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_the_storage_has_lost_is_charged_nothing() {
    let buckets = TestBuckets::new(S3Client::ObjectStore);
    let mut node = presigned(Setup::new(On::Sqlite), &buckets).start().await;
    let bytes = sample(42, 1000);
    let paid = node.paid(&bytes, "standard").await;
    let data = buckets.keys(BUCKETS[0], "data").await.remove(0);
    buckets.remove(BUCKETS[0], &data).await;
    // Nobody reads what others deliver: whoever asks for it sets off the look at it.
    for damaged in [None, Some(bytes[..500].to_vec())] {
        if let Some(damaged) = damaged {
            buckets.put(BUCKETS[0], &data, damaged).await;
        }
        expect_problem(node.get(&path(&paid)).send().await.unwrap(), 503, "content-unavailable").await;
        assert_eq!(node.charged(&paid.receipt).await, (0, 0));
        node.metric_becomes("penstock_storage_quarantined", "", 1.0).await;
        buckets.put(BUCKETS[0], &data, bytes.clone()).await;
        let looked = node.admin(Method::POST, &format!("/v1/storage/verify/{}", paid.hash)).send().await.unwrap();
        assert_eq!(expect(looked, &[200]).await["status"], "intact");
    }
    assert_eq!(curl(&url(&ask(&node, &paid).await), &[]).await, (200, bytes));
    assert_eq!(node.charged(&paid.receipt).await, (1000, 1));
    node.finish().await;
}

/// The content is in the hot bucket, where new content comes, and URLs are for another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_of_another_tier_is_streamed_with_its_ranges_and_charged_as_such() {
    let buckets = TestBuckets::new(S3Client::ObjectStore);
    let mut node = presigned(Setup::new(On::Sqlite), &buckets).env("DATA_DELIVERY_TIER", "warm").start().await;
    let bytes = sample(43, 100_000);
    let paid = node.paid(&bytes, "standard").await;
    let whole = node.get(&path(&paid)).send().await.unwrap();
    assert_eq!(header(&whole, "etag"), format!("\"{}\"", paid.hash));
    assert!(whole.bytes().await.unwrap() == bytes);
    let part = node.get(&path(&paid)).header("range", "bytes=10-19").send().await.unwrap();
    assert_eq!((part.status().as_u16(), part.bytes().await.unwrap().as_ref()), (206, &bytes[10..20]));
    assert_eq!(node.charged(&paid.receipt).await, (100_010, 2));
    assert!(rows(&node, &paid.receipt).await.iter().all(|(outcome, _)| outcome == "completed"));
    assert_eq!(node.metric("penstock_deliveries_total", "mode=\"stream\",outcome=\"given\"").await, 2.0);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_the_node_streams_for_want_of_a_url_is_warmed() {
    let buckets = TestBuckets::new(S3Client::ObjectStore);
    let setup = presigned(Setup::new(On::Sqlite), &buckets).env("PENSTOCK_CACHE__WARM_INTERVAL", "200ms");
    let mut node = setup.env("DATA_DELIVERY_TIER", "warm").start().await;
    let bytes = sample(46, 100_000);
    let paid = node.paid(&bytes, "standard").await;
    assert!(node.get(&path(&paid)).send().await.unwrap().bytes().await.unwrap() == bytes);
    eventually("it is warmed", async || node.metric("penstock_cache_warmed_total", "kind=\"content\"").await > 0.0)
        .await;
    node.finish().await;
}

/// A CDN finds a content in its bucket under the key of its data, which only the node knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cdn_is_led_to_where_the_storage_has_the_bytes() {
    let buckets = TestBuckets::new(S3Client::ObjectStore);
    let mut node = stored(Setup::new(On::Sqlite), &buckets)
        .env("DATA_DELIVERY_MODE", "direct")
        .env("DATA_DELIVERY_TIER", "hot")
        .env("PENSTOCK_DELIVERY__BASE_URL", "https://cdn.example.com")
        .env("PENSTOCK_DELIVERY__SIGNING_KEY", "0123456789abcdef0123456789abcdef")
        .start()
        .await;
    let paid = node.paid(&sample(47, 1000), "standard").await;
    let url = url(&ask(&node, &paid).await);
    let data = buckets.keys(BUCKETS[0], "data").await.remove(0);
    assert!(url.starts_with(&format!("https://cdn.example.com/{}/{data}?expires=", buckets.prefix)), "{url}");
    assert_eq!(node.charged(&paid.receipt).await, (1000, 1));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_on_one_storage_give_no_url_too_many() {
    const SIZE: u64 = 10_000;
    let (database, buckets) = (TestDatabase::empty().await, TestBuckets::new(S3Client::ObjectStore));
    let setup = || {
        presigned(Setup::on_database_of(&database.url()), &buckets)
            .env("PENSTOCK_QUOTA__ENTRY_TTL", "300ms")
            .env("PENSTOCK_QUOTA__REFUSAL_TTL", "50ms")
            .start()
    };
    let (mut one, mut other) = tokio::join!(setup(), setup());
    one.tier("tight", json!({ "bytesPerMonth": 20 * SIZE + SIZE / 2, "requestsPerMonth": 1000 })).await;
    let paid = one.paid(&sample(44, SIZE as usize), "tight").await;
    let nodes = [&one, &other];
    let wanted = async |node: &TestNode| {
        let answer = node.get(&path(&paid)).send().await.unwrap();
        if answer.status() != 200 {
            expect_problem(answer, 429, "quota-exceeded").await;
            return 0;
        }
        let url = url(&expect(answer, &[200]).await);
        assert_eq!(outsider().get(url).send().await.unwrap().bytes().await.unwrap().len() as u64, SIZE);
        1
    };
    let wanted = &wanted;
    let mut given: u64 = 0;
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while given < 20 {
        given += futures::future::join_all((0..30).map(|n| wanted(nodes[n % 2]))).await.into_iter().sum::<u64>();
        assert!(given <= 20 && std::time::Instant::now() < deadline, "{given} of 20");
    }
    for node in nodes {
        assert_eq!(wanted(node).await, 0, "not one more");
        // The other node's last batch may be on its way.
        while node.charged(&paid.receipt).await != (20 * SIZE, 20) {
            assert!(std::time::Instant::now() < deadline, "{:?}", node.charged(&paid.receipt).await);
        }
    }
    assert_eq!(rows(&one, &paid.receipt).await, vec![("delegated".to_owned(), SIZE); 20]);
    one.finish().await;
    other.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_fetches_from_the_storage_what_the_node_has_charged() {
    let buckets = TestBuckets::new(S3Client::ObjectStore);
    let mut node = stored(accel(On::Sqlite), &buckets).start().await;
    let endpoint = told("ENDPOINT");
    let host = endpoint.split_once("://").unwrap().1;
    let locations = shipped("nginx-accel-s3.conf", &[("https://s3.example.com", &endpoint), ("s3.example.com", host)]);
    let nginx = Nginx::start(&[], &front(&node, &locations)).await;
    let bytes = sample(45, 3_000_000);
    let hash = node.put(&bytes, "video/mp4").await;
    let version = node.publish(&hash, "Füße.mp4").await;
    let receipt = node.receipt(&version, json!({ "quotaTier": "premium" })).await;
    let paid = Paid { hash, version, receipt };
    // Nothing that the client says reaches the storage, but for its range.
    let request = || {
        outsider()
            .get(nginx.url(&path(&paid)))
            .header("authorization", "Bearer x")
            .header("if-none-match", "\"other\"")
            .header("x-amz-date", "20200101T000000Z")
    };
    let answer = request().send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "content-type"), "video/mp4");
    assert_eq!(header(&answer, "etag"), format!("\"{}\"", paid.hash));
    assert_eq!(answer.headers().get_all("content-disposition").iter().count(), 1);
    assert_eq!(
        header(&answer, "content-disposition"),
        "inline; filename=\"F__e.mp4\"; filename*=UTF-8''F%C3%BC%C3%9Fe.mp4"
    );
    assert_eq!((header(&answer, "x-receipt-id"), header(&answer, "x-quota-tier")), (&*paid.receipt, "premium"));
    let stored = node.stream(&paid).header("if-none-match", "*").send().await.unwrap();
    assert_eq!(header(&answer, "last-modified"), header(&stored, "last-modified"));
    assert!(!header(&answer, "repr-digest").is_empty());
    assert!(header(&answer, "content-security-policy").starts_with("sandbox"));
    assert_eq!(header(&answer, "cross-origin-resource-policy"), "cross-origin");
    assert!(answer.bytes().await.unwrap() == bytes);
    let part = request().header("range", "bytes=100-199").send().await.unwrap();
    assert_eq!(header(&part, "content-range"), "bytes 100-199/3000000");
    assert_eq!(header(&part, "etag"), format!("\"{}\"", paid.hash));
    assert_eq!((part.status().as_u16(), part.bytes().await.unwrap().as_ref()), (206, &bytes[100..200]));
    assert_eq!(node.charged(&paid.receipt).await, (3_000_100, 2));
    assert!(rows(&node, &paid.receipt).await.iter().all(|(outcome, _)| outcome == "delegated"));
    let outside = outsider().get(nginx.url(&format!("/_penstock/s3/{host}/{}/x", BUCKETS[0]))).send().await.unwrap();
    assert_eq!(outside.status(), 404);
    assert_eq!(nginx.complaints(), "");
    node.finish().await;
}

/// The storage refuses, and what it says, such as whose key was used, stays between it and nginx.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_the_storage_behind_nginx_do_not_reach_clients() {
    let buckets = TestBuckets::new(S3Client::ObjectStore);
    let mut node = stored(accel(On::Sqlite), &buckets).start().await;
    let endpoint = told("ENDPOINT");
    let host = endpoint.split_once("://").unwrap().1;
    let locations = shipped("nginx-accel-s3.conf", &[("https://s3.example.com", &endpoint), ("s3.example.com", host)]);
    // A proxy that is not what was signed for.
    let locations = locations
        .replace("proxy_set_header Connection \"\";", "proxy_set_header Connection \"\"; proxy_set_header Host other;");
    let nginx = Nginx::start(&[], &front(&node, &locations)).await;
    let paid = node.paid(&sample(46, 1000), "standard").await;
    let answer = outsider().get(nginx.url(&path(&paid))).send().await.unwrap();
    let problem = expect_problem(answer, 503, "content-unavailable").await.to_string();
    assert!(!problem.contains("Signature") && !problem.contains(BUCKETS[0]), "{problem}");
    node.finish().await;
}
