//! Pages of other origins: what a browser is told about them.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
};

use actix_web::{
    http::{Method, StatusCode, header},
    test::TestRequest,
};
use penstock::{http::Origins, route_class::RouteClass};

use crate::node::{Answer, Node, ask};

const PLAYER: &str = "https://player.example.com";
const STRANGER: &str = "https://stranger.example.com";
const ASSET: &str = "/v1/assets/67e55044-10b1-426f-9247-bb680e5fe0c8";

fn by(origin: &str, request: TestRequest) -> TestRequest {
    let address: IpAddr = "203.0.113.5".parse().expect("an address");
    request.insert_header((header::ORIGIN, origin)).peer_addr(SocketAddr::new(address, 4711))
}

fn preflight(origin: &str, uri: &str) -> TestRequest {
    let request = TestRequest::with_uri(uri).method(Method::OPTIONS);
    by(origin, request)
        .insert_header((header::ACCESS_CONTROL_REQUEST_METHOD, "GET"))
        .insert_header((header::ACCESS_CONTROL_REQUEST_HEADERS, "range,x-receipt-id"))
}

fn allowed(answer: &Answer) -> &str {
    answer.header(header::ACCESS_CONTROL_ALLOW_ORIGIN)
}

async fn open_to(origins: &'static str, limit: u32) -> Node {
    let streaming = move |class| (class == RouteClass::Catalogue).then(|| NonZeroU32::new(limit)).flatten();
    let mut node = Node::limited(streaming).await;
    node.origins = Origins::new(origins.split(',').filter(|origin| !origin.is_empty()));
    node
}

#[actix_web::test]
async fn a_page_that_is_listed_may_call_and_reads_the_fields_that_players_need() {
    let node = open_to(PLAYER, 100).await;
    let app = node.serve().await;
    let asked = ask(&app, preflight(PLAYER, ASSET)).await;
    assert_eq!((asked.status, allowed(&asked), asked.body.len()), (StatusCode::OK, PLAYER, 0));
    assert_eq!(asked.header(header::ACCESS_CONTROL_ALLOW_HEADERS), "range,x-receipt-id");
    assert!(asked.header(header::ACCESS_CONTROL_ALLOW_METHODS).contains("PATCH"));
    assert_eq!(asked.header(header::ACCESS_CONTROL_ALLOW_CREDENTIALS), "");
    let called = ask(&app, by(PLAYER, TestRequest::get().uri(ASSET))).await;
    assert_eq!((called.problem().as_str(), allowed(&called)), ("unknown-asset", PLAYER));
    let exposed: Vec<_> = called.header(header::ACCESS_CONTROL_EXPOSE_HEADERS).split(", ").collect();
    for field in ["content-range", "etag", "repr-digest", "x-quota-remaining-bytes", "retry-after", "x-request-id"] {
        assert!(exposed.contains(&field), "{field}: {exposed:?}");
    }
    // A cache between must not give one page what it kept of another.
    let own = ask(&app, TestRequest::get().uri(ASSET)).await;
    for answer in [&called, &own] {
        let varies = answer.header(header::VARY);
        assert!(varies.contains("accept-encoding") && varies.contains("Origin"), "{varies}");
    }
    assert_eq!(allowed(&own), "");
}

#[actix_web::test]
async fn a_page_that_is_not_listed_gets_no_permission() {
    for origins in ["", PLAYER] {
        let node = open_to(origins, 100).await;
        let app = node.serve().await;
        let asked = ask(&app, preflight(STRANGER, ASSET)).await;
        let expected = if origins.is_empty() { "method-not-allowed" } else { "origin-not-allowed" };
        assert_eq!((asked.problem().as_str(), allowed(&asked)), (expected, ""), "{origins}");
        let called = ask(&app, by(STRANGER, TestRequest::get().uri(ASSET))).await;
        assert_eq!((called.problem().as_str(), allowed(&called)), ("unknown-asset", ""), "{origins}");
    }
}

#[actix_web::test]
async fn with_all_origins_the_api_is_open_and_the_operators_pages_are_not() {
    let node = open_to("*", 100).await;
    let app = node.serve().await;
    for origin in [PLAYER, STRANGER, "null"] {
        let called = ask(&app, by(origin, TestRequest::get().uri(ASSET))).await;
        assert_eq!(allowed(&called), origin);
    }
    for path in ["/metrics", "/health/ready", "/%6detrics", "/dashboard/events", "//metrics"] {
        let called = ask(&app, by(PLAYER, TestRequest::get().uri(path))).await;
        assert_eq!(allowed(&called), "", "{path}");
        assert_eq!(ask(&app, preflight(PLAYER, path)).await.problem(), "origin-not-allowed", "{path}");
    }
}

#[actix_web::test]
async fn preflights_count_under_the_limit_and_a_page_reads_when_to_try_again() {
    let node = open_to(PLAYER, 2).await;
    let app = node.serve().await;
    let asked = ask(&app, preflight(PLAYER, ASSET)).await;
    assert_eq!((asked.status, asked.header("ratelimit")), (StatusCode::OK, "\"catalogue\";r=1;t=60"));
    let called = ask(&app, by(PLAYER, TestRequest::get().uri(ASSET))).await;
    assert_eq!((called.problem().as_str(), called.header("ratelimit")), ("unknown-asset", "\"catalogue\";r=0;t=60"));
    let refused = ask(&app, by(PLAYER, TestRequest::get().uri(ASSET))).await;
    assert_eq!((refused.problem().as_str(), allowed(&refused)), ("rate-limited", PLAYER));
    assert_eq!(refused.header(header::RETRY_AFTER), "60");
    assert!(refused.header(header::ACCESS_CONTROL_EXPOSE_HEADERS).contains("retry-after"));
    assert_eq!(ask(&app, preflight(PLAYER, ASSET)).await.problem(), "rate-limited");
}
