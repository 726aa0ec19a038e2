//! A server in trouble: it takes each connection and ends it at once. It counts them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use tokio::{net::TcpSocket, task::JoinHandle};

pub(crate) struct Refuser {
    attempts: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

impl Refuser {
    /// At an address that a server had until now.
    pub(crate) fn at(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        // Connections that have just ended would keep the port for a minute.
        socket.set_reuseaddr(true).expect("reusable");
        socket.bind(address).expect("the port is free");
        let listener = socket.listen(1024).expect("listening");
        let attempts = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&attempts);
        let serving = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                counted.fetch_add(1, SeqCst);
                drop(connection);
            }
        });
        Self { attempts, serving }
    }

    pub(crate) fn attempts(&self) -> u64 {
        self.attempts.load(SeqCst)
    }

    /// The port is free afterwards.
    pub(crate) async fn stop(self) {
        self.serving.abort();
        let _ended = self.serving.await;
    }
}
