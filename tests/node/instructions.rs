//! The instructions that a node executes for a stream, as callgrind counts them.
//!
//! The count hardly depends on what else the machine does, so it shows a path that became longer, which no time that is measured beside
//! other tests would. It is of the build of the tests, so it need not be built anew (docs/decisions.md says what that means); it
//! includes the other threads: settlement, the log, the spool.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
};

use crate::{
    node::{On, Paid, Setup, TestNode, sample},
    wire::connect,
};

/// The count that is expected, and the compiler that it is of.
const EXPECTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/instructions.txt");

const RENEW: &str = "to note the new count: UPDATE_INSTRUCTIONS=1 ./test --test node -E 'test(instructions)'";

const CONTENT: usize = 4 << 10;

/// Streams that are counted together: two batches of usage.
const STREAMS: u64 = 200;
const BATCH: u64 = 100;

/// What is not for a stream (timers, a batch that ends a little later) can only add to a count. So the least of some counts. What goes by
/// time adds more on a busy machine, 8 % at a load of 17; so this test runs alone (`.config/nextest.toml`).
const COUNTS: usize = 3;

/// How much longer the path may become, in percent, and how much shorter before that is to be noted.
const TOLERANCE: u64 = 5;
const GAIN: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_stream_takes_no_more_instructions_than_before() {
    let (compiler, count) = (compiler().await, count().await);
    let counted = format!("{compiler}\n{count} instructions for a stream of {CONTENT} bytes\n");
    if std::env::var_os("UPDATE_INSTRUCTIONS").is_some() {
        fs::write(EXPECTED, counted).unwrap();
        return;
    }
    let text = fs::read_to_string(EXPECTED).unwrap();
    let (of, expected) = text.split_once('\n').expect("a compiler and a count");
    assert_eq!(compiler, of, "{EXPECTED} is of another compiler, whose counts differ; {RENEW}");
    let expected: u64 = expected.split(' ').next().unwrap().parse().expect("a number");
    assert!(
        count * 100 <= expected * (100 + TOLERANCE),
        "a stream takes {count} instructions, {expected} before: more than {TOLERANCE} % more. Find out why: callgrind_annotate \
         shows them by function. If it is worth them, {RENEW}"
    );
    assert!(
        count * 100 >= expected * (100 - GAIN),
        "a stream takes {count} instructions, {expected} before. That is good, and worth a note, so that it stays so; {RENEW}"
    );
}

async fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output().await.expect("the compiler runs");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Counts the instructions for a stream of hot content under a receipt with limits in every window.
async fn count() -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Setup::new(On::Sqlite)
        .binary(counted_binary(folder.path()))
        // One thread serves, and what a node does now and then by itself comes seldom.
        .env("PENSTOCK_SERVER__WORKERS", "1")
        .env("PENSTOCK_USAGE__BATCH_ROWS", BATCH.to_string())
        .env("PENSTOCK_USAGE__BATCH_AGE", "10min")
        .env("PENSTOCK_USAGE__SPOOL_SYNC", "1s")
        .env("PENSTOCK_QUOTA__CHANGE_POLL", "30s")
        .env("PENSTOCK_QUOTA__HEARTBEAT", "60s")
        .env("PENSTOCK_QUOTA__LEASE_TTL", "10min")
        .env("PENSTOCK_LINEAGE__EMIT_INTERVAL", "60s")
        .env("PENSTOCK_LOG__LEVEL", "info")
        .start()
        .await;
    let bytes = sample(41, CONTENT);
    let windows = ["Hour", "Day", "Month"].map(|window| [format!("bytesPer{window}"), format!("requestsPer{window}")]);
    let limits: serde_json::Map<_, _> =
        windows.into_iter().flatten().map(|limit| (limit, json!(1_u64 << 40))).collect();
    node.tier("counted", limits.into()).await;
    let paid = node.paid(&bytes, "counted").await;
    let mut client = Client { wire: connect(&node).await, request: request(&paid), bytes };
    // Whole batches, so that each count begins after one.
    client.streams(2 * BATCH).await;
    control(&node, &["instrumentation", "on"]).await;
    client.streams(BATCH).await;
    let mut least = u64::MAX;
    for _ in 0..COUNTS {
        least = least.min(counted(&node, folder.path(), client.streams(STREAMS)).await / STREAMS);
    }
    control(&node, &["instrumentation", "off"]).await;
    drop(client);
    node.finish().await;
    least
}

/// The instructions of all threads meanwhile.
async fn counted(node: &TestNode, folder: &Path, meanwhile: impl Future<Output = ()>) -> u64 {
    control(node, &["zero"]).await;
    meanwhile.await;
    control(node, &["dump"]).await;
    // The newest of the dumps, which are numbered.
    let dump = (1..).map(|number| folder.join(format!("counts.{number}"))).take_while(|dump| dump.exists()).last();
    let dump = fs::read_to_string(dump.expect("callgrind wrote one")).unwrap();
    let total = dump.lines().find_map(|line| line.strip_prefix("totals: ")).expect("a total");
    total.trim().parse().expect("a number")
}

/// The binary under callgrind, which counts when it is told to.
fn counted_binary(folder: &Path) -> PathBuf {
    let script = folder.join("penstock");
    let (counts, binary) = (folder.join("counts"), env!("CARGO_BIN_EXE_penstock"));
    let options = "--quiet --tool=callgrind --instr-atstart=no";
    let text =
        format!("#!/bin/sh\nexec valgrind {options} --callgrind-out-file='{}' '{binary}' \"$@\"\n", counts.display());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

/// Tells the valgrind of a node what to do, and waits until it is done.
async fn control(node: &TestNode, order: &[&str]) {
    let told = Command::new("vgdb").arg(format!("--pid={}", node.pid())).args(order).output().await;
    let told = told.expect("vgdb comes with valgrind");
    assert!(told.status.success(), "{order:?}: {}", String::from_utf8_lossy(&told.stderr));
}

fn request(paid: &Paid) -> String {
    format!("GET /v1/streaming/data/{}?receiptId={} HTTP/1.1\r\nhost: node\r\n\r\n", paid.hash, paid.receipt)
}

/// A client that keeps its connection.
struct Client {
    wire: TcpStream,
    request: String,
    bytes: Vec<u8>,
}

impl Client {
    /// Streams one after the other.
    async fn streams(&mut self, count: u64) {
        for _ in 0..count {
            self.wire.write_all(self.request.as_bytes()).await.unwrap();
            let (mut answer, mut body) = (Vec::new(), None);
            while body.is_none_or(|body| answer.len() < body + self.bytes.len()) {
                assert_ne!(self.wire.read_buf(&mut answer).await.unwrap(), 0, "the node closed");
                body = answer.windows(4).position(|end| end == b"\r\n\r\n").map(|end| end + 4);
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", answer.escape_ascii());
            assert_eq!(answer[body.unwrap()..], self.bytes);
        }
    }
}
