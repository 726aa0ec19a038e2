//! The client's commands against a node that misbehaves on purpose: the promise is that a file either is the content or is
//! not there, and that no byte is asked for twice without need.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, path::Path};

use actix_web::http::StatusCode;
use bytes::Bytes;
use clap::Parser;
use penstock::cli::client::{self, ClientCommand};
use serde_json::json;

#[path = "client/lines.rs"]
mod lines;
#[path = "client/node.rs"]
mod node;
#[path = "client/places.rs"]
mod places;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "client/wording.rs"]
mod wording;
#[path = "support/words.rs"]
mod words;

use node::{Act, Node, content, hex};

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

/// Gets the node's content into its file.
async fn get(node: &Node, more: &[&str]) -> anyhow::Result<()> {
    let (hash, file) = (hex(&node.state.content), node.file());
    let args = ["get", &hash, "--receipt", RECEIPT, "-o", path(&file), "--server", &node.url];
    penstock(&[&args, more].concat()).await
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[actix_web::test]
async fn a_content_arrives_whole_and_leaves_no_part() {
    let node = Node::start(content(3_000_000), &[]);
    get(&node, &[]).await.unwrap();
    assert_eq!(fs::read(node.file()).unwrap(), node.state.content);
    assert!(!node.part().exists());
    assert_eq!(node.seen()[0].header("x-receipt-id"), Some(RECEIPT));
    assert_eq!(node.seen()[0].header("range"), None);
    node.stop().await;
}

#[actix_web::test]
async fn an_empty_content_is_an_empty_file() {
    let node = Node::start(Bytes::new(), &[]);
    get(&node, &[]).await.unwrap();
    assert_eq!(fs::read(node.file()).unwrap(), b"");
    node.stop().await;
}

#[actix_web::test]
async fn a_download_that_is_cut_goes_on_from_its_last_byte() {
    let node = Node::start(content(2_000_000), &[Act::Cut(700_000), Act::Cut(500_000)]);
    get(&node, &["--retries", "1"]).await.unwrap();
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
    get(&node, &[]).await.unwrap();
    assert_eq!(fs::read(node.file()).unwrap(), node.state.content);
    assert_eq!(node.seen()[0].header("range"), Some("bytes=40000-"));
    node.stop().await;
}

#[actix_web::test]
async fn a_run_that_gives_up_leaves_its_part_for_the_next() {
    let node = Node::start(content(100_000), &[Act::Cut(40_000)]);
    get(&node, &["--retries", "0"]).await.unwrap_err();
    assert!(!node.file().exists());
    get(&node, &[]).await.unwrap();
    assert_eq!(fs::read(node.file()).unwrap(), node.state.content);
    assert_eq!(node.seen()[1].header("range"), Some("bytes=40000-"));
    node.stop().await;
}

#[actix_web::test]
async fn a_complete_part_needs_nothing_from_the_node() {
    let node = Node::start(content(100_000), &[]);
    fs::write(node.part(), &node.state.content).unwrap();
    get(&node, &[]).await.unwrap();
    assert_eq!(fs::read(node.file()).unwrap(), node.state.content);
    assert_eq!(node.seen().len(), 0);
    node.stop().await;
}

#[actix_web::test]
async fn a_part_as_long_as_the_content_but_not_the_content_is_dropped() {
    let node = Node::start(content(100_000), &[]);
    fs::write(node.part(), content(100_001).slice(1..)).unwrap();
    get(&node, &[]).await.unwrap();
    assert_eq!(fs::read(node.file()).unwrap(), node.state.content);
    assert_eq!(node.seen().len(), 2);
    node.stop().await;
}

#[actix_web::test]
async fn a_busy_node_is_asked_again() {
    let busy = Act::Refuse(StatusCode::SERVICE_UNAVAILABLE, r#"{"title": "Overloaded", "status": 503}"#);
    let node = Node::start(content(1000), &[busy.clone(), busy]);
    get(&node, &[]).await.unwrap();
    assert_eq!(node.seen().len(), 3);
    node.stop().await;
}

#[actix_web::test]
async fn a_content_that_changed_between_two_parts_is_taken_from_its_start() {
    let earlier = content(100_000).slice(1..);
    let node = Node::start(content(100_000), &[Act::Changed(earlier.clone())]);
    fs::write(node.part(), &earlier[..40_000]).unwrap();
    // The node has the other content still, whole; what comes is judged by its hash alone.
    let end = get(&node, &[]).await.unwrap_err();
    assert!(end.to_string().contains("not the content"), "{end}");
    assert!(!node.part().exists());

    get(&node, &[]).await.unwrap();
    assert_eq!(fs::read(node.file()).unwrap(), node.state.content);
    node.stop().await;
}

#[actix_web::test]
async fn a_node_that_ignores_ranges_is_listened_to_from_the_start() {
    let node = Node::start(content(100_000), &[Act::Cut(40_000), Act::IgnoreRange]);
    get(&node, &[]).await.unwrap();
    assert_eq!(fs::read(node.file()).unwrap(), node.state.content);
    node.stop().await;
}

#[actix_web::test]
async fn a_download_that_is_cut_at_the_same_byte_each_time_comes_to_an_end() {
    let node = Node::start(content(100_000), &vec![Act::IgnoreRangeAndCut(40_000); 9]);
    let end = get(&node, &["--retries", "1"]).await.unwrap_err();
    assert!(end.to_string().contains("gave up after 2 attempts"), "{end}");
    // The one that won 40,000 bytes, and the one that won nothing new.
    assert_eq!(node.seen().len(), 2);
    node.stop().await;
}

#[actix_web::test]
async fn wrong_bytes_are_deleted_and_never_get_the_name() {
    let node = Node::start(content(100_000), &[Act::Corrupt]);
    let end = get(&node, &[]).await.unwrap_err();
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
    let end = get(&node, &[]).await.unwrap_err();
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
async fn a_refused_key_is_reported_although_the_file_was_not_read() {
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
        &["receipt", "--asset", RECEIPT, "--expires", "2020-01-31T12:00:00Z"],
        &["receipt", "--asset", RECEIPT, "--server", "localhost:8080"],
    ] {
        let usage = penstock(args).await.unwrap_err().downcast::<clap::Error>().unwrap();
        assert_eq!(usage.exit_code(), 2, "{args:?}");
    }
}
