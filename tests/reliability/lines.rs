//! The line that the faults rely on: it does what its fault says, and is whole again when it is healed.

use std::io::ErrorKind;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    patience::eventually,
    proxy::{Fault, Proxy},
};

/// A line to a server that answers with what it is sent.
async fn line() -> (Proxy, JoinSet<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let (mut from, mut to) = connection.into_split();
                let _ended = copy(&mut from, &mut to).await;
            });
        }
    });
    (Proxy::started(address).await, server)
}

/// A connection over the line that has carried something.
async fn connected(line: &Proxy) -> TcpStream {
    let mut connection = TcpStream::connect(line.address()).await.unwrap();
    assert!(echoes(&mut connection, b"first").await);
    connection
}

async fn echoes(connection: &mut TcpStream, text: &[u8]) -> bool {
    let mut answer = vec![0; text.len()];
    connection.write_all(text).await.is_ok() && connection.read_exact(&mut answer).await.is_ok() && answer == text
}

#[tokio::test]
async fn a_line_that_is_cut_ends_open_connections_and_new_ones() {
    let (line, _server) = line().await;
    let mut open = connected(&line).await;
    line.set(Fault::Cut);
    assert_eq!(open.read(&mut [0; 8]).await.unwrap(), 0, "an end in order");
    let mut new = TcpStream::connect(line.address()).await.unwrap();
    assert_eq!(new.read(&mut [0; 8]).await.unwrap(), 0);
    line.heal();
    connected(&line).await;
}

#[tokio::test]
async fn a_line_that_resets_says_so() {
    let (line, _server) = line().await;
    let mut open = connected(&line).await;
    line.set(Fault::Reset);
    assert_eq!(open.read(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    line.heal();
    connected(&line).await;
}

#[tokio::test]
async fn what_a_hole_held_back_passes_when_it_is_healed() {
    let (line, _server) = line().await;
    let mut open = connected(&line).await;
    line.set(Fault::Hole);
    let mut new = TcpStream::connect(line.address()).await.unwrap();
    open.write_all(b"held").await.unwrap();
    new.write_all(b"held").await.unwrap();
    line.heal();
    for connection in [&mut open, &mut new] {
        let mut answer = [0; 4];
        connection.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"held");
    }
}

#[tokio::test]
async fn a_fault_of_every_second_connection_leaves_the_others_alone() {
    let (line, _server) = line().await;
    let (mut first, mut second) = (connected(&line).await, connected(&line).await);
    line.set_for_one_in(2, Fault::Cut);
    assert_eq!(first.read(&mut [0; 8]).await.unwrap(), 0);
    assert!(echoes(&mut second, b"second").await);
}

#[tokio::test]
async fn lost_answers_are_counted_and_break_their_connection() {
    let (line, _server) = line().await;
    line.set(Fault::LoseAnswers(2));
    eventually("answers are lost", async || {
        let mut connection = TcpStream::connect(line.address()).await.unwrap();
        while echoes(&mut connection, b"again").await {}
        line.lost() >= 3
    })
    .await;
}
