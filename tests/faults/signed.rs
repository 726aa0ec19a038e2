//! Signed requests on several instances: one counts once, whichever it is sent to, and whatever becomes of Redis.

use futures::future::join_all;
use penstock::signatures::Signer;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::json;

use crate::{
    node::{ADMIN_KEY, On, Setup, TestNode, expect, expect_problem},
    patience::eventually,
    postgres::TestDatabase,
    redis_server::RedisServer,
    signing::{KEY, bind, producer_of, publishing, signed, signer, taking, unbind, upload},
};

/// Two nodes on one database and one Redis.
async fn two(database: &TestDatabase, redis: &RedisServer, blobs: &std::path::Path) -> (TestNode, TestNode) {
    let setup = || {
        taking(Setup::on_database_of(&database.url()))
            .env("DATA_ROOT", blobs.to_str().unwrap())
            .env("REDIS_URL", redis.url())
            .env("PENSTOCK_REDIS__RESPONSE_TIMEOUT", "2s")
            .env("PENSTOCK_REDIS__BREAKER_PERIOD", "200ms")
            .start()
    };
    tokio::join!(setup(), setup())
}

/// The same bytes, to another node.
fn at(node: &TestNode, request: &RequestBuilder) -> RequestBuilder {
    let (client, request) = request.try_clone().unwrap().build_split();
    let mut request = request.unwrap();
    let port = node.url("").rsplit(':').next().and_then(|port| port.parse().ok());
    request.url_mut().set_port(port).unwrap();
    RequestBuilder::from_parts(client, request)
}

/// The first signed request that the node counts. Each try has a name of its own, and so may be for a set of names that
/// has not begun to remember.
async fn counted(node: &TestNode, hash: &str, signer: &Signer) -> RequestBuilder {
    let mut tried = None;
    eventually("signed requests count", async || {
        let request = tried.insert(signed(publishing(node, hash), signer));
        request.try_clone().unwrap().send().await.unwrap().status() == StatusCode::CREATED
    })
    .await;
    tried.expect("the one that counted")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_request_counts_once_on_all_instances_together() {
    let (database, redis) = (TestDatabase::empty().await, RedisServer::start());
    let blobs = tempfile::tempdir().unwrap();
    let (mut one, mut other) = two(&database, &redis, blobs.path()).await;
    let me = signer(KEY);
    let producer = producer_of(&one, &me).await;
    let hash = upload(&one, b"content", &me).await;

    let once = signed(publishing(&one, &hash), &me);
    expect(once.try_clone().unwrap().send().await.unwrap(), &[201]).await;
    for node in [&one, &other] {
        let problem = expect_problem(at(node, &once).send().await.unwrap(), 401, "signature-refused").await;
        assert_eq!(problem["reason"], "replayed");
    }
    // Many at once, at both: one is the first.
    for _ in 0..5 {
        let once = signed(publishing(&other, &hash), &me);
        let sent = (0..20).map(|turn| at([&one, &other][turn % 2], &once).send());
        let statuses: Vec<_> = join_all(sent).await.into_iter().map(|answer| answer.unwrap().status()).collect();
        let made = statuses.iter().filter(|status| **status == StatusCode::CREATED).count();
        assert_eq!(made, 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == StatusCode::UNAUTHORIZED).count(), 19, "{statuses:?}");
    }

    // A key that is taken away through one instance stops on the other, and begins again.
    unbind(&one, &producer, &me).await;
    eventually("the key has stopped", async || {
        signed(publishing(&other, &hash), &me).send().await.unwrap().status() == StatusCode::UNAUTHORIZED
    })
    .await;
    bind(&one, &producer, &me).await;
    eventually("the key works again", async || {
        signed(publishing(&other, &hash), &me).send().await.unwrap().status() == StatusCode::CREATED
    })
    .await;
    one.finish().await;
    other.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_signed_requests_are_refused_and_no_replay_counts_afterwards() {
    let (database, mut redis) = (TestDatabase::empty().await, RedisServer::start());
    let blobs = tempfile::tempdir().unwrap();
    let (mut one, mut other) = two(&database, &redis, blobs.path()).await;
    let me = signer(KEY);
    producer_of(&one, &me).await;
    let hash = upload(&one, b"content", &me).await;
    let used = signed(publishing(&one, &hash), &me);
    expect(used.try_clone().unwrap().send().await.unwrap(), &[201]).await;

    redis.kill();
    expect_problem(signed(publishing(&one, &hash), &me).send().await.unwrap(), 503, "dependency-unavailable").await;
    expect_problem(at(&other, &used).send().await.unwrap(), 503, "dependency-unavailable").await;
    // A key needs no Redis.
    expect(publishing(&one, &hash).bearer_auth(ADMIN_KEY).send().await.unwrap(), &[201]).await;

    // It comes back without what it had, and so does not know what was used before.
    redis.restart();
    for node in [&one, &other] {
        let _ = counted(node, &hash, &me).await;
        expect_problem(at(node, &used).send().await.unwrap(), 503, "dependency-unavailable").await;
    }
    let used = counted(&one, &hash, &me).await;
    redis.flush();
    expect_problem(at(&other, &used).send().await.unwrap(), 503, "dependency-unavailable").await;
    let _ = counted(&other, &hash, &me).await;
    assert!(one.metric("penstock_signed_requests_total", "outcome=\"unavailable\"").await >= 1.0);
    assert!(other.metric("penstock_signed_requests_total", "outcome=\"forgotten\"").await >= 1.0);
    one.finish().await;
    other.finish().await;
}

/// Somebody gave two installations one Redis and left its prefix as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_installation_keeps_in_redis_opens_and_shows_nothing_in_another_one() {
    let redis = RedisServer::start();
    let setup = || {
        taking(Setup::new(On::Sqlite))
            .env("REDIS_URL", redis.url())
            .env("PENSTOCK_REDIS__RESPONSE_TIMEOUT", "2s")
            .env("PENSTOCK_REDIS__BREAKER_PERIOD", "200ms")
            .start()
    };
    let (mut one, mut other) = tokio::join!(setup(), setup());
    let me = signer(KEY);
    producer_of(&one, &me).await;
    let hash = upload(&one, b"content", &me).await;
    other.put(b"content", "text/plain").await;
    one.tier("theirs", json!({ "bytesPerMonth": 1 })).await;
    expect(signed(publishing(&one, &hash), &me).send().await.unwrap(), &[201]).await;
    let listed = async |node: &TestNode| {
        let page = expect(node.get("/v1/catalog?q=signed").send().await.unwrap(), &[200]).await;
        page["items"].as_array().unwrap().len()
    };
    let tier = async |node: &TestNode| {
        let policies = node.admin(Method::GET, "/v1/streaming/policies/theirs").send().await.unwrap();
        policies.status()
    };
    assert_eq!((listed(&one).await, tier(&one).await), (1, StatusCode::OK));

    let stranger = signed(publishing(&other, &hash), &me).send().await.unwrap();
    let problem = expect_problem(stranger, 401, "signature-refused").await;
    assert_eq!(problem["reason"], "unknown-identity", "its key speaks for nobody here");
    assert_eq!((listed(&other).await, tier(&other).await), (0, StatusCode::NOT_FOUND));
    one.finish().await;
    other.finish().await;
}
