//! One connection to a node. A stream has its own, as real clients have: a pool would hide what 1,000 of them cost.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header,
    http::request,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;

use crate::{address::Address, fault::Fault};

/// Where the node is, looked up.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: Address,
    pub(crate) socket: SocketAddr,
    /// Counts the connections, where each comes from another loopback address.
    turn: Option<Arc<AtomicU8>>,
}

/// Loopback addresses that a crowd comes from, 127.0.0.1 and those after it: a node gives no address all of its connections.
const SOURCES: u8 = 16;

impl Target {
    pub(crate) async fn new(address: Address) -> anyhow::Result<Self> {
        let socket = address.resolve().await?;
        Ok(Self { address, socket, turn: None })
    }

    /// The same for a crowd: a node on this machine sees its connections come from several addresses, as it sees real clients.
    pub(crate) fn spread_over_addresses(&self) -> Self {
        let turn = (self.socket.is_ipv4() && self.socket.ip().is_loopback()).then(Arc::default);
        Self { turn, ..self.clone() }
    }

    /// Where the next connection comes from, if that matters.
    fn source(&self) -> Option<SocketAddr> {
        let turn = self.turn.as_ref()?.fetch_add(1, Relaxed);
        Some((Ipv4Addr::new(127, 0, 0, 1 + turn % SOURCES), 0).into())
    }

    /// A request to this node, without its body.
    pub(crate) fn request(&self, method: &str, path: &str) -> request::Builder {
        Request::builder().method(method).uri(path).header(header::HOST, self.address.authority())
    }
}

/// A connection, for one request after the other.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Whether it has served a request before.
    is_kept: bool,
}

impl Connection {
    /// Connects; `receive_buffer` bounds what the kernel, and then the HTTP library, take in before it is read.
    pub(crate) async fn open(target: &Target, receive_buffer: Option<u32>) -> Result<Self, Fault> {
        let connect = async {
            let socket = if target.socket.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if let Some(bytes) = receive_buffer {
                socket.set_recv_buffer_size(bytes)?;
            }
            if let Some(source) = target.source() {
                socket.bind(source)?;
            }
            let stream = socket.connect(target.socket).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        };
        let stream = connect.await.map_err(|error| Fault::Connect(error.kind()))?;
        let mut http = http1::Builder::new();
        if let Some(bytes) = receive_buffer {
            http.max_buf_size(bytes as usize);
        }
        let (sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(|error| Fault::lost(&error))?;
        // Ends with the connection; what goes wrong on it is told to the request that it happened to.
        tokio::spawn(connection);
        Ok(Self { sender, is_kept: false })
    }

    /// Whether the node has ended it.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Fault> {
        let answer = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let lost = |error: hyper::Error| {
            if self.is_kept { Fault::ClosedWhenIdle(error.to_string()) } else { Fault::lost(&error) }
        };
        answer.await.map_err(lost)
    }
}

/// Connections whose last request has ended: at most as many as were open at one time.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    /// The connection that was used last, unless the node has ended it.
    pub(crate) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().expect("no client panics with it");
        std::iter::from_fn(|| idle.pop()).find(|connection| !connection.is_closed())
    }

    pub(crate) fn give(&self, mut connection: Connection) {
        connection.is_kept = true;
        self.idle.lock().expect("no client panics with it").push(connection);
    }
}
