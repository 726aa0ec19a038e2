//! A socket under its server, against a client of the same process.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

const TERMS: ClientTerms =
    ClientTerms { header_timeout: Duration::from_secs(60), stall_timeout: Duration::from_secs(60), refusals: |_| None };

async fn pair() -> (ClientSocket, TcpStream) {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("let in");
    let (stream, _) = listener.accept().await.expect("it waited");
    (ClientSocket::accepted(stream, &SocketSettings::new(TERMS)), client)
}

/// Writes until the kernel accepts no more; returns how much it accepted.
async fn fill(socket: &mut ClientSocket) -> u64 {
    let piece = vec![7; 32 << 10];
    let mut taken = 0;
    std::future::poll_fn(|cx| {
        loop {
            match Pin::new(&mut *socket).poll_write(cx, &piece) {
                Poll::Ready(written) => taken += written.expect("connected") as u64,
                Poll::Pending => return Poll::Ready(()),
            }
        }
    })
    .await;
    taken
}

#[actix_web::test]
async fn what_a_client_gets_of_a_connection_that_is_cut_is_what_was_not_unsent() {
    let (mut socket, mut client) = pair().await;
    let connection = socket.connection().upgrade().expect("open");
    let taken = fill(&mut socket).await;
    let piece = 32 << 10;
    assert!(connection.unsent() > piece, "the client reads nothing");
    assert!(connection.unsent() < u64::from(MOST_UNSENT) + 4 * piece, "and the kernel takes no more than it should");
    let mut some = vec![0; 100_000];
    client.read_exact(&mut some).await.expect("sent");
    connection.cut();
    let sent = taken + piece - connection.unsent();
    let closed = socket.write_all(b"more").await.expect_err("the server is told");
    assert_eq!(closed.kind(), io::ErrorKind::ConnectionAborted);
    drop((socket, connection));
    let mut rest = Vec::new();
    let reset = client.read_to_end(&mut rest).await.expect_err("no end that looks right");
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!((some.len() + rest.len()) as u64, sent);
}

#[actix_web::test]
async fn what_was_unsent_is_known_after_the_client_has_reset_the_connection() {
    let (mut socket, client) = pair().await;
    let connection = socket.connection().upgrade().expect("open");
    fill(&mut socket).await;
    let unsent = connection.unsent();
    // There are bytes to read, so closing resets the connection.
    drop(client);
    socket.read_u8().await.expect_err("it is gone");
    assert_eq!(connection.unsent(), unsent);
}

#[actix_web::test]
async fn a_client_that_closed_its_side_and_then_leaves_is_noticed_without_a_write() {
    let (mut socket, mut client) = pair().await;
    fill(&mut socket).await;
    client.shutdown().await.expect("closed");
    assert_eq!(socket.read(&mut [0; 10]).await.expect("an end"), 0);
    socket.flush().await.expect("it still listens");
    drop(client);
    let mut flushed = socket.flush().await;
    while flushed.is_ok() {
        tokio::task::yield_now().await;
        flushed = socket.flush().await;
    }
    assert!(flushed.is_err());
}

#[actix_web::test]
async fn a_client_that_leaves_is_noticed_while_what_it_sent_is_not_to_be_read_yet() {
    let (mut socket, mut client) = pair().await;
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
    let mut head = [0; 100];
    assert_eq!(socket.read(&mut head).await.expect("a head"), 18);
    socket.turns().borrow_mut().begin(Framing::Length(0));
    drop(client);
    assert_eq!(socket.read(&mut head).await.expect("an end"), 0);
}

#[actix_web::test]
async fn what_comes_before_its_turn_wakes_the_server_when_its_turn_comes() {
    let (mut socket, mut client) = pair().await;
    let get = b"GET / HTTP/1.1\r\n\r\n";
    client.write_all(&get.repeat(2)).await.expect("sent");
    let turns = socket.turns();
    let mut head = [0; 100];
    assert_eq!(socket.read(&mut head).await.expect("a head"), get.len());
    turns.borrow_mut().begin(Framing::Length(0));
    let next = async {
        assert_eq!(socket.read(&mut head).await.expect("a head"), get.len());
        assert_eq!(head[..get.len()], get[..]);
    };
    let answer = async {
        tokio::task::yield_now().await;
        turns.borrow_mut().answered();
    };
    tokio::join!(next, answer);
}

#[actix_web::test]
async fn a_server_that_waits_for_its_client_is_woken_by_the_cut() {
    let (mut socket, _client) = pair().await;
    let connection = socket.connection();
    let cutter = {
        let connection = connection.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            connection.upgrade().expect("it waits").cut();
        })
    };
    socket.write_all(&vec![7; 64 << 20]).await.expect_err("cut");
    drop(socket);
    cutter.join().expect("no panic");
    assert!(connection.upgrade().is_none(), "no handle keeps it open");
}
