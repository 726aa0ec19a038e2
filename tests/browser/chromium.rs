//! A Chromium of one's own, driven through `chromedriver` as the W3C's WebDriver says; gone when its test ends.

use std::process::Stdio;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::patience::PATIENCE;

const STARTED: &str = "started successfully on port ";

/// A running browser with one window.
pub(crate) struct Browser {
    client: Client,
    session: String,
    /// The browser's own process, which outlives a driver that is killed.
    pid: i32,
    _driver: Child,
    _profile: TempDir,
}

impl Browser {
    /// Starts without a window, with these arguments beside those that every test needs.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("chromedriver is needed (./test installs it): {error}"));
        let mut lines = BufReader::new(driver.stdout.take().expect("piped")).lines();
        let started = async {
            while let Some(line) = lines.next_line().await.expect("text") {
                if let Some((_, port)) = line.split_once(STARTED) {
                    return port.trim_end_matches('.').parse::<u16>().expect("a port");
                }
            }
            panic!("chromedriver ends before it listens");
        };
        let port = tokio::time::timeout(PATIENCE, started).await.expect("chromedriver starts in time");
        let profile = tempfile::tempdir().expect("a folder");
        let mut all: Vec<String> = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ]
        .iter()
        .chain(arguments)
        .map(|&argument| argument.to_owned())
        .collect();
        all.push(format!("--user-data-dir={}", profile.path().display()));
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().build().expect("a client");
        let always = json!({ "goog:chromeOptions": { "args": all }, "goog:loggingPrefs": { "browser": "ALL" } });
        let wanted = json!({ "capabilities": { "alwaysMatch": always } });
        let url = format!("http://127.0.0.1:{port}/session");
        let made =
            told(&client, Method::POST, &url, wanted).await.unwrap_or_else(|error| panic!("no browser: {error}"));
        let session = format!("{url}/{}", made["sessionId"].as_str().expect("a session"));
        let pid = made["capabilities"]["goog:processID"].as_i64().expect("the browser's process");
        Self { client, session, pid: i32::try_from(pid).expect("a pid"), _driver: driver, _profile: profile }
    }

    /// Opens an address by itself, as if it was typed. What is saved instead of shown leaves the window as it was.
    pub(crate) async fn open(&self, url: &str) {
        let opened = told(&self.client, Method::POST, &format!("{}/url", self.session), json!({ "url": url })).await;
        opened.unwrap_or_else(|error| panic!("{url}: {error}"));
    }

    /// What a script of the test's, not of the page, finds in the window.
    pub(crate) async fn find(&self, script: &str) -> Value {
        let wanted = json!({ "script": script, "args": [] });
        let found = told(&self.client, Method::POST, &format!("{}/execute/sync", self.session), wanted).await;
        found.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// As [`find`](Self::find), for a script that hands what it found to its last argument.
    pub(crate) async fn find_later(&self, script: &str) -> Value {
        let wanted = json!({ "script": script, "args": [] });
        let found = told(&self.client, Method::POST, &format!("{}/execute/async", self.session), wanted).await;
        found.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Presses keys one after the other, at the element that has the focus. Keys without a sign are in WebDriver's private range of
    /// Unicode.
    pub(crate) async fn press(&self, keys: &str) {
        let strokes: Vec<_> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() })))
            .collect();
        let wanted = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] });
        let pressed = told(&self.client, Method::POST, &format!("{}/actions", self.session), wanted).await;
        pressed.unwrap_or_else(|error| panic!("{keys:?}: {error}"));
    }

    /// Makes the window as wide and high as a phone's, or a desk's.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let wanted = json!({ "width": width, "height": height });
        let done = told(&self.client, Method::POST, &format!("{}/window/rect", self.session), wanted).await;
        done.unwrap_or_else(|error| panic!("{width} x {height}: {error}"));
    }

    /// Has the browser prefer a colour scheme, `dark` or `light`.
    pub(crate) async fn prefer(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        let wanted = json!({ "cmd": "Emulation.setEmulatedMedia", "params": features });
        let done = told(&self.client, Method::POST, &format!("{}/goog/cdp/execute", self.session), wanted).await;
        done.unwrap_or_else(|error| panic!("{scheme}: {error}"));
    }

    /// The lines that the page has written to the console since the last look, and the browser's own about it.
    pub(crate) async fn console(&self) -> Vec<String> {
        let found =
            told(&self.client, Method::POST, &format!("{}/se/log", self.session), json!({ "type": "browser" })).await;
        let lines = found.unwrap_or_else(|error| panic!("the console: {error}"));
        lines.as_array().into_iter().flatten().filter_map(|line| line["message"].as_str().map(str::to_owned)).collect()
    }

    /// Saves what the window shows as a PNG.
    pub(crate) async fn screenshot(&self) -> Vec<u8> {
        let answer = self.client.get(format!("{}/screenshot", self.session)).send().await.expect("the driver answers");
        let answer: Value = answer.json().await.expect("a document");
        base64::Engine::decode(&base64::prelude::BASE64_STANDARD, answer["value"].as_str().expect("a picture"))
            .expect("base64")
    }

    pub(crate) async fn close(self) {
        let _ = self.client.delete(&self.session).send().await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Gone already when it was closed.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), nix::sys::signal::Signal::SIGKILL);
    }
}

/// Asks the driver; its own words when it fails.
async fn told(client: &Client, method: Method, url: &str, body: Value) -> Result<Value, String> {
    let answer = client.request(method, url).json(&body).send().await.map_err(|error| error.to_string())?;
    let fine = answer.status().is_success();
    let mut answer: Value = answer.json().await.map_err(|error| error.to_string())?;
    let value = answer["value"].take();
    if fine { Ok(value) } else { Err(value["message"].as_str().unwrap_or_default().to_owned()) }
}
