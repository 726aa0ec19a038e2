//! Clients that send or take a little now and then, to hold what others need. Each is refused after a bounded time, and the others
//! do not notice.

use std::{net::SocketAddr, time::Duration};

use futures::future::join_all;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{
    node::{ADMIN_KEY, On, Paid, Setup, TestNode, sample},
    patience::{PATIENCE, eventually},
    raw_requests::problem,
    wire::connect,
};

/// Slow clients of each kind.
const EACH: usize = 25;

/// How often they send a little: many times within the times that the node allows.
const NOW_AND_THEN: Duration = Duration::from_millis(100);

const ALLOWED: &str = "1s";

/// A node that allows little time, but keeps idle connections for long.
async fn impatient() -> TestNode {
    Setup::new(On::Sqlite)
        .env("PENSTOCK_SERVER__HEADER_TIMEOUT", ALLOWED)
        .env("PENSTOCK_SERVER__KEEP_ALIVE", "10min")
        .env("PENSTOCK_UPLOADS__IDLE_TIMEOUT", ALLOWED)
        .start()
        .await
}

/// Sends the beginning, and then the piece now and then, until the node closes; all that it answered.
async fn trickle(node: &TestNode, begin: &str, piece: &str) -> String {
    let (mut reader, mut writer) = connect(node).await.into_split();
    writer.write_all(begin.as_bytes()).await.unwrap();
    let sending = async {
        while writer.write_all(piece.as_bytes()).await.is_ok() {
            tokio::time::sleep(NOW_AND_THEN).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let receiving = async {
        // A client that still sends when the node has closed gets a reset behind the answer.
        let _ = reader.read_to_end(&mut answer).await;
    };
    tokio::select! {
        () = sending => {}
        received = timeout(PATIENCE, receiving) => received.unwrap_or_else(|_| panic!("{begin:?} was never refused")),
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Calls of a client that does nothing wrong, while the others go on.
async fn others_go_on(node: &TestNode, paid: &Paid, bytes: &[u8], slow: impl Future<Output = ()>) {
    let calls = async {
        loop {
            let got = node.stream_apart(paid).send().await.unwrap();
            assert_eq!(got.status(), 200);
            assert_eq!(got.bytes().await.unwrap(), bytes);
            tokio::time::sleep(NOW_AND_THEN).await;
        }
    };
    tokio::select! {
        () = slow => {}
        () = calls => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_come_byte_by_byte_are_refused_also_behind_an_answer() {
    let mut node = impatient().await;
    let bytes = sample(60, 10_000);
    let paid = node.paid(&bytes, "unlimited").await;
    let answered = "GET /health/live HTTP/1.1\r\nhost: node\r\n\r\n";
    let mut slow = Vec::new();
    for before in ["", answered] {
        // A field that does not end, and empty lines before a head.
        for (begin, piece) in [("GET / HTTP/1.1\r\nx: ", "x"), ("\r\n", "\r\n")] {
            let begin = format!("{before}{begin}");
            slow.extend((0..EACH).map(|_| {
                let (node, begin) = (&node, begin.clone());
                async move {
                    let answers = trickle(node, &begin, piece).await;
                    let last = answers.rsplit("{\"status\":\"ok\"}").next().unwrap();
                    let (status, document) = problem(last);
                    assert_eq!((status, &document["type"]), (408, &"urn:penstock:problem:request-timeout".into()));
                }
            }));
        }
    }
    others_go_on(&node, &paid, &bytes, async { drop(join_all(slow).await) }).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_come_byte_by_byte_are_refused_and_leave_nothing() {
    let mut node = impatient().await;
    let bytes = sample(61, 10_000);
    let paid = node.paid(&bytes, "unlimited").await;
    let head = format!("host: node\r\nauthorization: Bearer {ADMIN_KEY}\r\ncontent-type: video/mp4\r\n");
    let upload = format!("POST /v1/content HTTP/1.1\r\n{head}");
    let resumable = format!(
        "POST /v1/uploads HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {ADMIN_KEY}\r\ntus-resumable: 1.0.0\r\n\
         upload-length: 1000000\r\ncontent-type: application/offset+octet-stream\r\n"
    );
    let chunked = "transfer-encoding: chunked\r\n\r\n";
    let cases = [
        (format!("{upload}content-length: 1000000\r\n\r\n"), "x"),
        (format!("{upload}{chunked}"), "1\r\nx\r\n"),
        // An extension of a chunk, and a trailer, that do not end.
        (format!("{upload}{chunked}5;"), "x"),
        (format!("{upload}{chunked}5\r\nhello\r\n0\r\nx: "), "x"),
        (format!("{resumable}content-length: 1000000\r\n\r\n"), "x"),
        (format!("{resumable}{chunked}"), "1\r\nx\r\n"),
    ];
    let shared = &node;
    let slow = cases.iter().flat_map(|case| std::iter::repeat_n(case, 2)).map(|(begin, piece)| async move {
        let (status, document) = problem(&trickle(shared, begin, piece).await);
        assert_eq!(status, 408, "{begin}: {document}");
    });
    others_go_on(&node, &paid, &bytes, async { drop(join_all(slow).await) }).await;
    node.metric_becomes("penstock_uploads_active", "", 0.0).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_json_body_that_comes_byte_by_byte_is_refused() {
    let mut node = TestNode::start(On::Sqlite).await;
    let head = format!(
        "POST /v1/producers HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {ADMIN_KEY}\r\n\
         content-type: application/json\r\ncontent-length: 100000\r\n\r\n"
    );
    let (status, document) = problem(&trickle(&node, &head, " ").await);
    assert_eq!(status, 408, "{document}");
    node.finish().await;
}

/// A client that reads a few bytes now and then. Its segments are small, so that it lets the node send as little at a time: the
/// kernel sees that it takes something.
async fn sip(node: &TestNode, paid: &Paid) -> std::io::Error {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    SockRef::from(&socket).set_tcp_mss(536).unwrap();
    let mut stream: TcpStream = socket.connect(node.address().parse::<SocketAddr>().unwrap()).await.unwrap();
    let request =
        format!("GET /v1/streaming/data/{}?receiptId={} HTTP/1.1\r\nhost: node\r\n\r\n", paid.hash, paid.receipt);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut some = [0; 600];
    loop {
        match stream.read(&mut some).await {
            Ok(0) => panic!("an end that looks right"),
            Ok(_) => tokio::time::sleep(NOW_AND_THEN * 2).await,
            Err(error) => return error,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_next_to_nothing_is_cut() {
    let mut node = Setup::new(On::Sqlite).env("PENSTOCK_SERVER__STALL_TIMEOUT", "2s").start().await;
    let paid = node.paid(&sample(62, 8 << 20), "unlimited").await;
    let cut = timeout(PATIENCE, sip(&node, &paid)).await.expect("it is cut");
    assert_eq!(cut.kind(), std::io::ErrorKind::ConnectionReset);
    eventually("its stream has ended", async || node.metric("penstock_streams_active", "").await == 0.0).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_a_next_request_is_closed_without_a_word() {
    let mut node = Setup::new(On::Sqlite).env("PENSTOCK_SERVER__KEEP_ALIVE", "1s").start().await;
    let mut connection = connect(&node).await;
    let request = "GET /health/live HTTP/1.1\r\nhost: node\r\n\r\n";
    for _ in 0..2 {
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"{\"status\":\"ok\"}") {
            let mut some = [0; 1024];
            let count = connection.read(&mut some).await.unwrap();
            assert!(count > 0, "it stays open for the next request");
            answer.extend_from_slice(&some[..count]);
        }
    }
    let mut rest = Vec::new();
    timeout(PATIENCE, connection.read_to_end(&mut rest)).await.expect("it is closed").unwrap();
    assert_eq!(rest, b"", "a client that has asked for nothing gets no answer");
    node.finish().await;
}

/// The process is stopped for longer than a head may take, as on a machine that is suspended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_came_while_the_node_stood_still_is_answered() {
    let mut node = impatient().await;
    let mut connection = connect(&node).await;
    eventually("the node has the connection", async || node.metric("penstock_http_connections", "").await >= 2.0).await;
    let pid = Pid::from_raw(i32::try_from(node.pid()).unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    connection.write_all(b"GET /health/live HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    kill(pid, Signal::SIGCONT).unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, connection.read_to_string(&mut answer)).await.expect("answered").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    node.finish().await;
}
