//! A node that does what a test tells it to, and remembers what it was asked.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    body::SizedStream,
    dev::ServerHandle,
    http::{StatusCode, header},
    web,
};
use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::RECEIPT;

/// What the node does with one request for content.
#[derive(Clone)]
pub(super) enum Act {
    /// As the contract says.
    Serve,
    /// Sends this many bytes of what was asked for and resets the connection.
    Cut(usize),
    /// Sends everything, whatever was asked for.
    IgnoreRange,
    /// Sends the first bytes, whatever was asked for, and resets the connection.
    IgnoreRangeAndCut(usize),
    /// Has another content under this name by now, with an `ETag` of its own.
    Changed(Bytes),
    /// Sends bytes of the right number, place and name, and one of them wrong.
    Corrupt,
    /// Refuses.
    Refuse(StatusCode, &'static str),
}

/// What a request looked like.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) path: String,
    headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub(super) struct State {
    pub(super) content: Bytes,
    /// One act a request; when they are used up, the node behaves.
    acts: Mutex<Vec<Act>>,
    seen: Mutex<Vec<Seen>>,
}

impl State {
    fn next_act(&self) -> Act {
        let mut acts = self.acts.lock().unwrap();
        if acts.is_empty() { Act::Serve } else { acts.remove(0) }
    }

    fn saw(&self, request: &HttpRequest, body: Bytes) {
        let text = |value: &header::HeaderValue| value.to_str().unwrap().to_owned();
        let headers = request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        self.seen.lock().unwrap().push(Seen { path: request.path().to_owned(), headers, body });
    }
}

pub(super) struct Node {
    pub(super) url: String,
    address: SocketAddr,
    pub(super) state: Arc<State>,
    server: ServerHandle,
    folder: tempfile::TempDir,
}

impl Node {
    pub(super) fn start(content: Bytes, acts: &[Act]) -> Self {
        let state = Arc::new(State { content, acts: Mutex::new(acts.to_vec()), seen: Mutex::default() });
        let shared = state.clone();
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::from(shared.clone()))
                .app_data(web::PayloadConfig::new(64 << 20))
                .route("/v1/streaming/data/{hash}", web::get().to(data))
                .route("/v1/content", web::post().to(content_posted))
                .route("/v1/assets", web::post().to(asset_posted))
                .route("/v1/receipts", web::post().to(receipt_posted))
        })
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))
        .unwrap();
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Self { url: format!("http://{address}"), address, state, server: handle, folder: tempfile::tempdir().unwrap() }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join("film.mp4")
    }

    pub(super) fn part(&self) -> PathBuf {
        let hash = hex(&self.state.content);
        self.folder.path().join(format!("film.mp4.{}.part", &hash[..16]))
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub(super) async fn stop(self) {
        self.server.stop(false).await;
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    penstock_actors::ids::ContentHash::from_bytes(Sha256::digest(bytes).into()).to_string()
}

/// Bytes without a period that a cut could hide in.
pub(super) fn content(len: usize) -> Bytes {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

async fn data(request: HttpRequest, state: web::Data<State>) -> HttpResponse {
    state.saw(&request, Bytes::new());
    let asked = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let etag = |bytes: &[u8]| format!("\"{}\"", hex(bytes));
    let act = state.next_act();
    let whole = match &act {
        Act::Changed(other) => other.clone(),
        Act::Refuse(status, document) => {
            return HttpResponse::build(*status)
                .insert_header((header::RETRY_AFTER, "0"))
                .content_type("application/problem+json")
                .body(*document);
        }
        _ => state.content.clone(),
    };
    let ranged = !matches!(act, Act::IgnoreRange | Act::IgnoreRangeAndCut(_));
    let from = asked("range")
        .filter(|_| ranged && asked("if-range") == Some(&etag(&whole)))
        .map(|range| range.trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>().unwrap());
    if from.is_some_and(|from| from >= whole.len()) {
        return HttpResponse::RangeNotSatisfiable().finish();
    }
    let first = from.unwrap_or(0);
    let mut rest = whole.slice(first..);
    if matches!(act, Act::Corrupt) {
        let mut wrong = rest.to_vec();
        wrong[0] ^= 1;
        rest = wrong.into();
    }
    let mut answer = match from {
        Some(first) => {
            let mut answer = HttpResponse::PartialContent();
            let place = format!("bytes {first}-{}/{}", whole.len() - 1, whole.len());
            answer.insert_header((header::CONTENT_RANGE, place));
            answer
        }
        None => HttpResponse::Ok(),
    };
    answer.insert_header((header::ETAG, etag(&whole)));
    match act {
        Act::Cut(bytes) | Act::IgnoreRangeAndCut(bytes) => {
            let parts = [Ok(rest.slice(..bytes)), Err(std::io::Error::other("cut on purpose"))];
            answer.body(SizedStream::new(rest.len() as u64, stream::iter(parts)))
        }
        _ => answer.body(rest),
    }
}

async fn content_posted(request: HttpRequest, body: web::Payload, state: web::Data<State>) -> HttpResponse {
    if let Act::Refuse(status, document) = state.next_act() {
        // As a node does that checks the key first: the body is not read.
        state.saw(&request, Bytes::new());
        return HttpResponse::build(status).content_type("application/problem+json").body(document);
    }
    let body = body.to_bytes_limited(64 << 20).await.unwrap().unwrap();
    let stored = json!({"contentHash": hex(&body), "sizeBytes": body.len()});
    state.saw(&request, body);
    HttpResponse::Created().json(stored)
}

async fn asset_posted(request: HttpRequest, body: Bytes, state: web::Data<State>) -> HttpResponse {
    state.saw(&request, body);
    HttpResponse::Created().json(json!({"versionId": RECEIPT}))
}

async fn receipt_posted(request: HttpRequest, body: Bytes, state: web::Data<State>) -> HttpResponse {
    state.saw(&request, body);
    HttpResponse::Created().json(json!({"receiptId": RECEIPT}))
}
