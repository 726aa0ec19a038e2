//! What must not be known from the outside of a node: its log at the finest level, its metrics and what `check` prints name no
//! secret, whatever is asked of it and whatever breaks.

use std::{collections::BTreeMap, fs};

use penstock::config::S3Client;
use reqwest::{Client, Method, RequestBuilder, redirect::Policy};
use serde_json::{Value, json};
use tokio_postgres::config::Host;

use crate::{
    node::{ADMIN_KEY, Paid, Setup, TestNode, expect, sample, text},
    patience::eventually,
    postgres::TestDatabase,
    proxy::Proxy,
    redis_server::RedisServer,
    s3::{TestBuckets, told},
    signing::{KEY, producer_of, publishing, signed, signer, taking},
};

const DATABASE_PASSWORD: &str = "word-of-the-database";
const REDIS_PASSWORD: &str = "word-of-redis";
const SIGNING_KEY: &str = "a8b7c6d5e4f3a2b1a8b7c6d5e4f3a2b1a8b7c6d5e4f3a2b1a8b7c6d5e4f3a2b1";
const TOKEN_SECRET: &str = "word-that-signs-receipts-0123456789abcdef";
const UNKNOWN_KEY: &str = "pk_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
const UNKNOWN_RECEIPT: &str = "0a1b2c3d-4e5f-4a6b-8c7d-8e9f0a1b2c3d";

/// Texts that nothing may show, by what they are.
type Secrets = BTreeMap<String, &'static str>;

/// Sends a request, whatever becomes of it; the document in the answer, and where it leads.
async fn send(request: RequestBuilder) -> (Value, Option<String>) {
    let Ok(answer) = request.send().await else { return (Value::Null, None) };
    let location = answer.headers().get("location").and_then(|to| to.to_str().ok()).map(str::to_owned);
    let body = answer.bytes().await.unwrap_or_default();
    (serde_json::from_slice(&body).unwrap_or(Value::Null), location)
}

/// Uses a receipt in each place where one may be, rightly and wrongly.
async fn use_receipt(node: &TestNode, hash: &str, receipt: &str, secrets: &mut Secrets) {
    let query = format!("?receiptId={receipt}");
    for path in [
        format!("/v1/streaming/data/{hash}{query}"),
        format!("/v1/streaming/data/{hash}{query}&sessionId=none"),
        format!("/v1/streaming/data/nothing{query}"),
        format!("/v1/streaming/data/{hash}{query}%zz"),
        format!("/v1/data{query}&contentHash={hash}"),
        format!("/v1/data{query}&contentHash={hash}&redirect=true"),
        format!("/v1/streaming/quotas/{receipt}"),
        format!("/v1/streaming/quotas/{receipt}x"),
        format!("/v1/nothing/{receipt}"),
    ] {
        let (document, location) = send(node.get(&path)).await;
        let urls = document["delivery"]["url"].as_str().into_iter().chain(location.as_deref());
        let signatures =
            urls.flat_map(|url| url.split(['?', '&'])).filter_map(|part| part.strip_prefix("X-Amz-Signature="));
        secrets.extend(signatures.map(|signature| (signature.to_owned(), "the signature of a delivery URL")));
    }
    let stream = || node.get(&format!("/v1/streaming/data/{hash}")).header("x-receipt-id", receipt);
    send(stream()).await;
    send(stream().header("range", "bytes=9-1")).await;
    send(node.get(&format!("/v1/streaming/data/{hash}")).header("x-receipt-id", format!("{receipt}, {receipt}"))).await;
    let session = node.client.post(node.url("/v1/streaming/sessions")).json(&json!({ "receiptId": receipt }));
    if let Some(session) = send(session).await.0["sessionId"].as_str() {
        send(stream().header("x-session-id", session)).await;
        send(node.get(&format!("/v1/streaming/sessions/{session}"))).await;
        secrets.insert(session.to_owned(), "a session, which shows its receipt");
    }
    send(node.admin(Method::GET, &format!("/v1/receipts/{receipt}"))).await;
    send(node.admin(Method::GET, &format!("/v1/receipts/{receipt}/usage"))).await;
    send(node.admin(Method::PATCH, &format!("/v1/receipts/{receipt}")).json(&json!({ "status": receipt }))).await;
    send(node.admin(Method::POST, "/v1/receipts").body(format!("{{\"receiptId\": \"{receipt}\", "))).await;
}

/// Uses a key rightly and wrongly.
async fn use_key(node: &TestNode, key: &str) {
    send(node.client.get(node.url("/v1/producers")).bearer_auth(key)).await;
    send(node.client.post(node.url("/v1/assets")).bearer_auth(key).json(&json!({ "contentHash": key }))).await;
    send(node.client.post(node.url("/v1/content")).basic_auth("me", Some(key)).body("content")).await;
    send(node.client.get(node.url("/v1/producers")).header("authorization", format!("Bearer {key} {key}"))).await;
}

/// Signs in to the console, and uses the session rightly and wrongly.
async fn use_console(node: &TestNode, secrets: &mut Secrets) {
    let Ok(answer) = node.client.post(node.url("/dashboard/sign-in")).bearer_auth(ADMIN_KEY).send().await else {
        return;
    };
    let cookie = answer.headers().get("set-cookie").and_then(|cookie| cookie.to_str().ok()?.split(';').next());
    let Some(cookie) = cookie.map(str::to_owned) else { return };
    let csrf = text(&expect(answer, &[200]).await["session"], "csrfToken");
    secrets.insert(cookie.split_once('=').unwrap().1.to_owned(), "the token of a session at the console");
    secrets.insert(csrf.clone(), "the CSRF token of a session at the console");
    let with_cookie = |path: &str| node.get(path).header("cookie", &cookie);
    send(with_cookie("/v1/producers")).await;
    send(with_cookie("/v1/producers").header("x-csrf-token", &csrf)).await;
    send(with_cookie("/dashboard/session")).await;
    send(node.client.post(node.url("/dashboard/sign-out")).header("cookie", &cookie).header("x-csrf-token", &csrf))
        .await;
}

async fn use_all(node: &TestNode, paid: &Paid, keys: &[String], secrets: &mut Secrets) {
    use_receipt(node, &paid.hash, &paid.receipt, secrets).await;
    use_receipt(node, &paid.hash, UNKNOWN_RECEIPT, secrets).await;
    let shown = send(node.admin(Method::GET, &format!("/v1/receipts/{}", paid.receipt))).await.0;
    if let Some(token) = shown["receiptToken"].as_str() {
        // The id at its beginning is looked for as well.
        secrets.insert(token.rsplit('.').next().unwrap().to_owned(), "the signature of a receipt");
        use_receipt(node, &paid.hash, token, secrets).await;
    }
    for key in keys {
        use_key(node, key).await;
    }
    use_console(node, secrets).await;
    let request = signed(publishing(node, &paid.hash), &signer(KEY));
    let built = request.try_clone().unwrap().build().unwrap();
    for (name, value) in built.headers() {
        if name.as_str().ends_with("-signature") {
            secrets.insert(value.to_str().unwrap().to_owned(), "a signature");
        }
    }
    // The second one is a repetition.
    send(request.try_clone().unwrap()).await;
    send(request).await;
    let stranger = signer(&KEY.replace('1', "2"));
    send(signed(publishing(node, &paid.hash), &stranger)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_the_log_at_the_finest_level_or_in_the_metrics() {
    let database = TestDatabase::empty().await;
    let config = database.config();
    let (Some(Host::Tcp(host)), Some(port)) = (config.get_hosts().first(), config.get_ports().first()) else {
        panic!("the test server listens on a port");
    };
    let mut way = Proxy::started(format!("{host}:{port}").parse().unwrap()).await;
    let user = config.get_user().unwrap();
    let url = format!("postgres://{user}:{DATABASE_PASSWORD}@{}/{}", way.address(), config.get_dbname().unwrap());
    let password = format!(">{REDIS_PASSWORD}");
    let acl = ["--user", "app", "on", &password, "~*", "&*", "+@all"];
    let mut redis = RedisServer::with(&acl);
    let redis_url = redis.url().replacen("//", &format!("//app:{REDIS_PASSWORD}@"), 1);
    let buckets = TestBuckets::new(S3Client::ObjectStore);
    let setup = taking(Setup::on_database_of(&url))
        .env("REDIS_URL", redis_url)
        .env("PENSTOCK_REDIS__RESPONSE_TIMEOUT", "1s")
        .env("PENSTOCK_REDIS__BREAKER_PERIOD", "200ms")
        .env("PENSTOCK_POSTGRES__WAIT_TIMEOUT", "500ms")
        .env("DATA_DELIVERY_MODE", "presigned")
        .env("PENSTOCK_DELIVERY__SIGNING_KEY", SIGNING_KEY)
        .env("PENSTOCK_RECEIPTS__TOKENS", "optional")
        .env("PENSTOCK_RECEIPTS__TOKEN_KEYS", format!("one:{TOKEN_SECRET}"))
        .env("PENSTOCK_LOG__LEVEL", "trace")
        .envs(buckets.env());
    let mut node = setup.start().await;
    assert!(node.terminate().await.success());
    let log_file = tempfile::NamedTempFile::new().unwrap();
    node.boot_logging_to(log_file.reopen().unwrap()).await;
    // The answer with a signed URL is looked at, and not followed.
    node.client = Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();

    let mut secrets: Secrets = [
        (ADMIN_KEY, "the admin key"),
        (DATABASE_PASSWORD, "the password of the database"),
        (REDIS_PASSWORD, "the password of Redis"),
        (SIGNING_KEY, "the key that signs URLs"),
        (TOKEN_SECRET, "the key that signs receipts"),
        (UNKNOWN_KEY, "a key that is not known"),
        (UNKNOWN_RECEIPT, "a receipt that is not known"),
        (KEY, "an identity key"),
    ]
    .map(|(secret, what)| (secret.to_owned(), what))
    .into();
    secrets.insert(told("SECRET_KEY"), "the secret key of S3");

    let producer = producer_of(&node, &signer(KEY)).await;
    let keys = node.admin(Method::POST, &format!("/v1/producers/{producer}/keys")).json(&json!({ "name": "one" }));
    let made = expect(keys.send().await.unwrap(), &[201]).await;
    let id = text(&made, "keyId");
    let rotate = node.admin(Method::POST, &format!("/v1/producers/{producer}/keys/{id}/rotate"));
    let rotated = expect(rotate.send().await.unwrap(), &[200]).await;
    let keys = [text(&made, "key"), text(&rotated, "key"), UNKNOWN_KEY.to_owned(), ADMIN_KEY.to_owned()];
    secrets.extend(keys.iter().take(2).map(|key| (key.clone(), "a producer's key")));
    let paid = node.paid(&sample(1, 300_000), "unlimited").await;
    secrets.insert(paid.receipt.clone(), "a receipt");

    use_all(&node, &paid, &keys, &mut secrets).await;
    redis.kill();
    use_all(&node, &paid, &keys, &mut secrets).await;
    redis.restart();
    way.stop().await;
    use_all(&node, &paid, &keys, &mut secrets).await;
    way.start();
    eventually("the database is found again", async || {
        node.get("/health/ready").send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    use_all(&node, &paid, &keys, &mut secrets).await;
    assert!(secrets.values().any(|what| *what == "the signature of a delivery URL"), "URLs were signed");
    assert!(secrets.values().any(|what| *what == "a signature"), "requests were signed");
    assert!(secrets.values().any(|what| what.contains("CSRF")), "an administrator was signed in");

    let metrics = node.get("/metrics").send().await.unwrap().text().await.unwrap();
    let check = node.run(&["check"]).await;
    let check = String::from_utf8([check.stdout, check.stderr].concat()).unwrap();
    assert!(node.terminate().await.success());
    let log = String::from_utf8_lossy(&fs::read(log_file.path()).unwrap()).into_owned();
    assert!(log.contains("TRACE") && log.lines().count() > 100, "everything is logged: {} lines", log.lines().count());
    let mut found = Vec::new();
    for (place, shown) in [("the log", &log), ("the metrics", &metrics), ("check", &check)] {
        for (secret, what) in &secrets {
            found.extend(
                shown.lines().find(|line| line.contains(secret)).map(|line| format!("{what} is in {place}: {line}")),
            );
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
