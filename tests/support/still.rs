//! What every fault must leave behind: nothing.

#![allow(dead_code, reason = "shared by test binaries that each use a part of it")]

use std::{fs, path::PathBuf};

use reqwest::Method;
use serde_json::Value;

use crate::{
    node::{TestNode, expect},
    patience::eventually,
};

/// Waits until nothing runs, nothing is held, and no temporary file is left.
pub(crate) async fn at_rest(node: &TestNode) {
    nothing_held(node).await;
    eventually("no temporary file is left", async || temporary_files(node).is_empty()).await;
}

/// Waits until nothing runs and nothing is held: streams, uploads, permits of every queue. Then everything that was delivered
/// is in the ledger too, for usage holds a permit until it is.
pub(crate) async fn nothing_held(node: &TestNode) {
    node.metric_becomes("penstock_streams_active", "", 0.0).await;
    node.metric_becomes("penstock_uploads_active", "", 0.0).await;
    node.metric_becomes("penstock_admission_in_use", "", 0.0).await;
    // The one request is the look itself.
    node.metric_becomes("penstock_http_requests_in_flight", "", 1.0).await;
    assert_eq!(node.metric("penstock_usage_dropped_total", "").await, 0.0, "no usage row is lost");
    assert_eq!(node.metric("penstock_actors_alive", "").await, 1.0);
}

/// The folder of blobs, temporary files and locks.
pub(crate) fn storage(node: &TestNode) -> PathBuf {
    node.data_dir().join("blobs")
}

/// The temporary files in the folder of blobs. A node beside another one stores in the folder of that one, and has none.
pub(crate) fn temporary_files(node: &TestNode) -> Vec<PathBuf> {
    let folder = storage(node);
    if !folder.exists() {
        return Vec::new();
    }
    let entries = fs::read_dir(folder.join("tmp")).expect("the folder of temporary files");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// Where the bytes of a content are.
pub(crate) fn blob(node: &TestNode, hash: &str) -> PathBuf {
    storage(node).join("blobs").join(&hash[..2]).join(&hash[2..4]).join(hash)
}

/// Where its leaf hashes are.
pub(crate) fn leaf_list(node: &TestNode, hash: &str) -> PathBuf {
    blob(node, hash).with_extension("leaves")
}

/// Blobs that a reader could see.
pub(crate) fn visible_blobs(node: &TestNode) -> usize {
    fn files(folder: PathBuf) -> usize {
        let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        entries.map(|path| if path.is_dir() { files(path) } else { usize::from(path.extension().is_none()) }).sum()
    }
    files(storage(node).join("blobs"))
}

/// Open files of the node below its folder of blobs, and its open sockets.
pub(crate) fn open_blobs_and_sockets(node: &TestNode) -> (usize, usize) {
    let folder = storage(node);
    let open = fs::read_dir(format!("/proc/{}/fd", node.pid())).expect("a running node");
    let open: Vec<_> = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).collect();
    let sockets = open.iter().filter(|target| target.to_string_lossy().starts_with("socket:"));
    (open.iter().filter(|target| target.starts_with(&folder)).count(), sockets.count())
}

/// All usage rows of a receipt.
pub(crate) async fn usage_rows(node: &TestNode, receipt: &str) -> Vec<Value> {
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/streaming/usage?receiptId={receipt}&limit=1000{cursor}");
        let page = expect(node.admin(Method::GET, &path).send().await.expect("an answer"), &[200]).await;
        rows.extend(page["items"].as_array().expect("rows").iter().cloned());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rows,
        }
    }
}

pub(crate) fn bytes_of(rows: &[Value]) -> u64 {
    rows.iter().map(|row| row["bytesSent"].as_u64().expect("a number")).sum()
}
