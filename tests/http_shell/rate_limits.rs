//! How often a client may call: what it is told, what it counts as, and what it cannot get around.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use actix_http::{BoxedPayloadStream, Payload};
use actix_web::{
    http::{StatusCode, header},
    test::{self, TestRequest},
};
use futures::stream;
use penstock::route_class::RouteClass;
use serde_json::json;

use crate::node::{Answer, Node, PROXY, ask, call};

const POLICIES: &str = "/v1/streaming/policies";
const ASSET: &str = "/v1/assets/67e55044-10b1-426f-9247-bb680e5fe0c8";

/// Three calls of the catalogue, five of the administration, any number of others.
fn limits(class: RouteClass) -> Option<NonZeroU32> {
    match class {
        RouteClass::Catalogue => NonZeroU32::new(3),
        RouteClass::Admin => NonZeroU32::new(5),
        RouteClass::Unmatched => NonZeroU32::new(2),
        _ => None,
    }
}

fn from(address: &str, uri: &str) -> TestRequest {
    let address: IpAddr = address.parse().expect("an address");
    TestRequest::get().uri(uri).peer_addr(SocketAddr::new(address, 4711))
}

fn state(answer: &Answer) -> (&str, &str) {
    (answer.header("ratelimit-policy"), answer.header("ratelimit"))
}

#[actix_web::test]
async fn each_answer_states_the_remaining_limit_and_a_refusal_states_when_to_retry() {
    let node = Node::limited(limits).await;
    let app = node.serve().await;
    let look = || ask(&app, from("203.0.113.5", ASSET));
    for left in [2, 1, 0] {
        let answer = look().await;
        assert_eq!(answer.problem(), "unknown-asset");
        assert_eq!(state(&answer), ("\"catalogue\";q=3;w=60", &*format!("\"catalogue\";r={left};t=60")));
    }
    let refused = look().await;
    assert_eq!(refused.problem(), "rate-limited");
    assert_eq!(state(&refused), ("\"catalogue\";q=3;w=60", "\"catalogue\";r=0;t=60"));
    assert_eq!(refused.header(header::RETRY_AFTER), "60");
    let document = refused.json();
    for (member, value) in [
        ("limit", json!(3)),
        ("used", json!(3)),
        ("remaining", json!(0)),
        ("window", json!("minute")),
        ("retryAfter", json!(60)),
    ] {
        assert_eq!(document[member], value, "{member}");
    }
    let text = node.metrics.render().expect("a text");
    for line in [
        "penstock_rate_limited_total{class=\"catalogue\"} 1",
        "penstock_rate_limit_checks_total{backend=\"memory\",outcome=\"allowed\"} 3",
        "penstock_rate_limit_checks_total{backend=\"memory\",outcome=\"refused\"} 1",
    ] {
        assert!(text.contains(line), "{line}");
    }
    // Who comes back when it was told is let in.
    node.clock.advance(Duration::from_secs(60));
    assert_eq!(look().await.problem(), "unknown-asset");
}

#[actix_web::test]
async fn a_class_without_a_limit_and_operations_pass_untouched() {
    let node = Node::limited(limits).await;
    let app = node.serve().await;
    for uri in ["/health/live", "/metrics", "/v1/receipts/67e55044-10b1-426f-9247-bb680e5fe0c8"] {
        for _ in 0..20 {
            let answer = ask(&app, from("203.0.113.5", uri)).await;
            assert_ne!(answer.status, StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(state(&answer), ("", ""));
        }
    }
}

#[actix_web::test]
async fn classes_and_clients_are_counted_by_themselves() {
    let node = Node::limited(limits).await;
    let app = node.serve().await;
    for _ in 0..4 {
        ask(&app, from("203.0.113.5", ASSET)).await;
    }
    assert_eq!(ask(&app, from("203.0.113.5", ASSET)).await.problem(), "rate-limited");
    assert_eq!(ask(&app, from("203.0.113.6", ASSET)).await.problem(), "unknown-asset");
    assert_eq!(ask(&app, from("203.0.113.5", POLICIES)).await.problem(), "unauthorized");
    for host in ["2001:db8::1", "2001:db8::2", "2001:db8::3:4"] {
        assert_eq!(ask(&app, from(host, ASSET)).await.problem(), "unknown-asset");
    }
    assert_eq!(ask(&app, from("2001:db8::5", ASSET)).await.problem(), "rate-limited");
    assert_eq!(ask(&app, from("2001:db8:0:1::5", ASSET)).await.problem(), "unknown-asset");
}

#[actix_web::test]
async fn a_known_key_counts_by_itself_and_a_made_up_one_by_its_address() {
    let node = Node::limited(limits).await;
    let app = node.serve().await;
    let list = async |key: &str| call(&app, from("203.0.113.5", POLICIES), Some(key), None).await;
    // The node learns whose the key is with its first call, which counts by the address.
    assert_eq!(list(&node.admin).await.status, StatusCode::OK);
    for _ in 0..4 {
        assert_eq!(list(&node.admin).await.status, StatusCode::OK);
    }
    for turn in 0..4 {
        assert_eq!(list(&format!("pk_made-up-{turn}")).await.problem(), "unauthorized");
    }
    let lookups = node.world.key_lookups.load(Relaxed);
    for turn in 4..20 {
        assert_eq!(list(&format!("pk_made-up-{turn}")).await.problem(), "rate-limited");
    }
    assert_eq!(node.world.key_lookups.load(Relaxed), lookups, "who guesses keys costs no look-ups beyond its limit");
    // The address is used up, the key is not.
    assert_eq!(list(&node.admin).await.status, StatusCode::OK);
    assert_eq!(list(&node.admin).await.problem(), "rate-limited");
    let elsewhere = call(&app, from("203.0.113.9", POLICIES), Some(&node.admin), None).await;
    assert_eq!(elsewhere.problem(), "rate-limited", "a key counts the same from everywhere");
}

#[actix_web::test]
async fn behind_a_trusted_proxy_clients_are_distinguished_and_cannot_forge_an_address() {
    let node = Node::limited(limits).await;
    let app = node.serve().await;
    let through = |forwarded: String| from(PROXY, ASSET).insert_header(("x-forwarded-for", forwarded));
    for turn in 0..4 {
        let answer = ask(&app, through(format!("198.51.100.{turn}, 203.0.113.5"))).await;
        assert_eq!(answer.status == StatusCode::TOO_MANY_REQUESTS, turn == 3);
    }
    assert_eq!(ask(&app, through("203.0.113.6".into())).await.problem(), "unknown-asset");
    // Without the proxy the field means nothing.
    for turn in 0..4 {
        let direct = from("203.0.113.7", ASSET).insert_header(("x-forwarded-for", format!("198.51.100.{turn}")));
        assert_eq!(ask(&app, direct).await.status == StatusCode::TOO_MANY_REQUESTS, turn == 3);
    }
}

#[actix_web::test]
async fn another_spelling_of_a_path_is_no_other_class_and_made_up_paths_share_one() {
    let node = Node::limited(limits).await;
    let app = node.serve().await;
    let spelt = ASSET.replace("assets", "%61sset%73");
    for uri in [&spelt, ASSET, &format!("{ASSET}?x=1")] {
        assert_eq!(ask(&app, from("203.0.113.5", uri)).await.problem(), "unknown-asset", "{uri}");
    }
    assert_eq!(ask(&app, from("203.0.113.5", &spelt)).await.problem(), "rate-limited");
    for (uri, problem) in [("/a", "not-found"), ("/wp-login.php", "not-found"), ("/c", "rate-limited")] {
        assert_eq!(ask(&app, from("203.0.113.5", uri)).await.problem(), problem);
    }
}

#[actix_web::test]
async fn a_refusal_comes_before_the_first_byte_of_the_body_is_read() {
    let node = Node::limited(limits).await;
    let app = node.serve().await;
    let was_read = Arc::new(AtomicBool::new(false));
    for _ in 0..3 {
        ask(&app, from("203.0.113.5", ASSET)).await;
    }
    let request = TestRequest::post()
        .uri("/v1/assets")
        .peer_addr("203.0.113.5:1".parse().expect("an address"))
        .insert_header((header::AUTHORIZATION, format!("Bearer {}", node.producer)))
        .to_request();
    let seen = Arc::clone(&was_read);
    let body: BoxedPayloadStream = Box::pin(stream::once(async move {
        seen.store(true, Relaxed);
        Ok("{}".into())
    }));
    let (request, _) = request.replace_payload(Payload::Stream { payload: body });
    assert_eq!(test::call_service(&app, request).await.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(!was_read.load(Relaxed));
}

#[actix_web::test]
async fn hostile_fields_neither_break_nor_widen_a_limit() {
    let node = Node::limited(limits).await;
    let app = node.serve().await;
    let hostile = [
        ("x-forwarded-for", "\u{fffd}".repeat(100)),
        ("x-forwarded-for", ",".repeat(1500)),
        ("x-forwarded-for", "203.0.113.5,".repeat(100)),
        ("authorization", "Bearer".into()),
        ("authorization", "Bearer  ".into()),
        ("authorization", format!("Bearer {}", "k".repeat(1500))),
        ("authorization", "Basic dXNlcjpwYXNz".into()),
        ("ratelimit", "\"catalogue\";r=1000000".into()),
    ];
    let mut allowed = 0;
    for (name, value) in hostile {
        let request = from(PROXY, ASSET).insert_header((name, value.into_bytes()));
        let answer = ask(&app, request).await;
        allowed += u32::from(answer.status != StatusCode::TOO_MANY_REQUESTS);
    }
    assert_eq!(allowed, 3, "all of them are the proxy's own");
}
