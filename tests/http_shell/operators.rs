//! Keys, health and invalidation: what operators do.

use std::{os::unix::fs::PermissionsExt as _, sync::atomic::Ordering::Relaxed};

use actix_web::{http::StatusCode, test::TestRequest};
use penstock::keys::{self, KeyRing};
use penstock_actors::{
    model::Role,
    ports::{ApiKeys, InvalidationBus as _, Tag},
};
use serde_json::json;

use crate::{
    node::{Node, ask, call},
    world::World,
};

#[actix_web::test]
async fn a_new_producer_can_use_its_key_at_once() {
    let node = Node::new().await;
    let app = node.serve().await;
    let body = Some(json!({ "name": "Studio" }));
    let made = call(&app, TestRequest::post().uri("/v1/producers"), Some(&node.admin), body).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let key = made.json()["key"].as_str().expect("a key").to_owned();
    let post = TestRequest::post().uri("/v1/assets");
    assert_eq!(call(&app, post, Some(&key), Some(json!({}))).await.problem(), "validation-failed");
}

#[actix_web::test]
async fn an_invalidation_reaches_every_listener() {
    let node = Node::new().await;
    let app = node.serve().await;
    let mut told = node.world.invalidations();
    let post = |tags| {
        let request = TestRequest::post().uri("/v1/admin/cache/invalidate");
        call(&app, request, Some(&node.admin), Some(json!({ "tags": tags })))
    };
    assert_eq!(post(vec!["policy:standard"]).await.json()["invalidated"], 1);
    assert_eq!(told.try_recv().ok(), Some(Tag::QuotaPolicy("standard".into())));
    let answer = post(vec!["policy:standard", "everything"]).await;
    assert_eq!(answer.json()["errors"][0]["path"], "tags[1]");
    // Without the message that makes it quick, the others read of it in the log.
    let body = Some(json!({ "pattern": "assets:*" }));
    let request = TestRequest::post().uri("/v1/admin/cache/invalidate");
    let answer = call(&app, request, Some(&node.admin), body).await;
    assert_eq!(answer.json(), json!({ "invalidated": 0, "removed": 0 }));
    assert!(matches!(told.try_recv(), Ok(Tag::Entries(pattern)) if pattern.as_str() == "assets:*"));
    for (body, path) in [(json!({}), "tags"), (json!({ "pattern": "[a]" }), "pattern")] {
        let request = TestRequest::post().uri("/v1/admin/cache/invalidate");
        let answer = call(&app, request, Some(&node.admin), Some(body)).await;
        assert_eq!(answer.json()["errors"][0]["path"], path);
    }
    node.world.shared_is_down.store(true, Relaxed);
    assert_eq!(post(vec!["policy:standard"]).await.json()["invalidated"], 1);
    node.world.database_is_down.store(true, Relaxed);
    assert_eq!(post(vec!["policy:standard"]).await.problem(), "dependency-unavailable");
}

#[actix_web::test]
async fn readiness_reports_each_dependency_and_fails_only_when_nothing_could_be_served() {
    let node = Node::new().await;
    let app = node.serve().await;
    let ready = || ask(&app, TestRequest::get().uri("/health/ready"));
    let answer = ready().await;
    assert_eq!(answer.status, StatusCode::OK);
    let ok = json!({ "database": "ok", "storage": "ok", "sharedState": "ok" });
    // By a clock that stands still.
    let just_now = json!({ "database": 0, "storage": 0, "sharedState": 0 });
    let expected = json!({ "status": "ok", "dependencies": ok, "ageMs": just_now, "quarantined": 0 });
    assert_eq!(answer.json(), expected);

    node.world.shared_is_down.store(true, Relaxed);
    let answer = ready().await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (StatusCode::OK, Some("degraded")));
    assert_eq!(answer.json()["dependencies"]["sharedState"], "down");

    node.world.database_is_down.store(true, Relaxed);
    node.world.storage_is_down.store(true, Relaxed);
    assert_eq!(ready().await.status, StatusCode::SERVICE_UNAVAILABLE);
    node.world.database_is_down.store(false, Relaxed);
    assert_eq!(ready().await.status, StatusCode::OK);

    node.readiness.drain();
    let answer = ready().await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some("draining")));
    assert_eq!(ask(&app, TestRequest::get().uri("/health/live")).await.status, StatusCode::OK);
}

#[actix_web::test]
async fn the_first_start_makes_an_admin_key_that_later_starts_keep() {
    let (world, folder) = (World::new(), tempfile::tempdir().expect("a folder"));
    let made = keys::ensure_admin(&world, None, folder.path()).await.expect("an admin");
    let secret = made.secret.expect("a first start shows the key");
    let mode = std::fs::metadata(&made.path).expect("the key is kept").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_to_string(&made.path).expect("a text").trim(), secret);
    let found = world.key(&keys::hash(&secret)).await.expect("an answer").expect("the key");
    assert_eq!(found.role, Role::Admin);
    let again = keys::ensure_admin(&world, None, folder.path()).await.expect("an admin");
    assert!(again.secret.is_none());
    assert!(KeyRing::new(std::sync::Arc::new(world)).find(keys::hash(&secret)).await.expect("an answer").is_some());
}

#[actix_web::test]
async fn a_configured_admin_key_replaces_the_one_before() {
    let (world, folder) = (World::new(), tempfile::tempdir().expect("a folder"));
    for (secret, before) in [("first-secret", None), ("second-secret", Some("first-secret"))] {
        let key = keys::ensure_admin(&world, Some(secret), folder.path()).await.expect("an admin");
        assert!(key.secret.is_none() && !key.path.exists());
        assert!(world.key(&keys::hash(secret)).await.expect("an answer").is_some());
        if let Some(before) = before {
            assert!(world.key(&keys::hash(before)).await.expect("an answer").is_none());
        }
    }
    assert!(keys::ensure_admin(&world, Some("two words"), folder.path()).await.is_err());
}

#[actix_web::test]
async fn a_start_without_an_admin_key_keeps_the_existing_one() {
    let (world, folder) = (World::new(), tempfile::tempdir().expect("a folder"));
    keys::ensure_admin(&world, Some("the-operators"), folder.path()).await.expect("an admin");
    let key = keys::ensure_admin(&world, None, folder.path()).await.expect("a start");
    assert!(key.secret.is_none() && !key.path.exists());
    assert!(world.key(&keys::hash("the-operators")).await.expect("an answer").is_some());
}
