//! What the tests of all modes share.

use reqwest::{Client, Response, redirect::Policy};
use serde_json::Value;

use crate::node::{Paid, TestNode, expect};

/// The path of a content under its receipt.
pub(crate) fn path(paid: &Paid) -> String {
    format!("/v1/data?contentHash={}&receiptId={}", paid.hash, paid.receipt)
}

/// A client that goes where it is told only by itself, and knows nothing of the node.
pub(crate) fn outsider() -> Client {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().redirect(Policy::none()).build().expect("a client")
}

/// Asks for a URL and gets one.
pub(crate) async fn ask(node: &TestNode, paid: &Paid) -> Value {
    expect(node.get(&path(paid)).send().await.expect("an answer"), &[200]).await
}

pub(crate) fn url(answer: &Value) -> String {
    crate::node::text(&answer["delivery"], "url")
}

/// Usage rows of a receipt, as (outcome, bytes), oldest first.
pub(crate) async fn rows(node: &TestNode, receipt: &str) -> Vec<(String, u64)> {
    // What was given is in the ledger once the quota says so.
    node.quota(receipt).await;
    let usage = node.admin(reqwest::Method::GET, &format!("/v1/streaming/usage?receiptId={receipt}"));
    let page = expect(usage.send().await.expect("an answer"), &[200]).await;
    let rows = page["items"].as_array().unwrap_or_else(|| panic!("{page}")).iter();
    rows.map(|row| (crate::node::text(row, "outcome"), row["bytesSent"].as_u64().expect("a number"))).collect()
}

pub(crate) fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().expect("text"))
}
