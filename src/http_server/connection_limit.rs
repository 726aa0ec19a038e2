//! The bound on connections, and the refusal of those beyond it.
//!
//! A connection that waited in the kernel's queue for a place would tell its client nothing for as long as that takes. So a
//! connection beyond the bound is accepted, gets 503 as soon as its request begins to arrive, and is closed, before any head is
//! parsed and before any actor or database hears of it. On an encrypted listener it is closed at once, because an answer would cost
//! the node a handshake.

use std::{io, sync::Arc};

use actix_web::rt::net::TcpStream;
use penstock_actors::flow::admission::{Admission, Permit};

use super::client_socket::{ClientSocket, LINGER, SocketSettings};

/// Connections that are being refused at a time; further ones wait in the kernel's queue, for a second at most until one of these
/// is closed. Each takes a file descriptor and no buffer.
const REFUSALS: usize = 1024;

/// The bound, and what clients beyond it are told.
#[derive(Clone)]
pub struct ConnectionLimit {
    places: Admission,
    /// As it stands on the wire.
    answer: Arc<[u8]>,
}

impl ConnectionLimit {
    /// A connection takes one of the `places`; without one it gets the `answer`.
    pub fn new(places: Admission, answer: Vec<u8>) -> Self {
        Self { places, answer: answer.into() }
    }

    /// The most connections that the server accepts: those that it serves, and those that it refuses.
    pub(super) fn most_accepted(&self) -> usize {
        usize::try_from(self.places.snapshot().capacity).unwrap_or(usize::MAX).saturating_add(REFUSALS)
    }

    pub(super) fn admit(&self) -> Option<Permit> {
        self.places.try_admit(1)
    }

    /// Tells a client that it has no place. The client's request comes first: an answer before it is noise to many clients.
    pub(super) async fn refuse(&self, stream: TcpStream, settings: &SocketSettings) {
        let told = async {
            stream.readable().await?;
            ClientSocket::accepted(stream, settings).end(&self.answer).await
        };
        match tokio::time::timeout(LINGER, told).await {
            Ok(Err(error)) if error.kind() != io::ErrorKind::ConnectionReset => {
                tracing::debug!(%error, "a connection that was refused broke before its client had closed it");
            }
            _ => {}
        }
    }
}
