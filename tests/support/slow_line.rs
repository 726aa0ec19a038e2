//! A slow line to a server: a TCP proxy that carries no more than so many bytes a second each way.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{self, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// What the line holds of each direction beside the ends' own buffers.
const BUFFER_BYTES: u32 = 16 * 1024;

/// How often it carries something.
const BEAT: Duration = Duration::from_millis(20);

/// Carries until it is dropped.
pub(crate) struct SlowLine {
    address: SocketAddr,
    carrying: JoinHandle<()>,
}

impl SlowLine {
    pub(crate) fn to(server: SocketAddr, bytes_a_second: usize) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        // Else the system would take megabytes at once, and the line would be slow for others only.
        socket.set_recv_buffer_size(BUFFER_BYTES).expect("a small buffer");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let listener = socket.listen(128).expect("listening");
        let address = listener.local_addr().expect("an address");
        let beat_bytes = bytes_a_second / (Duration::from_secs(1).as_millis() / BEAT.as_millis()) as usize;
        let carrying = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                let Ok(server) = TcpStream::connect(server).await else { continue };
                let ((client_reads, client_writes), (server_reads, server_writes)) =
                    (client.into_split(), server.into_split());
                // That an end has left is for the other end to notice.
                connections.spawn(async move {
                    let there = carry(client_reads, server_writes, beat_bytes);
                    let back = carry(server_reads, client_writes, beat_bytes);
                    let _ended = tokio::join!(there, back);
                });
            }
        });
        Self { address, carrying }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for SlowLine {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, beat_bytes: usize) -> io::Result<()> {
    let mut part = vec![0; beat_bytes];
    loop {
        let count = from.read(&mut part).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&part[..count]).await?;
        tokio::time::sleep(BEAT.mul_f64(count as f64 / beat_bytes as f64)).await;
    }
}
