//! The page of the API in a real browser: it draws the document from the node alone, and shows a call.

use serde_json::json;

use crate::{
    chromium::Browser,
    dashboard::faults,
    node::{On, TestNode},
    patience::eventually,
};

/// The text of the drawn document, which stands in trees of its own.
const DRAWN: &str = "const text = (tree) => [...tree.childNodes].map((node) => \
                     (node.data ?? '') + (node.shadowRoot ? text(node.shadowRoot) : '') + text(node)).join(' '); \
                     return text(document.querySelector('rapi-doc').shadowRoot ?? document.createElement('p'));";

async fn shows(browser: &Browser, parts: &[&str]) {
    eventually(&format!("the page shows {parts:?}"), async || {
        let text = browser.find(DRAWN).await;
        parts.iter().all(|part| text.as_str().unwrap().contains(part))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_the_api_shows_its_calls_without_a_network() {
    let mut node = TestNode::start(On::Sqlite).await;
    for arguments in [&["--window-size=1280,1000"][..], &["--blink-settings=preferredColorScheme=0"]] {
        let browser = Browser::start(arguments).await;
        browser.open(&node.url("/docs#post-/v1/assets")).await;
        shows(&browser, &["Publish an asset", "Walk the graph from a node"]).await;
        // The call that the address names, with its body and its refusals.
        shows(&browser, &["priceSatoshis", "policy-blocked", "An asset offers one content for sale."]).await;

        let loaded = browser.find("return performance.getEntriesByType('resource').map((one) => one.name)").await;
        let names: Vec<_> = loaded.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert!(names.iter().all(|name| name.starts_with(&node.url("/")) || name.starts_with("data:")), "{names:?}");
        assert!(names.iter().any(|name| name.ends_with("/openapi.json")), "{names:?}");

        // What the library itself lacks: a label for the text of a body that a reader tries, and contrast of some of its colours.
        let mut faults = faults(&browser).await;
        faults.retain(|fault| !fault.starts_with("color-contrast:"));
        faults.retain(|fault| !(fault.starts_with("label:") && fault.contains("textarea request-bod")));
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(json!(browser.console().await), json!([]));
        browser.close().await;
    }
    node.finish().await;
}
