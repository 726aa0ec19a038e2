//! The body of an upload, at a pace that does not hold the node up.
//!
//! An upload has one of a few permits. A client that sends a byte now and then would keep it for ever, so what counts is not
//! that bytes come, but how many come while the node waits. The time that the node takes to store them does not count.

use std::time::{Duration, Instant};

use actix_web::{
    error::PayloadError,
    web::{Bytes, Payload},
};
use futures::StreamExt as _;

use super::{Problem, ProblemType};

/// Bytes that must come within the idle time: with the default of 30 s, half a kilobyte per second, a tenth of what the
/// slowest mobile networks give.
const LEAST_BYTES: usize = 16 << 10;

/// A body whose client must not be idle.
pub(super) struct PacedBody {
    body: Payload,
    idle_timeout: Duration,
    /// How long the node still waits for the next [`LEAST_BYTES`].
    patience: Duration,
    /// How many of those have not come.
    due: usize,
}

impl PacedBody {
    pub(super) fn new(body: Payload, idle_timeout: Duration) -> Self {
        Self { body, idle_timeout, patience: idle_timeout, due: LEAST_BYTES }
    }

    /// The next part; `None` at the end.
    ///
    /// # Errors
    /// `request-timeout` when too few bytes come.
    pub(super) async fn next(&mut self) -> Result<Option<Result<Bytes, PayloadError>>, Problem> {
        let asked = Instant::now();
        let part = tokio::time::timeout(self.patience, self.body.next())
            .await
            .map_err(|_| Problem::from(ProblemType::RequestTimeout))?;
        self.patience = self.patience.saturating_sub(asked.elapsed());
        if let Some(Ok(part)) = &part {
            self.due = self.due.saturating_sub(part.len());
        }
        if self.due == 0 {
            self.due = LEAST_BYTES;
            self.patience = self.idle_timeout;
        }
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{FromRequest as _, dev, test::TestRequest};
    use futures::stream;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A body of parts of this size, one after each pause.
    async fn parts(size: usize, pause: Duration) -> Payload {
        let parts = stream::unfold((), move |()| async move {
            tokio::time::sleep(pause).await;
            Some((Ok::<_, PayloadError>(Bytes::from(vec![7; size])), ()))
        });
        let payload: actix_http::BoxedPayloadStream = Box::pin(parts);
        let request = TestRequest::default().to_http_request();
        let taken: Result<_, actix_web::Error> =
            Payload::from_request(&request, &mut dev::Payload::Stream { payload }).await;
        taken.expect("a body")
    }

    #[tokio::test]
    async fn bytes_that_come_one_by_one_are_not_waited_for_for_ever() {
        let mut body = PacedBody::new(parts(1, SECOND / 50).await, SECOND);
        let mut came = 0;
        while body.next().await.is_ok() {
            came += 1;
        }
        assert!((1..=50).contains(&came), "{came} bytes");
    }

    #[tokio::test]
    async fn the_time_that_the_node_takes_does_not_count() {
        let mut body = PacedBody::new(parts(1, Duration::ZERO).await, SECOND);
        for _ in 0..4 {
            assert!(body.next().await.is_ok());
            tokio::time::sleep(SECOND / 2).await;
        }
    }

    #[tokio::test]
    async fn a_client_that_sends_enough_may_go_on() {
        let mut body = PacedBody::new(parts(LEAST_BYTES, SECOND / 2).await, SECOND * 60);
        for _ in 0..3 {
            assert!(body.next().await.is_ok());
            assert_eq!(body.patience, SECOND * 60);
        }
    }
}
