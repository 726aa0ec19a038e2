//! A server that can be stopped and started: a TCP proxy in front of one that goes on.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// Where new connections go.
type Way = Arc<Mutex<SocketAddr>>;

/// Forwards connections from a port of its own while it is started.
pub(crate) struct Proxy {
    address: SocketAddr,
    to: Way,
    forwarding: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(crate) async fn started(to: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let to = Arc::new(Mutex::new(to));
        Self { address, to: Arc::clone(&to), forwarding: Some(tokio::spawn(forward(listener, to))) }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// New connections go elsewhere, as by a name that was given to another server; those that are open stay where they are.
    #[allow(dead_code, reason = "shared by test binaries that each use a part of it")]
    pub(crate) fn lead_to(&self, to: SocketAddr) {
        *self.to.lock().expect("nothing panics here") = to;
    }

    /// Connections break, and new ones are refused.
    pub(crate) async fn stop(&mut self) {
        let Some(forwarding) = self.forwarding.take() else { return };
        forwarding.abort();
        assert!(forwarding.await.is_err_and(|end| end.is_cancelled()), "the proxy runs until it is stopped");
    }

    /// At the same address as before.
    pub(crate) fn start(&mut self) {
        let socket = TcpSocket::new_v4().expect("a socket");
        // Connections that have just ended would keep the port for a minute.
        socket.set_reuseaddr(true).expect("reusable");
        socket.bind(self.address).expect("the port is still free");
        let listener = socket.listen(128).expect("listening");
        self.forwarding = Some(tokio::spawn(forward(listener, Arc::clone(&self.to))));
    }
}

async fn forward(listener: TcpListener, to: Way) {
    let mut connections = JoinSet::new();
    loop {
        let (mut client, _) = listener.accept().await.expect("a connection");
        let to = *to.lock().expect("nothing panics here");
        connections.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(to).await {
                // Whichever side ends it, both are closed.
                let _ended = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}
