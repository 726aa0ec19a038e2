//! Nodes that share a Redis and a PostgreSQL: what one of them is asked for most, another one has before it is asked; and what
//! one of them changes, the other one shows.

use reqwest::Method;
use serde_json::json;

use crate::{
    node::{Setup, TestNode, expect, sample},
    postgres::TestDatabase,
    support::{prefix, shared_url, until},
};

async fn asset(node: &TestNode, version: &str) -> serde_json::Value {
    expect(node.get(&format!("/v1/assets/{version}")).send().await.expect("an answer"), &[200]).await
}

/// Queries for one asset.
async fn queries(node: &TestNode) -> f64 {
    node.metric("penstock_db_queries_total", "statement=\"asset\"").await
}

struct World {
    database: TestDatabase,
    blobs: tempfile::TempDir,
    prefix: String,
}

impl World {
    async fn new() -> Self {
        Self { database: TestDatabase::empty().await, blobs: tempfile::tempdir().expect("a folder"), prefix: prefix() }
    }

    fn node(&self) -> Setup {
        Setup::on_database_of(&self.database.url())
            .env("DATA_ROOT", self.blobs.path().to_str().expect("a path of text"))
            .env("REDIS_URL", shared_url())
            .env("PENSTOCK_REDIS__KEY_PREFIX", &self.prefix)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_is_asked_for_most_another_one_has_before_it_is_asked() {
    let world = World::new().await;
    let mut one = world.node().env("PENSTOCK_CACHE__WARM_INTERVAL", "200ms").start().await;
    let bytes = sample(90, 300_000);
    let paid = one.paid(&bytes, "unlimited").await;
    let seldom = one.publish(&paid.hash, "seldom.bin").await;
    for _ in 0..3 {
        asset(&one, &paid.version).await;
        assert_eq!(one.stream(&paid).send().await.unwrap().bytes().await.unwrap(), bytes);
    }
    until("what was used is told", async || {
        one.metric("penstock_cache_warmed_total", "asset").await > 0.0
            && one.metric("penstock_cache_warmed_total", "content").await > 0.0
    })
    .await;

    let mut other = world.node().start().await;
    until("it has warmed itself", async || {
        other.metric("penstock_cache_warmed_total", "asset").await == 1.0
            && other.metric("penstock_cache_warmed_total", "content").await == 1.0
    })
    .await;
    let before = queries(&other).await;
    assert_eq!(asset(&other, &paid.version).await["name"], "content.bin");
    assert_eq!(other.metric("penstock_cache_hits_total", "cache=\"assets\",tier=\"memory\"").await, 1.0);
    assert_eq!(queries(&other).await, before);
    assert_eq!(other.stream(&paid).send().await.unwrap().bytes().await.unwrap(), bytes);
    assert!(other.metric("penstock_content_cache_hits_total", "").await >= 1.0);
    asset(&other, &seldom).await;
    one.finish().await;
    other.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_changes_another_one_shows() {
    let world = World::new().await;
    let (mut one, mut other) = tokio::join!(world.node().start(), world.node().start());
    let hash = one.put(b"x", "text/plain").await;
    let version = one.publish(&hash, "x").await;
    let receipt = one.receipt(&version, json!({})).await;
    let shown = async |node: &TestNode| {
        let receipt = expect(node.get(&format!("/v1/receipts/{receipt}")).send().await.unwrap(), &[200]).await;
        (asset(node, &version).await["priceSatoshis"].clone(), receipt["status"].clone())
    };
    assert_eq!(shown(&other).await, (json!(0), json!("confirmed")));
    let before = queries(&other).await;
    assert_eq!(shown(&other).await, (json!(0), json!("confirmed")));
    assert_eq!(queries(&other).await, before, "it is from memory");
    let listed = async |node: &TestNode| {
        let page = expect(node.get("/v1/catalog?q=x").send().await.unwrap(), &[200]).await;
        page["items"].as_array().expect("items").iter().map(|item| item["priceSatoshis"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&other).await, [json!(0)]);

    let price = one.admin(Method::PUT, &format!("/v1/assets/{version}/price")).json(&json!({ "satoshis": 7 }));
    expect(price.send().await.unwrap(), &[200]).await;
    expect(one.set_status(&receipt, "refunded").await, &[200]).await;
    assert_eq!(shown(&one).await, (json!(7), json!("refunded")), "who changed it sees it at once");
    assert_eq!(listed(&one).await, [json!(7)]);
    until("the other one shows it", async || shown(&other).await == (json!(7), json!("refunded"))).await;
    until("and lists it", async || listed(&other).await == [json!(7)]).await;
    one.publish(&hash, "x").await;
    assert_eq!(listed(&one).await, [json!(0), json!(7)]);
    until("the other one lists the new one too", async || listed(&other).await == [json!(0), json!(7)]).await;

    // Removed by pattern, an entry is loaded anew wherever it is asked for.
    let body = json!({ "pattern": format!("assets:{version}") });
    let removed = one.admin(Method::POST, "/v1/admin/cache/invalidate").json(&body).send().await.unwrap();
    assert_eq!(expect(removed, &[200]).await["invalidated"], 0);
    let misses = async || other.metric("penstock_cache_misses_total", "cache=\"assets\",tier=\"memory\"").await;
    let before = misses().await;
    until("the other one has dropped it", async || {
        asset(&other, &version).await;
        misses().await > before
    })
    .await;
    one.finish().await;
    other.finish().await;
}
