//! What is refused, and that every refusal is a problem document that says nothing it should not.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use actix_http::{BoxedPayloadStream, Payload};
use actix_web::{
    http::{Method, StatusCode, header},
    test::{self, TestRequest},
};
use futures::{future::join_all, stream};
use penstock_actors::ids::VersionId;
use serde_json::{Value, json};

use crate::node::{MAX_HEAD_BYTES, Node, STORED, ask, call};

#[actix_web::test]
async fn what_the_framework_refuses_is_a_problem_document_too() {
    let node = Node::new().await;
    let app = node.serve().await;
    let answer = ask(&app, TestRequest::get().uri("/no/such/route")).await;
    assert_eq!(answer.problem(), "not-found");
    let answer = ask(&app, TestRequest::delete().uri("/v1/receipts")).await;
    assert_eq!(answer.problem(), "method-not-allowed");
    assert_eq!(answer.header(header::ALLOW), "POST");
    let answer = call(&app, TestRequest::get().uri("/v1/streaming/usage"), Some(&node.producer), None).await;
    assert_eq!(answer.problem(), "malformed-request");
    assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("receiptId")));
    let answer = ask(&app, TestRequest::get().uri("/v1/assets/not-an-id")).await;
    assert_eq!(answer.problem(), "malformed-request");
    let answer = ask(&app, TestRequest::get().uri("/health/live").method(Method::TRACE)).await;
    assert_eq!(answer.problem(), "method-not-allowed");
}

#[actix_web::test]
async fn a_call_without_a_key_that_allows_it_is_refused() {
    let node = Node::new().await;
    let app = node.serve().await;
    let invalidate = || TestRequest::post().uri("/v1/admin/cache/invalidate");
    let body = json!({ "tags": ["policy:standard"] });
    for key in [None, Some("pk_guessed"), Some("")] {
        let answer = call(&app, invalidate(), key, Some(body.clone())).await;
        assert_eq!(answer.problem(), "unauthorized");
        assert_eq!(answer.header(header::WWW_AUTHENTICATE), "Bearer");
    }
    let basic = invalidate().insert_header((header::AUTHORIZATION, format!("Basic {}", node.admin)));
    assert_eq!(call(&app, basic, None, Some(body.clone())).await.problem(), "unauthorized");
    assert_eq!(call(&app, invalidate(), Some(&node.producer), Some(body.clone())).await.problem(), "forbidden");
    assert_eq!(call(&app, invalidate(), Some(&node.admin), Some(body)).await.status, StatusCode::OK);
}

#[actix_web::test]
async fn a_key_is_refused_before_the_first_byte_of_the_body_is_read() {
    let node = Node::new().await;
    let app = node.serve().await;
    let was_read = Arc::new(AtomicBool::new(false));
    for (key, reads) in [("pk_guessed", false), (node.producer.as_str(), true)] {
        let request = TestRequest::post()
            .uri("/v1/assets")
            .insert_header((header::AUTHORIZATION, format!("Bearer {key}")))
            .to_request();
        let seen = Arc::clone(&was_read);
        let body = stream::once(async move {
            seen.store(true, Relaxed);
            Ok("{}".into())
        });
        let body: BoxedPayloadStream = Box::pin(body);
        let (request, _) = request.replace_payload(Payload::Stream { payload: body });
        let status = test::call_service(&app, request).await.status();
        assert_eq!(status.as_u16(), if reads { 422 } else { 401 });
        assert_eq!(was_read.load(Relaxed), reads);
    }
}

#[actix_web::test]
async fn calls_with_one_key_share_its_look_up() {
    let node = Node::new().await;
    let app = node.serve().await;
    let list = || call(&app, TestRequest::get().uri("/v1/streaming/policies"), Some(&node.admin), None);
    let answers = join_all((0..8).map(|_| list())).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
    assert_eq!(list().await.status, StatusCode::OK);
    assert_eq!(node.world.key_lookups.load(Relaxed), 1);
}

#[actix_web::test]
async fn all_that_is_wrong_with_a_body_is_said_at_once() {
    let node = Node::new().await;
    let app = node.serve().await;
    let body = json!({
        "name": "",
        "contentHash": STORED,
        "mediaType": "video",
        "policyMeta": [],
        "priceSatoshis": 2_100_000_000_000_001_u64,
    });
    let answer = call(&app, TestRequest::post().uri("/v1/assets"), Some(&node.producer), Some(body)).await;
    assert_eq!(answer.problem(), "validation-failed");
    let paths: Vec<_> = answer.json()["errors"]
        .as_array()
        .expect("the violations")
        .iter()
        .map(|broken| broken["path"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(paths, ["name", "mediaType", "policyMeta", "priceSatoshis"]);
}

#[actix_web::test]
async fn a_body_that_does_not_fit_names_the_place() {
    let node = Node::new().await;
    let app = node.serve().await;
    let post = |body: Value| call(&app, TestRequest::post().uri("/v1/assets"), Some(&node.producer), Some(body));
    for (body, path) in [
        (json!({ "name": "a", "contentHash": "ABC" }), "contentHash"),
        (json!({ "name": "a", "contentHash": STORED, "priceSatoshis": -1 }), "priceSatoshis"),
        (json!({ "name": "a", "contentHash": STORED, "colour": "red" }), "colour"),
        (json!({ "name": "a", "contentHash": "00".repeat(32) }), "contentHash"),
    ] {
        let answer = post(body).await;
        assert_eq!(answer.problem(), "validation-failed");
        assert_eq!(answer.json()["errors"][0]["path"], path);
    }
}

#[actix_web::test]
async fn a_body_that_is_not_json_and_one_that_breaks_rules_get_different_problems() {
    let node = Node::new().await;
    let app = node.serve().await;
    for (media_type, body, problem) in [
        ("application/json", "{", "malformed-request"),
        ("application/json; charset=utf-8", "{} {}", "validation-failed"),
        ("application/json", r#"{"name":"a"} trailing"#, "malformed-request"),
        ("application/x-www-form-urlencoded", "{}", "unsupported-media-type"),
    ] {
        let request = TestRequest::post()
            .uri("/v1/producers")
            .insert_header((header::CONTENT_TYPE, media_type))
            .set_payload(body);
        assert_eq!(call(&app, request, Some(&node.admin), None).await.problem(), problem, "{body}");
    }
    let large = json!({ "name": "a".repeat(300 * 1024) });
    let answer = call(&app, TestRequest::post().uri("/v1/producers"), Some(&node.admin), Some(large)).await;
    assert_eq!(answer.problem(), "upload-too-large");
}

#[actix_web::test]
async fn a_head_over_the_limit_is_refused() {
    let node = Node::new().await;
    let app = node.serve().await;
    let with = |bytes| TestRequest::get().uri("/health/live").insert_header(("x-filler", "a".repeat(bytes)));
    assert_eq!(ask(&app, with(MAX_HEAD_BYTES / 2)).await.status, StatusCode::OK);
    let answer = ask(&app, with(MAX_HEAD_BYTES)).await;
    assert_eq!(answer.problem(), "headers-too-large");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    let long = format!("/{}", "a".repeat(MAX_HEAD_BYTES));
    assert_eq!(ask(&app, TestRequest::get().uri(&long)).await.problem(), "headers-too-large");
}

#[actix_web::test]
async fn a_database_that_is_down_is_a_503_that_says_when_to_come_back_and_nothing_more() {
    let node = Node::new().await;
    let app = node.serve().await;
    node.world.database_is_down.store(true, Relaxed);
    let uri = format!("/v1/assets/{}", VersionId::next());
    let answer = ask(&app, TestRequest::get().uri(&uri)).await;
    assert_eq!(answer.problem(), "dependency-unavailable");
    assert_eq!(answer.header(header::RETRY_AFTER), answer.json()["retryAfter"].to_string());
    assert!(!String::from_utf8_lossy(&answer.body).contains("10.0.0.7"));
    let answer = call(&app, TestRequest::get().uri("/v1/streaming/policies"), Some(&node.admin), None).await;
    assert_eq!(answer.problem(), "dependency-unavailable");
    node.world.database_is_down.store(false, Relaxed);
    assert_eq!(ask(&app, TestRequest::get().uri(&uri)).await.problem(), "unknown-asset");
}
