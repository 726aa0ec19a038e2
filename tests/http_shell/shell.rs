//! The middleware: ids, headers, metrics and compression.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use actix_web::{
    body::{BodySize, MessageBody as _},
    http::{
        StatusCode,
        header::{ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, VARY},
    },
    test::{self, TestRequest},
};
use serde_json::json;

use crate::node::{CONTENT, Node, STORED, ask, call};

#[actix_web::test]
async fn every_answer_carries_a_request_id_and_may_not_be_sniffed() {
    let node = Node::new().await;
    let app = node.serve().await;
    for uri in ["/health/live", "/no/such/route", "/metrics"] {
        let given = ask(&app, TestRequest::get().uri(uri).insert_header(("x-request-id", "edge-1"))).await;
        assert_eq!(given.header("x-request-id"), "edge-1");
        assert_eq!(given.header("x-content-type-options"), "nosniff");
        let harmful = ask(&app, TestRequest::get().uri(uri).insert_header(("x-request-id", "a b"))).await;
        assert_eq!(harmful.header("x-request-id").len(), 36);
    }
}

#[actix_web::test]
async fn requests_are_counted_by_template_and_made_up_paths_share_one_label() {
    let node = Node::new().await;
    let app = node.serve().await;
    for uri in ["/made/up", "/made/up/too", "/v1/assets/67e55044-10b1-426f-9247-bb680e5fe0c8"] {
        assert_eq!(ask(&app, TestRequest::get().uri(uri)).await.status, StatusCode::NOT_FOUND);
    }
    let text = node.metrics.render().expect("a text");
    let count = |route| {
        let labels = format!(r#"method="GET",outcome="completed",route="{route}",status="4xx""#);
        text.lines()
            .find_map(|line| line.strip_prefix(&format!("penstock_http_requests_total{{{labels}}} ")))
            .map(str::to_owned)
    };
    assert_eq!(count("unmatched").as_deref(), Some("2"));
    assert_eq!(count("/v1/assets/{versionId}").as_deref(), Some("1"));
    assert!(!text.contains("/made/up") && !text.contains("67e55044"));
}

#[actix_web::test]
async fn a_client_that_leaves_is_counted_as_such_and_no_longer_in_flight() {
    let node = Node::new().await;
    let app = node.serve().await;
    let answer = test::call_service(&app, TestRequest::get().uri("/v1/data-of-a-test").to_request()).await;
    assert!(node.metrics.render().expect("a text").contains("penstock_http_requests_in_flight 1"));
    drop(answer);
    let text = node.metrics.render().expect("a text");
    assert!(text.contains("penstock_http_requests_in_flight 0"));
    assert!(text.contains(r#"method="GET",outcome="aborted",route="/v1/data-of-a-test",status="2xx"} 1"#));
}

#[actix_web::test]
async fn gauges_are_refreshed_before_each_scrape() {
    let node = Node::new().await;
    let app = node.serve().await;
    let scrapes = Arc::new(AtomicU64::default());
    let counted = Arc::clone(&scrapes);
    node.metrics.before_scrape(move || {
        counted.fetch_add(1, Relaxed);
    });
    let answer = ask(&app, TestRequest::get().uri("/metrics")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert_eq!(scrapes.load(Relaxed), 1);
}

#[actix_web::test]
async fn json_over_one_kibibyte_is_compressed_by_negotiation() {
    let node = Node::new().await;
    let app = node.serve().await;
    let body = json!({ "name": "A film", "description": "long ".repeat(400), "contentHash": STORED });
    let made = call(&app, TestRequest::post().uri("/v1/assets"), Some(&node.producer), Some(body)).await;
    let uri = made.header("location").to_owned();
    let get = |accept: &'static str| ask(&app, TestRequest::get().uri(&uri).insert_header((ACCEPT_ENCODING, accept)));
    let plain = get("identity").await;
    assert_eq!(plain.header(CONTENT_ENCODING), "");
    let strong = plain.header(ETAG).to_owned();
    for (accept, encoding) in [
        ("br", "br"),
        ("zstd", "zstd"),
        ("gzip", "gzip"),
        ("br;q=0.1, gzip", "gzip"),
        ("deflate", ""),
        ("identity;q=0, compress", ""),
    ] {
        let answer = get(accept).await;
        assert_eq!(answer.header(CONTENT_ENCODING), encoding, "{accept}");
        assert_eq!(answer.header(VARY), "accept-encoding");
        let smaller = answer.body.len() < plain.body.len() / 2;
        assert_eq!(smaller, !encoding.is_empty(), "{accept}");
        let expected = if encoding.is_empty() { strong.clone() } else { format!("W/{strong}") };
        assert_eq!(answer.header(ETAG), expected);
    }
    let known = TestRequest::get().uri(&uri).insert_header(("if-none-match", format!("W/{strong}")));
    let known = ask(&app, known).await;
    assert_eq!((known.status, known.header(VARY)), (StatusCode::NOT_MODIFIED, "accept-encoding"));
}

#[actix_web::test]
async fn small_json_and_content_are_sent_as_they_are() {
    let node = Node::new().await;
    let app = node.serve().await;
    let small = ask(&app, TestRequest::get().uri("/health/live").insert_header((ACCEPT_ENCODING, "br"))).await;
    assert_eq!((small.header(CONTENT_ENCODING), small.header(VARY)), ("", "accept-encoding"));
    let content = ask(&app, TestRequest::get().uri("/v1/data-of-a-test").insert_header((ACCEPT_ENCODING, "br"))).await;
    assert_eq!((content.header(CONTENT_ENCODING), content.header(VARY)), ("", ""));
    assert_eq!(content.body, CONTENT);
}

#[actix_web::test]
async fn the_length_of_an_answer_survives_the_middleware() {
    let node = Node::new().await;
    let app = node.serve().await;
    let answer = test::call_service(&app, TestRequest::get().uri("/v1/data-of-a-test").to_request()).await;
    assert_eq!(answer.response().body().size(), BodySize::Sized(CONTENT.len() as u64));
}
