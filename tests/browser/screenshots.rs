//! The dashboard of a node under load, whose Redis stops: what the README shows.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::json;
use tokio::process::Command;

use crate::{
    chromium::Browser,
    dashboard::{errors, is_live, shows},
    node::{On, Setup, TestNode, sample},
    patience::eventually,
    redis_server::RedisServer,
};

/// The folder into which the pictures are written, if it is set:
/// `PENSTOCK_TEST_SCREENSHOTS=$PWD/docs ./test --test browser -E 'test(under_load)'`.
const FOLDER: &str = "PENSTOCK_TEST_SCREENSHOTS";

/// Streams at a time.
const STREAMS: usize = 24;

/// For how long the charts are filled before and after Redis stops, if pictures are taken.
const FILLED: Duration = Duration::from_secs(40);

/// Streams until the flag falls: every other one as fast as it can, with a pause between two, the others as slow as a film.
async fn load(node: &TestNode) -> (Arc<AtomicBool>, Vec<tokio::task::JoinHandle<()>>) {
    let on = Arc::new(AtomicBool::new(true));
    let mut clients = Vec::new();
    node.tier("film", json!({ "maxBandwidthMbps": 2.0 })).await;
    for seed in 0..STREAMS {
        let tier = if seed % 2 == 0 { "unlimited" } else { "film" };
        let paid = node.paid(&sample(seed as u64 + 1, 400_000), tier).await;
        let (request, on) = (node.stream_apart(&paid), Arc::clone(&on));
        clients.push(tokio::spawn(async move {
            while on.load(Relaxed) {
                let stream = request.try_clone().unwrap();
                let _ = stream.send().await.unwrap().bytes().await;
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        }));
    }
    (on, clients)
}

/// Writes a picture with few colours, which is what a page has, so that the file is small.
async fn write(picture: &[u8], file: &Path) {
    let whole = tempfile::NamedTempFile::with_suffix(".png").unwrap();
    std::fs::write(whole.path(), picture).unwrap();
    let few = "split[a][b];[a]palettegen=max_colors=64[p];[b][p]paletteuse=dither=none";
    let made = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-y", "-i"])
        .arg(whole.path())
        .args(["-filter_complex", few])
        .arg(file)
        .status()
        .await
        .unwrap_or_else(|error| panic!("ffmpeg is needed (./test installs it): {error}"));
    assert!(made.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_it_says_what_is_wrong_when_redis_stops() {
    let folder = std::env::var_os(FOLDER);
    let mut redis = RedisServer::start();
    let mut node = Setup::new(On::Postgres).env("REDIS_URL", redis.url()).start().await;
    let (on, clients) = load(&node).await;
    let browser = Browser::start(&["--window-size=1280,1535", "--hide-scrollbars"]).await;
    browser.open(&node.url("/dashboard")).await;
    is_live(&browser).await;
    let problems = "return document.getElementById('problems').innerText";
    eventually("nothing is wrong with Redis", async || {
        !browser.find(problems).await.as_str().unwrap().contains("Redis")
    })
    .await;
    if folder.is_some() {
        tokio::time::sleep(FILLED).await;
    }
    redis.kill();
    shows(&browser, "#problems", "Redis does not answer: streams go on").await;
    let begin =
        "return [...document.querySelectorAll('#now div')].find((card) => card.dataset.id === 'Streams').innerText";
    eventually("streams begin without Redis", async || {
        let card = browser.find(begin).await;
        let card = card.as_str().unwrap();
        card.contains("begin a second") && !card.contains("\n0 begin a second")
    })
    .await;
    for theme in ["dark", "light"] {
        browser.prefer(theme).await;
        let dark = "return matchMedia('(prefers-color-scheme: dark)').matches";
        eventually("the page has the theme", async || browser.find(dark).await == (theme == "dark")).await;
        if let Some(folder) = &folder {
            tokio::time::sleep(FILLED / 2).await;
            write(&browser.screenshot().await, &Path::new(folder).join(format!("dashboard-{theme}.png"))).await;
        }
    }
    assert_eq!(errors(&browser).await, Vec::<String>::new());
    on.store(false, Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    browser.close().await;
    node.finish().await;
}
