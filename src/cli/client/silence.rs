//! How long a connection may be silent before it counts as lost.
//!
//! Nothing here limits how long work may take: a connection may be as slow as it likes while it carries bytes in either
//! direction. Of a body being sent, this program sees only the bytes that the system accepts; some megabytes may be in
//! the system's buffers, which a slow line empties later, and a node processes what it has before it answers. So a
//! request that sends a file has [`SENDING_FACTOR`] times the limit, counted from the last piece that the system
//! accepted.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, time::timeout};

use super::error::AttemptFailure;

/// With the default of a minute: 4 MiB in the system's buffers (`tcp_wmem`) are sent within five minutes at 14 kB/s,
/// and a node that waits for its own storage has answered by then.
pub(super) const SENDING_FACTOR: u32 = 5;

/// The longest silence.
#[derive(Debug, Clone, Copy)]
pub(super) struct SilenceLimit {
    longest: Duration,
}

/// Signals that the system has accepted a piece of a body. Clones signal for the same body.
#[derive(Debug, Clone, Default)]
pub(super) struct ProgressSignal(Arc<Notify>);

impl ProgressSignal {
    pub(super) fn tell(&self) {
        self.0.notify_one();
    }
}

impl SilenceLimit {
    pub(super) const fn of(longest: Duration) -> Self {
        Self { longest }
    }

    pub(super) fn while_sending(self) -> Self {
        Self { longest: self.longest.saturating_mul(SENDING_FACTOR) }
    }

    pub(super) const fn longest(self) -> Duration {
        self.longest
    }

    /// Waits for the next bytes from the node.
    pub(super) async fn bound<T>(self, next: impl Future<Output = reqwest::Result<T>>) -> Result<T, AttemptFailure> {
        match timeout(self.longest, next).await {
            Ok(ended) => ended.map_err(|error| AttemptFailure::transport(&error)),
            Err(_) => Err(AttemptFailure::silent(self.longest)),
        }
    }

    /// Waits for the answer to a request whose body signals its progress.
    pub(super) async fn bound_by<T>(
        self,
        moved: &ProgressSignal,
        answer: impl Future<Output = reqwest::Result<T>>,
    ) -> Result<T, AttemptFailure> {
        let silence = self.while_sending();
        let mut answer = std::pin::pin!(answer);
        loop {
            tokio::select! {
                ended = &mut answer => return ended.map_err(|error| AttemptFailure::transport(&error)),
                told = timeout(silence.longest, moved.0.notified()) => {
                    if told.is_err() {
                        return Err(AttemptFailure::silent(silence.longest));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: SilenceLimit = SilenceLimit::of(Duration::from_secs(60));

    #[tokio::test(start_paused = true)]
    async fn a_body_may_take_for_ever_while_it_moves() {
        let moved = ProgressSignal::default();
        let answer = async {
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_secs(299)).await;
                moved.tell();
            }
            Ok(())
        };
        assert!(SILENCE.bound_by(&moved, answer).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_what_waits() {
        let never = std::future::pending::<reqwest::Result<()>>;
        let lost = SILENCE.bound(never()).await.unwrap_err();
        assert_eq!(lost.to_string(), "the connection carried nothing for 1m");
        let lost = SILENCE.bound_by(&ProgressSignal::default(), never()).await.unwrap_err();
        assert_eq!(lost.to_string(), "the connection carried nothing for 5m");
    }
}
