//! Requests signed as a client's would be, and as an attacker's.

#![allow(dead_code, reason = "shared by test binaries that each use a part of it")]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use penstock::signatures::{Audience, Signer, Unsigned, is_signed};
use reqwest::{
    Body, Method, RequestBuilder,
    header::{HeaderName, HeaderValue},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::node::{Setup, TestNode, expect, text};

/// The address that the nodes of these tests are said to be reached under.
pub(crate) const AUDIENCE: &str = "https://node.example.com";

pub(crate) const KEY: &str = "1f2e3d4c5b6a79880102030405060708090a0b0c0d0e0f101112131415161718";
pub(crate) const OTHER_KEY: &str = "2f2e3d4c5b6a79880102030405060708090a0b0c0d0e0f101112131415161718";

/// A node that takes signed requests at once: clocks of one machine are not ahead of each other.
pub(crate) fn taking(setup: Setup) -> Setup {
    setup.env("PENSTOCK_SIGNATURES__AUDIENCE", AUDIENCE).env("PENSTOCK_SIGNATURES__AHEAD", "0s")
}

pub(crate) fn signer(key: &str) -> Signer {
    Signer::from_hex(key).expect("a key")
}

/// Signs a request whose body is at hand, for the nodes of these tests and now.
pub(crate) fn signed(request: RequestBuilder, signer: &Signer) -> RequestBuilder {
    signed_for(request, signer, AUDIENCE, Timestamp::now())
}

pub(crate) fn signed_for(request: RequestBuilder, signer: &Signer, audience: &str, at: Timestamp) -> RequestBuilder {
    let (client, request) = request.build_split();
    let mut request = request.expect("a request");
    if let Some(body) = request.body().and_then(Body::as_bytes) {
        let digest = digest_of(body);
        request.headers_mut().insert("content-digest", digest);
    }
    let fields = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let unsigned = Unsigned {
        method: request.method().as_str(),
        path: request.url().path(),
        query: request.url().query(),
        fields: fields.filter(|(name, _)| is_signed(name)).collect(),
    };
    for (name, value) in signer.sign(&unsigned, Audience::of(audience), at).expect("signed") {
        request.headers_mut().insert(HeaderName::from_static(name), HeaderValue::try_from(value).expect("a value"));
    }
    RequestBuilder::from_parts(client, request)
}

pub(crate) fn digest_of(body: &[u8]) -> HeaderValue {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(body))).parse().expect("a value")
}

/// A producer that a key speaks for; its id.
pub(crate) async fn producer_of(node: &TestNode, signer: &Signer) -> String {
    let made = node.admin(Method::POST, "/v1/producers").json(&json!({ "name": "Studio" })).send().await;
    let producer = text(&expect(made.expect("an answer"), &[201]).await, "producerId");
    let bound = bind(node, &producer, signer).await;
    assert_eq!(bound["identityKey"], signer.identity().to_string());
    producer
}

pub(crate) async fn bind(node: &TestNode, producer: &str, signer: &Signer) -> Value {
    let bind = node.admin(Method::POST, &format!("/v1/producers/{producer}/identities"));
    let bound = bind.json(&json!({ "identityKey": signer.identity() })).send().await.expect("an answer");
    expect(bound, &[201, 200]).await
}

pub(crate) async fn unbind(node: &TestNode, producer: &str, signer: &Signer) {
    let path = format!("/v1/producers/{producer}/identities/{}", signer.identity());
    let gone = node.admin(Method::DELETE, &path).send().await.expect("an answer");
    assert_eq!(gone.status(), 204);
}

/// Uploads content as the producer that a key speaks for, so that it may publish it; its hash.
pub(crate) async fn upload(node: &TestNode, bytes: &'static [u8], signer: &Signer) -> String {
    let upload = node.client.post(node.url("/v1/content")).header("content-type", "text/plain").body(bytes);
    let sent = signed(upload, signer).send().await.expect("an answer");
    text(&expect(sent, &[201]).await, "contentHash")
}

/// A call that only a producer may make, and that makes something each time.
pub(crate) fn publishing(node: &TestNode, hash: &str) -> RequestBuilder {
    node.client.post(node.url("/v1/assets")).json(&json!({ "contentHash": hash, "name": "Signed" }))
}
