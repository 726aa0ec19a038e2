//! Lines that are slow, and lines that are dead.

use std::{fs, time::Duration};

use bytes::Bytes;
use tokio::net::TcpListener;

use crate::{
    RECEIPT,
    node::{Node, content, hex},
    path, penstock,
    proxy::Proxy,
};

#[actix_web::test]
async fn an_upload_may_take_longer_than_any_silence() {
    let bytes = content(16_000_000);
    let node = Node::start(Bytes::new(), &[]);
    fs::write(node.file(), &bytes).unwrap();
    // Four seconds, of which the system's own buffers hide one or two at the end.
    let line = Proxy::slow(node.address(), 4_000_000).await;
    let file = node.file();
    let put = ["put", path(&file), "--server", &line.url(), "--key", "secret", "--max-silence", "600ms"];
    penstock(&put).await.unwrap();
    assert!(node.seen()[0].body == bytes);
    assert_eq!(node.seen().len(), 1, "at the first attempt");
    node.stop().await;
}

#[actix_web::test]
async fn a_download_may_take_longer_than_any_silence() {
    let node = Node::start(content(4_000_000), &[]);
    let line = Proxy::slow(node.address(), 2_000_000).await;
    let (hash, file) = (hex(&node.state.content), node.file());
    let get = ["get", &hash, "--receipt", RECEIPT, "-o", path(&file), "--server", &line.url()];
    penstock(&[&get[..], &["--max-silence", "1s"]].concat()).await.unwrap();
    assert!(fs::read(&file).unwrap() == node.state.content);
    assert_eq!(node.seen().len(), 1);
    node.stop().await;
}

#[actix_web::test]
async fn a_node_that_says_nothing_is_given_up() {
    // The system accepts for it, and it never reads.
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let server = format!("http://{}", silent.local_addr().unwrap());
    let node = Node::start(Bytes::new(), &[]);
    let (hash, file) = (hex(b""), node.file());
    // More than the system takes for it.
    fs::write(&file, content(16_000_000)).unwrap();
    let common = ["--server", &server, "--max-silence", "200ms"];
    let get = ["get", &hash, "--receipt", RECEIPT, "-o", "-", "--retries", "0"];
    let put = ["put", path(&file), "--key", "secret", "--retries", "0"];
    let publish = ["publish", "--content", &hash, "--name", "Film", "--key", "secret"];
    for (call, silence) in [(&get[..], "200ms"), (&put, "1s"), (&publish, "200ms")] {
        let patience = Duration::from_secs(60);
        let ended = tokio::time::timeout(patience, penstock(&[call, &common].concat())).await.unwrap();
        let told = ended.unwrap_err().to_string();
        assert!(told.starts_with(&format!("the connection carried nothing for {silence}")), "{call:?}: {told}");
    }
    node.stop().await;
}
