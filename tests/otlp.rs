//! Spans of requests at a collector: those that their callers record, and a share of the others.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/node.rs"]
#[macro_use]
mod node;
#[path = "support/patience.rs"]
mod patience;
#[path = "support/postgres.rs"]
mod postgres;

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use node::{On, Setup, TestNode, sample};
use patience::eventually;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const UNRECORDED: &str = "aaf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Requests, each with its path and its body.
type Requests = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A collector, and what it was sent.
struct Collector {
    endpoint: String,
    sent: Requests,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let sent = Requests::default();
        let all = Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(take(stream, Arc::clone(&all)));
            }
        });
        Self { endpoint, sent }
    }

    /// Whether a span with these bytes came.
    fn has(&self, wanted: &[u8]) -> bool {
        self.sent.lock().unwrap().iter().any(|(_, body)| body.windows(wanted.len()).any(|part| part == wanted))
    }

    fn has_trace(&self, trace: &str) -> bool {
        let bytes: Vec<u8> =
            (0..trace.len()).step_by(2).map(|at| u8::from_str_radix(&trace[at..at + 2], 16).unwrap()).collect();
        self.has(&bytes)
    }

    fn paths(&self) -> Vec<String> {
        self.sent.lock().unwrap().iter().map(|(path, _)| path.clone()).collect()
    }
}

/// Requests of one connection, each with its length.
async fn take(mut stream: TcpStream, sent: Requests) {
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().trim();
        let length: usize = length.parse().unwrap();
        while bytes.len() < end + length {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let path = head.split(' ').nth(1).unwrap().to_owned();
        sent.lock().unwrap().push((path, bytes[end..end + length].to_vec()));
        bytes.drain(..end + length);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    }
}

async fn node(collector: &Collector, sample: &str) -> TestNode {
    let setup = Setup::new(On::Sqlite).env("PENSTOCK_TRACING__OTLP_ENDPOINT", &*collector.endpoint);
    setup.env("PENSTOCK_TRACING__SAMPLE", sample).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_of_recorded_requests_reach_the_collector_and_a_stop_loses_none() {
    let collector = Collector::start().await;
    let mut node = node(&collector, "0").await;
    let paid = node.paid(&sample(1, 70_000), "unlimited").await;
    for (trace, flags) in [(TRACE, "01"), (UNRECORDED, "00")] {
        let traceparent = format!("00-{trace}-{CALLER}-{flags}");
        let answer = node.stream(&paid).header("traceparent", traceparent).header("x-request-id", "edge-42");
        assert_eq!(answer.send().await.unwrap().bytes().await.unwrap().len(), 70_000);
    }
    assert!(node.terminate().await.success());
    assert!(collector.has_trace(TRACE) && collector.has_trace(CALLER), "{:?}", collector.paths());
    assert!(!collector.has_trace(UNRECORDED), "its caller does not record it");
    for text in ["GET /v1/streaming/data/{contentHash}", "completed", "edge-42", "service.instance.id"] {
        assert!(collector.has(text.as_bytes()), "{text}");
    }
    assert!(!collector.has(paid.receipt.as_bytes()), "a receipt left the node");
    assert!(collector.paths().iter().all(|path| path == "/v1/traces"), "{:?}", collector.paths());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sampled_request_begins_a_trace_and_a_collector_that_is_away_harms_none() {
    let collector = Collector::start().await;
    let mut node = node(&collector, "1").await;
    let answer = node.get("/v1/catalog?q=x").send().await.unwrap();
    let response = answer.headers()["traceresponse"].to_str().unwrap().to_owned();
    eventually("the span is sent", async || collector.has_trace(&response[3..35])).await;
    node.set_env("PENSTOCK_TRACING__OTLP_ENDPOINT", "http://127.0.0.1:9/v1/traces");
    assert!(node.terminate().await.success());
    node.boot().await;
    assert_eq!(node.get("/v1/catalog?q=x").send().await.unwrap().status(), 200);
    assert!(node.terminate().await.success());
}
