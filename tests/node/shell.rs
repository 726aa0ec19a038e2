//! What every answer has: compression, ids, refusals of what no route takes, and what operators read.

use actix_http::{encoding::Decoder, header::ContentEncoding};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::{
    node::{TestNode, expect, expect_problem, sample},
    wire,
};

async fn decoded(encoding: ContentEncoding, body: Bytes) -> Vec<u8> {
    let mut parts = Decoder::new(stream::iter([Ok(body)]), encoding);
    let mut bytes = Vec::new();
    while let Some(part) = parts.next().await {
        bytes.extend_from_slice(&part.expect("a valid encoding"));
    }
    bytes
}

on_sqlite!(long_json_is_compressed_as_the_client_prefers, async |node: &mut TestNode| {
    let ask = async |accepted: Option<&str>| -> Response {
        let request = node.admin(Method::GET, "/v1/streaming/policies");
        match accepted {
            Some(accepted) => request.header("accept-encoding", accepted).send().await.unwrap(),
            None => request.send().await.unwrap(),
        }
    };
    let plain = ask(None).await;
    assert_eq!(plain.headers()["vary"], "accept-encoding");
    let plain = plain.bytes().await.unwrap();
    assert!(plain.len() > 1024);
    for (accepted, encoding) in [
        ("br", Some(ContentEncoding::Brotli)),
        ("zstd", Some(ContentEncoding::Zstd)),
        ("gzip", Some(ContentEncoding::Gzip)),
        ("gzip;q=0.5, br;q=0.9, zstd;q=0.1", Some(ContentEncoding::Brotli)),
        ("br;q=0, gzip", Some(ContentEncoding::Gzip)),
        ("deflate, gzip", Some(ContentEncoding::Gzip)),
        ("identity", None),
        ("compress", None),
        ("gzip;q=0", None),
    ] {
        let answer = ask(Some(accepted)).await;
        assert_eq!(answer.status(), 200, "{accepted}");
        assert_eq!(answer.headers().get_all("vary").iter().collect::<Vec<_>>(), ["accept-encoding"], "{accepted}");
        let named = answer.headers().get("content-encoding").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(named.as_deref(), encoding.map(ContentEncoding::as_str), "{accepted}");
        let body = answer.bytes().await.unwrap();
        match encoding {
            Some(encoding) => {
                assert!(body.len() < plain.len());
                assert_eq!(decoded(encoding, body).await, plain, "{accepted}");
            }
            None => assert_eq!(body, plain, "{accepted}"),
        }
    }
    // HEAD tells what GET would: of what is compressed nobody knows the length before.
    for accepted in ["gzip", "identity"] {
        let ask = |method| node.admin(method, "/v1/streaming/policies").header("accept-encoding", accepted).send();
        let (get, head) = (ask(Method::GET).await.unwrap(), ask(Method::HEAD).await.unwrap());
        for name in ["content-length", "content-encoding", "transfer-encoding", "vary", "content-type"] {
            assert_eq!(head.headers().get(name), get.headers().get(name), "{accepted} {name}");
        }
        assert_eq!(head.headers().contains_key("content-length"), accepted == "identity");
        assert_eq!(head.bytes().await.unwrap(), "");
    }
    let short = node.get("/health/live").header("accept-encoding", "br").send().await.unwrap();
    assert!(!short.headers().contains_key("content-encoding"));
});

on_sqlite!(every_answer_has_a_request_id_and_may_not_be_sniffed, async |node: &mut TestNode| {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (path, status) in [("/health/live", 200), ("/nowhere", 404), ("/v1/streaming/policies", 401), ("/v1/data", 400)]
    {
        let kept = node.get(path).header("x-request-id", "edge-42").header("traceparent", trace).send().await.unwrap();
        assert_eq!(kept.status(), status, "{path}");
        assert_eq!(kept.headers()["x-request-id"], "edge-42");
        assert_eq!(kept.headers()["x-content-type-options"], "nosniff");
        let made = node.get(path).header("x-request-id", "not \"harmless\"").header("traceparent", "nonsense");
        let made = made.send().await.unwrap();
        assert_eq!(made.status(), status, "{path}");
        assert_eq!(made.headers()["x-request-id"].len(), 36, "a UUID of the node's own");
    }
});

on_sqlite!(what_no_route_takes_is_a_problem_document, async |node: &mut TestNode| {
    for path in [
        "/nowhere",
        "/dashboard/other",
        "/v1/assets/",
        "/v1/streaming/data",
        "/v1/streaming/data/a/b",
        "/../etc/passwd",
    ] {
        expect_problem(node.get(path).send().await.unwrap(), 404, "not-found").await;
    }
    for (method, path) in [
        (Method::DELETE, "/v1/content"),
        (Method::GET, "/v1/content"),
        (Method::POST, "/v1/data"),
        (Method::PUT, "/v1/receipts"),
        (Method::PATCH, "/health/live"),
    ] {
        let answer = node.admin(method.clone(), path).send().await.unwrap();
        expect_problem(answer, 405, "method-not-allowed").await;
    }
    let odd = wire::exchange(node, "BREW /v1/data HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").await;
    assert!(odd.starts_with("HTTP/1.1 405 "), "{odd}");
});

on_sqlite!(json_that_cannot_be_read_is_refused, async |node: &mut TestNode| {
    let post = |body: Vec<u8>| {
        node.admin(Method::POST, "/v1/producers").header("content-type", "application/json").body(body).send()
    };
    for body in ["", "{", "{\"name\":}", "{\"name\":\"x\"} x", "\u{feff}{}", "nul"] {
        expect_problem(post(body.into()).await.unwrap(), 400, "malformed-request").await;
    }
    expect_problem(post(b"{\"name\":\"\xff\"}".to_vec()).await.unwrap(), 400, "malformed-request").await;
    expect_problem(post(vec![b'['; 100_000]).await.unwrap(), 400, "malformed-request").await;
    for body in ["[]", "5", "{}", "{\"name\":\"x\",\"role\":\"admin\"}", "{\"name\":\"x\",\"name\":\"y\"}"] {
        expect_problem(post(body.into()).await.unwrap(), 422, "validation-failed").await;
    }
    let long = json!({ "name": "x".repeat(300_000) }).to_string();
    // The refusal may come while the body is still on its way.
    if let Ok(answer) = post(long.into_bytes()).await {
        let problem = expect_problem(answer, 413, "upload-too-large").await;
        assert_eq!(problem["limit"], 256 * 1024);
    }
    let form = node.admin(Method::POST, "/v1/producers").header("content-type", "text/plain").body("{\"name\":\"x\"}");
    expect_problem(form.send().await.unwrap(), 415, "unsupported-media-type").await;
});

on_sqlite!(a_head_that_is_too_large_is_refused, async |node: &mut TestNode| {
    let large = node.get("/health/live").header("x-large", "x".repeat(40_000)).send().await.unwrap();
    let problem = expect_problem(large, 431, "headers-too-large").await;
    assert_eq!(problem["limit"], 32 * 1024);
    let fits = node.get("/health/live").header("x-large", "x".repeat(30_000)).send().await.unwrap();
    assert_eq!(fits.status(), 200);
    // Past the server's own buffer there is no document, but there is a refusal.
    let huge = format!("GET /health/live HTTP/1.1\r\nhost: node\r\nx: {}\r\n\r\n", "x".repeat(400_000));
    let answer = wire::exchange(node, &huge).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    for nonsense in ["\r\n\r\n", "GET\r\n\r\n", "\0\0\0\0\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let answer = wire::exchange(node, nonsense).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(node.get("/health/live").send().await.unwrap().status(), 200);
});

on_both!(a_node_says_that_it_lives_and_is_ready, async |node: &mut TestNode| {
    let live = expect(node.get("/health/live").send().await.unwrap(), &[200]).await;
    assert_eq!(live, json!({ "status": "ok" }));
    let ready = expect(node.get("/health/ready").send().await.unwrap(), &[200]).await;
    let all_ok = json!({ "database": "ok", "storage": "ok", "sharedState": "ok" });
    assert_eq!((&ready["status"], &ready["dependencies"]), (&json!("ok"), &all_ok));
});

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

/// The id-like words of a line: hashes and UUIDs.
fn ids(line: &str) -> Vec<&str> {
    let is_id = |word: &&str| word.len() >= 32 && word.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    line.split(|c: char| !c.is_ascii_hexdigit() && c != '-').filter(is_id).collect()
}

on_both!(metrics_are_valid_text_without_ids, async |node: &mut TestNode| {
    let paid = node.paid(&sample(70, 1000), "standard").await;
    node.stream(&paid).send().await.unwrap().bytes().await.unwrap();
    node.get(&format!("/{}", paid.receipt)).send().await.unwrap();
    node.charged(&paid.receipt).await;
    let answer = node.get("/metrics").send().await.unwrap();
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let page = answer.text().await.unwrap();
    let mut typed = std::collections::BTreeSet::new();
    for line in page.lines() {
        assert_eq!(ids(line), Vec::<&str>::new(), "{line}");
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.split(' ');
            let (kind, name) = (words.next().unwrap(), words.next().unwrap());
            assert!(["HELP", "TYPE"].contains(&kind) && is_name(name), "{line}");
            if kind == "TYPE" {
                assert!(["counter", "gauge", "histogram"].contains(&words.next().unwrap()), "{line}");
                assert!(typed.insert(name.to_owned()), "{name} is declared twice");
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        assert!(is_name(name) && labels.ends_with('}'), "{line}");
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(typed.contains(family) || typed.contains(name), "{line} has no type");
        assert!(name.starts_with("penstock_") || name.starts_with("process_"), "{line}");
    }
    for (name, value) in [
        ("penstock_streams_granted_total", 1.0),
        ("penstock_streams_active", 0.0),
        ("penstock_usage_dropped_total", 0.0),
        ("penstock_usage_settled_bytes_total", 1000.0),
    ] {
        assert_eq!(node.metric(name, "").await, value, "{name}");
    }
});

on_both!(an_admin_can_make_the_node_forget, async |node: &mut TestNode| {
    let paid = node.paid(&sample(71, 100), "standard").await;
    let invalidate = async |tags: Value| {
        let call = node.admin(Method::POST, "/v1/admin/cache/invalidate").json(&json!({ "tags": tags }));
        call.send().await.unwrap()
    };
    let tags = json!([format!("receipt:{}", paid.receipt), "policy:standard", format!("asset:{}", paid.version)]);
    assert_eq!(expect(invalidate(tags).await, &[200]).await, json!({ "invalidated": 3 }));
    for bad in [json!([]), json!(["none:1"]), json!(["policy:standard", "receipt:x"]), json!(vec!["policy:x"; 101])] {
        expect_problem(invalidate(bad).await, 422, "validation-failed").await;
    }
    assert_eq!(node.stream(&paid).send().await.unwrap().status(), 200);
});
