//! The rest of a refused request: how long the node takes and discards it, so that its client sees the answer.
//!
//! Many clients write their whole body before they read. If the connection is closed meanwhile, they see it reset, and never
//! the answer that says why. So the node discards the body while it comes, and gives up when nothing has come for
//! [`LINGER`], or after [`LONGEST_LINGER`].

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// How long nothing may come: a client that reads the answer stops sending.
pub const LINGER: Duration = Duration::from_secs(1);

/// How long a client may go on sending. Its connection counts as one of `server.max_connections` until then.
pub const LONGEST_LINGER: Duration = Duration::from_secs(30);

/// The time that a client still has.
pub(super) struct Rest {
    quiet: Pin<Box<Sleep>>,
    last: Instant,
}

impl Rest {
    pub(super) fn begin() -> Self {
        let now = Instant::now();
        Self { quiet: Box::pin(sleep_until(now + LINGER)), last: now + LONGEST_LINGER }
    }

    /// Bytes have come.
    pub(super) fn go_on(&mut self) {
        let until = self.last.min(Instant::now() + LINGER);
        self.quiet.as_mut().reset(until);
    }

    /// Ready when the time is over.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.quiet.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_lasts_while_bytes_come_but_not_for_ever() {
        let began = Instant::now();
        let mut rest = Rest::begin();
        poll_fn(|cx| rest.poll_end(cx)).await;
        assert_eq!(began.elapsed().as_secs(), LINGER.as_secs());

        let began = Instant::now();
        let mut rest = Rest::begin();
        loop {
            tokio::select! {
                () = poll_fn(|cx| rest.poll_end(cx)) => break,
                () = tokio::time::sleep(LINGER / 2) => rest.go_on(),
            }
        }
        assert_eq!(began.elapsed().as_secs(), LONGEST_LINGER.as_secs());
    }
}
