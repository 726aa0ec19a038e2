//! The socket of one client, as the server reads and writes it, and as a delivery sees it.
//!
//! Three buffers lie between a delivery and the network: bytes that the server has gathered to write or put into the
//! [`Outbox`], bytes that the kernel has accepted and not sent, and bytes in flight. The first are counted here, because the
//! server offers all of its own with each write. The kernel reports the second. The third have left this node.
//!
//! # Cutting a connection
//! Any thread may cut a connection. From then on the kernel ignores the client's segments, so it has no reason to send
//! more; the server's next read or write fails, which closes the socket, and closing it resets the connection and drops
//! the unsent bytes. Bytes that were sent before are in the client's own system, and the client may read them.
//!
//! # Reading
//! The server reads one request at a time ([`turns`]). Bytes of later requests are kept here: at most those of one
//! read.
//!
//! # Heads
//! A client has a limited time for a head: from its connection, or from the first byte of a later one, be it of an empty
//! line. Otherwise a client that sends a byte now and then would keep a connection for ever. The server sees the end of the
//! connection when that time is over, and before a line feed without a carriage return; the client is told why.
//!
//! # The end of a refused request
//! The server sees the end of the connection before a malformed chunk, and when it has answered a request whose body does not come
//! to its end ([`rest`]). The request is then answered like one whose client closed its side. A head that the server refuses
//! itself gets the text of that [`refusal`]. In each case the client's bytes are discarded for a while after the answer:
//! closing a socket that has unread bytes resets the connection, and the client might lose the answer.
//!
//! # TLS
//! An encrypted connection has one more buffer, of ciphertext that the kernel has not accepted ([`session`]). All amounts
//! here are bytes of plaintext; [`records`] knows them by the ciphertext that the kernel counts.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    mem::MaybeUninit,
    net::Shutdown,
    os::fd::AsFd as _,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_http::StatusCode;
use bytes::{Buf as _, Bytes};
use futures::task::AtomicWaker;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use penstock_actors::ports::Connection;
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::Sleep,
};

#[cfg(target_os = "linux")]
mod kernel;
mod pace;
mod records;
mod refusal;
mod rest;
mod session;
#[cfg(all(test, target_os = "linux"))]
mod tests;
pub(crate) mod turns;

pub use refusal::{RefusalText, RefusalTexts};
pub use rest::{LINGER, LONGEST_LINGER};
pub use session::HandshakeError;
pub use turns::{Framing, Turns};

use self::{
    pace::{Pace, Sent},
    records::Records,
    rest::Rest,
    session::Session,
};
use super::{
    outbox::Outbox,
    turnstile::{ALLOWANCE, Place, Turnstile},
};

/// The kernel accepts more bytes only while it has less than this unsent. That bounds the kernel memory of a slow
/// client, and the bytes that are read in vain for a client that leaves. A lower value would cost speed on a fast
/// network with a busy node (docs/performance.md).
pub const MOST_UNSENT: u32 = 256 << 10;

/// What holds for each client.
#[derive(Debug, Clone, Copy)]
pub struct ClientTerms {
    /// For a head, from its first byte; for the first one, from the moment when the client connected.
    pub header_timeout: Duration,
    /// A client that takes no bytes for this long is disconnected, and so is one that takes next to none.
    pub stall_timeout: Duration,
    /// The texts for heads that are refused before the application sees them.
    pub refusals: RefusalTexts,
}

/// What the sockets of one worker have in common.
#[derive(Clone)]
pub struct SocketSettings {
    terms: ClientTerms,
    turnstile: Rc<Turnstile>,
}

impl SocketSettings {
    /// For one worker.
    pub fn new(terms: ClientTerms) -> Self {
        Self { terms, turnstile: Turnstile::new() }
    }
}

/// The socket of one client.
pub struct ClientSocket {
    inner: Arc<Inner>,
    /// On an encrypted connection.
    session: Option<Box<Session>>,
    turns: Rc<RefCell<Turns>>,
    /// What is to be written after the bytes of the server.
    outbox: Rc<RefCell<Outbox>>,
    /// Bytes that arrived before their turn.
    early: Bytes,
    /// There are bytes to write that were not accepted: by the kernel, or on an encrypted connection for encryption.
    has_unwritten: bool,
    /// Nothing of an earlier answer was to be written when the first byte of the present request was read.
    is_alone: bool,
    terms: ClientTerms,
    /// What is told in place of an answer by the server; what is left of it.
    refusal: Option<Bytes>,
    turnstile: Rc<Turnstile>,
    /// In the queue of the turnstile, once this connection has written much.
    place: Option<Rc<Place>>,
    /// Bytes that may be written before the next pass.
    allowance: usize,
    /// While a head is due: until when.
    head_deadline: Option<Pin<Box<Sleep>>>,
    /// The time for a head was found to be over, and what had arrived until then is read.
    reads_last: bool,
    /// Bytes that were taken for the client.
    taken: u64,
    /// Since the kernel accepted no more bytes, or its client last took enough.
    pace: Option<Pace>,
    /// Until when the rest of a refused request is read.
    rest: Option<Rest>,
    /// The server was told of an end that did not come from the client.
    has_feigned_end: bool,
}

struct Inner {
    stream: TcpStream,
    /// Bytes that were handed over but not accepted by the kernel yet; on an encrypted connection, not encrypted yet.
    buffered: AtomicU64,
    /// Those that were encrypted. Empty on a connection that is not.
    records: Mutex<Records>,
    is_encrypted: bool,
    is_cut: AtomicBool,
    /// The client has closed its side, so a read does not show the state of the connection any more.
    has_ended: AtomicBool,
    /// The task that serves the connection.
    server: AtomicWaker,
}

impl ClientSocket {
    /// A client that has just connected. The kernel ends the connection when the client takes no bytes for
    /// [`ClientTerms::stall_timeout`]; its stream then ends too.
    pub fn accepted(stream: TcpStream, settings: &SocketSettings) -> Self {
        Self::over(stream, settings, None)
    }

    /// As [`accepted`](Self::accepted), for a client that must complete the handshake of TLS first.
    ///
    /// # Errors
    /// When the handshake fails, or the client does not speak TLS. The connection is then still there, so that it can be
    /// [ended](Self::end) in an orderly way. This waits as long as the client does.
    pub async fn encrypted(
        stream: TcpStream,
        settings: &SocketSettings,
        config: Arc<ServerConfig>,
    ) -> Result<Self, (Self, HandshakeError)> {
        let session = match Session::begin(config) {
            Ok(session) => session,
            Err(error) => {
                let error = io::Error::other(error).into();
                return Err((Self::accepted(stream, settings), error));
            }
        };
        let mut socket = Self::over(stream, settings, Some(Box::new(session)));
        let Self { inner, session, .. } = &mut socket;
        let shaken = poll_fn(|cx| session.as_mut().map_or(Poll::Ready(Ok(())), |s| s.poll_handshake(inner, cx))).await;
        match shaken {
            Ok(()) => Ok(socket),
            Err(error) => Err((socket, error)),
        }
    }

    fn over(stream: TcpStream, settings: &SocketSettings, session: Option<Box<Session>>) -> Self {
        let socket = SockRef::from(&stream);
        let options = [
            ("no delay", socket.set_tcp_nodelay(true)),
            #[cfg(target_os = "linux")]
            ("stall timeout", socket.set_tcp_user_timeout(Some(settings.terms.stall_timeout))),
            #[cfg(target_os = "linux")]
            ("low-water mark", socket.set_tcp_notsent_lowat(MOST_UNSENT)),
        ];
        for (name, set) in options {
            if let Err(error) = set {
                tracing::debug!(name, %error, "a socket option cannot be set; the connection is served without it");
            }
        }
        let inner = Inner {
            stream,
            buffered: AtomicU64::new(0),
            records: Mutex::default(),
            is_encrypted: session.is_some(),
            is_cut: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            server: AtomicWaker::new(),
        };
        Self {
            inner: Arc::new(inner),
            session,
            turns: Rc::default(),
            outbox: Rc::default(),
            early: Bytes::new(),
            has_unwritten: false,
            is_alone: true,
            terms: settings.terms,
            refusal: None,
            head_deadline: None,
            reads_last: false,
            taken: 0,
            pace: None,
            turnstile: Rc::clone(&settings.turnstile),
            place: None,
            allowance: ALLOWANCE,
            rest: None,
            has_feigned_end: false,
        }
    }

    /// Ends a connection without a server: says the bytes, unencrypted, and reads what the client still sends, so that
    /// the kernel has no reason to reset the connection before the client has read them.
    pub async fn end(self, last_words: &[u8]) -> io::Result<()> {
        let inner = &*self.inner;
        let mut rest = last_words;
        while !rest.is_empty() {
            let written = poll_fn(|cx| inner.poll_put(cx, rest)).await?;
            rest = &rest[written..];
        }
        inner.shut()?;
        while poll_fn(|cx| inner.poll_discard(cx)).await? > 0 {}
        Ok(())
    }

    /// The connection, for deliveries that write through the server.
    pub fn connection(&self) -> Weak<dyn Connection> {
        let inner: Weak<Inner> = Arc::downgrade(&self.inner);
        inner
    }

    /// The turns, with which the server reports when it begins a request and when it has answered it.
    pub fn turns(&self) -> Rc<RefCell<Turns>> {
        Rc::clone(&self.turns)
    }

    /// Where the bodies of large answers put their bytes.
    pub fn outbox(&self) -> Rc<RefCell<Outbox>> {
        Rc::clone(&self.outbox)
    }

    /// A connection about which nothing is known.
    pub fn unknown() -> Weak<dyn Connection> {
        Weak::<Inner>::new()
    }
}

impl Inner {
    /// Registers the server to be woken when the connection is cut, and fails if it is cut already.
    fn go_on(&self, cx: &Context<'_>) -> io::Result<()> {
        self.server.register(cx.waker());
        if self.is_cut.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the node cut the connection"));
        }
        if self.has_ended.load(Ordering::Relaxed)
            && let Some(error) = self.stream.take_error()?
        {
            return Err(error);
        }
        Ok(())
    }

    /// Notes that the client has closed its side.
    fn ended(&self) -> io::Result<()> {
        self.has_ended.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Makes a call that moves up to `room` bytes. If it moves fewer, the kernel's buffer is empty, or full: the socket
    /// then counts as not ready, which saves a call that would only report that.
    fn transfer(
        &self,
        interest: Interest,
        room: usize,
        call: impl FnOnce() -> io::Result<usize>,
    ) -> Option<io::Result<usize>> {
        let mut moved = None;
        let answer = self.stream.try_io(interest, || {
            let count = call()?;
            if 0 < count && count < room {
                moved = Some(count);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(count)
        });
        match (moved, answer) {
            (Some(count), _) => Some(Ok(count)),
            (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => None,
            (None, answer) => Some(answer),
        }
    }

    /// Hands bytes to the kernel as they are.
    fn poll_put(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            if let Some(written) = self.transfer(Interest::WRITABLE, bytes.len(), || self.stream.try_write(bytes)) {
                return Poll::Ready(written);
            }
        }
    }

    /// Hands these bytes, and then those in the outbox, to the kernel as they are. Says how many it accepted.
    fn poll_put_all(&self, cx: &mut Context<'_>, bytes: &[u8], outbox: &Outbox) -> Poll<io::Result<usize>> {
        if outbox.bytes() == 0 {
            return self.poll_put(cx, bytes);
        }
        let (slices, used) = outbox.slices(bytes);
        let slices = &slices[..used];
        let offered = slices.iter().map(|slice| slice.len()).sum();
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let written = self.transfer(Interest::WRITABLE, offered, || self.stream.try_write_vectored(slices));
            if let Some(written) = written {
                return Poll::Ready(written);
            }
        }
    }

    /// Waits until the kernel has room for more bytes. The socket may count as ready after a call that left no room; so the
    /// kernel is asked.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let asked = self.stream.try_io(Interest::WRITABLE, || {
                let mut socket = [PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT)];
                match poll(&mut socket, PollTimeout::ZERO) {
                    Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
                    Ok(_) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            });
            match asked {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                asked => return Poll::Ready(asked),
            }
        }
    }

    /// Discards the bytes that have come; none are left when the client has closed its side.
    fn poll_discard(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut discarded = [0; 16 << 10];
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read(&mut discarded) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }

    /// Tells the client that no more bytes follow.
    fn shut(&self) -> io::Result<()> {
        match SockRef::from(&self.stream).shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            shut => shut,
        }
    }
}

impl Connection for Inner {
    fn handed_over(&self, bytes: u64) {
        self.buffered.fetch_add(bytes, Ordering::Relaxed);
    }

    fn unsent(&self) -> u64 {
        if !self.is_encrypted {
            return self.buffered.load(Ordering::Relaxed) + kernel::unsent(&self.stream);
        }
        let mut records = self.records();
        self.buffered.load(Ordering::Relaxed) + records.unsent(kernel::unsent(&self.stream))
    }

    fn cut(&self) {
        if self.is_cut.swap(true, Ordering::AcqRel) {
            return;
        }
        let socket = SockRef::from(&self.stream);
        if let Err(error) = kernel::deafen(&socket).and_then(|()| socket.set_linger(Some(Duration::ZERO))) {
            tracing::debug!(%error, "a cut connection cannot be muted; it may still send the bytes that the kernel has accepted");
        }
        self.server.wake();
    }
}

impl ClientSocket {
    /// Waits for bytes in `early`, on an encrypted connection; none means that the client has closed its side.
    fn poll_decrypted(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(session) = &mut self.session
            && self.early.is_empty()
        {
            self.early = ready!(session.poll_receive(&self.inner, cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Checks whether a client whose bytes must wait has closed its side.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_decrypted(cx))?;
        let inner = &*self.inner;
        if self.session.is_some() && self.early.is_empty() {
            return Poll::Ready(inner.ended());
        }
        while self.early.is_empty() {
            ready!(inner.stream.poll_read_ready(cx))?;
            let mut byte = [MaybeUninit::uninit()];
            let peeked = inner.stream.try_io(Interest::READABLE, || SockRef::from(&inner.stream).peek(&mut byte));
            match peeked {
                Ok(0) => return Poll::Ready(inner.ended()),
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.turns.borrow_mut().wait(cx.waker());
        Poll::Pending
    }

    /// Whether the server must see an end although the client has not closed its side.
    fn feigns_end(&mut self, cx: &mut Context<'_>) -> bool {
        let mut turns = self.turns.borrow_mut();
        turns.await_answer(cx.waker());
        let is_over = if turns.is_answered_early() {
            self.rest.get_or_insert_with(Rest::begin).poll_end(cx).is_ready()
        } else {
            self.rest = None;
            turns.is_malformed()
        };
        if is_over {
            self.has_feigned_end = true;
            // What still comes has its own time, after the goodbye.
            self.rest = None;
        }
        is_over
    }

    /// Whether a head must be refused here: its time is over, or one of its lines is malformed. The server then sees the
    /// end of the connection.
    fn refuses_head(&mut self, cx: &mut Context<'_>) -> bool {
        let (is_due, is_malformed) = {
            let turns = self.turns.borrow();
            (turns.is_head_due(), turns.is_head_malformed())
        };
        let timeout = self.terms.header_timeout;
        let status = if is_malformed {
            StatusCode::BAD_REQUEST
        } else if !is_due {
            self.head_deadline = None;
            self.reads_last = false;
            return false;
        } else {
            let deadline = self.head_deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
            if deadline.as_mut().poll(cx).is_pending() {
                return false;
            }
            // If the whole process stood still, the head may have arrived in time and wait in the kernel.
            if !std::mem::replace(&mut self.reads_last, true) {
                cx.waker().wake_by_ref();
                return false;
            }
            StatusCode::REQUEST_TIMEOUT
        };
        self.refuse_head(status);
        true
    }

    /// Tells the client why its head is refused, unless it has not taken an earlier answer.
    fn refuse_head(&mut self, status: StatusCode) {
        if self.refusal.is_none() && self.is_alone {
            self.refuse(refusal::of(status, self.terms.refusals));
        }
    }

    /// Tells the client this in place of an answer.
    fn refuse(&mut self, refusal: Bytes) {
        self.refusal = Some(refusal);
        let peer = self.inner.stream.peer_addr().ok().map(tracing::field::display);
        tracing::debug!(
            peer,
            "a client sent no HTTP/1 request that can be read; it is told so, and its connection is closed"
        );
    }

    /// Discards the bytes that still come, encrypted or not, until the client closes its side or the [`rest`] is over.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let rest = self.rest.get_or_insert_with(Rest::begin);
        match self.inner.poll_discard(cx) {
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(_)) => {
                rest.go_on();
                cx.waker().wake_by_ref();
            }
            Poll::Pending => {}
        }
        rest.poll_end(cx)
    }

    /// Takes bytes for the client: these, and then those in the outbox. Says how many of these. On an encrypted connection they
    /// are taken when they are encrypted; the kernel gets them with the next call, or with a flush, at the latest.
    fn poll_pass_on(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { inner, session, outbox, .. } = self;
        let outbox = &mut *outbox.borrow_mut();
        let offered = bytes.len() + outbox.bytes();
        inner.buffered.store(offered as u64, Ordering::Relaxed);
        if self.allowance == 0 {
            ready!(self.turnstile.poll_pass(self.place.get_or_insert_default(), cx));
            self.allowance = ALLOWANCE;
        }
        let taken = match session {
            None => inner.poll_put_all(cx, bytes, outbox),
            Some(session) => {
                Self::poll_encrypt(inner, session, cx, if bytes.is_empty() { outbox.first() } else { bytes })
            }
        };
        let Poll::Ready(taken) = taken else {
            outbox.blocked();
            return Poll::Pending;
        };
        let taken = taken?;
        inner.buffered.store((offered - taken) as u64, Ordering::Relaxed);
        self.taken += taken as u64;
        self.allowance = self.allowance.saturating_sub(taken);
        let of_these = taken.min(bytes.len());
        outbox.taken(taken - of_these);
        self.has_unwritten = taken < offered;
        Poll::Ready(Ok(of_these))
    }

    fn poll_encrypt(
        inner: &Inner,
        session: &mut Session,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(session.poll_send(inner, cx))?;
        let sealed = {
            let mut records = inner.records();
            if records.are_many() {
                records.unsent(kernel::unsent(&inner.stream));
            }
            session.seal(bytes, &mut records)?
        };
        match session.poll_send(inner, cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(sealed)),
        }
    }

    /// Passes the outbox on, and lets the body that waits for it go on once the kernel has room.
    fn poll_outbox(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let (is_empty, wants_room) = {
                let outbox = self.outbox.borrow();
                if outbox.is_broken() {
                    let error =
                        io::Error::new(io::ErrorKind::UnexpectedEof, "the body of an answer ended before its length");
                    return Poll::Ready(Err(error));
                }
                (outbox.bytes() == 0, outbox.wants_room())
            };
            if !is_empty {
                ready!(self.poll_pass_on(cx, &[]))?;
                continue;
            }
            if wants_room {
                if let Some(session) = &mut self.session {
                    ready!(session.poll_send(&self.inner, cx))?;
                }
                let Poll::Ready(room) = self.inner.poll_room(cx) else {
                    self.outbox.borrow_mut().blocked();
                    return Poll::Pending;
                };
                room?;
            }
            self.outbox.borrow_mut().free();
            return Poll::Ready(Ok(()));
        }
    }

    /// Fails when the client has taken next to nothing for [`ClientTerms::stall_timeout`]. The kernel disconnects only clients
    /// that take nothing at all.
    fn keep_pace(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let (inner, taken, period) = (&*self.inner, self.taken, self.terms.stall_timeout);
        let look = || {
            let in_kernel = inner.unsent().saturating_sub(inner.buffered.load(Ordering::Relaxed));
            Sent { sent: taken.saturating_sub(in_kernel), waiting: in_kernel }
        };
        let pace = self.pace.get_or_insert_with(|| Pace::begin(period, look()));
        while let Poll::Ready(ended) = pace.poll_end(cx, period, look) {
            if ended?.waiting == 0 {
                self.pace = None;
                break;
            }
        }
        Ok(())
    }

    /// Writes the refusal in place of the server's own text, and discards the rest of the request.
    fn poll_refuse(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(mut refusal) = self.refusal.clone().filter(|refusal| !refusal.is_empty()) {
            refusal.advance(ready!(self.poll_pass_on(cx, &refusal))?);
            self.refusal = Some(refusal);
        }
        ready!(self.poll_shut(cx))?;
        self.poll_discard(cx).map(Ok)
    }

    /// Tells the client that no more bytes follow.
    fn poll_shut(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, session, .. } = self;
        if let Some(session) = session {
            inner.go_on(cx)?;
            session.say_goodbye(inner)?;
            ready!(session.poll_send(inner, cx))?;
        }
        Poll::Ready(inner.shut())
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.feigns_end(cx) || this.refuses_head(cx) {
            return Poll::Ready(Ok(()));
        }
        let may_read = {
            let mut turns = this.turns.borrow_mut();
            if turns.is_between_requests() {
                this.is_alone = !this.has_unwritten;
                this.allowance = ALLOWANCE;
            }
            turns.may_read()
        };
        if !may_read {
            return this.poll_end(cx);
        }
        ready!(this.poll_decrypted(cx))?;
        if this.session.is_some() && this.early.is_empty() {
            return Poll::Ready(this.inner.ended());
        }
        let mut turns = this.turns.borrow_mut();
        if !this.early.is_empty() {
            let room = this.early.len().min(buffer.remaining());
            let count = turns.take(&this.early[..room]);
            buffer.put_slice(&this.early[..count]);
            this.early.advance(count);
            if let Some(rest) = &mut this.rest {
                rest.go_on();
            }
            return Poll::Ready(Ok(()));
        }
        let inner = &*this.inner;
        let before = buffer.filled().len();
        loop {
            ready!(inner.stream.poll_read_ready(cx))?;
            let read = inner.transfer(Interest::READABLE, buffer.remaining(), || inner.stream.try_read_buf(buffer));
            return Poll::Ready(match read {
                None => continue,
                Some(Ok(0)) => inner.ended(),
                Some(Ok(_)) => {
                    let come = &buffer.filled()[before..];
                    let count = turns.take(come);
                    if count < come.len() {
                        this.early = Bytes::copy_from_slice(&come[count..]);
                        buffer.set_filled(before + count);
                    }
                    if let Some(rest) = &mut this.rest {
                        rest.go_on();
                    }
                    Ok(())
                }
                Some(Err(error)) => Err(error),
            });
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.inner.go_on(cx)?;
        let is_in_head = this.refusal.is_none() && this.is_alone && this.turns.borrow().is_in_head();
        if is_in_head && let Some(refusal) = refusal::in_place_of(bytes, this.terms.refusals) {
            this.refuse(refusal);
        }
        if this.refusal.is_some() {
            return this.poll_refuse(cx).map_ok(|()| bytes.len());
        }
        this.has_unwritten = true;
        let written = this.poll_pass_on(cx, bytes);
        if written.is_pending() {
            this.keep_pace(cx)?;
        }
        written
    }

    /// The server calls this each time it has done all pending work.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.inner.go_on(cx)?;
        let passed_on = this.poll_outbox(cx)?;
        if passed_on.is_pending() || this.pace.is_some() {
            this.keep_pace(cx)?;
        }
        ready!(passed_on);
        if let Some(session) = &mut this.session {
            ready!(session.poll_send(&this.inner, cx))?;
            session.shrink();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A malformed first byte is an end that the server saw without asking.
        if self.turns.borrow().is_head_malformed() {
            self.refuse_head(StatusCode::BAD_REQUEST);
        }
        if self.refusal.as_ref().is_some_and(|refusal| !refusal.is_empty()) {
            return self.poll_refuse(cx);
        }
        let Poll::Ready(shut) = self.poll_shut(cx) else {
            // The client does not even take a goodbye.
            return self.rest.get_or_insert_with(Rest::begin).poll_end(cx).map(Ok);
        };
        shut?;
        if self.has_feigned_end || self.turns.borrow().is_malformed() {
            ready!(self.poll_discard(cx));
        }
        Poll::Ready(Ok(()))
    }
}

/// Other systems report less: bytes that their kernel has accepted count as sent.
#[cfg(not(target_os = "linux"))]
mod kernel {
    use std::{io, os::fd::AsFd};

    use socket2::SockRef;

    pub(super) fn unsent(_: &impl AsFd) -> u64 {
        0
    }

    pub(super) fn deafen(_: &SockRef<'_>) -> io::Result<()> {
        Ok(())
    }
}
