//! The TLS of one connection: ciphertext of the client becomes plaintext for the server, and the other way round.
//!
//! rustls holds no bytes here: what came and is not decrypted, and what is encrypted and not accepted by the kernel, are in
//! the two buffers of the session. So the session knows the size of each record, which [`Records`] needs.
//!
//! # Bounds
//! At most 20 KiB of ciphertext are read before they are decrypted, and nothing is read while plaintext waits for the server.
//! At most two records are encrypted before the kernel has accepted them.

use std::{
    io,
    sync::{Arc, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use rustls::{
    ServerConfig,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus},
};
use tokio::io::Interest;

use super::{
    Inner,
    records::{RECORD, Records},
};

/// Bytes of ciphertext that are read at a time: the largest record (RFC 8446, section 5.2, and RFC 5246, section 6.2.3), and
/// a little of the next one.
const READ: usize = 20 << 10;

/// Records that are encrypted at a time: as many as a server's buffer for writing holds.
const RECORDS: usize = 2;

/// More than a record adds to its plaintext.
const OVERHEAD: usize = 256;

/// The first byte of a client that speaks TLS: a record of the handshake.
const HANDSHAKE: u8 = 22;

/// The state of an encrypted connection.
pub(super) struct Session {
    connection: UnbufferedServerConnection,
    /// Ciphertext of the client that is not decrypted.
    incoming: BytesMut,
    /// Plaintext of the client that the server has not read.
    received: BytesMut,
    /// Ciphertext that the kernel has not accepted.
    outgoing: BytesMut,
    /// The client sends nothing more.
    has_ended: bool,
    has_said_goodbye: bool,
}

/// Why a handshake did not lead to an encrypted connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("the client does not speak TLS")]
    NotTls,
    #[error("the client closed the connection")]
    Left,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Session {
    pub(super) fn begin(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config)?,
            incoming: BytesMut::new(),
            received: BytesMut::new(),
            outgoing: BytesMut::new(),
            has_ended: false,
            has_said_goodbye: false,
        })
    }

    /// Completes the handshake.
    pub(super) fn poll_handshake(&mut self, inner: &Inner, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeError>> {
        loop {
            if self.connection.is_handshaking() {
                match self.poll_read(inner, cx) {
                    Poll::Pending => {}
                    Poll::Ready(read) => {
                        read?;
                        if self.has_ended {
                            return Poll::Ready(Err(HandshakeError::Left));
                        }
                        if self.connection.protocol_version().is_none()
                            && self.incoming.first().is_some_and(|&first| first != HANDSHAKE)
                        {
                            return Poll::Ready(Err(HandshakeError::NotTls));
                        }
                        if let Err(error) = self.run(inner) {
                            // The client learns why, if the kernel takes it at once.
                            let _ = self.poll_send(inner, cx);
                            return Poll::Ready(Err(error.into()));
                        }
                        continue;
                    }
                }
            }
            ready!(self.poll_send(inner, cx))?;
            return if self.connection.is_handshaking() { Poll::Pending } else { Poll::Ready(Ok(())) };
        }
    }

    /// Waits for plaintext; none means that the client sends nothing more.
    pub(super) fn poll_receive(&mut self, inner: &Inner, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        while self.received.is_empty() && !self.has_ended {
            ready!(self.poll_read(inner, cx))?;
            let ran = self.run(inner);
            // An answer of the protocol, or the reason for an error, goes out with what comes next, or now.
            if let Poll::Ready(Err(error)) = self.poll_send(inner, cx) {
                return Poll::Ready(Err(error));
            }
            ran?;
        }
        Poll::Ready(Ok(std::mem::take(&mut self.received).freeze()))
    }

    /// Encrypts the first bytes of what the server has to write, and says how many.
    pub(super) fn seal(&mut self, bytes: &[u8], records: &mut Records) -> io::Result<usize> {
        let mut taken = 0;
        for piece in bytes.chunks(RECORD).take(RECORDS) {
            self.advance(records, Some(piece))?;
            taken += piece.len();
        }
        Ok(taken)
    }

    /// Hands the ciphertext to the kernel. Ready when all of it was accepted.
    pub(super) fn poll_send(&mut self, inner: &Inner, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let mut records = inner.records();
            let written = inner.poll_put(cx, &self.outgoing);
            if let Poll::Ready(Ok(count)) = written {
                records.accepted(count);
                self.outgoing.advance(count);
            } else {
                return written.map_ok(drop);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the memory of empty buffers back: most connections wait for their client most of the time.
    pub(super) fn shrink(&mut self) {
        if self.outgoing.is_empty() {
            self.outgoing = BytesMut::new();
        }
    }

    /// Says that nothing follows, so that the client can tell the end from a broken connection.
    pub(super) fn say_goodbye(&mut self, inner: &Inner) -> io::Result<()> {
        if std::mem::replace(&mut self.has_said_goodbye, true) {
            return Ok(());
        }
        self.advance(&mut inner.records(), None)
    }

    fn run(&mut self, inner: &Inner) -> io::Result<()> {
        let ran = self.advance(&mut inner.records(), Some(&[]));
        if self.incoming.is_empty() {
            self.incoming = BytesMut::new();
        }
        ran
    }

    /// Reads some ciphertext.
    fn poll_read(&mut self, inner: &Inner, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.incoming.len() >= READ {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a message of the handshake is too long",
            )));
        }
        loop {
            ready!(inner.stream.poll_read_ready(cx))?;
            self.incoming.reserve(READ - self.incoming.len());
            let room = self.incoming.capacity() - self.incoming.len();
            let read = inner.transfer(Interest::READABLE, room, || inner.stream.try_read_buf(&mut self.incoming));
            return Poll::Ready(match read {
                None => continue,
                Some(Ok(0)) => {
                    self.has_ended = true;
                    Ok(())
                }
                Some(read) => read.map(drop),
            });
        }
    }

    /// Runs the protocol until it waits for the client. On the way it encrypts `plaintext`, or says goodbye for `None`.
    fn advance(&mut self, records: &mut Records, plaintext: Option<&[u8]>) -> io::Result<()> {
        loop {
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(&mut self.incoming);
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    self.collect_alert(records);
                    return Err(invalid(error));
                }
            };
            let rests = match state {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        self.received.extend_from_slice(record.payload);
                        discard += record.discard;
                    }
                    false
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    let sealed = append(&mut self.outgoing, 0, |room| {
                        data.encode(room).map_err(|error| match error {
                            EncodeError::InsufficientSize(size) => Some(size.required_size),
                            EncodeError::AlreadyEncoded => None,
                        })
                    })?;
                    records.sealed(sealed, 0);
                    false
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    false
                }
                ConnectionState::PeerClosed => {
                    self.has_ended = true;
                    false
                }
                ConnectionState::WriteTraffic(mut traffic) => {
                    let room = plaintext.map_or(0, |plaintext| plaintext.len() + OVERHEAD);
                    let sealed = append(&mut self.outgoing, room, |room| {
                        let sealed = match plaintext {
                            Some(plaintext) => traffic.encrypt(plaintext, room),
                            None => traffic.queue_close_notify(room),
                        };
                        sealed.map_err(|error| match error {
                            EncryptError::InsufficientSize(size) => Some(size.required_size),
                            EncryptError::EncryptExhausted => None,
                        })
                    })?;
                    if sealed > 0 {
                        records.sealed(sealed, plaintext.map_or(0, <[u8]>::len));
                    }
                    true
                }
                ConnectionState::BlockedHandshake | ConnectionState::Closed => true,
                // Requests that an attacker may repeat are not accepted, so there is none.
                _ => return Err(io::ErrorKind::InvalidData.into()),
            };
            self.incoming.advance(discard);
            if rests {
                return Ok(());
            }
        }
    }

    /// After an error: what the client is told about it.
    fn collect_alert(&mut self, records: &mut Records) {
        while let Ok(ConnectionState::EncodeTlsData(mut data)) =
            self.connection.process_tls_records(&mut self.incoming).state
        {
            let Ok(sealed) = append(&mut self.outgoing, OVERHEAD, |room| data.encode(room).map_err(|_| None)) else {
                return;
            };
            records.sealed(sealed, 0);
        }
    }
}

/// Lets `write` write at the end of a buffer, with `room` at first and with as much as it asks for then.
fn append(
    buffer: &mut BytesMut,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> io::Result<usize> {
    let end = buffer.len();
    buffer.resize(end + room, 0);
    let mut written = write(&mut buffer[end..]);
    if let Err(Some(required)) = written {
        buffer.resize(end + required, 0);
        written = write(&mut buffer[end..]);
    }
    buffer.truncate(end + written.unwrap_or(0));
    written.map_err(|_| io::Error::other("nothing more may be encrypted on this connection"))
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Inner {
    /// The records of this connection; the lock also keeps the amounts consistent with what the kernel says.
    pub(super) fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{io::Read as _, pin::Pin, time::Duration};

    use rustls::{
        ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
        crypto::ring,
        pki_types::{PrivateKeyDer, ServerName},
        version::{TLS12, TLS13},
    };
    use tokio::{
        io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::http_server::client_socket::{ClientSocket, ClientTerms, Framing, MOST_UNSENT, SocketSettings};

    const PATIENCE: Duration = Duration::from_secs(60);
    const TERMS: ClientTerms = ClientTerms { header_timeout: PATIENCE, stall_timeout: PATIENCE, refusals: |_| None };

    /// The two sides of TLS, with a certificate for `localhost`.
    fn configs(version: &'static SupportedProtocolVersion) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a pair");
        let certificate = pair.cert.der().clone();
        let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).expect("a key");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("an authority");
        let provider = Arc::new(ring::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a pair");
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        (Arc::new(server), Arc::new(client))
    }

    /// A client that keeps all ciphertext it gets.
    struct Client {
        stream: TcpStream,
        tls: ClientConnection,
        ciphertext: Vec<u8>,
        plaintext: Vec<u8>,
    }

    impl Client {
        /// Sends what is due.
        async fn send(&mut self) {
            let mut due = Vec::new();
            while self.tls.wants_write() {
                self.tls.write_tls(&mut due).expect("in memory");
            }
            self.stream.write_all(&due).await.expect("sent");
        }

        /// Takes some ciphertext; false at the end of the connection.
        async fn take(&mut self) -> io::Result<bool> {
            let mut some = vec![0; 10_000];
            let count = tokio::time::timeout(PATIENCE, self.stream.read(&mut some)).await.expect("in time")?;
            self.ciphertext.extend_from_slice(&some[..count]);
            let mut rest = &some[..count];
            while !rest.is_empty() {
                self.tls.read_tls(&mut rest).expect("in memory");
                let readable = self.tls.process_new_packets().expect("TLS").plaintext_bytes_to_read();
                let from = self.plaintext.len();
                self.plaintext.resize(from + readable, 0);
                self.tls.reader().read_exact(&mut self.plaintext[from..]).expect("readable");
            }
            Ok(count > 0)
        }

        async fn shake(&mut self) {
            while self.tls.is_handshaking() {
                self.send().await;
                if self.tls.is_handshaking() {
                    assert!(self.take().await.expect("connected"), "the handshake is completed");
                }
            }
            self.send().await;
        }

        /// Encrypted bytes of the record that the ciphertext ends in, without its trailer.
        fn begun(&self) -> u64 {
            let mut rest = &self.ciphertext[..];
            while let [_, _, _, high, low, body @ ..] = rest {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                // RFC 8446, section 5.2: a type and a tag. RFC 5288, section 3: a nonce and a tag.
                let trailer = if self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3) { 17 } else { 24 };
                match body.get(length..) {
                    Some(next) => rest = next,
                    None => return body.len().min(length - trailer) as u64,
                }
            }
            0
        }
    }

    async fn pair(version: &'static SupportedProtocolVersion) -> (ClientSocket, Client) {
        let (server, client) = configs(version);
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("let in");
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = ClientConnection::new(client, name).expect("a client");
        let mut client = Client { stream, tls, ciphertext: Vec::new(), plaintext: Vec::new() };
        let (stream, _) = listener.accept().await.expect("it waited");
        let settings = SocketSettings::new(TERMS);
        let (socket, ()) = tokio::join!(ClientSocket::encrypted(stream, &settings, server), client.shake());
        (socket.map_err(|(_, error)| error).expect("a handshake"), client)
    }

    /// Writes pieces of 32 KiB until nothing more is accepted; returns how much was.
    async fn fill(socket: &mut ClientSocket, piece: &[u8]) -> u64 {
        let mut taken = 0;
        std::future::poll_fn(|cx| {
            loop {
                match Pin::new(&mut *socket).poll_write(cx, piece) {
                    Poll::Ready(written) => taken += written.expect("connected") as u64,
                    Poll::Pending => return Poll::Ready(()),
                }
            }
        })
        .await;
        taken
    }

    async fn what_left_is_what_the_client_can_decrypt(version: &'static SupportedProtocolVersion) {
        let (mut socket, mut client) = pair(version).await;
        let connection = socket.connection().upgrade().expect("open");
        let piece = vec![7; 32 << 10];
        let taken = fill(&mut socket, &piece).await;
        assert!(connection.unsent() > piece.len() as u64, "the client reads nothing");
        assert!(connection.unsent() < u64::from(MOST_UNSENT) + 6 * piece.len() as u64, "nor does the node");
        while client.plaintext.len() < 100_000 {
            assert!(client.take().await.expect("connected"));
        }
        connection.cut();
        let left = taken + piece.len() as u64 - connection.unsent();
        socket.write_all(b"more").await.expect_err("the server is told");
        drop((socket, connection));
        let reset = loop {
            match client.take().await {
                Ok(more) => assert!(more, "no end that looks right"),
                Err(error) => break error,
            }
        };
        assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
        let read = client.plaintext.len() as u64;
        assert_eq!(left, read + client.begun(), "what was decrypted, and what of a cut record can be");
        assert!(client.begun() < RECORD as u64);
    }

    #[actix_web::test]
    async fn what_left_a_connection_with_tls_1_3_is_what_the_client_can_decrypt() {
        what_left_is_what_the_client_can_decrypt(&TLS13).await;
    }

    #[actix_web::test]
    async fn what_left_a_connection_with_tls_1_2_is_what_the_client_can_decrypt() {
        what_left_is_what_the_client_can_decrypt(&TLS12).await;
    }

    #[actix_web::test]
    async fn requests_come_one_at_a_time_and_an_answer_goes_out_whole_with_an_end() {
        let (mut socket, mut client) = pair(&TLS13).await;
        let get = b"GET / HTTP/1.1\r\n\r\n";
        io::Write::write_all(&mut client.tls.writer(), &get.repeat(2)).expect("in memory");
        client.send().await;
        let turns = socket.turns();
        let mut head = [0; 100];
        for _ in 0..2 {
            assert_eq!(socket.read(&mut head).await.expect("a head"), get.len());
            turns.borrow_mut().begin(Framing::Length(0));
            turns.borrow_mut().answered();
        }
        let answer: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
        let connection = socket.connection().upgrade().expect("open");
        let write = async {
            socket.write_all(&answer).await.expect("written");
            socket.flush().await.expect("sent");
            socket.shutdown().await.expect("closed");
            // The client has not closed yet, and sends nothing.
            socket
        };
        let read = async { while client.take().await.expect("connected") {} };
        let (socket, ()) = tokio::join!(write, read);
        assert_eq!(connection.unsent(), 0);
        assert!(client.plaintext == answer);
        assert_eq!(client.tls.reader().read(&mut head).expect("an end that was announced"), 0);
        drop(socket);
    }

    #[actix_web::test]
    async fn a_client_that_speaks_no_tls_reads_what_it_is_told() {
        let (server, _) = configs(&TLS13);
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("let in");
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        let (stream, _) = listener.accept().await.expect("it waited");
        let settings = SocketSettings::new(TERMS);
        let Err((socket, error)) = ClientSocket::encrypted(stream, &settings, server).await else {
            panic!("there was no handshake")
        };
        assert!(matches!(error, HandshakeError::NotTls), "{error}");
        let read = async {
            let mut told = String::new();
            client.read_to_string(&mut told).await.expect("nothing is reset");
            drop(client);
            told
        };
        let (ended, told) = tokio::join!(socket.end(b"use TLS"), read);
        ended.expect("ended");
        assert_eq!(told, "use TLS");
    }
}
