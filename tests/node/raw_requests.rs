//! Bytes that are no proper request. Each gets an answer, and then its connection is closed by the node.

use serde_json::Value;

use crate::{
    node::{ADMIN_KEY, On, Setup, TestNode},
    wire::exchange,
};

/// The status of an answer, and its problem document.
pub(crate) fn problem(answer: &str) -> (u16, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(head.to_lowercase().contains("content-type: application/problem+json"), "{head}");
    let document: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
    assert_eq!(document["status"], status, "{answer}");
    (status, document)
}

async fn refused(node: &TestNode, request: &str, status: u16, name: &str) {
    // It ends only when the node closes.
    let answer = exchange(node, request).await;
    let (told, document) = problem(&answer);
    let shown = &request[..request.len().min(200)];
    assert_eq!(
        (told, document["type"].as_str()),
        (status, Some(&*format!("urn:penstock:problem:{name}"))),
        "{shown:?}"
    );
}

on_sqlite!(a_malformed_chunk_is_refused_in_words, async |node: &mut TestNode| {
    let calls = [("/v1/content", "video/mp4"), ("/v1/producers", "application/json")];
    for chunks in [
        "5\nhello\r\n0\r\n\r\n",
        "00000000000000005\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "zz\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello\r\n5\r\nhello\n0\r\n\r\n",
    ] {
        for (path, media_type) in calls {
            let request = format!(
                "POST {path} HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {ADMIN_KEY}\r\ncontent-type: {media_type}\r\n\
                 transfer-encoding: chunked\r\n\r\n{chunks}GET /health/live HTTP/1.1\r\nhost: node\r\n\r\n"
            );
            refused(node, &request, 400, "upload-incomplete").await;
        }
    }
    node.metric_becomes("penstock_uploads_active", "", 0.0).await;
});

on_sqlite!(a_head_that_is_too_large_closes_the_connection, async |node: &mut TestNode| {
    // Above the limit of the operator, and above that of the server.
    for size in [40 << 10, 140 << 10] {
        let request = format!("GET /{} HTTP/1.1\r\nhost: node\r\n\r\n", "a".repeat(size));
        refused(node, &request, 431, "headers-too-large").await;
    }
});

on_sqlite!(a_head_that_is_no_http_is_refused_in_words, async |node: &mut TestNode| {
    for request in
        ["GET /\u{1} HTTP/1.1\r\nhost: node\r\n\r\n", "hello\r\n\r\n", "GET / HTTP/9.9\r\nhost: node\r\n\r\n"]
    {
        refused(node, request, 400, "malformed-request").await;
        // Also after a request that was answered.
        let second = format!("GET /health/live HTTP/1.1\r\nhost: node\r\n\r\n{request}");
        let answers = exchange(node, &second).await;
        let (first, rest) = answers.split_once("{\"status\":\"ok\"}").unwrap_or_else(|| panic!("{answers}"));
        assert!(first.starts_with("HTTP/1.1 200 "), "{answers}");
        assert_eq!(problem(rest).0, 400);
    }
});

on_sqlite!(
    a_request_that_is_refused_before_its_body_has_come_does_not_keep_its_connection,
    async |node: &mut TestNode| {
        for framing in [
            "transfer-encoding: chunked\r\n\r\n5\r\nhe",
            "transfer-encoding: chunked\r\n\r\n",
            "content-length: 100\r\n\r\nhe",
        ] {
            refused(node, &format!("POST /v1/assets HTTP/1.1\r\nhost: node\r\n{framing}"), 401, "unauthorized").await;
        }
        // A body that comes to its end keeps it.
        let asked = "POST /v1/assets HTTP/1.1\r\nhost: node\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n";
        let answers =
            exchange(node, &format!("{asked}GET /health/live HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n"))
                .await;
        assert!(answers.ends_with("{\"status\":\"ok\"}"), "{answers}");
    }
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_does_not_come_is_refused_in_words() {
    let mut node = Setup::new(On::Sqlite).env("PENSTOCK_SERVER__HEADER_TIMEOUT", "1s").start().await;
    refused(&node, "GET / HTTP/1.1\r\nhost: no", 408, "request-timeout").await;
    node.finish().await;
}
