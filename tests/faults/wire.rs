//! A client that decides for itself when it reads and when it leaves.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::{
    node::{ADMIN_KEY, Paid, TestNode},
    patience::PATIENCE,
};

/// Small, so that little of a body is in the kernel and most of it waits in the node.
const RECEIVE_BUFFER: u32 = 16 << 10;

/// A connection to a node.
pub(crate) struct Wire {
    stream: TcpStream,
}

impl Wire {
    pub(crate) async fn to(node: &TestNode) -> Self {
        let base = node.url("");
        let address = base.strip_prefix("http://").expect("plain HTTP").parse().expect("an address");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(RECEIVE_BUFFER).expect("small");
        Self { stream: socket.connect(address).await.expect("a connection") }
    }

    /// A connection that has asked for content.
    pub(crate) async fn asking(node: &TestNode, paid: &Paid) -> Self {
        let mut wire = Self::to(node).await;
        wire.send(&stream_request(paid)).await;
        wire
    }

    /// A connection that has asked for content and has read the head of the answer, which is 200.
    pub(crate) async fn streaming(node: &TestNode, paid: &Paid) -> Self {
        let mut wire = Self::asking(node, paid).await;
        let head = wire.head().await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        wire
    }

    /// As [`streaming`](Self::streaming), from an offset on; the answer is 206.
    pub(crate) async fn streaming_from(node: &TestNode, paid: &Paid, offset: usize) -> Self {
        let mut wire = Self::to(node).await;
        let Paid { hash, receipt, .. } = paid;
        let request = format!(
            "GET /v1/streaming/data/{hash} HTTP/1.1\r\nhost: node\r\nx-receipt-id: {receipt}\r\nrange: bytes={offset}-\r\n\r\n"
        );
        wire.send(request.as_bytes()).await;
        let head = wire.head().await;
        assert!(head.starts_with("HTTP/1.1 206"), "{head}");
        wire
    }

    /// A connection that has begun an upload of so many bytes.
    pub(crate) async fn uploading(node: &TestNode, length: u64) -> Self {
        let mut wire = Self::to(node).await;
        let head = format!(
            "POST /v1/content HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {ADMIN_KEY}\r\ncontent-length: {length}\r\n\r\n"
        );
        wire.send(head.as_bytes()).await;
        wire
    }

    /// This end's address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.stream.local_addr().expect("connected")
    }

    /// Closes this side.
    pub(crate) async fn send_no_more(&mut self) {
        self.stream.shutdown().await.expect("closed");
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("sent");
    }

    /// The head of an answer, and not a byte more.
    pub(crate) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = tokio::time::timeout(PATIENCE, self.stream.read_u8()).await.expect("in time");
            head.push(byte.expect("a head"));
        }
        String::from_utf8(head).expect("text")
    }

    /// Up to so many bytes; nothing at the end. An error is a connection that was reset.
    pub(crate) async fn read(&mut self, at_most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; at_most];
        let count = tokio::time::timeout(PATIENCE, self.stream.read(&mut bytes)).await.expect("in time")?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// All that still comes, up to `at_most` bytes, until the end or a reset.
    pub(crate) async fn read_on(&mut self, at_most: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < at_most {
            match self.read((at_most - bytes.len()).min(256 << 10)).await {
                Ok(part) if !part.is_empty() => bytes.extend(part),
                _ => break,
            }
        }
        bytes
    }

    /// As [`read_on`](Self::read_on), with a pause after each 64 KiB.
    pub(crate) async fn read_slowly(&mut self, at_most: usize, pause: Duration) -> Vec<u8> {
        self.read_by(64 << 10, at_most, pause).await
    }

    /// As [`read_on`](Self::read_on), with a pause after each `step` bytes.
    pub(crate) async fn read_by(&mut self, step: usize, at_most: usize, pause: Duration) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < at_most {
            let part = self.read_on((at_most - bytes.len()).min(step)).await;
            if part.is_empty() {
                break;
            }
            bytes.extend(part);
            tokio::time::sleep(pause).await;
        }
        bytes
    }
}

fn stream_request(paid: &Paid) -> Vec<u8> {
    let Paid { hash, receipt, .. } = paid;
    format!("GET /v1/streaming/data/{hash} HTTP/1.1\r\nhost: node\r\nx-receipt-id: {receipt}\r\n\r\n").into_bytes()
}
