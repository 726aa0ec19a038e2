//! Connections by hand: requests that no client library would send, and readers that do not read.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::node::{Paid, TestNode};

/// The receive buffer of a slow reader: so little that a sender soon notices.
const SMALL_BUFFER: u32 = 64 << 10;

/// A connection that has a small receive buffer.
pub(crate) async fn connect(node: &TestNode) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(SMALL_BUFFER).expect("a small buffer");
    socket.connect(node.address().parse().expect("an address")).await.expect("a connection")
}

/// Sends the text and takes all that comes until the server closes.
pub(crate) async fn exchange(node: &TestNode, request: &str) -> String {
    let mut connection = connect(node).await;
    connection.write_all(request.as_bytes()).await.expect("the request goes out");
    let mut answer = Vec::new();
    // A server that refuses early resets what is still on its way; what it said before counts.
    let _ = connection.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends the text and takes no more than the head of the answer.
pub(crate) async fn head(node: &TestNode, request: &str) -> String {
    let mut connection = connect(node).await;
    connection.write_all(request.as_bytes()).await.expect("the request goes out");
    let mut answer = Vec::new();
    while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
        let byte = connection.read_u8().await;
        answer.push(byte.unwrap_or_else(|error| panic!("{error} after {}", String::from_utf8_lossy(&answer))));
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// A stream whose client has read the head of the answer and so many bytes more, and then stopped reading.
pub(crate) async fn paused_stream(node: &TestNode, paid: &Paid, read: usize) -> TcpStream {
    let mut connection = connect(node).await;
    let request =
        format!("GET /v1/streaming/data/{}?receiptId={} HTTP/1.1\r\nhost: node\r\n\r\n", paid.hash, paid.receipt);
    connection.write_all(request.as_bytes()).await.expect("the request goes out");
    let mut seen = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    let mut head_end = None;
    while head_end.is_none_or(|end: usize| seen.len() < end + read) {
        let count = connection.read(&mut buffer).await.expect("an answer");
        assert!(count > 0, "the answer ends early: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..count]);
        if head_end.is_none() {
            head_end = seen.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        }
    }
    assert!(seen.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&seen[..200]));
    connection
}
