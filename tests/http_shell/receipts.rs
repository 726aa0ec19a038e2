//! Receipts and their usage.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use actix_web::{
    Error,
    body::BoxBody,
    dev::{Service, ServiceResponse},
    http::{StatusCode, header},
    test::TestRequest,
};
use jiff::Timestamp;
use penstock_actors::{
    ids::{ReceiptId, UsageId},
    model::{Outcome, UsageRow},
    ports::{InvalidationBus as _, Tag},
};
use serde_json::{Value, json};

use crate::node::{Answer, NOW, Node, STORED, ask, call};

async fn receipt(
    app: &impl Service<actix_http::Request, Response = ServiceResponse<BoxBody>, Error = Error>,
    node: &Node,
    more: Value,
) -> Answer {
    let asset = json!({ "name": "A film", "contentHash": STORED, "priceSatoshis": 250 });
    let asset = call(app, TestRequest::post().uri("/v1/assets"), Some(&node.producer), Some(asset)).await.json();
    let mut body = json!({ "versionId": asset["versionId"] });
    let members = more.as_object().expect("members").clone();
    body.as_object_mut().expect("an object").extend(members);
    call(app, TestRequest::post().uri("/v1/receipts"), Some(&node.producer), Some(body)).await
}

fn id_of(receipt: &Answer) -> ReceiptId {
    serde_json::from_value(receipt.json()["receiptId"].clone()).expect("a receipt id")
}

#[actix_web::test]
async fn a_receipt_is_confirmed_standard_and_valid_for_thirty_days_by_default() {
    let node = Node::new().await;
    let app = node.serve().await;
    let made = receipt(&app, &node, json!({})).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let now: Timestamp = NOW.parse().expect("a time");
    let receipt = made.json();
    assert_eq!(receipt["status"], "confirmed");
    assert_eq!(receipt["quotaTier"], "standard");
    assert_eq!(receipt["totalSatoshis"], 250);
    assert_eq!(receipt["contentHash"], json!(STORED));
    assert_eq!(receipt["expiresAt"], json!(now + Duration::from_secs(30 * 86_400)));
    let found = ask(&app, TestRequest::get().uri(made.header(header::LOCATION))).await;
    assert_eq!(found.json(), receipt);
    assert_eq!(found.header(header::CACHE_CONTROL), "no-store");
}

#[actix_web::test]
async fn a_receipt_with_a_past_time_is_expired_from_the_start() {
    let node = Node::new().await;
    let app = node.serve().await;
    let made = receipt(&app, &node, json!({ "expiresAt": "2020-01-01T00:00:00Z" })).await;
    assert_eq!((made.status, made.json()["status"].as_str()), (StatusCode::CREATED, Some("expired")));
}

#[actix_web::test]
async fn a_receipt_needs_a_tier_and_an_asset_of_its_producer() {
    let node = Node::new().await;
    let app = node.serve().await;
    assert_eq!(receipt(&app, &node, json!({ "quotaTier": "gold" })).await.problem(), "unknown-tier");
    let unknown = json!({ "versionId": "67e55044-10b1-426f-9247-bb680e5fe0c8" });
    assert_eq!(receipt(&app, &node, unknown).await.problem(), "unknown-asset");
    let version = receipt(&app, &node, json!({})).await.json()["versionId"].clone();
    let body = Some(json!({ "versionId": version }));
    let answer = call(&app, TestRequest::post().uri("/v1/receipts"), Some(&node.other_producer), body).await;
    assert_eq!(answer.problem(), "forbidden");
}

#[actix_web::test]
async fn a_change_of_status_reaches_every_instance_and_never_goes_back() {
    let node = Node::new().await;
    let app = node.serve().await;
    let id = id_of(&receipt(&app, &node, json!({})).await);
    let mut told = node.world.invalidations();
    let set = |key: String, status: &'static str| {
        let request = TestRequest::patch().uri(&format!("/v1/receipts/{id}"));
        let app = &app;
        async move { call(app, request, Some(&key), Some(json!({ "status": status }))).await }
    };
    assert_eq!(set(node.other_producer.clone(), "refunded").await.problem(), "unknown-receipt");
    assert!(told.try_recv().is_err());
    assert_eq!(set(node.producer.clone(), "refunded").await.json()["status"], "refunded");
    assert_eq!(told.try_recv().ok(), Some(Tag::Receipt(id)));
    let answer = set(node.admin.clone(), "confirmed").await;
    assert_eq!(answer.problem(), "receipt-transition");
    assert_eq!(answer.json()["from"], "refunded");
    assert_eq!(set(node.admin.clone(), "paid").await.problem(), "validation-failed");
}

#[actix_web::test]
async fn a_change_stands_although_the_other_instances_cannot_be_notified() {
    let node = Node::new().await;
    let app = node.serve().await;
    let id = id_of(&receipt(&app, &node, json!({})).await);
    node.world.shared_is_down.store(true, Relaxed);
    let request = TestRequest::patch().uri(&format!("/v1/receipts/{id}"));
    let answer = call(&app, request, Some(&node.producer), Some(json!({ "status": "consumed" }))).await;
    assert_eq!(answer.json()["status"], "consumed");
}

#[actix_web::test]
async fn usage_comes_in_pages_that_neither_miss_nor_repeat_a_row() {
    let node = Node::new().await;
    let app = node.serve().await;
    let id = id_of(&receipt(&app, &node, json!({})).await);
    let at: Timestamp = NOW.parse().expect("a time");
    for bytes_sent in 0..5 {
        node.world.record(UsageRow {
            usage_id: UsageId::next(),
            receipt_id: id,
            content_hash: STORED,
            session_id: None,
            client: None,
            started_at: at,
            finished_at: at,
            bytes_sent,
            requests: 1,
            outcome: Outcome::Completed,
            lease_epoch: None,
        });
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let uri = format!("/v1/streaming/usage?receiptId={id}&limit=2{cursor}");
        let page = call(&app, TestRequest::get().uri(&uri), Some(&node.producer), None).await.json();
        seen.extend(page["items"].as_array().expect("rows").iter().map(|row| row["bytesSent"].as_u64()));
        let Some(next) = page["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, (0..5).map(Some).collect::<Vec<_>>());
    let uri = |query: &str| TestRequest::get().uri(&format!("/v1/streaming/usage?receiptId={id}{query}"));
    for (key, query, problem) in [
        (&node.other_producer, "", "unknown-receipt"),
        (&node.producer, "&cursor=no", "malformed-request"),
        (&node.producer, "&limit=0", "malformed-request"),
    ] {
        assert_eq!(call(&app, uri(query), Some(key), None).await.problem(), problem);
    }
}
