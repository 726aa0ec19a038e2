//! One bucket with time limits: time-outs, retries with back-off and jitter, and metrics around the attempts of a
//! client.
//!
//! **Bounds.** An attempt that receives nothing for `idle_timeout` fails; one that sends a body has `part_timeout`. A
//! call is repeated until `retry_time` has passed since it began, and cut off then; a call that sends a body has the
//! time of [`SENDING_ATTEMPTS`] attempts. A read that broke off continues at the byte where it broke. All calls may be
//! repeated: the caller must recognise the effect of an earlier attempt of the same write.
//!
//! A slow connection is not storage that hangs: received bytes extend a call's deadline by the time that they take on
//! the [`SLOWEST_LINE`], and data that could not be sent in `part_timeout` is sent again, once, with the time that it
//! takes on that line.
//!
//! While the storage answers nothing, the attempts of all calls together are few: see [`Outage`].

use std::{
    future::Future,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    StorageTier,
    client::{Attempt, BucketClient, Expected, Listed, Object, SignedGet},
    error::{S3Failure, S3FailureKind},
    outage::Outage,
};
use crate::{config::SENDING_ATTEMPTS, telemetry::S3Metrics};

/// Bytes per second of the slowest connection over which a call continues: half a megabit.
const SLOWEST_LINE: f64 = 65_536.0;

/// The first wait between attempts; each further wait is twice as long, all with jitter.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// The time limits of calls to S3.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the start of an answer, and for each further piece of it.
    pub idle_timeout: Duration,
    /// For one attempt that sends a body.
    pub part_timeout: Duration,
    /// For a call without a body, all attempts included.
    pub retry_time: Duration,
}

impl Patience {
    /// For a call with a body, all attempts included.
    pub(super) fn sending_time(&self) -> Duration {
        self.part_timeout * SENDING_ATTEMPTS
    }
}

/// The time that this many bytes take on the slowest connection.
pub(super) fn carry_time(bytes: usize) -> Duration {
    Duration::from_secs_f64(bytes as f64 / SLOWEST_LINE)
}

/// A bucket.
pub(super) struct Bucket {
    pub(super) tier: StorageTier,
    client: Arc<dyn BucketClient>,
    patience: Patience,
    metrics: Arc<S3Metrics>,
    outage: Outage,
    /// Whether the storage supports conditional writes. The first one finds out.
    conditional: AtomicBool,
    /// Whether the last data took longer than `part_timeout` to send, so that the next data has more time.
    is_slow: AtomicBool,
}

/// The destination of a read attempt.
struct RunningUpload<'a> {
    bytes: &'a mut BytesMut,
    limit: usize,
    /// Received bytes extend it.
    deadline: &'a mut Instant,
}

/// A part of an upload.
pub(super) struct UploadPart<'a> {
    pub(super) key: &'a str,
    pub(super) upload: &'a str,
    pub(super) number: u32,
}

/// An object that was read whole.
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    pub(super) tag: Option<String>,
}

impl Bucket {
    pub(super) fn new(
        tier: StorageTier,
        client: Arc<dyn BucketClient>,
        patience: Patience,
        metrics: Arc<S3Metrics>,
    ) -> Self {
        Self {
            tier,
            client,
            patience,
            metrics,
            outage: Outage::new(tier),
            conditional: AtomicBool::new(true),
            is_slow: AtomicBool::default(),
        }
    }

    /// Reads exactly this range of an object into memory; the range must not be empty.
    ///
    /// # Errors
    /// `Range` when the object does not have the expected size.
    pub(super) async fn read(&self, key: &str, range: Range<u64>, size: u64) -> Attempt<Bytes> {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut got = BytesMut::with_capacity(length);
        let mut retries = self.retries(self.patience.retry_time);
        loop {
            self.outage.pass(retries.deadline).await?;
            let had = got.len();
            let rest = range.start + had as u64..range.end;
            let began = Instant::now();
            let into = RunningUpload { bytes: &mut got, limit: length, deadline: &mut retries.deadline };
            let ended = self.pour(key, Some(rest.clone()), |object| same_size(object, size), into).await;
            let makes_progress = got.len() > had;
            if makes_progress {
                self.metrics.request_finished("get", outcome(&ended), began.into_std());
                self.outage.answered();
            } else {
                self.finished("get", &ended, began);
            }
            match ended {
                Ok(_) => return Ok(got.freeze()),
                Err(failure) => {
                    if makes_progress {
                        // Only the time limits it.
                        retries.begin_anew();
                    }
                    retries.wait(failure, "get", &self.metrics).await?;
                }
            }
        }
    }

    /// Reads a whole object of at most `limit` bytes.
    pub(super) async fn fetch(&self, key: &str, limit: usize) -> Attempt<Whole> {
        self.attempts("get", self.patience.retry_time, |deadline| self.fetch_once(key, limit, deadline)).await
    }

    /// Received bytes extend the deadline of this attempt alone: the next one begins with the first byte again.
    async fn fetch_once(&self, key: &str, limit: usize, mut deadline: Instant) -> Attempt<Whole> {
        let small = |object: &Object| {
            if object.size <= limit as u64 {
                return Ok(());
            }
            Err(S3Failure::new(
                S3FailureKind::Refused,
                format_args!("the object has {} bytes, but at most {limit} are expected", object.size),
            ))
        };
        let mut bytes = BytesMut::new();
        let into = RunningUpload { bytes: &mut bytes, limit, deadline: &mut deadline };
        let tag = self.pour(key, None, small, into).await?;
        Ok(Whole { bytes: bytes.freeze(), tag })
    }

    /// Reads the bytes of an attempt, as far as they come; returns the object's tag. If the attempt is cut off, the
    /// received bytes stay.
    async fn pour(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        accept: impl FnOnce(&Object) -> Attempt<()>,
        into: RunningUpload<'_>,
    ) -> Attempt<Option<String>> {
        let RunningUpload { bytes, limit, deadline } = into;
        let missing = range.as_ref().map(|range| range.end - range.start);
        let mut object = self.in_time_until(*deadline, self.client.get(key, range)).await?;
        accept(&object)?;
        let mut missing = missing.unwrap_or(object.size);
        while let Some(piece) = self.in_time_until(*deadline, async { object.body.next().await.transpose() }).await? {
            if piece.len() as u64 > missing || bytes.len() + piece.len() > limit {
                return Err(S3Failure::new(S3FailureKind::Broken, "the answer has more bytes than requested"));
            }
            missing -= piece.len() as u64;
            *deadline += carry_time(piece.len());
            bytes.extend_from_slice(&piece);
            self.metrics.received(piece.len());
        }
        if missing > 0 {
            return Err(S3Failure::new(S3FailureKind::Broken, format_args!("the answer ended {missing} bytes early")));
        }
        Ok(object.tag)
    }

    /// The size of an object.
    pub(super) async fn head(&self, key: &str) -> Attempt<u64> {
        self.ask("head", || self.client.head(key)).await
    }

    /// Tries once to read a small object, to learn the present state of the storage.
    pub(super) async fn probe(&self, key: &str) -> Attempt<()> {
        let began = Instant::now();
        let answer = self.in_time(self.client.get(key, None)).await;
        self.finished("get", &answer, began);
        answer.map(drop)
    }

    /// Writes an object. If the storage does not support conditional writes, it writes unconditionally.
    pub(super) async fn put(&self, key: &str, body: &Bytes, expected: Expected<'_>) -> Attempt<()> {
        if expected != Expected::Anything && self.conditional.load(Relaxed) {
            match self.send("put", body, || self.client.put(key, body.clone(), expected)).await {
                Err(failure) if failure.kind == S3FailureKind::Unsupported => {
                    if self.conditional.swap(false, Relaxed) {
                        tracing::warn!(%failure, "the storage does not support conditional writes; this node writes unconditionally");
                    }
                }
                written => return written,
            }
        }
        self.send("put", body, || self.client.put(key, body.clone(), Expected::Anything)).await
    }

    pub(super) async fn delete(&self, key: &str) -> Attempt<()> {
        self.ask("delete", || self.client.delete(key)).await
    }

    /// Tries once to remove an object that a later sweep would remove otherwise.
    pub(super) async fn try_delete(&self, key: &str) -> Attempt<()> {
        let began = Instant::now();
        let answer = self.in_time(self.client.delete(key)).await;
        self.finished("delete", &answer, began);
        answer
    }

    pub(super) async fn list(&self, prefix: &str, after: &str, limit: usize) -> Attempt<Vec<Listed>> {
        self.ask("list", || self.client.list(prefix, after, limit)).await
    }

    pub(super) async fn begin(&self, key: &str) -> Attempt<String> {
        self.ask("begin", || self.client.begin(key)).await
    }

    /// Sends a part of an upload. When `part_timeout` was too short, an attempt may take `slowest`.
    pub(super) async fn part(&self, part: UploadPart<'_>, body: &Bytes, slowest: Duration) -> Attempt<String> {
        let UploadPart { key, upload, number } = part;
        self.send_data("part", body, slowest, || self.client.part(key, upload, number, body.clone())).await
    }

    /// Writes a data object, with the same time limits as a part.
    pub(super) async fn put_data(&self, key: &str, body: &Bytes, slowest: Duration) -> Attempt<()> {
        self.send_data("put", body, slowest, || self.client.put(key, body.clone(), Expected::Anything)).await
    }

    pub(super) async fn complete(&self, key: &str, upload: &str, parts: &[String]) -> Attempt<()> {
        // The storage may need long before it answers.
        let Patience { part_timeout, .. } = self.patience;
        let complete = || timed(part_timeout, self.client.complete(key, upload, parts));
        self.repeat("complete", part_timeout, self.patience.sending_time(), complete).await
    }

    pub(super) async fn abort(&self, key: &str, upload: &str) -> Attempt<()> {
        self.ask("abort", || self.client.abort(key, upload)).await
    }

    /// Signs a URL, without a request to S3.
    pub(super) async fn sign(&self, key: &str, wanted: &SignedGet<'_>) -> Attempt<String> {
        self.in_time(self.client.sign(key, wanted)).await
    }

    /// Makes a call without a body.
    async fn ask<T, F>(&self, operation: &'static str, attempt: impl Fn() -> F) -> Attempt<T>
    where
        F: Future<Output = Attempt<T>>,
    {
        let Patience { idle_timeout, retry_time, .. } = self.patience;
        self.repeat(operation, idle_timeout, retry_time, || timed(idle_timeout, attempt())).await
    }

    /// Makes a call with a body that may take long on a slow connection.
    async fn send_data<T, F>(
        &self,
        operation: &'static str,
        body: &Bytes,
        slowest: Duration,
        attempt: impl Fn() -> F,
    ) -> Attempt<T>
    where
        F: Future<Output = Attempt<T>>,
    {
        let part_timeout = self.patience.part_timeout;
        let longer = slowest.saturating_sub(part_timeout);
        let mut is_slow = self.is_slow.load(Relaxed);
        let mut retries = self.retries(self.patience.sending_time() + if is_slow { longer } else { Duration::ZERO });
        loop {
            self.outage.pass(retries.deadline).await?;
            let began = Instant::now();
            let allowed = if is_slow { part_timeout + longer } else { part_timeout };
            let answer = timed(allowed.min(retries.deadline - began), attempt()).await;
            self.finished(operation, &answer, began);
            match answer {
                Ok(answer) => {
                    self.is_slow.store(began.elapsed() > part_timeout, Relaxed);
                    self.metrics.sent(body.len());
                    return Ok(answer);
                }
                Err(failure) => {
                    if failure.kind == S3FailureKind::Silent && !is_slow {
                        is_slow = true;
                        retries.deadline += longer;
                    }
                    retries.wait(failure, operation, &self.metrics).await?;
                }
            }
        }
    }

    /// Makes a call with a body.
    async fn send<T, F>(&self, operation: &'static str, body: &Bytes, attempt: impl Fn() -> F) -> Attempt<T>
    where
        F: Future<Output = Attempt<T>>,
    {
        let part_timeout = self.patience.part_timeout;
        let send = || async {
            let answer = timed(part_timeout, attempt()).await?;
            self.metrics.sent(body.len());
            Ok(answer)
        };
        self.repeat(operation, part_timeout, self.patience.sending_time(), send).await
    }

    /// Makes attempts, cut off when their total time is over.
    async fn repeat<T, F>(
        &self,
        operation: &'static str,
        attempt_time: Duration,
        total: Duration,
        attempt: impl Fn() -> F,
    ) -> Attempt<T>
    where
        F: Future<Output = Attempt<T>>,
    {
        let cut_off = |deadline| {
            let answer = timeout_at(deadline, attempt());
            async move { answer.await.unwrap_or_else(|_| Err(S3Failure::silent(attempt_time))) }
        };
        self.attempts(operation, total, cut_off).await
    }

    /// Makes attempts that get the deadline of all of them and keep it themselves.
    async fn attempts<T, F>(
        &self,
        operation: &'static str,
        total: Duration,
        attempt: impl Fn(Instant) -> F,
    ) -> Attempt<T>
    where
        F: Future<Output = Attempt<T>>,
    {
        let mut retries = self.retries(total);
        loop {
            self.outage.pass(retries.deadline).await?;
            let began = Instant::now();
            let answer = attempt(retries.deadline).await;
            self.finished(operation, &answer, began);
            match answer {
                Ok(answer) => return Ok(answer),
                Err(failure) => retries.wait(failure, operation, &self.metrics).await?,
            }
        }
    }

    /// Counts an attempt.
    fn finished<T>(&self, operation: &'static str, outcome: &Attempt<T>, began: Instant) {
        self.metrics.request_finished(operation, self::outcome(outcome), began.into_std());
        self.outage.note(outcome);
    }

    async fn in_time<T>(&self, answer: impl Future<Output = Attempt<T>>) -> Attempt<T> {
        timed(self.patience.idle_timeout, answer).await
    }

    async fn in_time_until<T>(&self, deadline: Instant, answer: impl Future<Output = Attempt<T>>) -> Attempt<T> {
        let idle_timeout = self.patience.idle_timeout;
        let until = deadline.min(Instant::now() + idle_timeout);
        timeout_at(until, answer).await.unwrap_or_else(|_| Err(S3Failure::silent(idle_timeout)))
    }

    fn retries(&self, total: Duration) -> Retries {
        Retries { deadline: Instant::now() + total, waits: waits() }
    }
}

async fn timed<T>(patience: Duration, answer: impl Future<Output = Attempt<T>>) -> Attempt<T> {
    timeout(patience, answer).await.unwrap_or_else(|_| Err(S3Failure::silent(patience)))
}

fn same_size(object: &Object, size: u64) -> Attempt<()> {
    if object.size == size {
        return Ok(());
    }
    Err(S3Failure::new(
        S3FailureKind::Range,
        format_args!("the object has {} bytes, but {size} are expected", object.size),
    ))
}

fn outcome<T>(answer: &Attempt<T>) -> &'static str {
    answer.as_ref().map_or_else(S3Failure::outcome, |_| "ok")
}

fn waits() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .with_jitter()
        .without_max_times()
        .build()
}

/// The attempts of one call.
struct Retries {
    deadline: Instant,
    waits: ExponentialBackoff,
}

impl Retries {
    /// Waits for the next attempt.
    ///
    /// # Errors
    /// The failure itself, when it is permanent or there is no time for another attempt.
    async fn wait(&mut self, failure: S3Failure, operation: &'static str, metrics: &S3Metrics) -> Attempt<()> {
        let wait = self.waits.next().unwrap_or(LONGEST_WAIT).max(failure.retry_after.unwrap_or_default());
        if !failure.is_passing() || Instant::now() + wait >= self.deadline {
            return Err(failure);
        }
        metrics.retried(operation);
        tracing::debug!(operation, %failure, ?wait, "a request to S3 is repeated");
        tokio::time::sleep(wait).await;
        Ok(())
    }

    fn begin_anew(&mut self) {
        self.waits = waits();
    }
}
