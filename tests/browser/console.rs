//! The console in a real browser: an administrator's everyday work, with the keyboard alone.

use std::os::unix::fs::FileExt as _;

use reqwest::Method;
use serde_json::json;

use crate::{
    chromium::Browser,
    dashboard::{errors, faults, is_live, shows, text},
    node::{ADMIN_KEY, On, Paid, TestNode, expect, sample},
    patience::eventually,
};

const ENTER: &str = "\u{E007}";
const TAB: &str = "\u{E004}";

/// What a press of the key Tab may reach until it is back at the beginning.
const STOPS: usize = 80;

/// Moves the focus to an element as a person does without a mouse.
async fn tab_to(browser: &Browser, selector: &str) {
    for _ in 0..STOPS {
        let is_there = format!("return document.activeElement?.matches({selector:?}) ?? false");
        if browser.find(&is_there).await == json!(true) {
            return;
        }
        browser.press(TAB).await;
    }
    panic!("the key Tab does not reach {selector}");
}

async fn press_at(browser: &Browser, selector: &str, keys: &str) {
    eventually(&format!("{selector} is there"), async || {
        browser.find(&format!("return document.querySelector({selector:?}) !== null")).await == json!(true)
    })
    .await;
    tab_to(browser, selector).await;
    browser.press(keys).await;
}

/// Goes to a screen, and waits until the focus is at its title.
async fn go_to(browser: &Browser, name: &str) {
    press_at(browser, &format!("#screens a[href='#/{}']", name.to_lowercase()), ENTER).await;
    let focused = "return document.activeElement.matches('#screen h2') && document.activeElement.innerText";
    eventually(&format!("the screen {name} opens"), async || browser.find(focused).await == json!(name)).await;
}

/// Has a node keep content that is damaged.
async fn damaged(node: &TestNode) -> String {
    let hash = node.put(&sample(9, 10_000), "text/plain").await;
    let path = node.data_dir().join("blobs/blobs").join(&hash[..2]).join(&hash[2..4]).join(&hash);
    std::fs::File::options().write(true).open(path).unwrap().write_all_at(b"rot", 5000).unwrap();
    let found = node.admin(Method::POST, &format!("/v1/storage/verify/{hash}")).send().await.unwrap();
    assert_eq!(expect(found, &[200]).await["quarantined"], true);
    hash
}

/// A job that reads one dataset and writes another.
async fn lineage(node: &TestNode) {
    let event = json!({
        "eventTime": jiff::Timestamp::now().to_string(),
        "eventType": "COMPLETE",
        "producer": "https://example.org/etl",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": { "runId": uuid::Uuid::now_v7() },
        "job": { "namespace": "harbour", "name": "tide.report" },
        "inputs": [{ "namespace": "harbour", "name": "gauges" }],
        "outputs": [{ "namespace": "harbour", "name": "tables" }],
    });
    let sent = node.admin(Method::POST, "/api/v1/lineage").json(&event).send().await.unwrap();
    assert_eq!(sent.status(), 201);
}

async fn paid_and_streamed(node: &TestNode) -> Paid {
    let paid = node.paid(&sample(1, 50_000), "premium").await;
    node.stream(&paid).send().await.unwrap().bytes().await.unwrap();
    eventually("the stream is settled", async || node.charged(&paid.receipt).await == (50_000, 1)).await;
    paid
}

async fn is_clean(browser: &Browser) {
    assert_eq!(faults(browser).await, Vec::<String>::new());
    assert_eq!(errors(browser).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_works_with_the_keyboard_alone() {
    let mut node = TestNode::start(On::Sqlite).await;
    let (paid, rotten) = (paid_and_streamed(&node).await, damaged(&node).await);
    lineage(&node).await;
    let browser = Browser::start(&["--window-size=1280,1000"]).await;
    browser.open(&node.url("/dashboard")).await;
    is_live(&browser).await;

    // The figures need no key here, the work does.
    press_at(&browser, "#screens a[href='#/receipts']", ENTER).await;
    eventually("the focus is in the field for the key", async || {
        browser.find("return document.activeElement.id").await == json!("key")
    })
    .await;
    is_clean(&browser).await;
    browser.press(&format!("{ADMIN_KEY}{ENTER}")).await;
    shows(&browser, "#screen h2", "Receipts").await;
    assert_eq!(
        browser.find("return [document.cookie, Object.keys({ ...sessionStorage, ...localStorage })]").await,
        json!(["", []])
    );

    // A receipt: its windows, streams and usage, and its end.
    press_at(&browser, "#receipt-id", &format!("{}{ENTER}", paid.receipt)).await;
    shows(&browser, "#said", "The receipt is confirmed.").await;
    let shown = text(&browser, "#screen").await;
    for part in [&*paid.hash, "premium", "0 of 5", "50 kB", "completed", "1 of 500"] {
        assert!(shown.contains(part), "{part} is not in: {shown}");
    }
    is_clean(&browser).await;
    // On a phone nothing is wider than the window but tables, which scroll by themselves.
    browser.resize(420, 900).await;
    let wide = "return [innerWidth < 600, document.documentElement.scrollWidth - document.documentElement.clientWidth]";
    eventually("the page fits a phone", async || browser.find(wide).await == json!([true, 0])).await;
    browser.resize(1280, 1000).await;
    browser.prefer("dark").await;
    is_clean(&browser).await;
    browser.prefer("light").await;
    press_at(&browser, "#screen .danger", ENTER).await;
    shows(&browser, "dialog", "There is no way back").await;
    is_clean(&browser).await;
    assert_eq!(browser.find("return document.activeElement.innerText").await, "Keep it", "the safe choice comes first");
    press_at(&browser, "dialog .danger", ENTER).await;
    shows(&browser, "#said", "The receipt is revoked.").await;
    assert_eq!(node.stream(&paid).send().await.unwrap().status(), 403);
    assert_eq!(browser.find("return document.activeElement.dataset.id").await, "receipt", "the focus is not lost");

    go_to(&browser, "Catalogue").await;
    press_at(&browser, "#catalogue-query", &format!("content{ENTER}")).await;
    shows(&browser, "[data-id=assets]", "content.bin").await;
    is_clean(&browser).await;

    go_to(&browser, "Lineage").await;
    let library = "return performance.getEntriesByType('resource').some((one) => one.name.endsWith('/cytoscape.js'))";
    assert_eq!(browser.find(library).await, false, "it is loaded with the first graph");
    press_at(&browser, "#lineage-query", &format!("tide{ENTER}")).await;
    press_at(&browser, "#screen .found button", ENTER).await;
    shows(&browser, "#said", "3 nodes, 2 edges.").await;
    // Something is drawn: some point of some layer is not transparent.
    let drawn = "return [...document.querySelectorAll('#graph canvas')].some((canvas) => canvas.width > 0 &&
        canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0))";
    eventually("the graph is drawn", async || browser.find(drawn).await == json!(true)).await;
    let table = text(&browser, "[data-id=lineage]").await;
    assert!(table.contains("gauges") && table.contains("tables") && table.contains("tide.report"), "{table}");
    is_clean(&browser).await;

    go_to(&browser, "Quarantine").await;
    shows(&browser, "[data-id=quarantine]", &rotten).await;
    press_at(&browser, "[data-id=quarantine] button", ENTER).await;
    shows(&browser, "[data-id=copies]", "corrupt").await;
    is_clean(&browser).await;

    // The dashboard is where it was, and the session outlives a reload, but not the sign-out.
    press_at(&browser, "#screens a[href='#/']", ENTER).await;
    eventually("the figures are back", async || !text(&browser, "#now").await.is_empty()).await;
    browser.open(&node.url("/dashboard#/receipts")).await;
    browser.find("location.reload()").await;
    shows(&browser, "#screen h2", "Receipts").await;
    press_at(&browser, "#sign-out", ENTER).await;
    eventually("the work needs a sign-in again", async || {
        let seen = "return [document.getElementById('sign-in').hidden, document.getElementById('screen').innerText]";
        browser.find(seen).await == json!([false, ""])
    })
    .await;
    assert_eq!(errors(&browser).await, Vec::<String>::new());
    browser.close().await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ends_elsewhere_ends_on_the_page() {
    let mut node = TestNode::start(On::Sqlite).await;
    let browser = Browser::start(&["--host-resolver-rules=MAP penstock.test 127.0.0.1"]).await;
    let port = node.address().rsplit_once(':').unwrap().1.to_owned();
    let page = format!("http://penstock.test:{port}/dashboard");
    browser.open(&page).await;
    shows(&browser, "#verdict", "Sign in").await;
    assert_eq!(errors(&browser).await, Vec::<String>::new(), "no call is made in vain");
    is_clean(&browser).await;
    let keys = format!("/v1/producers/{}/keys", penstock::keys::ADMIN);
    let made = node.admin(Method::POST, &keys).json(&json!({ "name": "a person's" })).send().await.unwrap();
    let made = expect(made, &[201]).await;
    press_at(&browser, "#key", &format!("no-key{ENTER}")).await;
    shows(&browser, "#sign-in-error", "not an administrator").await;
    press_at(&browser, "#key", &format!("{}{ENTER}", made["key"].as_str().unwrap())).await;
    is_live(&browser).await;
    browser.open(&page).await;
    is_live(&browser).await;
    press_at(&browser, "#sign-out", ENTER).await;
    shows(&browser, "#verdict", "Sign in").await;
    assert_eq!(browser.find("return document.getElementById('board').hidden").await, true);
    press_at(&browser, "#key", &format!("{}{ENTER}", made["key"].as_str().unwrap())).await;
    is_live(&browser).await;
    let revoked =
        node.admin(Method::DELETE, &format!("{keys}/{}", made["keyId"].as_str().unwrap())).send().await.unwrap();
    assert_eq!(revoked.status(), 204);
    shows(&browser, "#verdict", "Sign in").await;
    assert_eq!(browser.find("return document.getElementById('board').hidden").await, true);
    browser.close().await;
    node.finish().await;
}
