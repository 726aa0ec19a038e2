//! Receipts as secrets: guessed and forged ids, and receipts that the node signs.

use futures::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::node::{On, Setup, TestNode, expect, expect_problem, text};

/// Guesses of a client, enough to fill what remembers them.
const GUESSES: usize = 1000;

const OLD_KEY: &str = "old:0123456789abcdef0123456789abcdef";
const NEW_KEY: &str = "new:fedcba9876543210fedcba9876543210";

fn signing(on: On, mode: &str, keys: &str) -> Setup {
    Setup::new(on).env("PENSTOCK_RECEIPTS__TOKENS", mode).env("PENSTOCK_RECEIPTS__TOKEN_KEYS", keys)
}

/// The calls that a client makes with a receipt: its status, its quota, and a stream.
fn calls(hash: &str, receipt: &str) -> [String; 4] {
    [
        format!("/v1/receipts/{receipt}"),
        format!("/v1/streaming/quotas/{receipt}"),
        format!("/v1/streaming/data/{hash}?receiptId={receipt}"),
        format!("/v1/data?contentHash={hash}&receiptId={receipt}"),
    ]
}

/// Makes every call with every receipt; all must be unknown.
async fn guess(node: &TestNode, hash: &str, receipts: impl Iterator<Item = String>) {
    let paths = receipts.flat_map(|receipt| calls(hash, &receipt));
    let answers = stream::iter(paths).map(|path| node.get(&path).send());
    let mut answers = answers.buffer_unordered(16);
    while let Some(answer) = answers.next().await {
        expect_problem(answer.unwrap(), 404, "unknown-receipt").await;
    }
}

/// Questions about receipts that reached the database.
async fn look_ups(node: &TestNode) -> f64 {
    let mut sum = 0.0;
    for statement in ["refill", "receipt", "quota"] {
        sum += node.metric("penstock_db_queries_total", &format!("statement=\"{statement}\"")).await;
    }
    sum
}

async fn forged_receipts_reach_no_database(on: On) {
    let mut node = signing(on, "required", OLD_KEY).start().await;
    let hash = node.put(b"a film", "video/mp4").await;
    let version = node.publish(&hash, "film.mp4").await;
    let made = node.admin(Method::POST, "/v1/receipts").json(&json!({ "versionId": version })).send().await.unwrap();
    let made = expect(made, &[201]).await;
    let (id, token) = (text(&made, "receiptId"), text(&made, "receiptToken"));

    for path in calls(&hash, &token) {
        assert_eq!(node.get(&path).send().await.unwrap().status(), 200, "{path}");
    }
    let open =
        |receipt: &str| node.client.post(node.url("/v1/streaming/sessions")).json(&json!({ "receiptId": receipt }));
    expect(open(&token).send().await.unwrap(), &[201]).await;
    let shown = expect(node.get(&format!("/v1/receipts/{token}")).send().await.unwrap(), &[200]).await;
    assert_eq!((&shown["receiptToken"], &shown["receiptId"]), (&json!(token), &json!(id)));

    let before = (look_ups(&node).await, node.metric("penstock_quota_misses_total", "").await);
    assert!(before.0 > 0.0, "the true receipt was looked up");
    let signature = token.split_once('.').unwrap().1.to_owned();
    // Other ids under the true signature, the true id without one, and each of them in a body.
    guess(&node, &hash, (0..GUESSES / 4).map(|_| format!("{}.{signature}", Uuid::new_v4()))).await;
    guess(&node, &hash, [id.clone(), format!("{id}.old.AAAAAAAAAAAAAAAAAAAAAA"), format!("{id}.")].into_iter()).await;
    for receipt in [&id, &format!("{}.{signature}", Uuid::new_v4())] {
        expect_problem(open(receipt).send().await.unwrap(), 404, "unknown-receipt").await;
    }
    let after = (look_ups(&node).await, node.metric("penstock_quota_misses_total", "").await);
    assert_eq!(after, before, "no forged receipt reached the database or the quota cache");
    assert!(node.metric("penstock_receipt_tokens_total", "forged").await >= GUESSES as f64);
    assert_eq!(node.metric("penstock_receipt_tokens_total", "unsigned").await, 5.0);
    // A forged receipt is answered as one that does not exist, to the letter.
    let never_made = penstock::receipt_tokens::ReceiptTokens::parse(OLD_KEY, true).unwrap();
    let never_made = never_made.token(penstock_actors::ids::ReceiptId::random()).unwrap();
    let answer = async |receipt: String| {
        let answer = node.get(&format!("/v1/receipts/{receipt}")).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    assert_eq!(answer(format!("{}.{signature}", Uuid::new_v4())).await, answer(never_made).await);
    // The key of an admin is the right to name a receipt by its id.
    assert_eq!(node.set_status(&id, "settled").await.status(), 200);
    let usage = node.admin(Method::GET, &format!("/v1/streaming/usage?receiptId={id}")).send().await.unwrap();
    assert_eq!(usage.status(), 200);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_forged_receipts_cause_no_look_up_on_sqlite() {
    forged_receipts_reach_no_database(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_forged_receipts_cause_no_look_up_on_postgres() {
    forged_receipts_reach_no_database(On::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_are_signed_and_their_keys_replaced_while_clients_go_on() {
    let mut node = Setup::new(On::Sqlite).start().await;
    let hash = node.put(b"a film", "video/mp4").await;
    let version = node.publish(&hash, "film.mp4").await;
    let from_before = node.receipt(&version, json!({})).await;
    let restart = async |node: &mut TestNode, mode: &str, keys: &str| {
        node.terminate().await;
        node.set_env("PENSTOCK_RECEIPTS__TOKENS", mode);
        node.set_env("PENSTOCK_RECEIPTS__TOKEN_KEYS", keys);
        node.boot().await;
    };
    let shown =
        async |node: &TestNode, receipt: &str| node.get(&format!("/v1/receipts/{receipt}")).send().await.unwrap();
    // The holder of a receipt from before the signing gets its token.
    restart(&mut node, "optional", OLD_KEY).await;
    let token = text(&expect(shown(&node, &from_before).await, &[200]).await, "receiptToken");
    assert!(token.starts_with(&format!("{from_before}.old.")), "{token}");
    restart(&mut node, "required", &format!("{NEW_KEY},{OLD_KEY}")).await;
    expect_problem(shown(&node, &from_before).await, 404, "unknown-receipt").await;
    let renewed = text(&expect(shown(&node, &token).await, &[200]).await, "receiptToken");
    assert!(renewed.starts_with(&format!("{from_before}.new.")), "{renewed}");
    restart(&mut node, "required", NEW_KEY).await;
    expect_problem(shown(&node, &token).await, 404, "unknown-receipt").await;
    expect(shown(&node, &renewed).await, &[200]).await;
    // The commands of the binary send tokens as well.
    let server = node.url("");
    let issue = ["receipt", "--asset", &version, "--server", &server, "--key", crate::node::ADMIN_KEY];
    let issued = String::from_utf8(node.run(&issue).await.stdout).unwrap();
    let file = node.folder.path().join("film.mp4");
    let get = ["get", &hash, "--receipt", issued.trim(), "--server", &server, "-o", file.to_str().unwrap()];
    let got = node.run(&get).await;
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    assert_eq!(std::fs::read(&file).unwrap(), b"a film");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessed_receipts_are_looked_up_once_and_fill_no_memory() {
    const REMEMBERED: usize = 100;
    let setup = Setup::new(On::Sqlite).env("PENSTOCK_QUOTA__ENTRIES", REMEMBERED.to_string());
    let mut node = setup.env("PENSTOCK_QUOTA__NEGATIVE_TTL", "1h").start().await;
    let hash = node.put(b"a film", "video/mp4").await;
    let streams = async |guesses: &[String]| {
        for receipt in guesses {
            let answer = node.get(&format!("/v1/streaming/data/{hash}?receiptId={receipt}")).send().await.unwrap();
            expect_problem(answer, 404, "unknown-receipt").await;
        }
    };
    let misses = async || node.metric("penstock_quota_misses_total", "").await;
    let one = [Uuid::new_v4().to_string()];
    streams(&one).await;
    let first = misses().await;
    streams(&one).await;
    assert_eq!(misses().await, first, "an unknown receipt is remembered");
    let guesses: Vec<_> = (0..GUESSES / 2).map(|_| Uuid::new_v4().to_string()).collect();
    streams(&guesses).await;
    let entries = node.metric("penstock_quota_entries", "").await;
    assert!(entries <= (REMEMBERED + 16) as f64, "{entries} receipts in memory");
    node.finish().await;
}
