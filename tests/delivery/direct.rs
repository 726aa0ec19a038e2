//! Delivery by a CDN: an nginx that verifies what the node signs with the few lines of `config/cdn-edge.js`.

use std::{path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use penstock::adapters::{
    files::{FileBlobs, FilesSettings},
    urls::{CdnKey, CdnSigner},
};
use penstock_actors::{
    ids::ContentHash,
    model::StorageTier,
    ports::{BlobStore as _, StoreMarks as _, UrlRequest, UrlSigner as _},
    testkit::url_signer_suite::{self, Fetched},
};
use reqwest::Method;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use crate::{
    given::{ask, header, outsider, path, rows, url},
    nginx::Nginx,
    node::{On, Paid, Setup, TestNode, expect, expect_problem, hex_sha256, sample, text},
    patience::eventually,
    shipped::shipped,
};

const KEY: &str = "a key of thirty-two bytes or more";

/// An edge over these blobs.
async fn edge(blobs: &Path, key: &str) -> Nginx {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/cdn-edge.js");
    let config = shipped(
        "nginx-cdn.conf",
        &[
            ("/etc/nginx/cdn-edge.js", script.to_str().unwrap()),
            ("listen 8090", "listen LISTEN"),
            ("the value of delivery.signing_key", key),
            ("/var/lib/penstock/blobs/blobs/", &format!("{}/blobs/", blobs.display())),
        ],
    );
    Nginx::start(&["/usr/lib/nginx/modules/ngx_http_js_module.so"], &config).await
}

/// A node whose contents a CDN has, and that CDN.
struct Scene {
    node: TestNode,
    edge: Nginx,
    _blobs: tempfile::TempDir,
}

impl Scene {
    async fn start(on: On, settings: &[(&str, &str)]) -> Self {
        let blobs = tempfile::tempdir().unwrap();
        let edge = edge(blobs.path(), KEY).await;
        let node = direct(Setup::new(on), &edge, blobs.path());
        let node = settings.iter().fold(node, |node, &(name, value)| node.env(name, value)).start().await;
        Self { node, edge, _blobs: blobs }
    }
}

pub(crate) fn direct(setup: Setup, edge: &Nginx, blobs: &Path) -> Setup {
    setup
        .env("DATA_DELIVERY_MODE", "direct")
        .env("DATA_ROOT", blobs.to_str().unwrap())
        .env("PENSTOCK_DELIVERY__BASE_URL", edge.url("/content"))
        .env("PENSTOCK_DELIVERY__SIGNING_KEY", KEY)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_and_the_node_keep_the_promises_of_the_port_together() {
    let blobs = tempfile::tempdir().unwrap();
    let bytes = Bytes::from(sample(1, 100_000));
    let hash: ContentHash = hex_sha256(&bytes).parse().unwrap();
    let store =
        FileBlobs::new(FilesSettings { root: blobs.path().to_owned(), warm: None, cold: None }, Handle::current());
    store.prepare(StorageTier::Hot).await.unwrap();
    let mut sink = store.create().await.unwrap();
    sink.write(bytes.clone()).await.unwrap();
    sink.commit(hash, &[Sha256::digest(&bytes).into()]).await.unwrap();
    let edge = edge(blobs.path(), KEY).await;
    let client = outsider();
    for key in [CdnKey::new(KEY, ""), CdnKey::new(KEY, "2026-10")] {
        let signer = CdnSigner::new(&edge.url("/content/"), key, Arc::new(store.clone()));
        url_signer_suite::run(&signer, (hash, bytes.clone()), async |url| {
            let answer = client.get(url).send().await.unwrap();
            let field = |name| Some(header(&answer, name).to_owned());
            Fetched {
                status: answer.status().as_u16(),
                media_type: field("content-type"),
                disposition: field("content-disposition"),
                body: answer.bytes().await.unwrap(),
            }
        })
        .await;
    }
    let foreign =
        CdnSigner::new(&edge.url("/content"), CdnKey::new("another key of thirty-two bytes!", ""), Arc::new(store));
    let until = Timestamp::now() + Duration::from_secs(60);
    let wanted = UrlRequest { content_hash: hash, until, media_type: "a/b", disposition: "inline" };
    let url = foreign.sign(&wanted).await.unwrap().unwrap().url;
    assert_eq!(client.get(url).send().await.unwrap().status(), 403, "signed by somebody else");
    assert_eq!(
        client.get(edge.url(&format!("/content/{hash}"))).send().await.unwrap().status(),
        403,
        "signed by nobody"
    );
}

async fn a_url_gives_all_of_the_content_and_is_charged_once(on: On) {
    let Scene { mut node, edge, _blobs } = Scene::start(on, &[]).await;
    let bytes = sample(2, 2_500_000);
    let hash = node.put(&bytes, "video/mp4").await;
    let version = node.publish(&hash, "Füße.mp4").await;
    let receipt = node.receipt(&version, json!({ "quotaTier": "standard" })).await;
    let paid = Paid { hash: hash.clone(), version, receipt: receipt.clone() };

    let before = Timestamp::now();
    let answer = node.get(&path(&paid)).send().await.unwrap();
    assert_eq!(header(&answer, "cache-control"), "no-store");
    assert_eq!(header(&answer, "x-quota-tier"), "standard");
    assert_eq!(header(&answer, "x-receipt-id"), receipt);
    let answer = expect(answer, &[200]).await;
    assert_eq!(answer["delivery"]["method"], "GET");
    assert_eq!(answer["delivery"]["headers"], json!({}));
    let expires_at: Timestamp = answer["delivery"]["expiresAt"].as_str().unwrap().parse().unwrap();
    // Made between these two moments, for 300 s, cut to the second.
    let made = before.as_second()..=Timestamp::now().as_second();
    assert!((made.start() + 299..=made.end() + 300).contains(&expires_at.as_second()), "{expires_at}, {made:?}");
    let metadata = &answer["metadata"];
    assert_eq!(metadata["contentHash"], hash);
    assert_eq!((&metadata["sizeBytes"], &metadata["chargedBytes"]), (&json!(2_500_000), &json!(2_500_000)));
    assert_eq!((&metadata["mediaType"], &metadata["name"]), (&json!("video/mp4"), &json!("Füße.mp4")));
    assert_eq!(metadata["remainingBytes"], (1_u64 << 30) - 2_500_000);

    // A client that was given no more than this gets the content, checks it, and goes on with ranges.
    let (client, url) = (outsider(), url(&answer));
    assert!(url.starts_with(&edge.url("/content/")), "{url}");
    let got = client.get(&url).send().await.unwrap();
    assert_eq!(header(&got, "content-type"), "video/mp4");
    assert_eq!(
        header(&got, "content-disposition"),
        "inline; filename=\"F__e.mp4\"; filename*=UTF-8''F%C3%BC%C3%9Fe.mp4"
    );
    assert!(header(&got, "content-security-policy").starts_with("sandbox"));
    assert_eq!(header(&got, "cross-origin-resource-policy"), "cross-origin");
    assert_eq!(header(&got, "x-content-type-options"), "nosniff");
    let got = got.bytes().await.unwrap();
    let digest = STANDARD.encode(Sha256::digest(&got));
    assert_eq!(metadata["reprDigest"], format!("sha-256=:{digest}:"));
    let part = client.get(&url).header("range", "bytes=1000000-1000009").send().await.unwrap();
    assert_eq!((part.status().as_u16(), part.bytes().await.unwrap().as_ref()), (206, &bytes[1_000_000..1_000_010]));

    assert_eq!(node.charged(&receipt).await, (2_500_000, 1), "however often it is fetched");
    assert_eq!(rows(&node, &receipt).await, [("delegated".to_owned(), 2_500_000)]);
    // Its own stream is another matter, and another row.
    assert!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap() == bytes);
    assert_eq!(rows(&node, &receipt).await[1], ("completed".to_owned(), 2_500_000));
    assert_eq!(node.metric("penstock_deliveries_total", "mode=\"direct\",outcome=\"given\"").await, 1.0);
    assert_eq!(node.metric("penstock_deliveries_total", "mode=\"stream\",outcome=\"given\"").await, 1.0);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_gives_all_of_the_content_and_is_charged_once_on_sqlite() {
    a_url_gives_all_of_the_content_and_is_charged_once(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_gives_all_of_the_content_and_is_charged_once_on_postgres() {
    a_url_gives_all_of_the_content_and_is_charged_once(On::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wants_to_be_redirected_is() {
    let Scene { mut node, edge, _blobs } = Scene::start(On::Sqlite, &[]).await;
    let bytes = sample(3, 1000);
    let paid = node.paid(&bytes, "standard").await;
    let redirect = outsider().get(node.url(&format!("{}&redirect=true", path(&paid)))).send().await.unwrap();
    assert_eq!(redirect.status(), 302);
    assert_eq!(header(&redirect, "cache-control"), "no-store");
    assert_eq!(header(&redirect, "referrer-policy"), "no-referrer");
    assert_eq!(header(&redirect, "x-receipt-id"), paid.receipt);
    let location = header(&redirect, "location").to_owned();
    assert!(location.starts_with(&edge.url("/content/")), "{location}");
    assert_eq!(redirect.bytes().await.unwrap().len(), 0);
    assert_eq!(outsider().get(location).send().await.unwrap().bytes().await.unwrap(), bytes);
    // Any client that follows gets there by itself.
    let followed = node.get(&format!("{}&redirect=true", path(&paid))).send().await.unwrap();
    assert_eq!(followed.bytes().await.unwrap(), bytes);
    assert_eq!(node.charged(&paid.receipt).await, (2000, 2));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_is_good_for_its_time_and_never_longer_than_the_receipt() {
    let Scene { mut node, edge: _edge, _blobs } = Scene::start(On::Sqlite, &[("PRESIGN_TTL_SEC", "3")]).await;
    let paid = node.paid(&sample(4, 1000), "standard").await;
    let expiry = |answer: &serde_json::Value| -> Timestamp {
        answer["delivery"]["expiresAt"].as_str().unwrap().parse().unwrap()
    };
    let asked = Timestamp::now();
    let answer = ask(&node, &paid).await;
    let answered = Timestamp::now();
    assert!(
        expiry(&answer).as_second() >= asked.as_second() + 3 && expiry(&answer).as_second() <= answered.as_second() + 3
    );
    assert_eq!(
        url(&answer).split("expires=").nth(1).unwrap().split('&').next(),
        Some(&*expiry(&answer).as_second().to_string())
    );
    // Good until then, refused from then on.
    let (client, url) = (outsider(), url(&answer));
    loop {
        let began = Timestamp::now();
        let status = client.get(&url).send().await.unwrap().status().as_u16();
        if Timestamp::now() < expiry(&answer) {
            assert_eq!(status, 200);
        } else if began >= expiry(&answer) {
            assert_eq!(status, 403);
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A receipt that ends sooner takes its URLs along.
    let soon = Timestamp::now() + Duration::from_millis(2600);
    let receipt = node.receipt(&paid.version, json!({ "expiresAt": soon.to_string() })).await;
    let answer = node.get(&path(&Paid { receipt, ..paid })).send().await.unwrap();
    if answer.status() == 200 {
        assert!(expiry(&expect(answer, &[200]).await) <= soon);
    } else {
        // A machine that took so long has met the end of the receipt.
        expect_problem(answer, 403, "receipt-expired").await;
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_and_conditions_are_answered_without_a_url_and_charged_nothing() {
    let Scene { mut node, edge: _edge, _blobs } = Scene::start(On::Sqlite, &[]).await;
    let paid = node.paid(&sample(5, 1234), "standard").await;
    let head = node.client.head(node.url(&path(&paid))).send().await.unwrap();
    assert_eq!((head.status().as_u16(), header(&head, "content-length")), (200, "1234"));
    assert_eq!(header(&head, "etag"), format!("\"{}\"", paid.hash));
    assert!(header(&head, "repr-digest").starts_with("sha-256=:"));
    let fresh = node.get(&path(&paid)).header("if-none-match", format!("\"{}\"", paid.hash)).send().await.unwrap();
    assert_eq!(fresh.status(), 304);
    let other = node.get(&path(&paid)).header("if-match", "\"other\"").send().await.unwrap();
    expect_problem(other, 412, "precondition-failed").await;
    let unclear = node.get(&format!("{}&redirect=yes", path(&paid))).send().await.unwrap();
    expect_problem(unclear, 400, "malformed-request").await;
    assert_eq!(node.charged(&paid.receipt).await, (0, 0));
    // Of a URL no part can be given, so a range is no reason to refuse, and changes nothing.
    let ranged = node.get(&path(&paid)).header("range", "bytes=5000-").send().await.unwrap();
    assert_eq!(expect(ranged, &[200]).await["metadata"]["chargedBytes"], 1234);
    assert_eq!(node.charged(&paid.receipt).await, (1234, 1));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_counts_what_was_handed_over_and_leaves_its_position_alone() {
    let Scene { mut node, edge: _edge, _blobs } = Scene::start(On::Sqlite, &[]).await;
    let paid = node.paid(&sample(6, 1000), "standard").await;
    let open = node.client.request(Method::POST, node.url("/v1/streaming/sessions"));
    let session = expect(open.json(&json!({ "receiptId": paid.receipt })).send().await.unwrap(), &[201]).await;
    let session = text(&session, "sessionId");
    let answer = node.get(&path(&paid)).header("x-session-id", &session).send().await.unwrap();
    assert_eq!(header(&answer, "x-session-id"), session);
    assert_eq!(expect(answer, &[200]).await["metadata"]["sessionId"], session);
    node.charged(&paid.receipt).await;
    let session = expect(node.get(&format!("/v1/streaming/sessions/{session}")).send().await.unwrap(), &[200]).await;
    assert_eq!((&session["bytesDelivered"], &session["position"]), (&json!(1000), &json!(0)), "{session}");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_whose_bytes_are_gone_is_charged_nothing() {
    let Scene { mut node, edge: _edge, _blobs } = Scene::start(On::Sqlite, &[]).await;
    let paid = node.paid(&sample(7, 1000), "standard").await;
    let blob = _blobs.path().join("blobs").join(&paid.hash[..2]).join(&paid.hash[2..4]).join(&paid.hash);
    std::fs::rename(&blob, blob.with_extension("away")).unwrap();
    let gone = node.get(&path(&paid)).send().await.unwrap();
    expect_problem(gone, 503, "content-unavailable").await;
    assert_eq!(node.charged(&paid.receipt).await, (0, 0));
    assert_eq!(node.metric("penstock_deliveries_total", "mode=\"direct\",outcome=\"failed\"").await, 1.0);
    std::fs::rename(blob.with_extension("away"), &blob).unwrap();
    // That somebody came upon it has set off a look, which may still be under way.
    eventually("readers get it again", async || {
        let verify = format!("/v1/storage/verify/{}", paid.hash);
        expect(node.admin(Method::POST, &verify).send().await.unwrap(), &[200]).await;
        node.get(&path(&paid)).send().await.unwrap().status() != 503
    })
    .await;
    assert_eq!(node.charged(&paid.receipt).await, (1000, 1));
    node.finish().await;
}
