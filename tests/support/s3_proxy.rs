//! An S3 server that fails as a test says: a proxy that reads the HTTP/1.1 that passes, and breaks what it is told to break.
//!
//! Bytes pass unchanged, signatures included. What is broken is broken as networks and servers do it: an error instead of an
//! answer, an answer that comes late, stops, ends early or is reset at any byte, a request of which the server gets only a
//! part, an answer that is lost though the server did what it was asked, and a flipped bit.

#![allow(dead_code, reason = "shared by test binaries that each use a part of it")]

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server never sees it, and this is the answer, with the code.
    Answer(u16, &'static str),
    /// The answer begins so much later.
    Late(Duration),
    /// The server never sees it, and nothing comes.
    Hang,
    /// The connection is reset when the request has come.
    Reset,
    /// The server gets so many bytes of the request's body; then both connections are reset.
    CutRequest(usize),
    /// The server does what it is asked; its answer is lost and the connection reset.
    Lose,
    /// The answer's head and so many bytes of its body pass; then the connection ends.
    CutBody(usize),
    /// As before, but the connection stays, and nothing more comes.
    StallBody(usize),
    /// One bit of this byte of the answer's body is another one.
    FlipBit(usize),
}

/// A request that came by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) length: usize,
    pub(crate) traceparent: Option<String>,
}

impl Seen {
    /// What it asks for, in the words of the metrics.
    pub(crate) fn operation(&self) -> &'static str {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let has = |name: &str| query.split('&').any(|part| part == name || part.starts_with(&format!("{name}=")));
        match self.method.as_str() {
            "GET" if has("list-type") => "list",
            "GET" => "get",
            "HEAD" => "head",
            "PUT" if has("partNumber") => "part",
            "PUT" => "put",
            "POST" if has("uploads") => "begin",
            "POST" if has("uploadId") => "complete",
            "DELETE" if has("uploadId") => "abort",
            "DELETE" => "delete",
            _ => "other",
        }
    }

    /// Whether it is this operation on something in this folder of the prefix: `blobs`, `data`, `uploads`, `retired`.
    pub(crate) fn is(&self, operation: &str, folder: &str) -> bool {
        self.operation() == operation && self.target.contains(&format!("/{folder}/"))
    }
}

type Rule = Box<dyn FnMut(&Seen) -> Option<Fault> + Send>;

#[derive(Default)]
struct State {
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
}

/// Forwards connections until it is dropped.
pub(crate) struct S3Proxy {
    address: SocketAddr,
    state: Arc<State>,
    forwarding: JoinHandle<()>,
}

impl S3Proxy {
    /// In front of a server, by its URL.
    pub(crate) async fn before(endpoint: &str) -> Self {
        let server: SocketAddr = endpoint.trim_start_matches("http://").parse().expect("an address");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State::default());
        let forwarding = tokio::spawn(forward(listener, server, Arc::clone(&state)));
        Self { address, state, forwarding }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on breaks each request for which the rule says so, as long as no earlier rule does.
    pub(crate) fn rule(&self, rule: impl FnMut(&Seen) -> Option<Fault> + Send + 'static) {
        self.rules().push(Box::new(rule));
    }

    /// Breaks the next `times` requests of this operation in this folder, one after the other.
    pub(crate) fn break_next(&self, times: usize, operation: &'static str, folder: &'static str, fault: Fault) {
        let mut left = times;
        self.rule(move |request| {
            if left == 0 || !request.is(operation, folder) {
                return None;
            }
            left -= 1;
            Some(fault)
        });
    }

    /// Breaks everything in the same way.
    pub(crate) fn break_all(&self, fault: Fault) {
        self.rule(move |_| Some(fault));
    }

    /// No more faults.
    pub(crate) fn heal(&self) {
        self.rules().clear();
    }

    /// The requests that came by since this was asked for the last time.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.state.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Vec<Rule>> {
        self.state.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for S3Proxy {
    fn drop(&mut self) {
        self.forwarding.abort();
    }
}

async fn forward(listener: TcpListener, server: SocketAddr, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.expect("a connection");
        let state = Arc::clone(&state);
        connections.spawn(async move {
            // However it ends, both sides are closed.
            let _ended = converse(client, server, &state).await;
        });
    }
}

/// One connection of a client: request after request until one side leaves or a fault ends it.
async fn converse(client: TcpStream, server: SocketAddr, state: &State) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = BufReader::new(client);
    let mut server = BufReader::new(TcpStream::connect(server).await?);
    server.get_ref().set_nodelay(true)?;
    loop {
        let Some(request) = Head::read(&mut client).await? else { return Ok(()) };
        let seen = request.seen();
        let fault = {
            let mut rules = state.rules.lock().unwrap_or_else(PoisonError::into_inner);
            rules.iter_mut().find_map(|rule| rule(&seen))
        };
        state.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen.clone());
        match fault {
            Some(Fault::Answer(status, code)) => {
                pass(&mut client, seen.length, None).await?;
                let body =
                    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>broken</Message></Error>");
                let body = if seen.method == "HEAD" { "" } else { &body };
                let length = body.len();
                let answer = format!("HTTP/1.1 {status} Broken\r\ncontent-length: {length}\r\n\r\n{body}");
                client.write_all(answer.as_bytes()).await?;
                continue;
            }
            Some(Fault::Hang) => {
                pass(&mut client, seen.length, None).await?;
                // Until the client gives up.
                client.read_u8().await?;
                return Ok(());
            }
            Some(Fault::Reset) => {
                pass(&mut client, seen.length, None).await?;
                return reset(&client);
            }
            Some(Fault::CutRequest(at)) => {
                server.write_all(&request.bytes).await?;
                pass(&mut client, seen.length.min(at), Some(&mut server)).await?;
                reset(&server)?;
                return reset(&client);
            }
            _ => {}
        }
        server.write_all(&request.bytes).await?;
        pass(&mut client, seen.length, Some(&mut server)).await?;
        let Some(answer) = Head::read(&mut server).await? else { return Ok(()) };
        if let Some(Fault::Late(by)) = fault {
            tokio::time::sleep(by).await;
        }
        if fault == Some(Fault::Lose) {
            return reset(&client);
        }
        client.write_all(&answer.bytes).await?;
        if seen.method == "HEAD" || answer.has_no_body() {
            continue;
        }
        match (fault, answer.length()) {
            (Some(Fault::CutBody(at)), Some(length)) if at < length => {
                pass(&mut server, at, Some(&mut client)).await?;
                return Ok(());
            }
            (Some(Fault::StallBody(at)), Some(length)) if at < length => {
                pass(&mut server, at, Some(&mut client)).await?;
                client.read_u8().await?;
                return Ok(());
            }
            (Some(Fault::FlipBit(at)), Some(length)) if at < length => {
                pass(&mut server, at, Some(&mut client)).await?;
                let byte = server.read_u8().await? ^ 0x10;
                client.write_u8(byte).await?;
                pass(&mut server, length - at - 1, Some(&mut client)).await?;
            }
            (_, Some(length)) => pass(&mut server, length, Some(&mut client)).await?,
            (_, None) => pass_chunks(&mut server, &mut client).await?,
        }
    }
}

/// The head of a request or of an answer, as it came.
struct Head {
    bytes: Vec<u8>,
}

impl Head {
    /// `None` when the other side has left.
    async fn read(from: &mut BufReader<TcpStream>) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        loop {
            let line = from.read_until(b'\n', &mut bytes).await?;
            if line == 0 {
                return Ok(None);
            }
            if bytes.ends_with(b"\r\n\r\n") {
                return Ok(Some(Self { bytes }));
            }
        }
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        std::str::from_utf8(&self.bytes).expect("text").lines()
    }

    fn field(&self, name: &str) -> Option<&str> {
        let fields = self.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    fn length(&self) -> Option<usize> {
        self.field("content-length").map(|length| length.parse().expect("a length"))
    }

    fn seen(&self) -> Seen {
        let mut words = self.lines().next().expect("a first line").split(' ').map(str::to_owned);
        let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
        assert!(self.field("transfer-encoding").is_none(), "clients say how long their requests are");
        let traceparent = self.field("traceparent").map(str::to_owned);
        Seen { method, target, length: self.length().unwrap_or(0), traceparent }
    }

    fn has_no_body(&self) -> bool {
        let status = self.lines().next().and_then(|line| line.split(' ').nth(1)).expect("a status");
        ["204", "304"].contains(&status) || self.length() == Some(0)
    }
}

/// Passes so many bytes on, or to nowhere.
async fn pass(from: &mut BufReader<TcpStream>, length: usize, to: Option<&mut BufReader<TcpStream>>) -> io::Result<()> {
    let mut part = from.take(length as u64);
    let passed = match to {
        Some(to) => tokio::io::copy(&mut part, to).await?,
        None => tokio::io::copy(&mut part, &mut tokio::io::sink()).await?,
    };
    if passed < length as u64 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// Passes a chunked body on.
async fn pass_chunks(from: &mut BufReader<TcpStream>, to: &mut BufReader<TcpStream>) -> io::Result<()> {
    loop {
        let mut line = Vec::new();
        if from.read_until(b'\n', &mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all(&line).await?;
        let digits = std::str::from_utf8(&line).expect("text").trim().split(';').next().expect("a length");
        let length = usize::from_str_radix(digits, 16).expect("a chunk's length");
        pass(from, length + 2, Some(to)).await?;
        if length == 0 {
            return Ok(());
        }
    }
}

/// The next end of the connection is a reset.
fn reset(connection: &BufReader<TcpStream>) -> io::Result<()> {
    socket2::SockRef::from(connection.get_ref()).set_linger(Some(Duration::ZERO))
}
