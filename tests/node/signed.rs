//! Requests that are signed with an identity key.

use std::process::Output;

use jiff::{Timestamp, ToSpan as _};
use reqwest::{Body, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    node::{ADMIN_KEY, On, Setup, TestNode, expect, expect_problem, hex_sha256, sample, text},
    signing::{
        AUDIENCE, KEY, OTHER_KEY, bind, digest_of, producer_of, publishing, signed, signed_for, signer, taking, unbind,
        upload,
    },
};

async fn node(on: On) -> TestNode {
    taking(Setup::new(on)).start().await
}

/// The refusal of a request, with its reason.
async fn refused(request: RequestBuilder, reason: &str) -> Value {
    let answer = request.send().await.unwrap();
    assert!(answer.headers().contains_key("www-authenticate"));
    let problem = expect_problem(answer, 401, "signature-refused").await;
    assert_eq!(problem["reason"], reason, "{problem}");
    problem
}

async fn a_signature_opens_what_a_key_opens(on: On) {
    let mut node = node(on).await;
    let me = signer(KEY);
    let producer = producer_of(&node, &me).await;

    // A body that is streamed, chunked, is compared with the digest that was signed.
    let bytes = sample(1, 3_000_000);
    let parts: Vec<_> = bytes.chunks(100_000).map(|part| Ok::<_, std::io::Error>(part.to_vec())).collect();
    let upload = node.client.post(node.url("/v1/content")).header("repr-digest", digest_of(&bytes));
    let upload = upload.body(Body::wrap_stream(futures::stream::iter(parts)));
    let stored = expect(signed(upload, &me).send().await.unwrap(), &[201]).await;
    assert_eq!(stored["contentHash"], hex_sha256(&bytes));

    let asset = expect(signed(publishing(&node, &hex_sha256(&bytes)), &me).send().await.unwrap(), &[201]).await;
    assert_eq!(asset["producerId"], producer, "the key speaks for its producer");
    let receipt = node.client.post(node.url("/v1/receipts")).json(&json!({ "versionId": asset["versionId"] }));
    let receipt = expect(signed(receipt, &me).send().await.unwrap(), &[201]).await;
    let usage = node.get(&format!("/v1/streaming/usage?receiptId={}&limit=1", text(&receipt, "receiptId")));
    expect(signed(usage, &me).send().await.unwrap(), &[200]).await;

    // What is another's stays another's, and no identity key is an admin's.
    let other = signer(OTHER_KEY);
    producer_of(&node, &other).await;
    let price = node.client.put(node.url(&format!("/v1/assets/{}/price", text(&asset, "versionId"))));
    let price = price.json(&json!({ "satoshis": 5 }));
    expect_problem(signed(price, &other).send().await.unwrap(), 403, "forbidden").await;
    let policies = node.get("/v1/streaming/policies");
    expect_problem(signed(policies, &me).send().await.unwrap(), 403, "forbidden").await;

    let path = format!("/v1/producers/{producer}/identities");
    let listed = expect(node.admin(Method::GET, &path).send().await.unwrap(), &[200]).await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(listed["items"][0]["identityKey"], me.identity().to_string());

    unbind(&node, &producer, &me).await;
    refused(signed(publishing(&node, &hex_sha256(&bytes)), &me), "unknown-identity").await;
    bind(&node, &producer, &me).await;
    expect(signed(publishing(&node, &hex_sha256(&bytes)), &me).send().await.unwrap(), &[201]).await;
    assert_eq!(node.metric("penstock_signed_requests_total", "outcome=\"unknown-identity\"").await, 1.0);
    assert!(node.metric("penstock_signed_requests_total", "outcome=\"accepted\"").await >= 6.0);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_opens_what_a_key_opens_on_sqlite() {
    a_signature_opens_what_a_key_opens(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_opens_what_a_key_opens_on_postgres() {
    a_signature_opens_what_a_key_opens(On::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_speaks_for_one_producer_that_there_is() {
    let mut node = node(On::Sqlite).await;
    let (me, mine) = (signer(KEY), producer_of(&node, &signer(KEY)).await);
    let others = producer_of(&node, &signer(OTHER_KEY)).await;
    let call = |producer: &str, key: Value| {
        node.admin(Method::POST, &format!("/v1/producers/{producer}/identities")).json(&json!({ "identityKey": key }))
    };
    let again = call(&mine, json!(me.identity())).send().await.unwrap();
    assert_eq!(again.status(), 200);
    expect_problem(call(&others, json!(me.identity())).send().await.unwrap(), 409, "identity-taken").await;
    let nobody = "01a20944-aef3-753c-a808-cef851697fc2";
    let fresh = signer(&"3".repeat(64)).identity();
    expect_problem(call(nobody, json!(fresh)).send().await.unwrap(), 404, "not-found").await;
    for key in [format!("02{}5", "0".repeat(63)), format!("04{}", "1".repeat(128)), "02".into(), "X".repeat(66)] {
        expect_problem(call(&mine, json!(key)).send().await.unwrap(), 422, "validation-failed").await;
    }
    let path = format!("/v1/producers/{others}/identities/{}", me.identity());
    expect_problem(node.admin(Method::DELETE, &path).send().await.unwrap(), 404, "not-found").await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_signed_as_it_came_is_refused_and_says_why() {
    let mut node = node(On::Sqlite).await;
    let me = signer(KEY);
    producer_of(&node, &me).await;
    let hash = upload(&node, b"content", &me).await;
    let now = Timestamp::now();
    let publish = || publishing(&node, &hash);
    // Changes a complete, signed request.
    let changed = |change: &dyn Fn(&mut reqwest::Request)| {
        let (client, request) = signed(publish(), &me).build_split();
        let mut request = request.unwrap();
        change(&mut request);
        RequestBuilder::from_parts(client, request)
    };

    let once = signed(publish(), &me);
    expect(once.try_clone().unwrap().send().await.unwrap(), &[201]).await;
    refused(once.try_clone().unwrap(), "replayed").await;
    refused(once, "replayed").await;

    let stale = refused(signed_for(publish(), &me, AUDIENCE, now - 10.minutes()), "stale").await;
    assert_eq!(stale["windowSeconds"], 60.0);
    assert!((stale["now"].as_i64().unwrap() - now.as_millisecond()).abs() < 60_000, "{stale}");
    refused(signed_for(publish(), &me, AUDIENCE, now + 10.minutes()), "stale").await;
    refused(signed_for(publish(), &me, "https://other.example.com", now), "other-audience").await;
    refused(signed(publish(), &signer(OTHER_KEY)), "unknown-identity").await;

    let usage = node.get(&format!("/v1/streaming/usage?receiptId={hash}"));
    let (client, mut usage) = (node.client.clone(), signed(usage, &me).build().unwrap());
    *usage.method_mut() = Method::HEAD;
    assert_eq!(client.execute(usage).await.unwrap().status(), 401, "another method");
    refused(changed(&|request| request.url_mut().set_query(Some("a"))), "bad-signature").await;
    refused(changed(&|request| request.url_mut().set_query(Some(""))), "bad-signature").await;
    refused(changed(&|request| request.url_mut().set_path("/v1/receipts")), "bad-signature").await;
    let set = |name: &'static str, value: &'static str| {
        changed(&move |request| drop(request.headers_mut().insert(name, value.parse().unwrap())))
    };
    refused(set("content-type", "application/json; charset=utf-8"), "bad-signature").await;
    refused(set("x-bsv-timestamp", "1795510800001"), "bad-signature").await;
    refused(set("x-bsv-note", "more"), "bad-signature").await;
    refused(set("x-bsv-auth-version", "0.2"), "malformed").await;
    refused(set("x-bsv-auth-nonce", "AA=="), "malformed").await;
    refused(set("x-bsv-auth-signature", "00"), "malformed").await;
    refused(set("x-bsv-timestamp", "now"), "malformed").await;
    refused(set("authorization", "Bearer test-admin-key"), "malformed").await;
    let add = |name: &'static str, value: &'static str| {
        changed(&move |request| {
            request.headers_mut().append(name, value.parse().unwrap());
        })
    };
    refused(add("content-type", "application/json"), "malformed").await;
    refused(add("x-bsv-auth-nonce", "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="), "malformed").await;
    for name in ["x-bsv-auth-signature", "x-bsv-auth-request-id", "x-bsv-timestamp", "content-digest"] {
        refused(changed(&|request| drop(request.headers_mut().remove(name))), "malformed").await;
    }

    // Nothing of this has made anything, and calls with a key are as they were.
    let items = expect(node.get("/v1/catalog").send().await.unwrap(), &[200]).await;
    assert_eq!(items["items"].as_array().map(Vec::len), Some(1), "{items}");
    expect(publish().bearer_auth(ADMIN_KEY).send().await.unwrap(), &[201]).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_body_than_was_signed_makes_nothing() {
    let mut node = node(On::Sqlite).await;
    let me = signer(KEY);
    producer_of(&node, &me).await;
    let hash = upload(&node, b"content", &me).await;
    let (client, request) = signed(publishing(&node, &hash), &me).build_split();
    let mut request = request.unwrap();
    *request.body_mut() = Some(json!({ "contentHash": hash, "name": "Forged" }).to_string().into());
    let forged = RequestBuilder::from_parts(client, request);
    expect_problem(forged.send().await.unwrap(), 422, "digest-mismatch").await;
    let items = expect(node.get("/v1/catalog").send().await.unwrap(), &[200]).await;
    assert_eq!(items["items"].as_array().map(Vec::len), Some(0), "{items}");

    // An upload, by either field, of the same length.
    for field in ["content-digest", "repr-digest"] {
        let upload = node.client.post(node.url("/v1/content")).header(field, digest_of(b"what was signed"));
        let (client, request) = signed(upload, &me).build_split();
        let mut request = request.unwrap();
        *request.body_mut() = Some("what was put in".into());
        let forged = RequestBuilder::from_parts(client, request);
        expect_problem(forged.send().await.unwrap(), 422, "digest-mismatch").await;
    }
    // Signed without a body, sent with one.
    let upload = node.client.post(node.url("/v1/content"));
    let (client, request) = signed(upload, &me).build_split();
    let mut request = request.unwrap();
    *request.body_mut() = Some("what was put in".into());
    refused(RequestBuilder::from_parts(client, request), "malformed").await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_an_audience_takes_no_signature() {
    let mut node = TestNode::start(On::Sqlite).await;
    let me = signer(KEY);
    producer_of(&node, &me).await;
    refused(signed(publishing(&node, &"0".repeat(64)), &me), "not-taken").await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_from_before_a_restart_does_not_count_after_it() {
    let mut node = node(On::Sqlite).await;
    let me = signer(KEY);
    producer_of(&node, &me).await;
    let hash = upload(&node, b"content", &me).await;
    let once = signed(publishing(&node, &hash), &me);
    expect(once.try_clone().unwrap().send().await.unwrap(), &[201]).await;
    node.kill().await;
    node.boot().await;
    // The node listens at another port now.
    let (client, request) = once.build_split();
    let mut request = request.unwrap();
    *request.url_mut() = node.url("/v1/assets").parse().unwrap();
    let replay = RequestBuilder::from_parts(client, request);
    expect_problem(replay.send().await.unwrap(), 503, "dependency-unavailable").await;
    expect(signed(publishing(&node, &hash), &me).send().await.unwrap(), &[201]).await;
    node.finish().await;
}

fn line(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_sign_with_an_identity_key() {
    let mut node = node(On::Sqlite).await;
    let key = node.folder.path().join("identity.key");
    let key = key.to_str().unwrap();
    // The public key of a private key that is made with it.
    let identity = line(&node.run(&["identity", key]).await);
    let made = node.admin(Method::POST, "/v1/producers").json(&json!({ "name": "Studio" })).send().await.unwrap();
    let producer = text(&expect(made, &[201]).await, "producerId");
    let bind = node.admin(Method::POST, &format!("/v1/producers/{producer}/identities"));
    expect(bind.json(&json!({ "identityKey": identity })).send().await.unwrap(), &[201]).await;

    let film = node.folder.path().join("film.mp4");
    std::fs::write(&film, sample(3, 700_000)).unwrap();
    let server = node.url("");
    let run = async |arguments: &[&str]| {
        let mut command = node.command();
        // The admin's key in the data folder must not be what opens the node.
        command.env_remove("PENSTOCK_DATA_DIR").env_remove("PENSTOCK_ADMIN_KEY");
        let by = ["--server", &server, "--identity-key", key, "--audience", AUDIENCE];
        line(&command.args([arguments, &by].concat()).output().await.unwrap())
    };
    let hash = run(&["put", film.to_str().unwrap()]).await;
    let version = run(&["publish", "--content", &hash, "--name", "Film"]).await;
    let receipt = run(&["receipt", "--asset", &version]).await;
    let asset = expect(node.get(&format!("/v1/assets/{version}")).send().await.unwrap(), &[200]).await;
    assert_eq!(asset["producerId"], producer);
    assert_eq!(receipt.len(), 36);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_in_the_documentation_signs() {
    let mut node = node(On::Sqlite).await;
    let me = signer(KEY);
    let producer = producer_of(&node, &me).await;
    let key = node.folder.path().join("identity.key");
    let body = node.folder.path().join("body");
    std::fs::write(&key, KEY).unwrap();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/examples/sign.py");
    let sign = async |path: &str, bytes: &[u8], media_type: Option<&str>| -> Value {
        std::fs::write(&body, bytes).unwrap();
        let mut python = Command::new("python3");
        python.arg(example).arg("POST").arg(node.url(path)).arg(&key).arg(&body).args(media_type);
        let output = python.env("PENSTOCK_AUDIENCE", AUDIENCE).env("no_proxy", "*").output().await;
        let output = output.expect("python3 is needed (./test installs what the example needs)");
        serde_json::from_str(&line(&output)).unwrap()
    };
    let stored = sign("/v1/content", b"what a producer has", Some("text/plain")).await;
    let asset = json!({ "contentHash": stored["contentHash"], "name": "Signed by the example" });
    let asset = sign("/v1/assets", asset.to_string().as_bytes(), Some("application/json")).await;
    assert_eq!(asset["producerId"], producer);
    let stored = sign("/v1/content", b"of a kind that it does not tell", None).await;
    assert_eq!(stored["mediaType"], "application/octet-stream");
    node.finish().await;
}
