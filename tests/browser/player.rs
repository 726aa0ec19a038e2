//! The player of `penstock demo` in a real browser: it plays, seeks, shows the quota going down, and says when the quota has ended.

use std::process::Stdio;

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{
    chromium::Browser,
    dashboard::{errors, faults, shows, text},
    node::{On, TestNode},
    patience::{PATIENCE, eventually},
};

/// A running demo, with the address of its player.
async fn demo() -> (Child, String) {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_penstock"))
        .arg("demo")
        .env_clear()
        .env("PENSTOCK_BIND", "127.0.0.1:0")
        .env("PENSTOCK_SERVER__DRAIN_NOTICE", "0s")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(demo.stdout.take().expect("piped")).lines();
    let printed = async {
        while let Some(line) = lines.next_line().await.expect("text") {
            if line.contains("/player#") {
                // The rest is read too, because a demo that cannot print ends.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return line;
            }
        }
        panic!("the demo ends before it prints the player's address");
    };
    let address = tokio::time::timeout(PATIENCE, printed).await.expect("the demo starts in time");
    (demo, address)
}

async fn stop(mut demo: Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(demo.id().expect("a running demo")).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let ended = tokio::time::timeout(PATIENCE, demo.wait()).await.expect("the demo stops in time");
    assert!(ended.unwrap().success());
}

/// Whether it plays at a place after `second`.
async fn plays_after(browser: &Browser, second: f64) -> bool {
    let script = format!(
        "const media = document.querySelector('audio'); return !media.paused && !media.error && media.currentTime > {second}"
    );
    browser.find(&script).await == json!(true)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_plays_seeks_and_says_when_the_quota_has_ended() {
    let (demo, address) = demo().await;
    let browser = Browser::start(&["--autoplay-policy=no-user-gesture-required", "--mute-audio"]).await;
    browser.open(&address).await;
    shows(&browser, "#left", "16.00 MB").await;
    assert_eq!(faults(&browser).await, Vec::<String>::new());

    browser.find("document.getElementById('play').click()").await;
    eventually("it plays", async || plays_after(&browser, 0.1).await).await;
    for _ in 0..3 {
        browser.find("document.getElementById('forward').click()").await;
    }
    eventually("it plays where it was sent", async || plays_after(&browser, 45.1).await).await;
    eventually("the quota goes down", async || {
        let left = browser.find("return Number(document.getElementById('left').dataset.bytes)").await;
        left.as_f64().unwrap() < 16e6
    })
    .await;
    assert_eq!(text(&browser, "#message").await, "");
    assert_eq!(errors(&browser).await, Vec::<String>::new());

    // Each start is a session of its own, and costs what the browser reads ahead.
    eventually("the quota ends", async || {
        if plays_after(&browser, 0.1).await {
            browser.find("document.getElementById('play').click()").await;
        }
        text(&browser, "#message").await.starts_with("The quota has ended: ")
    })
    .await;
    let stopped = browser.find("return document.querySelector('audio').paused").await;
    assert_eq!(stopped, json!(true));
    assert_eq!(faults(&browser).await, Vec::<String>::new());
    // The browser itself notes the node's refusal.
    let mut lines = errors(&browser).await;
    lines.retain(|line| !line.contains("status of 429"));
    assert_eq!(lines, Vec::<String>::new());
    browser.close().await;
    stop(demo).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_demo_has_a_player() {
    let mut node = TestNode::start(On::Sqlite).await;
    assert_eq!(node.get("/player").send().await.unwrap().status(), 404);
    node.finish().await;
}
