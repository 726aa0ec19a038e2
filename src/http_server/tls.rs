//! TLS on the node's own listener: the handshake, and the certificate, which changes while the node runs.
//!
//! TLS 1.2 and 1.3, HTTP/1.1 alone. A session can be resumed with a ticket, whose keys change every six hours; requests in
//! the first flight of a resumption are not accepted, because an attacker may repeat them.

use std::{future::Future, io, sync::Arc, time::Duration};

use actix_http::error::DispatchError;
use actix_web::rt::net::TcpStream;
use rustls::{ServerConfig, crypto::ring, server::ResolvesServerCert};

use super::client_socket::{ClientSocket, HandshakeError, LINGER, SocketSettings};
use crate::telemetry::metrics::{Handshake, TlsMetrics};

mod certificates;
mod pair;

pub use certificates::Certificates;
pub use pair::{CertificateFiles, CertificatePair, UnusableCertificate};

/// The protocol that clients may choose in the handshake.
const HTTP_1_1: &[u8] = b"http/1.1";

/// The handshakes of a server.
pub struct Tls {
    config: Arc<ServerConfig>,
    handshake_timeout: Duration,
    metrics: Arc<TlsMetrics>,
    /// What a client that speaks no TLS is told.
    use_https: Vec<u8>,
}

impl Tls {
    /// # Errors
    /// When the library cannot provide TLS.
    pub fn new(
        certificates: Arc<dyn ResolvesServerCert>,
        handshake_timeout: Duration,
        metrics: Arc<TlsMetrics>,
    ) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        config.ticketer = ring::Ticketer::new()?;
        Ok(Self { config: Arc::new(config), handshake_timeout, metrics, use_https: Vec::new() })
    }

    /// With an answer, as it stands on the wire, for clients that speak HTTP without TLS.
    pub fn refusing_plain_http(self, answer: Vec<u8>) -> Self {
        Self { use_https: answer, ..self }
    }

    /// Completes the handshake with a client that has just connected. Its connection counts among `max_connections`
    /// from the beginning, so that bound holds for handshakes too.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        settings: &SocketSettings,
    ) -> Result<ClientSocket, DispatchError> {
        let peer = stream.peer_addr().ok();
        let handshake = ClientSocket::encrypted(stream, settings, Arc::clone(&self.config));
        let (outcome, error) = match tokio::time::timeout(self.handshake_timeout, handshake).await {
            Ok(Ok(socket)) => {
                self.metrics.handshake_ended(Handshake::Completed);
                return Ok(socket);
            }
            Ok(Err((socket, error @ HandshakeError::NotTls))) => {
                patiently(socket.end(&self.use_https)).await;
                (Handshake::NotTls, io::Error::other(error))
            }
            Ok(Err((_, HandshakeError::Left))) => (Handshake::Left, io::ErrorKind::UnexpectedEof.into()),
            Ok(Err((socket, HandshakeError::Io(error)))) => {
                patiently(socket.end(&[])).await;
                (Handshake::Failed, error)
            }
            Err(_) => (Handshake::TimedOut, io::ErrorKind::TimedOut.into()),
        };
        self.metrics.handshake_ended(outcome);
        let peer = peer.map(tracing::field::display);
        tracing::debug!(peer, %error, outcome = outcome.as_str(), "a client completed no TLS handshake; its connection is closed");
        Err(DispatchError::Io(error))
    }
}

/// A client may take a second to read what it is told.
async fn patiently(end: impl Future<Output = io::Result<()>>) {
    if let Ok(Err(error)) = tokio::time::timeout(LINGER, end).await {
        tracing::debug!(%error, "a refused connection broke before its client had closed it");
    }
}
