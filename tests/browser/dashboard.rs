//! The dashboard in a real browser: it shows, updates, outlives a restart of its node, says what is wrong, and is fit for
//! keyboards, screen readers and phones.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    chromium::Browser,
    node::{ADMIN_KEY, On, Setup, TestNode, expect, expect_problem, sample},
    patience::eventually,
};

/// A port on which nothing listens.
const AWAY: &str = "redis://127.0.0.1:9";

pub(crate) async fn text(browser: &Browser, selector: &str) -> String {
    let found = browser.find(&format!("return document.querySelector({selector:?})?.innerText ?? ''")).await;
    found.as_str().unwrap_or_default().to_owned()
}

pub(crate) async fn shows(browser: &Browser, selector: &str, wanted: &str) {
    eventually(&format!("{selector} shows {wanted:?}"), async || text(browser, selector).await.contains(wanted)).await;
}

/// Waits until the page shows the node's figures. How good they are depends on how busy the machine of the tests is.
pub(crate) async fn is_live(browser: &Browser) {
    eventually("the page shows figures", async || {
        let verdict = text(browser, "#verdict").await;
        ["Healthy", "Degraded", "Unhealthy"].iter().any(|word| verdict.starts_with(word))
    })
    .await;
}

/// The faults that axe finds, each with the elements that it concerns.
pub(crate) async fn faults(browser: &Browser) -> Vec<String> {
    let file = std::env::var("PENSTOCK_TEST_AXE").expect("PENSTOCK_TEST_AXE is not set: run ./test");
    browser.find(&std::fs::read_to_string(file).unwrap()).await;
    let run = "const done = arguments[arguments.length - 1]; axe.run().then((found) => done(found.violations.map((one) => \
               `${one.id}: ${one.help}: ${one.nodes.map((node) => node.html).join(' ')}`)));";
    let found = browser.find_later(run).await;
    found.as_array().unwrap().iter().map(|fault| fault.as_str().unwrap().to_owned()).collect()
}

/// Lines of the console that are not about answers that failed because the node was away, or was starting.
pub(crate) async fn errors(browser: &Browser) -> Vec<String> {
    let mut lines = browser.console().await;
    lines.retain(|line| !line.contains("net::ERR_") && !line.contains("status of 503"));
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_shows_what_happens_and_outlives_a_restart_of_its_node() {
    let mut node = TestNode::start(On::Sqlite).await;
    let paid = node.paid(&sample(1, 200_000), "unlimited").await;
    let browser = Browser::start(&["--window-size=1280,1000"]).await;
    browser.open(&node.url("/")).await;
    is_live(&browser).await;
    assert_eq!(browser.find("return location.pathname").await, "/dashboard");

    // A number that moves with the traffic.
    let admitted =
        "return [...document.querySelectorAll('#now div')].find((card) => card.dataset.id === 'Streams').innerText";
    eventually("the page counts streams", async || {
        node.stream(&paid).send().await.unwrap().bytes().await.unwrap();
        let card = browser.find(admitted).await;
        let card = card.as_str().unwrap();
        card.contains("begin a second") && !card.contains("\n0 begin a second")
    })
    .await;
    let rows = browser.find("return document.querySelectorAll('#targets tr').length").await;
    assert!(rows.as_u64().unwrap() >= 10, "{rows} targets");
    let charts = browser.find("return document.querySelectorAll('#charts canvas').length").await;
    assert!(charts.as_u64().unwrap() >= 8, "{charts} charts");

    // Little to load, and all of it from this node.
    let loaded = browser.find("return [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')].filter((one) => !one.name.endsWith('/events')).map((one) => [one.name, one.transferSize])").await;
    let loaded = loaded.as_array().unwrap();
    assert!(loaded.iter().all(|one| one[0].as_str().unwrap().starts_with(&node.url("/"))), "{loaded:?}");
    let bytes: u64 = loaded.iter().map(|one| one[1].as_u64().unwrap()).sum();
    assert!(bytes > 0 && bytes < 100_000, "{bytes} bytes: {loaded:?}");

    assert_eq!(faults(&browser).await, Vec::<String>::new());
    assert_eq!(errors(&browser).await, Vec::<String>::new());

    // The node goes, the page says so, and goes on by itself when the node is back.
    let address = node.address().to_owned();
    assert!(node.terminate().await.success(), "an open page does not hold up the stop");
    shows(&browser, "#verdict", "No answer").await;
    node.set_env("PENSTOCK_BIND", &address);
    node.boot().await;
    is_live(&browser).await;
    assert_eq!(errors(&browser).await, Vec::<String>::new());
    browser.close().await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_that_redis_does_not_answer() {
    let mut node = Setup::new(On::Sqlite).env("REDIS_URL", AWAY).start().await;
    let browser =
        Browser::start(&["--window-size=420,900", "--force-dark-mode", "--enable-features=WebContentsForceDark"]).await;
    browser.open(&node.url("/dashboard")).await;
    shows(&browser, "#problems", "Redis does not answer").await;
    assert_eq!(faults(&browser).await, Vec::<String>::new());
    // On a phone nothing is wider than the window but the table, which scrolls by itself.
    let wide = browser.find("return document.documentElement.scrollWidth - document.documentElement.clientWidth").await;
    assert_eq!(wide, 0);
    assert_eq!(errors(&browser).await, Vec::<String>::new());
    browser.close().await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_figures_are_for_this_machine_and_for_administrators() {
    let mut node = TestNode::start(On::Sqlite).await;
    let events = || node.get("/dashboard/events");
    for elsewhere in ["x-forwarded-for", "forwarded", "via"] {
        expect_problem(events().header(elsewhere, "1").send().await.unwrap(), 401, "unauthorized").await;
    }
    expect_problem(events().header("host", "penstock.test").send().await.unwrap(), 401, "unauthorized").await;
    let made = node.admin(Method::POST, "/v1/producers").json(&json!({ "name": "a producer" })).send().await.unwrap();
    let producer = expect(made, &[201]).await;
    let key = producer["key"].as_str().unwrap_or_default().to_owned();
    let with_key = events().header("via", "1").bearer_auth(key).send().await.unwrap();
    assert!(matches!(with_key.status(), StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED));

    let mut open = events().header("via", "1").bearer_auth(ADMIN_KEY).send().await.unwrap();
    assert_eq!(open.headers()["content-type"], "text/event-stream");
    let event = open.chunk().await.unwrap().unwrap();
    let event: Value = serde_json::from_slice(event.strip_prefix(b"data: ").unwrap()).unwrap();
    assert_eq!(event["values"]["penstock_actors_alive"], 1.0);
    assert!(event["times"]["db"]["counts"].as_array().unwrap().len() > 5);

    // The pages that are open are bounded; one that is closed makes room.
    let mut pages = Vec::new();
    for _ in 1..16 {
        let page = events().send().await.unwrap();
        assert_eq!(page.status(), 200);
        pages.push(page);
    }
    expect_problem(events().send().await.unwrap(), 503, "overloaded").await;
    drop(pages);
    eventually("a closed page makes room", async || events().send().await.unwrap().status() == 200).await;

    let page = node.get("/dashboard").send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    node.finish().await;
}
