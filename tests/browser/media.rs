//! What a browser plays and shows: in pages of other origins, and opened by itself.

use std::path::Path;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    chromium::Browser,
    node::{On, TestNode},
    patience::eventually,
    site::Site,
};

/// A file that ffmpeg makes of a test pattern and a tone.
async fn made(folder: &Path, name: &str, arguments: &[&str]) -> Vec<u8> {
    let file = folder.join(name);
    let made = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-y", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=10:duration=1"])
        .args(["-f", "lavfi", "-i", "sine=duration=1"])
        .args(arguments)
        .arg(&file)
        .status()
        .await
        .unwrap_or_else(|error| panic!("ffmpeg is needed (./test installs it): {error}"));
    assert!(made.success(), "{name}");
    std::fs::read(file).unwrap()
}

async fn image(folder: &Path) -> Vec<u8> {
    made(folder, "image.png", &["-map", "0:v", "-frames:v", "1"]).await
}

pub(crate) async fn video(folder: &Path) -> Vec<u8> {
    made(folder, "video.webm", &["-c:v", "libvpx", "-c:a", "libvorbis"]).await
}

async fn sound(folder: &Path) -> Vec<u8> {
    made(folder, "sound.ogg", &["-map", "1:a", "-c:a", "libvorbis"]).await
}

/// A page of one red square.
fn pdf() -> Vec<u8> {
    const OBJECTS: [&str; 4] = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R>>",
        "<</Length 26>>stream\n1 0 0 rg 0 0 200 200 re f \nendstream",
    ];
    let (mut file, mut places) = ("%PDF-1.4\n".to_owned(), String::new());
    for (number, object) in OBJECTS.iter().enumerate() {
        places.push_str(&format!("{:010} 00000 n \n", file.len()));
        file.push_str(&format!("{} 0 obj{object}endobj\n", number + 1));
    }
    let table = file.len();
    file.push_str(&format!(
        "xref\n0 5\n0000000000 65535 f \n{places}trailer<</Size 5/Root 1 0 R>>\nstartxref\n{table}\n%%EOF"
    ));
    file.into_bytes()
}

/// Where content of this type is, stored and paid for.
pub(crate) async fn address(node: &TestNode, bytes: &[u8], media_type: &str) -> String {
    let hash = node.put(bytes, media_type).await;
    let version = node.publish(&hash, "content").await;
    let receipt = node.receipt(&version, json!({ "quotaTier": "unlimited" })).await;
    node.url(&format!("/v1/streaming/data/{hash}?receiptId={receipt}"))
}

async fn comes_to(browser: &Browser, what: &str, script: &str, expected: &Value) {
    eventually(what, async || browser.find(script).await == *expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_is_isolated_from_other_origins_plays_and_shows_content() {
    let (mut node, site, folder) =
        (TestNode::start(On::Sqlite).await, Site::start().await, tempfile::tempdir().unwrap());
    let video = address(&node, &video(folder.path()).await, "video/webm").await;
    let image = address(&node, &image(folder.path()).await, "image/png").await;
    let svg = b"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"64\" height=\"48\"></svg>";
    let drawing = address(&node, svg, "image/svg+xml").await;
    let page = format!(
        "<!doctype html><video muted autoplay src=\"{video}\"></video><img src=\"{image}\"><img src=\"{drawing}\">"
    );
    let isolated = "content-type: text/html\r\ncross-origin-embedder-policy: require-corp\r\n\
        cross-origin-opener-policy: same-origin\r\n";
    site.put("/page", isolated, page);
    let browser = Browser::start(&[]).await;
    browser.open(&site.url("/page")).await;
    let script = "const video = document.querySelector('video');
        return [self.crossOriginIsolated, video.readyState >= 2, video.videoWidth,
            [...document.images].map(image => image.complete && image.naturalWidth)]";
    comes_to(&browser, "all is there", script, &json!([true, true, 64, [64, 64]])).await;
    browser.close().await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_shows_still_does_when_it_is_opened_by_itself() {
    let (mut node, folder) = (TestNode::start(On::Sqlite).await, tempfile::tempdir().unwrap());
    let browser = Browser::start(&[]).await;
    let plays = "const media = document.querySelector('video, audio'); return media && media.readyState >= 2";
    let has_text = "return document.body.innerText";
    for (bytes, media_type, script, expected) in [
        (video(folder.path()).await, "video/webm", plays, json!(true)),
        (sound(folder.path()).await, "audio/ogg", plays, json!(true)),
        (
            image(folder.path()).await,
            "image/png",
            "return document.images[0] && document.images[0].naturalWidth",
            json!(64),
        ),
        (b"Just text.".to_vec(), "text/plain; charset=utf-8", has_text, json!("Just text.")),
        // The viewer's own page around it; an error page would have another type.
        (pdf(), "application/pdf", "return document.contentType", json!("application/pdf")),
    ] {
        browser.open(&address(&node, &bytes, media_type).await).await;
        comes_to(&browser, media_type, script, &expected).await;
    }
    browser.close().await;
    node.finish().await;
}
