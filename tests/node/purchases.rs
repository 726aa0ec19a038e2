//! Receipts that are bought on a private chain (BRC-121).

use futures::future::join_all;
use jiff::{Timestamp, ToSpan as _};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::{
    market::{Market, NODE_KEY, OLD_NODE_KEY, PAYER_KEY, Payment, Pays, public_of},
    node::{On, Setup, TestNode, expect, expect_problem, sample, text},
    signing::{OTHER_KEY, signed, signer, taking},
};

const PRICE: u64 = 1000;

/// Content for sale.
struct Goods {
    version: String,
    hash: String,
    bytes: Vec<u8>,
}

async fn goods(node: &TestNode, price: u64) -> Goods {
    let bytes = sample(price, 70_000);
    let hash = node.put(&bytes, "application/octet-stream").await;
    let version = node.publish(&hash, "for-sale.bin").await;
    set_price(node, &version, price).await;
    Goods { version, hash, bytes }
}

async fn set_price(node: &TestNode, version: &str, satoshis: u64) {
    let price = node.admin(Method::PUT, &format!("/v1/assets/{version}/price")).json(&json!({ "satoshis": satoshis }));
    expect(price.send().await.unwrap(), &[200]).await;
}

fn buying(node: &TestNode, version: &str) -> RequestBuilder {
    node.client.post(node.url(&format!("/v1/assets/{version}/purchase")))
}

/// The price and the payee of an offer.
async fn offer(answer: Response) -> (u64, String) {
    assert_eq!(answer.status(), 402);
    let field = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    let (price, payee) = (field("x-bsv-sats").parse().unwrap(), field("x-bsv-server"));
    assert_eq!(field("access-control-expose-headers"), "x-bsv-sats, x-bsv-server");
    assert_eq!(field("cache-control"), "no-store");
    assert_eq!(answer.bytes().await.unwrap().len(), 0, "an offer has no body");
    (price, payee)
}

/// A refusal of a payment, which says what would be enough.
async fn unpaid(answer: Response, reason: &str) -> Value {
    assert_eq!(answer.headers()["x-bsv-server"], public_of(NODE_KEY));
    assert!(answer.headers().contains_key("x-bsv-sats"));
    let problem = expect_problem(answer, 402, "payment-required").await;
    assert_eq!(problem["reason"], reason, "{problem}");
    problem
}

/// A payment of so much, made now, to the node's key.
fn payment(market: &mut Market, satoshis: u64) -> Payment {
    market.pay(&Pays { payee: &public_of(NODE_KEY), satoshis, at: Timestamp::now() })
}

async fn streams(node: &TestNode, goods: &Goods, receipt: &Value) {
    let stream =
        node.get(&format!("/v1/streaming/data/{}", goods.hash)).header("x-receipt-id", text(receipt, "receiptId"));
    let answer = stream.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.bytes().await.unwrap(), goods.bytes);
}

async fn a_stranger_pays_and_streams(on: On) {
    let folder = tempfile::tempdir().unwrap();
    let mut market = Market::new(folder.path());
    let mut node = market.node(on).await;
    let goods = goods(&node, PRICE).await;

    let (price, payee) = offer(buying(&node, &goods.version).send().await.unwrap()).await;
    assert_eq!((price, &payee), (PRICE, &public_of(NODE_KEY)));
    let paid = market.pay(&Pays { payee: &payee, satoshis: price, at: Timestamp::now() });
    let answer = paid.in_head(buying(&node, &goods.version)).send().await.unwrap();
    let location = answer.headers().get("location").map(|at| at.to_str().unwrap().to_owned());
    let receipt = expect(answer, &[201]).await;
    assert_eq!(location, Some(format!("/v1/receipts/{}", text(&receipt, "receiptId"))));
    assert_eq!((&receipt["status"], &receipt["quotaTier"]), (&json!("confirmed"), &json!("standard")));
    assert_eq!(receipt["totalSatoshis"], PRICE);
    streams(&node, &goods, &receipt).await;

    // The envelope in a body, alone or with the rest.
    let paid = payment(&mut market, PRICE);
    let bytes = expect(paid.as_bytes(buying(&node, &goods.version)).send().await.unwrap(), &[201]).await;
    let paid = payment(&mut market, PRICE + 7);
    let json = expect(buying(&node, &goods.version).json(&paid.document()).send().await.unwrap(), &[201]).await;
    assert_eq!(json["totalSatoshis"], PRICE + 7, "a receipt says what was paid");
    assert_ne!(bytes["receiptId"], json["receiptId"]);
    // To a key that this node had before.
    let earlier = market.pay(&Pays { payee: &public_of(OLD_NODE_KEY), satoshis: PRICE, at: Timestamp::now() });
    expect(earlier.in_head(buying(&node, &goods.version)).send().await.unwrap(), &[201]).await;

    assert_eq!(node.metric("penstock_purchases_total", "bought").await, 4.0);
    assert_eq!(node.metric("penstock_payment_verification_seconds_count", "valid").await, 4.0);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_pays_and_streams_on_sqlite() {
    a_stranger_pays_and_streams(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_pays_and_streams_on_postgres() {
    a_stranger_pays_and_streams(On::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_that_is_not_the_one_asked_for_buys_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut market = Market::new(folder.path());
    let mut node = market.node(On::Sqlite).await;
    let goods = goods(&node, PRICE).await;
    let call = || buying(&node, &goods.version);

    let short = payment(&mut market, PRICE - 1);
    let problem = unpaid(short.in_head(call()).send().await.unwrap(), "too-little").await;
    assert_eq!((&problem["paid"], &problem["price"]), (&json!(PRICE - 1), &json!(PRICE)));
    let elsewhere = market.pay(&Pays { payee: &public_of(OTHER_KEY), satoshis: PRICE, at: Timestamp::now() });
    unpaid(elsewhere.in_head(call()).send().await.unwrap(), "other-key").await;

    let paid = payment(&mut market, PRICE);
    let with = |change: &dyn Fn(&mut Payment)| {
        let mut other = paid.clone();
        change(&mut other);
        other
    };
    for (reason, other) in [
        ("other-key", with(&|paid| paid.vout = 0)),
        ("no-output", with(&|paid| paid.vout = 2)),
        ("other-key", with(&|paid| paid.nonce = "b3RoZXI=".into())),
        ("other-key", with(&|paid| paid.sender = public_of(OTHER_KEY))),
        ("stale", with(&|paid| paid.time -= 40_000)),
        ("stale", with(&|paid| paid.time += 40_000)),
        ("malformed", with(&|paid| paid.sender = "02".into())),
        ("malformed", with(&|paid| paid.nonce = "two words".into())),
        ("invalid", with(&|paid| paid.beef.truncate(paid.beef.len() - 1))),
        ("invalid", with(&|paid| paid.beef[40] ^= 1)),
        // The envelope names another subject: the coin, which is in it.
        ("invalid", with(&|paid| paid.beef[4..36].copy_from_slice(paid.coin.outpoint.txid.as_wire()))),
    ] {
        unpaid(other.in_head(call()).send().await.unwrap(), reason).await;
    }
    let half = call().header("x-bsv-sender", &paid.sender);
    unpaid(half.send().await.unwrap(), "malformed").await;
    let form = call().header("content-type", "text/plain").body("beef");
    expect_problem(form.send().await.unwrap(), 415, "unsupported-media-type").await;
    let large = call().header("content-type", "application/octet-stream").body(vec![0; 1_100_000]);
    expect_problem(large.send().await.unwrap(), 413, "upload-too-large").await;
    let no_asset = buying(&node, "01a20944-aef3-753c-a808-cef851697fc2");
    expect_problem(paid.in_head(no_asset).send().await.unwrap(), 404, "unknown-asset").await;

    // It is still a payment.
    expect(paid.in_head(call()).send().await.unwrap(), &[201]).await;
    let listed = node.run(&["payments", "list", "--json"]).await;
    assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().count(), 1, "a refusal keeps nothing");
    node.finish().await;
}

async fn only_its_payer_gets_a_receipt_again(on: On) {
    let folder = tempfile::tempdir().unwrap();
    let mut market = Market::new(folder.path());
    let mut node = market.node(on).await;
    let goods = goods(&node, PRICE).await;
    let paid = payment(&mut market, PRICE);
    let call = || paid.in_head(buying(&node, &goods.version));
    let receipt = expect(call().send().await.unwrap(), &[201]).await;

    unpaid(call().send().await.unwrap(), "replayed").await;
    unpaid(signed(call(), &signer(OTHER_KEY)).send().await.unwrap(), "other-signer").await;
    let again = expect(signed(call(), &signer(PAYER_KEY)).send().await.unwrap(), &[200]).await;
    assert_eq!(again["receiptId"], receipt["receiptId"]);

    // The price of today does not matter to what was paid, nor does the time.
    set_price(&node, &goods.version, 5 * PRICE).await;
    let body = buying(&node, &goods.version).json(&paid.document());
    let again = expect(signed(body, &signer(PAYER_KEY)).send().await.unwrap(), &[200]).await;
    assert_eq!(again["receiptId"], receipt["receiptId"]);
    // A payer that is late, whose request did not arrive, is not lost either.
    let early =
        market.pay(&Pays { payee: &public_of(NODE_KEY), satoshis: 5 * PRICE, at: Timestamp::now() - 2.minutes() });
    let late = || early.in_head(buying(&node, &goods.version));
    unpaid(late().send().await.unwrap(), "stale").await;
    expect(signed(late(), &signer(PAYER_KEY)).send().await.unwrap(), &[201]).await;

    // The same output buys nothing else.
    let other = self::goods(&node, PRICE - 1).await;
    let elsewhere = signed(paid.in_head(buying(&node, &other.version)), &signer(PAYER_KEY));
    unpaid(elsewhere.send().await.unwrap(), "taken").await;
    // Nor does another transaction that spends the same coin.
    let rival = market
        .pay_with(paid.coin.clone(), &Pays { payee: &public_of(NODE_KEY), satoshis: 5 * PRICE, at: Timestamp::now() });
    unpaid(rival.in_head(buying(&node, &goods.version)).send().await.unwrap(), "conflict").await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_its_payer_gets_a_receipt_again_on_sqlite() {
    only_its_payer_gets_a_receipt_again(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_its_payer_gets_a_receipt_again_on_postgres() {
    only_its_payer_gets_a_receipt_again(On::Postgres).await;
}

async fn a_price_that_was_raised_is_honoured(on: On) {
    let folder = tempfile::tempdir().unwrap();
    let mut market = Market::new(folder.path());
    let mut node = market.node(on).await;
    let goods = goods(&node, PRICE).await;
    let (price, payee) = offer(buying(&node, &goods.version).send().await.unwrap()).await;
    let paid = market.pay(&Pays { payee: &payee, satoshis: price, at: Timestamp::now() });
    set_price(&node, &goods.version, 3 * PRICE).await;
    assert_eq!(offer(buying(&node, &goods.version).send().await.unwrap()).await.0, 3 * PRICE);
    expect(paid.in_head(buying(&node, &goods.version)).send().await.unwrap(), &[201]).await;
    node.terminate().await;

    node.set_env("PENSTOCK_PAYMENTS__QUOTE_TTL", "0s");
    node.boot().await;
    market.is_known_to(&node).await;
    let late = payment(&mut market, PRICE);
    unpaid(late.in_head(buying(&node, &goods.version)).send().await.unwrap(), "too-little").await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_price_that_was_raised_is_honoured_on_sqlite() {
    a_price_that_was_raised_is_honoured(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_price_that_was_raised_is_honoured_on_postgres() {
    a_price_that_was_raised_is_honoured(On::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_payment_on_three_instances_at_once_makes_one_receipt() {
    let folder = tempfile::tempdir().unwrap();
    let mut market = Market::new(folder.path());
    let mut first = market.node(On::Postgres).await;
    let second = market.selling(taking(Setup::beside(&first))).start().await;
    let third = market.selling(taking(Setup::beside(&first))).start().await;
    market.is_known_to(&second).await;
    market.is_known_to(&third).await;
    let goods = goods(&first, PRICE).await;
    for _ in 0..3 {
        let paid = payment(&mut market, PRICE);
        let calls = [&first, &second, &third].into_iter().cycle().take(10);
        let calls = calls.map(|node| signed(paid.in_head(buying(node, &goods.version)), &signer(PAYER_KEY)).send());
        let answers = join_all(calls).await;
        let mut bought = Vec::new();
        let mut made = 0;
        for answer in answers {
            let answer = answer.unwrap();
            made += usize::from(answer.status() == 201);
            bought.push(text(&expect(answer, &[200, 201]).await, "receiptId"));
        }
        assert_eq!(made, 1);
        assert!(bought.iter().all(|receipt| *receipt == bought[0]), "{bought:?}");
    }
    drop((second, third));
    first.finish().await;
}

/// The node is killed while payments are under way. Each payer asks again, and has one receipt in the end, and each receipt a payment.
async fn a_payer_of_a_node_that_is_killed_ends_with_one_receipt(on: On) {
    let folder = tempfile::tempdir().unwrap();
    let mut market = Market::new(folder.path());
    let mut node = market.node(on).await;
    let goods = goods(&node, PRICE).await;
    let payments: Vec<Payment> = (0..12).map(|_| payment(&mut market, PRICE)).collect();
    for part in payments.chunks(4) {
        let calls = part.iter().map(|paid| paid.in_head(buying(&node, &goods.version)).send());
        let calls = tokio::spawn(join_all(calls));
        // Anywhere between the first step and the last answer.
        node.metric("penstock_purchases_total", "").await;
        node.kill().await;
        calls.await.unwrap();
        node.boot().await;
        market.is_known_to(&node).await;
    }
    let mut receipts = std::collections::BTreeSet::new();
    for paid in &payments {
        let again = signed(paid.in_head(buying(&node, &goods.version)), &signer(PAYER_KEY)).send().await.unwrap();
        receipts.insert(text(&expect(again, &[200, 201]).await, "receiptId"));
    }
    assert_eq!(receipts.len(), payments.len(), "each payment has a receipt of its own");
    let listed = node.run(&["payments", "list", "--json"]).await;
    let listed: Vec<Value> =
        String::from_utf8(listed.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let paid: std::collections::BTreeSet<_> = listed.iter().map(|payment| text(payment, "receiptId")).collect();
    assert_eq!(paid, receipts, "and each receipt a payment");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payer_of_a_node_that_is_killed_ends_with_one_receipt_on_sqlite() {
    a_payer_of_a_node_that_is_killed_ends_with_one_receipt(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payer_of_a_node_that_is_killed_ends_with_one_receipt_on_postgres() {
    a_payer_of_a_node_that_is_killed_ends_with_one_receipt(On::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_for_sale_says_why_before_anybody_pays() {
    let folder = tempfile::tempdir().unwrap();
    let market = Market::new(folder.path());
    let mut node = market.node(On::Sqlite).await;
    let goods = goods(&node, PRICE).await;
    let not_for_sale = async |node: &TestNode, reason: &str| {
        let answer = buying(node, &goods.version).send().await.unwrap();
        let problem = expect_problem(answer, 403, "not-for-sale").await;
        assert_eq!(problem["reason"], reason, "{problem}");
    };
    set_price(&node, &goods.version, 0).await;
    not_for_sale(&node, "no-price").await;
    set_price(&node, &goods.version, 10_001).await;
    not_for_sale(&node, "price-too-high").await;
    set_price(&node, &goods.version, PRICE).await;
    node.terminate().await;

    node.set_env("PENSTOCK_PAYMENTS__WITHOUT_BROADCASTER", "refuse");
    node.boot().await;
    market.is_known_to(&node).await;
    not_for_sale(&node, "no-broadcaster").await;
    node.terminate().await;

    node.set_env("PENSTOCK_PAYMENTS_KEY", "");
    node.set_env("PENSTOCK_PAYMENTS__OLD_KEYS", "");
    node.boot().await;
    not_for_sale(&node, "off").await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_know_the_newest_blocks_sells_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut market = Market::new(folder.path());
    // No header at all is as old as a header can be.
    let empty = folder.path().join("none.bin");
    std::fs::write(&empty, []).unwrap();
    let setup = market.selling(taking(Setup::new(On::Sqlite)));
    let mut node = setup.env("PENSTOCK_PAYMENTS__HEADERS_FILE", empty.to_str().unwrap()).start().await;
    let goods = goods(&node, PRICE).await;
    let behind = buying(&node, &goods.version).send().await.unwrap();
    expect_problem(behind, 503, "chain-behind").await;
    let paid = payment(&mut market, PRICE);
    let behind = paid.in_head(buying(&node, &goods.version)).send().await.unwrap();
    expect_problem(behind, 503, "chain-behind").await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_payment_fits_where_other_calls_take_no_such_head_and_into_a_body() {
    let folder = tempfile::tempdir().unwrap();
    let mut market = Market::new(folder.path());
    let mut node = market.node(On::Sqlite).await;
    let goods = goods(&node, PRICE).await;
    let padded = |bytes: usize| buying(&node, &goods.version).header("x-padding", "p".repeat(bytes));
    // More than server.header_limit.
    let paid = payment(&mut market, PRICE);
    expect(paid.in_head(padded(60_000)).send().await.unwrap(), &[201]).await;
    let too_large = expect_problem(padded(121 << 10).send().await.unwrap(), 431, "headers-too-large").await;
    assert_eq!(too_large["limit"], 120 << 10);
    assert!(text(&too_large, "detail").contains("body"), "{too_large}");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payees_wallet_gets_what_it_needs_and_no_output_shows_a_private_key() {
    let folder = tempfile::tempdir().unwrap();
    let mut market = Market::new(folder.path());
    let mut node = market.node(On::Sqlite).await;
    let goods = goods(&node, PRICE).await;
    let paid = payment(&mut market, PRICE);
    let receipt = expect(paid.in_head(buying(&node, &goods.version)).send().await.unwrap(), &[201]).await;

    let exported = node.run(&["payments", "export"]).await;
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    let exported: Value = serde_json::from_slice(&exported.stdout).unwrap();
    let remittance = &exported["outputs"][0];
    assert_eq!((&remittance["outputIndex"], &remittance["protocol"]), (&json!(1), &json!("wallet payment")));
    assert_eq!(remittance["paymentRemittance"]["derivationPrefix"], paid.nonce);
    assert_eq!(remittance["paymentRemittance"]["senderIdentityKey"], paid.sender);
    assert_eq!(exported["tx"], paid.document()["beef"], "it came as Atomic BEEF");

    let by_receipt = node.run(&["payments", "show", &text(&receipt, "receiptId"), "--json"]).await;
    let by_receipt: Value = serde_json::from_slice(&by_receipt.stdout).unwrap();
    assert_eq!(by_receipt["txid"], paid.outpoint.txid.to_string());
    assert_eq!((&by_receipt["state"], &by_receipt["satoshis"]), (&json!("unproven"), &json!(PRICE)));
    let by_output = node.run(&["payments", "show", &paid.outpoint.to_string()]).await;
    assert!(String::from_utf8(by_output.stdout).unwrap().contains(&text(&receipt, "receiptId")));
    let none = node.run(&["payments", "list", "--state", "proven"]).await;
    assert!(none.status.success() && none.stdout.is_empty());
    let after = node.run(&["payments", "export", "--after", &paid.outpoint.to_string()]).await;
    assert!(after.status.success() && after.stdout.is_empty());

    let rechecked = node.run(&["payments", "recheck"]).await;
    let told = String::from_utf8(rechecked.stdout).unwrap();
    assert!(rechecked.status.success() && told.trim_end().ends_with("is valid"), "{told}");

    let checked = node.run(&["check"]).await;
    for output in [checked.stdout, checked.stderr] {
        let output = String::from_utf8_lossy(&output);
        assert!(!output.contains(NODE_KEY) && !output.contains(OLD_NODE_KEY), "{output}");
    }
    node.finish().await;
}

/// A client on the library of the ecosystem, which makes the transaction and derives its keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_on_the_official_library_buys_and_streams() {
    let packages = std::env::var("PENSTOCK_TEST_BSV_SDK").expect("run the tests with ./test");
    let folder = tempfile::tempdir().unwrap();
    let mut market = Market::new(folder.path());
    let mut node = market.node(On::Sqlite).await;
    let goods = goods(&node, PRICE).await;
    let wanted = json!({
        "url": node.url(&format!("/v1/assets/{}/purchase", goods.version)),
        "payer": PAYER_KEY,
        "coin": market.coin_for_another_library(),
    });
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/buyer.js");
    let mut buyer = tokio::process::Command::new("node");
    let bought = buyer.arg(script).arg(wanted.to_string()).env("NODE_PATH", packages).output().await.unwrap();
    let told = String::from_utf8_lossy(&bought.stdout);
    assert!(bought.status.success(), "{told}{}", String::from_utf8_lossy(&bought.stderr));
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["offered"], &told["status"]), (&json!(PRICE), &json!(201)), "{told}");
    streams(&node, &goods, &told["receipt"]).await;
    node.finish().await;
}
