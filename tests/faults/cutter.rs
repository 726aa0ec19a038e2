//! A database whose answers get lost: a TCP proxy that, when told to, breaks connections instead of delivering an answer. The
//! server has then done what it was asked, and the client cannot know.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// One answer in so many is lost. Prime, and more than a connection needs to begin, so that what is lost changes.
const EVERY: u64 = 7;

/// Forwards connections until it is dropped.
pub(crate) struct Cutter {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    forwarding: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    cutting: AtomicBool,
    answers: AtomicU64,
    cut: AtomicU64,
}

impl Cutter {
    pub(crate) async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State::default());
        Self { address, state: Arc::clone(&state), forwarding: tokio::spawn(forward(listener, server, state)) }
    }

    /// From now on answers get lost, or no longer do.
    pub(crate) fn cut(&self, cutting: bool) {
        self.state.cutting.store(cutting, Relaxed);
    }

    /// Answers lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.state.cut.load(Relaxed)
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.forwarding.abort();
    }
}

async fn forward(listener: TcpListener, server: SocketAddr, state: Arc<State>) {
    loop {
        let (client, _) = listener.accept().await.expect("a connection");
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(server).await else { return };
            let (mut from_client, to_client) = client.into_split();
            let (from_server, mut to_server) = server.into_split();
            // Whichever direction ends first takes the other with it.
            tokio::select! {
                _ = copy(&mut from_client, &mut to_server) => {}
                () = answers(from_server, to_client, &state) => {}
            }
        });
    }
}

async fn answers(
    mut server: tokio::net::tcp::OwnedReadHalf,
    mut client: tokio::net::tcp::OwnedWriteHalf,
    state: &State,
) {
    let mut part = vec![0; 64 << 10];
    while let Ok(length @ 1..) = server.read(&mut part).await {
        if state.cutting.load(Relaxed) && state.answers.fetch_add(1, Relaxed) % EVERY == EVERY - 1 {
            state.cut.fetch_add(1, Relaxed);
            return;
        }
        if client.write_all(&part[..length]).await.is_err() {
            return;
        }
    }
}
