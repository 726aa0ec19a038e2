//! Assets, prices and policies.

use actix_web::{
    http::{StatusCode, header},
    test::TestRequest,
};
use penstock_actors::{
    ids::VersionId,
    ports::{InvalidationBus as _, Tag},
};
use serde_json::json;

use crate::node::{NOW, Node, STORED, ask, call};

#[actix_web::test]
async fn an_asset_is_found_where_its_making_says() {
    let node = Node::new().await;
    let app = node.serve().await;
    let body = json!({ "name": "A film", "description": "", "contentHash": STORED, "priceSatoshis": 250 });
    let made = call(&app, TestRequest::post().uri("/v1/assets"), Some(&node.producer), Some(body)).await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert_eq!(made.json()["createdAt"], NOW);
    assert_eq!(made.json()["policyMeta"], json!({}));
    let location = made.header(header::LOCATION);
    let found = ask(&app, TestRequest::get().uri(location)).await;
    assert_eq!(found.json(), made.json());

    let tag = found.header(header::ETAG);
    let again = ask(&app, TestRequest::get().uri(location).insert_header((header::IF_NONE_MATCH, tag))).await;
    assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
    let unknown = format!("/v1/assets/{}", VersionId::next());
    assert_eq!(ask(&app, TestRequest::get().uri(&unknown)).await.problem(), "unknown-asset");
}

#[actix_web::test]
async fn a_price_is_set_by_its_producer_or_an_admin_and_reaches_every_instance() {
    let node = Node::new().await;
    let app = node.serve().await;
    let body = json!({ "name": "A film", "contentHash": STORED });
    let made = call(&app, TestRequest::post().uri("/v1/assets"), Some(&node.producer), Some(body)).await.json();
    let id: VersionId = serde_json::from_value(made["versionId"].clone()).expect("an id");
    let mut told = node.world.invalidations();
    let set = |key: String, satoshis: u64| {
        let request = TestRequest::put().uri(&format!("/v1/assets/{id}/price"));
        let app = &app;
        async move { call(app, request, Some(&key), Some(json!({ "satoshis": satoshis }))).await }
    };
    assert_eq!(set(node.other_producer.clone(), 1).await.problem(), "forbidden");
    assert!(told.try_recv().is_err());
    for (key, price) in [(&node.producer, 7_u64), (&node.admin, 8)] {
        assert_eq!(set(key.clone(), price).await.json()["priceSatoshis"], price);
        assert_eq!(told.try_recv().ok(), Some(Tag::Asset(id)));
        let asset = ask(&app, TestRequest::get().uri(&format!("/v1/assets/{id}"))).await;
        assert_eq!(asset.json()["priceSatoshis"], price);
    }
}

#[actix_web::test]
async fn a_policy_is_made_and_then_replaced() {
    let node = Node::new().await;
    let app = node.serve().await;
    let mut told = node.world.invalidations();
    let put = |body| call(&app, TestRequest::put().uri("/v1/streaming/policies/gold"), Some(&node.admin), Some(body));
    let made = put(json!({ "bytesPerHour": 1000, "allowedContentTypes": ["video/*"] })).await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert_eq!(made.json()["policyName"], "gold");
    assert_eq!(told.try_recv().ok(), Some(Tag::QuotaPolicy("gold".into())));
    let found = call(&app, TestRequest::get().uri(made.header(header::LOCATION)), Some(&node.admin), None).await;
    assert_eq!(found.json(), made.json());

    let replaced = put(json!({ "requestsPerDay": 5 })).await;
    assert_eq!(replaced.status, StatusCode::OK);
    assert!(replaced.json()["bytesPerHour"].is_null());
    let all = call(&app, TestRequest::get().uri("/v1/streaming/policies"), Some(&node.admin), None).await;
    assert_eq!(all.json()["items"], json!([replaced.json()]));

    let wrong = put(json!({ "maxBandwidthMbps": 0, "maxConcurrentStreams": 0, "allowedContentTypes": [] })).await;
    assert_eq!(wrong.json()["errors"].as_array().map(Vec::len), Some(3));
    let named = TestRequest::put().uri("/v1/streaming/policies/Gold");
    assert_eq!(call(&app, named, Some(&node.admin), Some(json!({}))).await.problem(), "malformed-request");
}
