//! Content in: what is kept, what is refused, and that what is refused leaves nothing.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::stream;
use reqwest::{Body, Method, Response};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use crate::{
    node::{ADMIN_KEY, On, Setup, TestNode, expect, expect_problem, hex_sha256, sample, text},
    wire,
};

/// Files of contents, whole or not, that the node has.
fn files(node: &TestNode) -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<String>) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            if entry.path().is_dir() {
                walk(&entry.path(), found);
            } else {
                found.push(entry.path().display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(node.data_dir()).expect("a data folder").flatten() {
        // The database, its key and its lock are beside the folder of contents.
        if entry.path().is_dir() {
            walk(&entry.path(), &mut found);
        }
    }
    // Nor are the mark of the store and the usage spool among them.
    found.retain(|file| ["/locks/", "/penstock-store", "/usage-spool/"].iter().all(|other| !file.contains(other)));
    found
}

/// Waits until there are these files and no others: a writer removes its own on a thread of its own.
async fn until_files_are(node: &TestNode, expected: &[String]) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while files(node) != expected {
        assert!(Instant::now() < deadline, "{:?} instead of {expected:?}", files(node));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What was refused must not be there: not in the folder, and not for who wants to publish it.
async fn assert_nothing_kept(node: &TestNode, hash: &str) {
    node.metric_becomes("penstock_uploads_active", "", 0.0).await;
    until_files_are(node, &[]).await;
    let asset = node.admin(Method::POST, "/v1/assets").json(&json!({ "contentHash": hash, "name": "x" }));
    let problem = expect_problem(asset.send().await.unwrap(), 422, "validation-failed").await;
    assert_eq!(problem["errors"][0]["path"], "contentHash");
}

fn upload(node: &TestNode, path: &str, body: impl Into<Body>) -> reqwest::RequestBuilder {
    node.admin(Method::POST, path).body(body)
}

/// A body that does not say how long it is.
fn chunked(bytes: &[u8]) -> Body {
    let parts: Vec<_> = bytes.chunks(10_000).map(|part| Ok::<_, std::io::Error>(part.to_vec())).collect();
    Body::wrap_stream(stream::iter(parts))
}

fn repr_digest(bytes: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(bytes)))
}

on_both!(the_same_content_twice_is_one_blob, async |node: &mut TestNode| {
    let bytes = sample(2, 1_500_000);
    let send = |media: &'static str| upload(node, "/v1/content", bytes.clone()).header("content-type", media).send();
    let first = expect(send("video/mp4").await.unwrap(), &[201]).await;
    assert_eq!(
        first,
        json!({ "contentHash": hex_sha256(&bytes), "sizeBytes": 1_500_000, "mediaType": "video/mp4", "created": true })
    );
    let stored = files(node);
    let second = expect(send("text/plain").await.unwrap(), &[200]).await;
    assert_eq!(second["created"], false);
    assert_eq!(second["mediaType"], "text/plain", "a producer may say something else later");
    until_files_are(node, &stored).await;
});

on_both!(two_uploads_of_the_same_content_at_once_are_one_blob, async |node: &mut TestNode| {
    let bytes = sample(3, 2_000_000);
    let sends = (0..6).map(|_| upload(node, "/v1/content", chunked(&bytes)).send());
    let answers = futures::future::join_all(sends).await;
    let mut created = 0;
    for answer in answers {
        let answer = expect(answer.unwrap(), &[200, 201]).await;
        created += usize::from(answer["created"] == true);
    }
    assert_eq!(created, 1);
    assert_eq!(files(node).iter().filter(|file| file.ends_with(&hex_sha256(&bytes))).count(), 1);
    let paid = node.paid(&bytes, "unlimited").await;
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap(), bytes);
});

on_both!(a_wrong_digest_keeps_nothing, async |node: &mut TestNode| {
    let bytes = sample(4, 1_200_000);
    let other = hex_sha256(b"other");
    let refused = async |answer: Response| {
        let problem = expect_problem(answer, 422, "digest-mismatch").await;
        assert_eq!((&problem["expected"], &problem["actual"]), (&json!(other), &json!(hex_sha256(&bytes))));
        assert_nothing_kept(node, &hex_sha256(&bytes)).await;
    };
    refused(upload(node, &format!("/v1/content?contentHash={other}"), bytes.clone()).send().await.unwrap()).await;
    let by_header = upload(node, "/v1/content", chunked(&bytes)).header("repr-digest", repr_digest(b"other"));
    refused(by_header.send().await.unwrap()).await;
    let both = upload(node, &format!("/v1/content?contentHash={other}"), bytes.clone());
    let both = both.header("repr-digest", repr_digest(&bytes)).send().await.unwrap();
    expect_problem(both, 400, "malformed-request").await;
    for bad in ["sha-256=abc", "sha-256=:AAAA:", "?"] {
        let answer = upload(node, "/v1/content", bytes.clone()).header("repr-digest", bad).send().await.unwrap();
        expect_problem(answer, 400, "malformed-request").await;
    }
    let malformed = upload(node, "/v1/content?contentHash=abc", bytes.clone()).send().await.unwrap();
    expect_problem(malformed, 400, "malformed-request").await;
    assert_nothing_kept(node, &hex_sha256(&bytes)).await;
    let right = upload(node, "/v1/content", bytes.clone()).header("repr-digest", repr_digest(&bytes));
    expect(right.send().await.unwrap(), &[201]).await;
});

on_sqlite!(the_key_is_checked_before_the_first_byte_of_the_body, async |node: &mut TestNode| {
    for key in ["", "authorization: Bearer wrong\r\n", "authorization: Basic eDp5\r\n"] {
        for length in ["content-length: 1000000", "transfer-encoding: chunked"] {
            // The body never comes.
            let request =
                format!("POST /v1/content HTTP/1.1\r\nhost: node\r\n{key}{length}\r\nconnection: close\r\n\r\n");
            let answer = wire::head(node, &request).await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
            assert!(answer.to_lowercase().contains("www-authenticate: bearer"), "{answer}");
        }
    }
    assert!(files(node).is_empty());
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_the_limit_is_refused_and_leaves_nothing() {
    let mut node = Setup::new(On::Sqlite).env("PENSTOCK_UPLOADS__MAX_BYTES", "1MiB").start().await;
    let (over, fits) = (sample(5, (1 << 20) + 1), sample(6, 1 << 20));
    for body in [Body::from(over.clone()), chunked(&over)] {
        match upload(&node, "/v1/content", body).send().await {
            Ok(answer) => {
                let problem = expect_problem(answer, 413, "upload-too-large").await;
                assert_eq!(problem["limit"], 1 << 20);
            }
            // The refusal came while the body was still on its way, and the connection was closed under it.
            Err(error) => assert!(error.is_request() || error.is_body(), "{error:?}"),
        }
        assert_nothing_kept(&node, &hex_sha256(&over)).await;
    }
    // A length that says too much is refused before the body is sent.
    let declared = format!(
        "POST /v1/content HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {ADMIN_KEY}\r\n\
         content-length: 1048577\r\nconnection: close\r\n\r\n"
    );
    assert!(wire::head(&node, &declared).await.starts_with("HTTP/1.1 413 "));
    expect(upload(&node, "/v1/content", fits.clone()).send().await.unwrap(), &[201]).await;
    expect(upload(&node, "/v1/content", chunked(&fits)).send().await.unwrap(), &[200]).await;
    node.finish().await;
}

on_both!(a_client_that_leaves_in_the_middle_leaves_nothing, async |node: &mut TestNode| {
    let bytes = sample(7, 3_000_000);
    for framing in ["content-length: 3000000\r\n\r\n", "transfer-encoding: chunked\r\n\r\n1E8480\r\n"] {
        let mut connection = wire::connect(node).await;
        let head = format!("POST /v1/content HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {ADMIN_KEY}\r\n{framing}");
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.write_all(&bytes[..2_000_000]).await.unwrap();
        node.metric_becomes("penstock_uploads_active", "", 1.0).await;
        drop(connection);
        assert_nothing_kept(node, &hex_sha256(&bytes)).await;
        assert_nothing_kept(node, &hex_sha256(&bytes[..2_000_000])).await;
    }
});

on_both!(an_asset_is_sent_and_judged_as_its_producer_says_whoever_had_the_bytes_first, async |node: &mut TestNode| {
    node.tier("films", json!({ "allowedContentTypes": ["video/*"] })).await;
    let mut keys = Vec::new();
    for name in ["first", "second", "silent"] {
        let made = node.admin(Method::POST, "/v1/producers").json(&json!({ "name": name })).send().await.unwrap();
        keys.push(text(&expect(made, &[201]).await, "key"));
    }
    let bytes = sample(60, 1000);
    let by = |key: &str, path: &str| node.client.request(Method::POST, node.url(path)).bearer_auth(key);
    let put = async |key: &str, media_type: Option<&str>| {
        let request = by(key, "/v1/content").body(bytes.clone());
        let request = media_type.into_iter().fold(request, |request, kind| request.header("content-type", kind));
        text(&expect(request.send().await.unwrap(), &[200, 201]).await, "mediaType")
    };
    assert_eq!(put(&keys[0], Some("text/html")).await, "text/html");
    assert_eq!(put(&keys[1], Some("video/mp4")).await, "video/mp4", "what another said is not for this one");
    assert_eq!(put(&keys[2], None).await, "application/octet-stream");
    let hash = hex_sha256(&bytes);
    for (key, said, kind, status) in [
        (&keys[0], None, "text/html", 403),
        (&keys[1], None, "video/mp4", 200),
        (&keys[2], None, "application/octet-stream", 403),
        (&keys[2], Some("video/webm"), "video/webm", 200),
    ] {
        let asset = json!({ "contentHash": hash, "name": "a film", "mediaType": said });
        let asset = expect(by(key, "/v1/assets").json(&asset).send().await.unwrap(), &[201]).await;
        assert_eq!(asset["mediaType"], kind);
        let sold = json!({ "versionId": asset["versionId"], "quotaTier": "films" });
        let sold = expect(by(key, "/v1/receipts").json(&sold).send().await.unwrap(), &[201]).await;
        let path = format!("/v1/streaming/data/{hash}?receiptId={}", text(&sold, "receiptId"));
        let head = node.client.head(node.url(&path)).send().await.unwrap();
        assert_eq!(head.headers()["content-type"], kind);
        assert_eq!(node.get(&path).send().await.unwrap().status(), status, "{kind}");
    }
});

on_sqlite!(coded_content_and_a_bad_media_type_are_refused, async |node: &mut TestNode| {
    for coding in ["gzip", "br", "identity, gzip"] {
        let answer = upload(node, "/v1/content", "abc").header("content-encoding", coding).send().await.unwrap();
        expect_problem(answer, 415, "unsupported-media-type").await;
    }
    let answer = upload(node, "/v1/content", "abc").header("content-type", "no type").send().await.unwrap();
    expect_problem(answer, 400, "malformed-request").await;
    assert_nothing_kept(node, &hex_sha256(b"abc")).await;
    let plain = upload(node, "/v1/content", "abc").header("content-encoding", "identity").send().await.unwrap();
    assert_eq!(expect(plain, &[201]).await["mediaType"], "application/octet-stream");
});

on_both!(empty_content_is_content_too, async |node: &mut TestNode| {
    let paid = node.paid(b"", "unlimited").await;
    let answer = node.stream(&paid).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-length"], "0");
    assert_eq!(answer.bytes().await.unwrap(), "");
    let chunked = upload(node, "/v1/content", chunked(b"")).send().await.unwrap();
    assert_eq!(expect(chunked, &[200]).await["sizeBytes"], 0);
    for range in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
        let answer = node.stream(&paid).header("range", range).send().await.unwrap();
        assert_eq!(answer.headers()["content-range"], "bytes */0");
        expect_problem(answer, 416, "range-not-satisfiable").await;
    }
});

on_both!(the_media_type_is_kept, async |node: &mut TestNode| {
    let kept = "text/plain; charset=utf-8";
    let hash = node.put("Füße".as_bytes(), kept).await;
    let version = node.publish(&hash, "Füße.txt").await;
    let receipt = node.receipt(&version, json!({})).await;
    let answer = node.get(&format!("/v1/streaming/data/{hash}?receiptId={receipt}")).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], kept);
    assert_eq!(
        answer.headers()["content-disposition"],
        "inline; filename=\"F__e.txt\"; filename*=UTF-8''F%C3%BC%C3%9Fe.txt"
    );
    assert_eq!(answer.text().await.unwrap(), "Füße");
    let asset = node.get(&format!("/v1/assets/{version}")).send().await.unwrap();
    assert_eq!(expect(asset, &[200]).await["mediaType"], kept);
});
