//! The client's commands against a node that misbehaves on purpose: the promise is that a file either is the content or is
//! not there, and that no byte is asked for twice without need.

use std::{
    fs,
    path::{Path, PathBuf},
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
use clap::Parser;
use futures_util::stream;
use penstock::cli::client::{self, ClientCommand};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const RECEIPT: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: ClientCommand,
}

/// Runs a command line as a shell would give it.
async fn penstock(args: &[&str]) -> anyhow::Result<()> {
    let cli = Cli::try_parse_from([&["penstock"], args].concat())?;
    client::run(cli.command).await
}

/// What the node does with one request for content.
#[derive(Clone)]
enum Act {
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
struct Seen {
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

struct State {
    content: Bytes,
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

struct Node {
    url: String,
    state: Arc<State>,
    server: ServerHandle,
    folder: tempfile::TempDir,
}

impl Node {
    fn start(content: Bytes, acts: &[Act]) -> Self {
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
        let url = format!("http://{}", server.addrs()[0]);
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Self { url, state, server: handle, folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("film.mp4")
    }

    fn part(&self) -> PathBuf {
        self.folder.path().join("film.mp4.part")
    }

    fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    async fn get(&self, more: &[&str]) -> anyhow::Result<()> {
        let (hash, file) = (hex(&self.state.content), self.file());
        let args = ["get", &hash, "--receipt", RECEIPT, "-o", path(&file), "--server", &self.url];
        penstock(&[&args, more].concat()).await
    }

    async fn stop(self) {
        self.server.stop(false).await;
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    penstock_actors::ids::ContentHash::from_bytes(Sha256::digest(bytes).into()).to_string()
}

/// Bytes without a period that a cut could hide in.
fn content(len: usize) -> Bytes {
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

#[actix_web::test]
async fn a_content_arrives_whole_and_leaves_no_part() {
    let node = Node::start(content(3_000_000), &[]);
    node.get(&[]).await.unwrap();
    assert_eq!(fs::read(node.file()).unwrap(), node.state.content);
    assert!(!node.part().exists());
    assert_eq!(node.seen()[0].header("x-receipt-id"), Some(RECEIPT));
    assert_eq!(node.seen()[0].header("range"), None);
    node.stop().await;
}

#[actix_web::test]
async fn an_empty_content_is_an_empty_file() {
    let node = Node::start(Bytes::new(), &[]);
    node.get(&[]).await.unwrap();
    assert_eq!(fs::read(node.file()).unwrap(), b"");
    node.stop().await;
}

#[actix_web::test]
async fn a_download_that_is_cut_goes_on_from_its_last_byte() {
    let node = Node::start(content(2_000_000), &[Act::Cut(700_000), Act::Cut(500_000)]);
    node.get(&["--retries", "1"]).await.unwrap();
    assert_eq!(fs::read(node.file()).unwrap(), node.state.content);

    let etag = format!("\"{}\"", hex(&node.state.content));
    let seen = node.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[1].header("range"), Some("bytes=700000-"));
    assert_eq!(seen[1].header("if-range"), Some(etag.as_str()));
    assert_eq!(seen[2].header("range"), Some("bytes=1200000-"));
    node.stop().await;
}

#[actix_web::test]
async fn what_an_earlier_run_left_is_not_asked_for_again() {
    let node = Node::start(content(100_000), &[]);
    fs::write(node.part(), &node.state.content[..40_000]).unwrap();
    node.get(&[]).await.unwrap();
    assert_eq!(fs::read(node.file()).unwrap(), node.state.content);
    assert_eq!(node.seen()[0].header("range"), Some("bytes=40000-"));
    node.stop().await;
}

#[actix_web::test]
async fn a_run_that_gives_up_leaves_its_part_for_the_next() {
    let node = Node::start(content(100_000), &[Act::Cut(40_000)]);
    node.get(&["--retries", "0"]).await.unwrap_err();
    assert!(!node.file().exists());
    node.get(&[]).await.unwrap();
    assert_eq!(fs::read(node.file()).unwrap(), node.state.content);
    assert_eq!(node.seen()[1].header("range"), Some("bytes=40000-"));
    node.stop().await;
}

#[actix_web::test]
async fn a_complete_part_needs_nothing_from_the_node() {
    let node = Node::start(content(100_000), &[]);
    fs::write(node.part(), &node.state.content).unwrap();
    node.get(&[]).await.unwrap();
    assert_eq!(fs::read(node.file()).unwrap(), node.state.content);
    assert_eq!(node.seen().len(), 0);
    node.stop().await;
}

#[actix_web::test]
async fn a_part_as_long_as_the_content_but_not_the_content_is_dropped() {
    let node = Node::start(content(100_000), &[]);
    fs::write(node.part(), content(100_001).slice(1..)).unwrap();
    node.get(&[]).await.unwrap();
    assert_eq!(fs::read(node.file()).unwrap(), node.state.content);
    assert_eq!(node.seen().len(), 2);
    node.stop().await;
}

#[actix_web::test]
async fn a_busy_node_is_asked_again() {
    let busy = Act::Refuse(StatusCode::SERVICE_UNAVAILABLE, r#"{"title": "Overloaded", "status": 503}"#);
    let node = Node::start(content(1000), &[busy.clone(), busy]);
    node.get(&[]).await.unwrap();
    assert_eq!(node.seen().len(), 3);
    node.stop().await;
}

#[actix_web::test]
async fn a_content_that_changed_between_two_parts_is_taken_from_its_start() {
    let earlier = content(100_000).slice(1..);
    let node = Node::start(content(100_000), &[Act::Changed(earlier.clone())]);
    fs::write(node.part(), &earlier[..40_000]).unwrap();
    // The node has the other content still, whole; what comes is judged by its hash alone.
    let end = node.get(&[]).await.unwrap_err();
    assert!(end.to_string().contains("not the content"), "{end}");
    assert!(!node.part().exists());

    node.get(&[]).await.unwrap();
    assert_eq!(fs::read(node.file()).unwrap(), node.state.content);
    node.stop().await;
}

#[actix_web::test]
async fn a_node_that_ignores_ranges_is_listened_to_from_the_start() {
    let node = Node::start(content(100_000), &[Act::Cut(40_000), Act::IgnoreRange]);
    node.get(&[]).await.unwrap();
    assert_eq!(fs::read(node.file()).unwrap(), node.state.content);
    node.stop().await;
}

#[actix_web::test]
async fn a_download_that_is_cut_at_the_same_byte_each_time_comes_to_an_end() {
    let node = Node::start(content(100_000), &vec![Act::IgnoreRangeAndCut(40_000); 9]);
    let end = node.get(&["--retries", "1"]).await.unwrap_err();
    assert!(end.to_string().contains("gave up after 2 attempts"), "{end}");
    // The one that won 40,000 bytes, and the one that won nothing new.
    assert_eq!(node.seen().len(), 2);
    node.stop().await;
}

#[actix_web::test]
async fn wrong_bytes_are_deleted_and_never_get_the_name() {
    let node = Node::start(content(100_000), &[Act::Corrupt]);
    let end = node.get(&[]).await.unwrap_err();
    assert!(end.to_string().contains("not the content"), "{end}");
    assert!(!node.file().exists());
    assert!(!node.part().exists());
    node.stop().await;
}

#[actix_web::test]
async fn a_refusal_is_shown_in_the_words_of_the_node_and_not_repeated() {
    let refusal = r#"{"type": "urn:penstock:problem:receipt-expired", "title": "Receipt expired", "status": 403,
        "detail": "it expired yesterday", "expiresAt": "2026-11-22T00:00:00Z"}"#;
    let node = Node::start(content(1000), &[Act::Refuse(StatusCode::FORBIDDEN, refusal)]);
    let end = node.get(&[]).await.unwrap_err();
    assert_eq!(end.to_string(), "Receipt expired: it expired yesterday (expiresAt 2026-11-22T00:00:00Z)");
    assert_eq!(node.seen().len(), 1);
    node.stop().await;
}

#[actix_web::test]
async fn a_file_is_stored_with_its_length_its_digest_and_its_type() {
    let bytes = content(1_000_000);
    let node = Node::start(Bytes::new(), &[]);
    fs::write(node.file(), &bytes).unwrap();
    let file = node.file();
    penstock(&["put", path(&file), "--server", &node.url, "--key", "secret"]).await.unwrap();

    let seen = node.seen();
    assert_eq!(seen[0].body, bytes);
    assert_eq!(seen[0].header("content-length"), Some("1000000"));
    assert_eq!(seen[0].header("content-type"), Some("video/mp4"));
    assert_eq!(seen[0].header("authorization"), Some("Bearer secret"));
    let digest = seen[0].header("repr-digest").unwrap();
    assert!(digest.starts_with("sha-256=:") && digest.ends_with("=:"), "{digest}");
    node.stop().await;
}

#[actix_web::test]
async fn a_node_that_is_busy_gets_the_file_later() {
    let busy = Act::Refuse(StatusCode::SERVICE_UNAVAILABLE, r#"{"title": "Overloaded", "status": 503}"#);
    let node = Node::start(Bytes::new(), &[busy]);
    fs::write(node.file(), content(1000)).unwrap();
    let file = node.file();
    penstock(&["put", path(&file), "--server", &node.url, "--key", "secret"]).await.unwrap();
    assert_eq!(node.seen().len(), 2);
    node.stop().await;
}

#[actix_web::test]
async fn a_refused_key_is_told_although_the_file_was_not_read() {
    let refusal = r#"{"title": "Unauthorized", "status": 401, "detail": "this key is not known"}"#;
    let node = Node::start(Bytes::new(), &vec![Act::Refuse(StatusCode::UNAUTHORIZED, refusal); 9]);
    // More than any socket buffer takes, so that the node is done before the client is.
    fs::write(node.file(), content(32 << 20)).unwrap();
    let file = node.file();
    let end = penstock(&["put", path(&file), "--server", &node.url, "--key", "wrong"]).await.unwrap_err();
    assert_eq!(end.to_string(), "Unauthorized: this key is not known");
    node.stop().await;
}

#[actix_web::test]
async fn an_asset_and_a_receipt_are_made_of_what_was_given_alone() {
    let node = Node::start(Bytes::new(), &[]);
    let (server, hash) = (["--server", &node.url, "--key", "secret"], hex(b""));
    let asset = ["publish", "--content", &hash, "--name", "Film", "--price", "5", "--meta", r#"{"licence": "CC0"}"#];
    penstock(&[&asset[..], &server].concat()).await.unwrap();
    let receipt = ["receipt", "--asset", RECEIPT, "--tier", "premium", "--expires", "2030-01-31T12:00:00Z"];
    penstock(&[&receipt[..], &server].concat()).await.unwrap();

    let seen = node.seen();
    assert_eq!(seen[0].path, "/v1/assets");
    assert_eq!(
        seen[0].json(),
        json!({"name": "Film", "description": "", "contentHash": hash, "priceSatoshis": 5,
            "policyMeta": {"licence": "CC0"}})
    );
    assert_eq!(seen[1].path, "/v1/receipts");
    assert_eq!(
        seen[1].json(),
        json!({"versionId": RECEIPT, "quotaTier": "premium", "expiresAt": "2030-01-31T12:00:00Z"})
    );
    node.stop().await;
}

#[actix_web::test]
async fn what_cannot_be_meant_is_a_usage_error() {
    for args in [
        &["get", "xyz", "--receipt", RECEIPT, "-o", "file"][..],
        &["get", &hex(b""), "--receipt", "7", "-o", "file"],
        &["publish", "--content", &hex(b""), "--name", "a", "--meta", "[1]"],
        &["receipt", "--asset", RECEIPT, "--status", "paid"],
    ] {
        let usage = penstock(args).await.unwrap_err().downcast::<clap::Error>().unwrap();
        assert_eq!(usage.exit_code(), 2, "{args:?}");
    }
}
