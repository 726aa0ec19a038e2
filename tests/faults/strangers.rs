//! Clients that speak something else than HTTP/1.1, or an older version of it, or that ask before they send.

use std::io::Read as _;

use flate2::read::GzDecoder;
use tokio::io::AsyncReadExt as _;

use crate::{
    node::{ADMIN_KEY, On, Setup, TestNode, sample},
    patience::eventually,
    still::at_rest,
    wire::Wire,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_request_is_logged_with_its_peer_and_is_no_error_of_the_node() {
    let mut node = Setup::new(On::Sqlite).start().await;
    assert!(node.terminate().await.success());
    let mut stderr = node.boot_with_stderr().await;
    let log = tokio::spawn(async move {
        let mut log = String::new();
        stderr.read_to_string(&mut log).await.expect("text");
        log
    });
    let mut peers = Vec::new();
    let strangers: [&[u8]; 3] = [
        // The beginning of a TLS handshake.
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\n\r\n",
    ];
    for stranger in strangers {
        let mut wire = Wire::to(&node).await;
        peers.push(wire.address());
        wire.send(stranger).await;
        wire.send_no_more().await;
        let answer = String::from_utf8_lossy(&wire.read_on(10_000).await).into_owned();
        assert!(answer.starts_with("HTTP/1.1 4"), "{stranger:?} is refused: {answer}");
    }
    eventually("the connections are over", async || node.metric("penstock_http_requests_in_flight", "").await == 1.0)
        .await;
    node.finish().await;
    let log = log.await.expect("read to the end");
    for peer in peers {
        let of_peer: Vec<_> = log.lines().filter(|line| line.contains(&peer.to_string())).collect();
        assert!(!of_peer.is_empty(), "{peer} is in the log:\n{log}");
        assert!(of_peer.iter().all(|line| line.contains("DEBUG")), "{of_peer:?}");
    }
    assert!(!log.contains("ERROR"), "{log}");
}

on_sqlite!(a_client_of_http_1_0_gets_no_chunks, async |node: &mut TestNode| {
    // Long enough to be compressed, so that its length is not known ahead.
    for tier in 0..20 {
        node.tier(&format!("tier-{tier}"), serde_json::json!({ "bytesPerHour": 1000 })).await;
    }
    let problem = format!("/v1/streaming/quotas/{}", "0".repeat(2000));
    for (path, kept) in
        [("/v1/streaming/policies", true), ("/metrics", false), (&problem, true), ("/health/live", true)]
    {
        for coding in ["gzip", "identity"] {
            let mut wire = Wire::to(node).await;
            let connection = if kept { "connection: keep-alive\r\n" } else { "" };
            let head = format!(
                "GET {path} HTTP/1.0\r\nauthorization: Bearer {ADMIN_KEY}\r\naccept-encoding: {coding}\r\n{connection}\r\n"
            );
            wire.send(head.as_bytes()).await;
            let head = wire.head().await;
            assert!(head.starts_with("HTTP/1.0 "), "{head}");
            let head = head.to_lowercase();
            assert!(!head.contains("transfer-encoding"), "{path}: {head}");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let body = match length {
                Some(length) => wire.read_on(length.parse().expect("a number")).await,
                // It ends where the connection does.
                None => {
                    assert!(!head.contains("connection: keep-alive"), "{path}: {head}");
                    wire.read_on(usize::MAX).await
                }
            };
            let mut text = String::new();
            if head.contains("content-encoding: gzip") {
                assert!(length.is_none(), "{path}: this is the case that matters");
                GzDecoder::new(&body[..]).read_to_string(&mut text).expect("whole");
            } else {
                text = String::from_utf8(body).expect("text");
            }
            assert!(
                text.starts_with(if path == "/metrics" { "# HELP" } else { "{" }) && text.trim_end().len() > 10,
                "{text}"
            );
        }
    }
    let bytes = sample(21, 200_000);
    let paid = node.paid(&bytes, "unlimited").await;
    let mut wire = Wire::to(node).await;
    let path = format!("/v1/streaming/data/{}?receiptId={}", paid.hash, paid.receipt);
    wire.send(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await;
    assert!(wire.head().await.to_lowercase().contains("content-length: 200000"));
    assert_eq!(wire.read_on(usize::MAX).await, bytes);
});

on_sqlite!(a_client_that_asks_before_it_sends_is_refused_before_it_sends, async |node: &mut TestNode| {
    let bytes = sample(22, 100_000);
    let ask = |path: &str, key: &str, length: u64| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {key}\r\ncontent-length: {length}\r\n\
             expect: 100-continue\r\n\r\n"
        )
    };
    let length = bytes.len() as u64;
    for (asked, status) in [
        (ask("/v1/content", "no-such-key", length), 401),
        (ask("/v1/content", ADMIN_KEY, 1 << 60), 413),
        (ask("/v1/content?contentHash=x", ADMIN_KEY, length), 400),
        (ask("/v1/nowhere", ADMIN_KEY, length), 404),
        (ask("/v1/assets", "no-such-key", length), 401),
    ] {
        let mut wire = Wire::to(node).await;
        wire.send(asked.as_bytes()).await;
        let head = wire.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{asked}: {head}");
        assert!(head.contains("application/problem+json") && head.contains("x-request-id"), "{head}");
        assert!(head.to_lowercase().contains("connection: close"), "the body will not come: {head}");
    }
    for _ in 0..2 {
        let mut wire = Wire::to(node).await;
        wire.send(ask("/v1/content", ADMIN_KEY, length).as_bytes()).await;
        assert_eq!(wire.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        wire.send(&bytes).await;
        let head = wire.head().await;
        assert!(head.starts_with("HTTP/1.1 20"), "{head}");
    }
    // What has no body to wait for is answered at once.
    let mut wire = Wire::to(node).await;
    wire.send(b"GET /health/live HTTP/1.1\r\nhost: node\r\nexpect: 100-continue\r\n\r\n").await;
    assert!(wire.head().await.starts_with("HTTP/1.1 200 "));
});

on_sqlite!(requests_that_are_sent_ahead_get_their_own_answers, async |node: &mut TestNode| {
    let bytes = sample(23, 100_000);
    let paid = node.paid(&bytes, "unlimited").await;
    let stream =
        format!("GET /v1/streaming/data/{} HTTP/1.1\r\nhost: x\r\nx-receipt-id: {}\r\n\r\n", paid.hash, paid.receipt);
    let upload = format!(
        "POST /v1/content HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\ntransfer-encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\n"
    );
    let last = "GET /health/live HTTP/1.0\r\n\r\n";
    let head = "HEAD /health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut wire = Wire::to(node).await;
    wire.send([&stream, head, &upload, head, &stream, last].concat().as_bytes()).await;
    wire.send_no_more().await;
    for asked in [&stream[..], head, &upload, head, &stream] {
        let answer = wire.head().await;
        assert!(answer.starts_with("HTTP/1.1 20") && !answer.contains("connection: close"), "{asked}: {answer}");
        if asked == stream {
            assert_eq!(wire.read_on(bytes.len()).await, bytes);
        } else if asked == upload {
            let length = answer.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            assert!(wire.read_on(length.parse().expect("a number")).await.starts_with(b"{"));
        }
    }
    let answer = String::from_utf8(wire.read_on(10_000).await).expect("text");
    assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("}"), "{answer}");
    at_rest(node).await;
    assert_eq!(node.charged(&paid.receipt).await, (2 * bytes.len() as u64, 2));
});
