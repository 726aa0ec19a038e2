//! The least pace at which a client must take bytes.
//!
//! The kernel disconnects a client that takes nothing. One that takes a few bytes now and then would keep its connection, and the
//! place of its stream, for as long as it likes.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

/// Bytes that a client must take in a period, while there are that many: with the default of 60 s, 270 bytes per second, which is
/// far below what plays any content.
const LEAST_BYTES: u64 = 16 << 10;

/// A period in which a client must take [`LEAST_BYTES`].
pub(super) struct Pace {
    end: Pin<Box<Sleep>>,
    /// What had left the node when it began.
    sent: u64,
}

/// The bytes of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// Those that have left the node.
    pub(super) sent: u64,
    /// Those that the kernel has and cannot send, because the client takes none.
    pub(super) waiting: u64,
}

impl Pace {
    pub(super) fn begin(period: Duration, now: Sent) -> Self {
        Self { end: Box::pin(tokio::time::sleep(period)), sent: now.sent }
    }

    /// Ready at the end of a period; the next one has then begun.
    ///
    /// # Errors
    /// When the client has taken too few of the bytes that wait for it.
    pub(super) fn poll_end(
        &mut self,
        cx: &mut Context<'_>,
        period: Duration,
        look: impl Fn() -> Sent,
    ) -> Poll<io::Result<Sent>> {
        std::task::ready!(self.end.as_mut().poll(cx));
        let now = look();
        if now.waiting > 0 && now.sent.saturating_sub(self.sent) < LEAST_BYTES {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes too few bytes")));
        }
        self.sent = now.sent;
        self.end.as_mut().reset(Instant::now() + period);
        Poll::Ready(Ok(now))
    }
}
