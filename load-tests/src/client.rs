//! One connection to a node. A stream has its own, as real clients have: a pool would hide what 1,000 of them cost.

use std::{net::SocketAddr, sync::Mutex};

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
}

impl Target {
    pub(crate) async fn new(address: Address) -> anyhow::Result<Self> {
        let socket = address.resolve().await?;
        Ok(Self { address, socket })
    }

    /// A request to this node, without its body.
    pub(crate) fn request(&self, method: &str, path: &str) -> request::Builder {
        Request::builder().method(method).uri(path).header(header::HOST, self.address.authority())
    }
}

/// A connection, for one request after the other.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Connects; `receive_buffer` bounds what the kernel, and then the HTTP library, take in before it is read.
    pub(crate) async fn open(target: &Target, receive_buffer: Option<u32>) -> Result<Self, Fault> {
        let connect = async {
            let socket = if target.socket.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if let Some(bytes) = receive_buffer {
                socket.set_recv_buffer_size(bytes)?;
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
        Ok(Self { sender })
    }

    /// Whether the node has ended it.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Fault> {
        self.sender.ready().await.map_err(|error| Fault::lost(&error))?;
        self.sender.send_request(request).await.map_err(|error| Fault::lost(&error))
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

    pub(crate) fn give(&self, connection: Connection) {
        self.idle.lock().expect("no client panics with it").push(connection);
    }
}
