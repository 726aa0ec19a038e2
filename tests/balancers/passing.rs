//! What passes through a balancer: bytes in both directions as they come, and who asked for them.

use std::collections::HashSet;

use futures::{StreamExt as _, stream};
use reqwest::{Body, Method, StatusCode};
use tokio::sync::mpsc;

use crate::{
    node::{expect, hex_sha256, sample},
    pair::{Pair, behind_both},
    patience::eventually,
};

behind_both!(streams_ranges_and_names_arrive_as_from_the_node_itself, async |kind| {
    let mut pair = Pair::behind(kind, &[]).await;
    let bytes = sample(90, 3 << 20);
    let paid = pair.nodes[0].paid(&bytes, "unlimited").await;
    let answer = pair.stream(&paid).header("x-request-id", "abc-123").send().await.unwrap();
    assert_eq!((answer.status(), &answer.headers()["x-request-id"]), (StatusCode::OK, &"abc-123".parse().unwrap()));
    assert_eq!(answer.headers()["etag"], format!("\"{}\"", paid.hash));
    assert!(answer.bytes().await.unwrap() == bytes);

    let range = pair.stream(&paid).header("range", "bytes=1000000-1000999").send().await.unwrap();
    assert_eq!(range.status(), StatusCode::PARTIAL_CONTENT);
    let made = range.headers()["x-request-id"].clone();
    assert_eq!(range.bytes().await.unwrap(), bytes[1_000_000..1_001_000]);
    let other = pair.stream(&paid).header("if-none-match", format!("\"{}\"", paid.hash)).send().await.unwrap();
    assert_eq!(other.status(), StatusCode::NOT_MODIFIED);
    assert_ne!(other.headers()["x-request-id"], made, "without one from the client, each request gets one of its own");

    // Requests are spread, and metrics are each node's own.
    eventually("both nodes are asked", async || {
        pair.stream(&paid).header("range", "bytes=0-0").send().await.unwrap();
        let [one, other] = &pair.nodes;
        let streams = async |node: &crate::node::TestNode| node.metric("penstock_streams_granted_total", "").await;
        streams(one).await > 0.0 && streams(other).await > 0.0
    })
    .await;
    assert_eq!(pair.get("/metrics").send().await.unwrap().status(), StatusCode::NOT_FOUND);
    pair.finish().await;
});

behind_both!(nodes_learn_whom_a_request_is_from, async |kind| {
    let limits = [("RATE_LIMITS_JSON", r#"{"catalogue":2}"#), ("RATE_LIMIT_BACKEND", "memory")];
    let mut pair = Pair::behind(kind, &limits).await;
    let asked = async |client: &str| {
        let asset = "/v1/assets/0190a0a0-0000-7000-8000-000000000000";
        pair.get(asset).header("x-forwarded-for", client).send().await.unwrap().status()
    };
    eventually("a client has asked too often", async || asked("203.0.113.1").await == 429).await;
    eventually("and is refused by both nodes", async || {
        let mut statuses = HashSet::new();
        for _ in 0..4 {
            statuses.insert(asked("203.0.113.1").await);
        }
        statuses == HashSet::from([StatusCode::TOO_MANY_REQUESTS])
    })
    .await;
    assert_eq!(asked("203.0.113.2").await, StatusCode::NOT_FOUND, "another client has asked nothing yet");
    pair.finish().await;
});

behind_both!(uploads_stream_through, async |kind| {
    let mut pair = Pair::behind(kind, &[]).await;
    let bytes = sample(91, 4 << 20);
    let (parts, body) = mpsc::channel::<std::io::Result<Vec<u8>>>(1);
    let body = stream::unfold(body, async |mut parts| Some((parts.recv().await?, parts)));
    let upload = pair
        .admin(Method::POST, "/v1/content")
        .header("content-type", "video/mp4")
        .body(Body::wrap_stream(body))
        .send();
    let upload = tokio::spawn(upload);
    let (first, rest) = bytes.split_at(1 << 20);
    parts.send(Ok(first.to_vec())).await.unwrap();
    // A balancer that kept the body would wait for its end first.
    eventually("a node has the beginning", async || pair.metric("penstock_uploads_active", "").await == 1.0).await;
    parts.send(Ok(rest.to_vec())).await.unwrap();
    drop(parts);
    let answer = expect(upload.await.unwrap().unwrap(), &[201]).await;
    assert_eq!(answer["contentHash"], hex_sha256(&bytes));
    pair.finish().await;
});

behind_both!(a_client_that_leaves_is_settled_by_what_was_sent, async |kind| {
    const SIZE: usize = 96 << 20;
    let mut pair = Pair::behind(kind, &[]).await;
    let paid = pair.nodes[0].paid(&sample(92, SIZE), "unlimited").await;
    let answer = pair.stream(&paid).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let mut body = answer.bytes_stream();
    let mut got = 0;
    // The first bytes come long before a balancer could have the last ones.
    while got < 1 << 20 {
        got += body.next().await.unwrap().unwrap().len();
    }
    // While the client takes nothing, what stands between holds what sockets hold, and the node waits.
    let mut read = Vec::new();
    eventually("nothing moves", async || {
        read.push(pair.metric("penstock_content_read_bytes_total", "").await);
        read.len() > 20 && read[read.len() - 20..].iter().all(|bytes| *bytes == read[read.len() - 1])
    })
    .await;
    assert_eq!(pair.metric("penstock_streams_active", "").await, 1.0, "the node is not rid of it");
    drop(body);
    eventually("the stream ends", async || {
        pair.metric("penstock_streams_active", "").await == 0.0
            && pair.metric("penstock_admission_in_use", "").await == 0.0
    })
    .await;
    let (bytes, requests) = pair.nodes[0].charged(&paid.receipt).await;
    assert_eq!(requests, 1);
    // What the client had, and what was on its way to it: in sockets and a buffer of the balancer.
    assert!(bytes >= got as u64 && bytes < SIZE as u64 / 2, "{bytes} of {SIZE} for {got}");
    pair.finish().await;
});
