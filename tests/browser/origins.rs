//! Pages of other origins in a real browser: what an allowed one reads and plays, and what another one is not charged for.

use serde_json::{Value, json};

use crate::{
    chromium::Browser,
    media,
    node::{On, Setup, TestNode},
    patience::eventually,
    site::Site,
};

const HTML: &str = "content-type: text/html\r\n";

/// Calls `fetch` on the page and tells what the page's script learns: the status, the fields and the length, or that it got nothing.
fn fetch(url: &str, options: &Value) -> String {
    format!(
        "const done = arguments[arguments.length - 1];
        fetch({url:?}, {options}).then(async (answer) => {{
            const bytes = (await answer.arrayBuffer()).byteLength;
            done({{ status: answer.status, bytes, fields: Object.fromEntries(answer.headers) }});
        }}).catch((error) => done(error.name));"
    )
}

async fn start(site: &Site) -> TestNode {
    Setup::new(On::Sqlite).env("PENSTOCK_CORS__ORIGINS", site.url("")).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allowed_page_fetches_ranges_and_reads_what_players_need() {
    let site = Site::start().await;
    let mut node = start(&site).await;
    site.put("/page", HTML, "<!doctype html>");
    node.tier("small", json!({ "bytesPerMonth": 1000 })).await;
    let paid = node.paid(&[7; 800], "small").await;
    let url = node.url(&format!("/v1/streaming/data/{}", paid.hash));
    let browser = Browser::start(&[]).await;
    browser.open(&site.url("/page")).await;
    // The receipt in a field: the browser asks first.
    let with_receipt = json!({ "headers": { "X-Receipt-Id": paid.receipt, "Range": "bytes=100-349" } });
    let found = browser.find_later(&fetch(&url, &with_receipt)).await;
    assert_eq!((&found["status"], &found["bytes"]), (&json!(206), &json!(250)), "{found}");
    let fields = &found["fields"];
    assert_eq!(fields["content-range"], "bytes 100-349/800");
    assert_eq!(fields["etag"], format!("\"{}\"", paid.hash));
    assert_eq!(fields["x-quota-remaining-bytes"], "750");
    assert!(fields["repr-digest"].as_str().is_some_and(|digest| digest.starts_with("sha-256=:")), "{fields}");
    // One call and its bytes: the question before it is free.
    eventually("the range is charged", async || node.charged(&paid.receipt).await == (250, 1)).await;
    // A refusal says when to try again.
    let simple = format!("{url}?receiptId={}", paid.receipt);
    let refused = browser.find_later(&fetch(&simple, &json!({}))).await;
    assert_eq!(refused["status"], 429, "{refused}");
    assert!(refused["fields"]["retry-after"].is_string(), "{refused}");
    browser.close().await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_page_gets_nothing_and_its_user_is_not_charged() {
    let (site, stranger) = (Site::start().await, Site::start().await);
    let mut node = start(&site).await;
    stranger.put("/page", HTML, "<!doctype html>");
    let paid = node.paid(&[7; 800], "unlimited").await;
    let simple = node.url(&format!("/v1/streaming/data/{}?receiptId={}", paid.hash, paid.receipt));
    let data = node.url(&format!("/v1/data?contentHash={}&receiptId={}", paid.hash, paid.receipt));
    let browser = Browser::start(&[]).await;
    browser.open(&stranger.url("/page")).await;
    for url in [&simple, &data] {
        for options in [json!({}), json!({ "headers": { "X-Receipt-Id": paid.receipt } })] {
            assert_eq!(browser.find_later(&fetch(url, &options)).await, "TypeError", "{url} {options}");
        }
    }
    assert_eq!(node.metric("penstock_http_requests_total", "route=\"/v1/data\",status=\"4xx\"").await, 2.0);
    // One stream that is allowed is all that is charged.
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap().len(), 800);
    eventually("one stream is charged", async || node.charged(&paid.receipt).await == (800, 1)).await;
    browser.close().await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allowed_page_plays_a_video_and_reads_its_pictures() {
    let (site, folder) = (Site::start().await, tempfile::tempdir().unwrap());
    let mut node = start(&site).await;
    let video = media::address(&node, &media::video(folder.path()).await, "video/webm").await;
    let isolated = "cross-origin-embedder-policy: require-corp\r\ncross-origin-opener-policy: same-origin\r\n";
    let page = format!(
        "<!doctype html><video id=shared crossorigin muted autoplay src=\"{video}\"></video>\
         <video id=plain muted autoplay src=\"{video}\"></video>"
    );
    site.put("/page", format!("{HTML}{isolated}"), page);
    let browser = Browser::start(&[]).await;
    browser.open(&site.url("/page")).await;
    let plays = "return [self.crossOriginIsolated, ...['shared', 'plain'].map((id) =>
        document.getElementById(id).readyState >= 2 && document.getElementById(id).videoWidth)]";
    eventually("both videos play", async || browser.find(plays).await == json!([true, 64, 64])).await;
    // Only a video that came with permission gives its pictures to the page's script.
    let reads = "return ['shared', 'plain'].map((id) => {
        const canvas = document.createElement('canvas');
        const context = canvas.getContext('2d');
        context.drawImage(document.getElementById(id), 0, 0);
        try { context.getImageData(0, 0, 1, 1); return 'read'; } catch (error) { return error.name; }
    })";
    assert_eq!(browser.find(reads).await, json!(["read", "SecurityError"]));
    browser.close().await;
    node.finish().await;
}
