//! Resumable uploads: any interruption costs the bytes of one part at most, and the content is the one that was sent.

use std::{path::Path, process::Stdio, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::stream;
use penstock::config::S3Client;
use penstock_actors::testkit::dice::Dice;
use reqwest::{Body, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use crate::{
    node::{ADMIN_KEY, On, Setup, TestNode, expect, expect_problem, hex_sha256, sample, text},
    patience::eventually,
    s3::TestBuckets,
};

const MIB: usize = 1 << 20;

/// The largest part.
const PART: usize = 8 * MIB;

/// A request of the protocol.
fn tus(node: &TestNode, method: &str, place: &str) -> RequestBuilder {
    node.admin(method.parse().unwrap(), place).header("tus-resumable", "1.0.0")
}

fn append(node: &TestNode, place: &str, offset: u64, body: impl Into<Body>) -> RequestBuilder {
    let call = tus(node, "PATCH", place).header("upload-offset", offset);
    call.header("content-type", "application/offset+octet-stream").body(body)
}

/// Begins an upload of so many bytes; its path.
async fn begin(node: &TestNode, length: usize, metadata: &str) -> String {
    let call = tus(node, "POST", "/v1/uploads").header("upload-length", length).header("upload-metadata", metadata);
    created(&call.send().await.unwrap())
}

fn created(answer: &Response) -> String {
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.headers()["tus-resumable"], "1.0.0");
    assert!(answer.headers().contains_key("upload-expires"));
    let place = answer.headers()["location"].to_str().unwrap().to_owned();
    assert!(place.starts_with("/v1/uploads/"), "{place}");
    place
}

async fn offset(node: &TestNode, place: &str) -> u64 {
    let answer = tus(node, "HEAD", place).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    number(&answer, "upload-offset")
}

fn number(answer: &Response, field: &str) -> u64 {
    answer.headers()[field].to_str().unwrap().parse().unwrap()
}

/// The content of a complete upload: its hash.
async fn content(node: &TestNode, place: &str) -> String {
    let document = expect(tus(node, "GET", place).send().await.unwrap(), &[200]).await;
    assert_eq!(document["isComplete"], true, "{document}");
    text(&document, "contentHash")
}

/// That the node sells these bytes.
async fn assert_streams(node: &TestNode, bytes: &[u8]) {
    let hash = hex_sha256(bytes);
    let version = node.publish(&hash, "film.mp4").await;
    let receipt = node.receipt(&version, json!({ "quotaTier": "unlimited" })).await;
    let got = node.get(&format!("/v1/streaming/data/{hash}")).header("x-receipt-id", receipt).send().await.unwrap();
    assert_eq!(got.status(), 200);
    assert!(got.bytes().await.unwrap() == bytes);
}

/// A body of these bytes that then neither goes on nor ends.
fn hanging(bytes: &[u8]) -> Body {
    let parts: Vec<_> = bytes.chunks(100_000).map(|part| Ok::<_, std::io::Error>(part.to_vec())).collect();
    Body::wrap_stream(stream::select(stream::iter(parts), stream::pending()))
}

/// The files of parts.
fn parts(node: &TestNode) -> usize {
    let uploads = std::fs::read_dir(node.data_dir().join("blobs/parts")).into_iter().flatten().flatten();
    uploads.map(|folder| std::fs::read_dir(folder.path()).map_or(0, Iterator::count)).sum()
}

on_both!(an_upload_goes_on_where_it_stopped, async |node: &mut TestNode| {
    let bytes = sample(200, PART + 3 * MIB);
    let metadata =
        format!("filename ZmlsbQ==,filetype dmlkZW8vbXA0,contentHash {}", STANDARD.encode(hex_sha256(&bytes)));
    let place = begin(node, bytes.len(), &metadata).await;
    let answer = append(node, &place, 0, bytes[..MIB].to_vec()).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), number(&answer, "upload-offset")), (204, MIB as u64));

    // A client that is cut off in the middle of a body: what arrived is kept.
    let call = append(node, &place, MIB as u64, hanging(&bytes[MIB..3 * MIB]));
    let sending = tokio::spawn(call.send());
    eventually("the body arrives", async || node.metric("penstock_admission_in_use", "uploads").await > 0.0).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    sending.abort();
    eventually("what arrived is kept", async || {
        node.metric("penstock_admission_in_use", "uploads").await == 0.0 && offset(node, &place).await > MIB as u64
    })
    .await;
    let now = offset(node, &place).await as usize;
    assert!(now <= 3 * MIB);

    let problem = expect_problem(append(node, &place, 5, "x").send().await.unwrap(), 409, "upload-offset").await;
    assert_eq!(problem["offset"], now);
    let answer = append(node, &place, now as u64, bytes[now..].to_vec()).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), number(&answer, "upload-offset")), (204, bytes.len() as u64));
    assert_eq!(answer.headers()["x-content-hash"], hex_sha256(&bytes));
    let answer = tus(node, "HEAD", &place).send().await.unwrap();
    assert_eq!(
        (number(&answer, "upload-offset"), number(&answer, "upload-length")),
        (bytes.len() as u64, bytes.len() as u64)
    );
    assert_eq!(answer.headers()["upload-metadata"], metadata);
    assert_eq!(content(node, &place).await, hex_sha256(&bytes));
    assert_streams(node, &bytes).await;
    eventually("its parts are gone", async || parts(node) == 0).await;
});

on_sqlite!(the_protocol_is_kept_in_its_refusals, async |node: &mut TestNode| {
    let options = node.client.request(Method::OPTIONS, node.url("/v1/uploads")).send().await.unwrap();
    assert_eq!(options.status(), 204);
    for (field, value) in [
        ("tus-resumable", "1.0.0"),
        ("tus-version", "1.0.0"),
        ("tus-extension", "creation,creation-with-upload,termination,checksum,expiration,concatenation"),
        ("tus-checksum-algorithm", "sha1,sha256"),
        ("tus-max-size", "68719476736"),
    ] {
        assert_eq!(options.headers()[field], value);
    }
    let answer = node.admin(Method::POST, "/v1/uploads").header("upload-length", "5").send().await.unwrap();
    assert_eq!(answer.headers()["tus-version"], "1.0.0");
    assert_eq!(answer.headers()["tus-resumable"], "1.0.0");
    expect_problem(answer, 412, "precondition-failed").await;
    let create = || tus(node, "POST", "/v1/uploads");
    for call in [create(), create().header("upload-length", "-1"), create().header("upload-defer-length", "1")] {
        expect_problem(call.send().await.unwrap(), 400, "malformed-request").await;
    }
    let large = create().header("upload-length", 1_u64 << 40).send().await.unwrap();
    expect_problem(large, 413, "upload-too-large").await;
    let place = begin(node, 5, "").await;
    let typeless = tus(node, "PATCH", &place).header("upload-offset", "0").body("x").send().await.unwrap();
    expect_problem(typeless, 415, "unsupported-media-type").await;
    expect_problem(append(node, &place, 0, "123456").send().await.unwrap(), 413, "upload-too-large").await;
    assert_eq!(offset(node, &place).await, 0);

    // A checksum that is wrong keeps nothing; one that is right keeps all.
    let with = |checksum: String| append(node, &place, 0, "abc").header("upload-checksum", checksum);
    let sha256 = |bytes: &[u8]| format!("sha256 {}", STANDARD.encode(Sha256::digest(bytes)));
    expect_problem(with(sha256(b"abd")).send().await.unwrap(), 460, "checksum-mismatch").await;
    expect_problem(with("md5 AAAA".into()).send().await.unwrap(), 400, "malformed-request").await;
    assert_eq!(offset(node, &place).await, 0);
    assert_eq!(with(sha256(b"abc")).send().await.unwrap().status(), 204);
    assert_eq!(offset(node, &place).await, 3);
    let last = append(node, &place, 3, "de").header("upload-checksum", "sha1 YAzNG3FWkjLQHRELxj6Qa+qwTYw=");
    assert_eq!(last.send().await.unwrap().status(), 204);
    assert_eq!(content(node, &place).await, hex_sha256(b"abcde"));

    // An upload that is removed, and others that never were.
    assert_eq!(tus(node, "DELETE", &place).send().await.unwrap().status(), 204);
    for place in [&*place, "/v1/uploads/x", "/v1/uploads/67e55044-10b1-426f-9247-bb680e5fe0c8"] {
        for method in ["GET", "PATCH", "DELETE"] {
            let call = tus(node, method, place).header("upload-offset", "0");
            let call = call.header("content-type", "application/offset+octet-stream");
            expect_problem(call.send().await.unwrap(), 404, "unknown-upload").await;
        }
    }
    assert_streams(node, b"abcde").await;
    let empty = begin(node, 0, "").await;
    assert_eq!(content(node, &empty).await, hex_sha256(b""));

    // Bytes that are not the declared content end the upload.
    let declared = begin(node, 3, &format!("contentHash {}", STANDARD.encode(hex_sha256(b"abd")))).await;
    expect_problem(append(node, &declared, 0, "abc").send().await.unwrap(), 422, "digest-mismatch").await;
    expect_problem(append(node, &declared, 0, "abd").send().await.unwrap(), 404, "unknown-upload").await;
});

async fn walks(node: &TestNode, other: &TestNode, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut dice = Dice(seed);
        let bytes = sample(300 + seed, 1 + dice.roll(12 * MIB as u64) as usize);
        let place = begin(node, bytes.len(), "").await;
        let mut requests = 0;
        loop {
            let at = [node, other][dice.roll(2) as usize];
            let now = offset(at, &place).await as usize;
            if now == bytes.len() {
                break;
            }
            requests += 1;
            let rest = &bytes[now..];
            let sent = if requests > 6 { rest } else { &rest[..=dice.roll(rest.len() as u64) as usize % rest.len()] };
            let call = match dice.roll(3) {
                0 if requests <= 6 => append(at, &place, now as u64, hanging(sent)),
                _ => append(at, &place, now as u64, sent.to_vec()),
            };
            // Whatever the answer is, the offset is asked for again.
            let patience = Duration::from_millis(if requests > 6 { 60_000 } else { 20 + dice.roll(400) });
            let _ = tokio::time::timeout(patience, call.send()).await;
        }
        assert_eq!(content(other, &place).await, hex_sha256(&bytes), "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_interruptions_at_two_instances_end_with_the_bytes_that_were_sent() {
    let mut node = TestNode::start(On::Postgres).await;
    let mut other = Setup::beside(&node).start().await;
    walks(&node, &other, 0..6).await;
    other.terminate().await;
    node.finish().await;
}

/// An instance is killed while a body arrives, and the upload goes on at another.
async fn survives_a_kill(node: &mut TestNode, other: &mut TestNode) {
    let bytes = sample(201, 2 * PART + 5 * MIB);
    let place = begin(node, bytes.len(), "").await;
    let sending = tokio::spawn(append(node, &place, 0, hanging(&bytes)).send());
    eventually("two parts count", async || offset(other, &place).await == 2 * PART as u64).await;
    node.kill().await;
    sending.abort();
    assert_eq!(offset(other, &place).await, 2 * PART as u64);
    let answer = append(other, &place, 2 * PART as u64, bytes[2 * PART..].to_vec()).send().await.unwrap();
    assert_eq!(answer.status(), 204);
    assert_eq!(content(other, &place).await, hex_sha256(&bytes));
    assert_streams(other, &bytes).await;
    assert!(other.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_survives_a_kill_and_goes_on_at_another_instance_on_files() {
    let mut node = TestNode::start(On::Postgres).await;
    let mut other = Setup::beside(&node).start().await;
    survives_a_kill(&mut node, &mut other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_survives_a_kill_and_goes_on_at_another_instance_on_s3() {
    let buckets = TestBuckets::new(S3Client::ObjectStore);
    let mut node = Setup::new(On::Postgres).envs(buckets.env()).start().await;
    let mut other = Setup::beside(&node).envs(buckets.env()).start().await;
    survives_a_kill(&mut node, &mut other).await;
    eventually("its parts are gone", async || buckets.all_keys("parts").await.is_empty()).await;
}

/// Runs the official client; what it says.
async fn client(node: &TestNode, file: &Path, mut wanted: Value) -> Value {
    let packages = std::env::var("PENSTOCK_TEST_TUS").expect("PENSTOCK_TEST_TUS is not set: run ./test");
    wanted["endpoint"] = node.url("/v1/uploads").into();
    wanted["key"] = ADMIN_KEY.into();
    wanted["file"] = file.to_str().unwrap().into();
    let output = Command::new("node")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/resumable.js"))
        .arg(wanted.to_string())
        .env("NODE_PATH", packages)
        .env_remove("http_proxy")
        .env_remove("HTTP_PROXY")
        .stderr(Stdio::inherit())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{wanted}: {said}");
    serde_json::from_str(said.lines().last().expect("a line")).unwrap()
}

/// The path of the upload that the client names.
fn place(node: &TestNode, said: &Value) -> String {
    text(said, "url").strip_prefix(&node.url("")).expect("at this node").to_owned()
}

on_sqlite!(the_official_client_uploads_in_every_way_that_it_has, async |node: &mut TestNode| {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("film.mp4");
    for (seed, wanted) in [
        json!({}),
        json!({ "chunkSize": 700_000 }),
        json!({ "uploadDataDuringCreation": true, "chunkSize": 1_500_000 }),
        json!({ "overridePatchMethod": true }),
        json!({ "parallelUploads": 3 }),
    ]
    .into_iter()
    .enumerate()
    {
        let bytes = sample(400 + seed as u64, 2_500_000);
        std::fs::write(&file, &bytes).unwrap();
        let said = client(node, &file, wanted.clone()).await;
        assert_eq!(content(node, &place(node, &said)).await, hex_sha256(&bytes), "{wanted}");
        assert_streams(node, &bytes).await;
    }
    let said = client(node, &file, json!({ "terminate": true })).await;
    expect_problem(tus(node, "GET", &place(node, &said)).send().await.unwrap(), 404, "unknown-upload").await;
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_client_goes_on_at_another_instance_after_a_kill() {
    let mut node = TestNode::start(On::Postgres).await;
    let mut other = Setup::beside(&node).start().await;
    let folder = tempfile::tempdir().unwrap();
    let (file, bytes) = (folder.path().join("film.mp4"), sample(410, 5 * MIB));
    std::fs::write(&file, &bytes).unwrap();
    let said = client(&node, &file, json!({ "chunkSize": MIB, "stopAt": 2 * MIB })).await;
    let place = place(&node, &said);
    node.kill().await;
    assert_eq!(offset(&other, &place).await, said["accepted"].as_u64().unwrap());
    client(&other, &file, json!({ "uploadUrl": other.url(&place) })).await;
    assert_eq!(content(&other, &place).await, hex_sha256(&bytes));
    assert_streams(&other, &bytes).await;
    assert!(other.terminate().await.success());
}

on_both!(bounds_and_owners, async |node: &mut TestNode| {
    let producer = node.admin(Method::POST, "/v1/producers").json(&json!({ "name": "p" })).send().await.unwrap();
    let key = text(&expect(producer, &[201]).await, "key");
    let create = || {
        let call = node.client.post(node.url("/v1/uploads")).bearer_auth(&key).header("tus-resumable", "1.0.0");
        call.header("upload-length", "10")
    };
    let place = created(&create().send().await.unwrap());
    for _ in 1..100 {
        created(&create().send().await.unwrap());
    }
    let problem = expect_problem(create().send().await.unwrap(), 429, "too-many-uploads").await;
    assert_eq!(problem["limit"], 100);
    let mine = begin(node, 10, "").await;
    let call = |place: &str| node.get(place).bearer_auth(&key).header("tus-resumable", "1.0.0").send();
    expect(call(&place).await.unwrap(), &[200]).await;
    expect_problem(call(&mine).await.unwrap(), 404, "unknown-upload").await;
});
