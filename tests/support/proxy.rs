//! A line to a server that can be broken: a TCP proxy that cuts, resets, holds back, slows down and loses what passes, or is not
//! there at all. A test changes its fault while connections are open.

#![allow(dead_code, reason = "shared by test binaries that each use a part of it")]

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

/// What the proxy itself holds of each direction of a connection.
const PIECE_BYTES: usize = 16 << 10;

/// The kernel's buffers of each end. Without a bound they grow to megabytes, which would hide a fault from the other end.
const BUFFER_BYTES: u32 = 128 << 10;

/// The same for a line that is slow from the start: little enough that both ends notice it at once.
const SLOW_BUFFER_BYTES: u32 = 16 << 10;

/// The most that a line can hold of what a server has sent and the client has not received: the kernel allows twice the buffers.
pub(crate) const LINE_HOLDS_BYTES: u64 = 2 * 2 * BUFFER_BYTES as u64 + PIECE_BYTES as u64;

/// How often a slow line carries something, at least.
const BEAT: Duration = Duration::from_millis(20);

/// What is wrong with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Open ones end, and new ones end as soon as they are accepted.
    Cut,
    /// The same with a reset at both ends.
    Reset,
    /// They stay open, new ones are accepted, and nothing passes.
    Hole,
    /// So many bytes pass in a second, each way.
    Trickle(usize),
    /// Each piece comes so much later.
    Delay(Duration),
    /// One answer in so many is lost, and its connection breaks. The server has done what it was asked, which the client cannot know.
    LoseAnswers(u64),
}

/// The fault of one connection in so many.
#[derive(Debug, Clone, Copy)]
struct Condition {
    fault: Option<Fault>,
    one_in: u64,
}

struct State {
    /// Where new connections go.
    to: Mutex<SocketAddr>,
    condition: watch::Sender<Condition>,
    buffer_bytes: u32,
    answers: AtomicU64,
    lost: AtomicU64,
}

/// Forwards connections from a port of its own while it is started.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    forwarding: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(crate) async fn started(to: SocketAddr) -> Self {
        Self::with(to, None, BUFFER_BYTES)
    }

    /// A line that is slow from the start.
    pub(crate) async fn slow(to: SocketAddr, bytes_a_second: usize) -> Self {
        Self::with(to, Some(Fault::Trickle(bytes_a_second)), SLOW_BUFFER_BYTES)
    }

    fn with(to: SocketAddr, fault: Option<Fault>, buffer_bytes: u32) -> Self {
        let (condition, _) = watch::channel(Condition { fault, one_in: 1 });
        let (answers, lost) = (AtomicU64::new(0), AtomicU64::new(0));
        let state = Arc::new(State { to: Mutex::new(to), condition, buffer_bytes, answers, lost });
        let listener = listen(([127, 0, 0, 1], 0).into(), buffer_bytes);
        let address = listener.local_addr().expect("an address");
        Self { address, forwarding: Some(tokio::spawn(forward(listener, Arc::clone(&state)))), state }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All connections, open and new ones, have this fault from now on.
    pub(crate) fn set(&self, fault: Fault) {
        self.set_for_one_in(1, fault);
    }

    /// One connection in so many has this fault from now on, open and new ones; the others have none.
    pub(crate) fn set_for_one_in(&self, one_in: u64, fault: Fault) {
        self.state.condition.send_replace(Condition { fault: Some(fault), one_in });
    }

    /// No connection has a fault any more. What was held back passes.
    pub(crate) fn heal(&self) {
        self.state.condition.send_replace(Condition { fault: None, one_in: 1 });
    }

    /// Answers lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.state.lost.load(Relaxed)
    }

    /// New connections go elsewhere, as by a name that was given to another server; those that are open stay where they are.
    pub(crate) fn lead_to(&self, to: SocketAddr) {
        *self.state.to.lock().expect("nothing panics here") = to;
    }

    /// Connections break, and new ones are refused.
    pub(crate) async fn stop(&mut self) {
        let Some(forwarding) = self.forwarding.take() else { return };
        forwarding.abort();
        assert!(forwarding.await.is_err_and(|end| end.is_cancelled()), "the proxy runs until it is stopped");
    }

    /// At the same address as before.
    pub(crate) fn start(&mut self) {
        let listener = listen(self.address, self.state.buffer_bytes);
        self.forwarding = Some(tokio::spawn(forward(listener, Arc::clone(&self.state))));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(forwarding) = &self.forwarding {
            forwarding.abort();
        }
    }
}

fn socket(buffer_bytes: u32) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(buffer_bytes).expect("a bounded buffer");
    socket.set_send_buffer_size(buffer_bytes).expect("a bounded buffer");
    socket.set_nodelay(true).expect("pieces pass at once");
    socket
}

fn listen(address: SocketAddr, buffer_bytes: u32) -> TcpListener {
    let socket = socket(buffer_bytes);
    // Connections that have just ended would keep the port for a minute.
    socket.set_reuseaddr(true).expect("reusable");
    socket.bind(address).expect("the port is free");
    socket.listen(128).expect("listening")
}

async fn forward(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    for number in 0.. {
        let (client, _) = listener.accept().await.expect("a connection");
        while connections.try_join_next().is_some() {}
        let line = Line { number, condition: state.condition.subscribe() };
        connections.spawn(connection(client, line, Arc::clone(&state)));
    }
}

/// What a connection knows of its fault.
#[derive(Clone)]
struct Line {
    number: u64,
    condition: watch::Receiver<Condition>,
}

impl Line {
    fn fault(&mut self) -> Option<Fault> {
        let Condition { fault, one_in } = *self.condition.borrow_and_update();
        fault.filter(|_| self.number.is_multiple_of(one_in))
    }

    async fn changed(&mut self) {
        // The sender is gone only when nothing changes any more.
        if self.condition.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the fault ends the connection; whether by a reset.
    async fn ended(&mut self) -> bool {
        loop {
            match self.fault() {
                Some(Fault::Cut) => return false,
                Some(Fault::Reset) => return true,
                _ => self.changed().await,
            }
        }
    }

    async fn no_hole(&mut self) {
        while self.fault() == Some(Fault::Hole) {
            self.changed().await;
        }
    }
}

async fn connection(mut client: TcpStream, mut line: Line, state: Arc<State>) {
    let _ = client.set_nodelay(true);
    let mut of_server = line.clone();
    let server = async {
        of_server.no_hole().await;
        let to = *state.to.lock().expect("nothing panics here");
        socket(state.buffer_bytes).connect(to).await
    };
    let mut server = tokio::select! {
        biased;
        by_reset = line.ended() => return end(&client, by_reset),
        server = server => match server {
            Ok(server) => server,
            Err(_) => return,
        },
    };
    let by_reset = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let requests = carry(from_client, to_server, line.clone(), None);
        let answers = carry(from_server, to_client, line.clone(), Some(&state));
        tokio::select! {
            biased;
            by_reset = line.ended() => by_reset,
            // An end that closes its half is heard at the other end; one that breaks takes both with it.
            _ = async { tokio::try_join!(requests, answers) } => false,
        }
    };
    end(&client, by_reset);
    end(&server, by_reset);
}

fn end(connection: &TcpStream, by_reset: bool) {
    if by_reset {
        // It may be closed already.
        let _ = connection.set_zero_linger();
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut line: Line,
    answers_of: Option<&State>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let fault = line.fault();
        let most = match fault {
            Some(Fault::Hole) => {
                line.changed().await;
                continue;
            }
            Some(Fault::Trickle(bytes_a_second)) => beat_bytes(bytes_a_second),
            _ => PIECE_BYTES,
        };
        let length = tokio::select! {
            biased;
            () = line.changed() => continue,
            length = from.read(&mut piece[..most]) => length?,
        };
        if length == 0 {
            return to.shutdown().await;
        }
        match fault {
            Some(Fault::Delay(by)) => sleep(by).await,
            Some(Fault::LoseAnswers(one_in)) => {
                if let Some(state) = answers_of
                    && state.answers.fetch_add(1, Relaxed) % one_in == one_in - 1
                {
                    state.lost.fetch_add(1, Relaxed);
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            }
            _ => {}
        }
        to.write_all(&piece[..length]).await?;
        if let Some(Fault::Trickle(bytes_a_second)) = fault {
            sleep(Duration::from_secs_f64(length as f64 / bytes_a_second as f64)).await;
        }
    }
}

fn beat_bytes(bytes_a_second: usize) -> usize {
    let beats = (Duration::from_secs(1).as_millis() / BEAT.as_millis()) as usize;
    (bytes_a_second / beats).clamp(1, PIECE_BYTES)
}
