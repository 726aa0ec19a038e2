//! `Delivery`: the body of one stream, from the open blob to the connection.
//!
//! It paces, looks for revocation with each piece, counts what the connection took, and settles exactly once: at the end, or
//! when it is dropped because the client left or the node stops. A piece counts as taken when the connection comes back for
//! more, since it does so only after the piece went to its socket; the last piece counts when the end is asked for.

use std::{
    collections::VecDeque,
    future::Future,
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix::ArbiterHandle;
use bytes::Bytes;
use futures_core::Stream;
use tokio::time::{Instant, Sleep};

use crate::{
    admission::Permit,
    content_store::{ContentStore, Held},
    model::Outcome,
    ports::{PortError, PortResult},
    quota_cache::{Ended, Reservation},
    storage_stream::{Leaves, PIECE_BYTES, READ_PATIENCE, StorageStream},
};

/// A paced stream looks for revocation at least this often.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// A part of an answer: bytes that are not content (a multipart header), then a range of the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub framing: Bytes,
    pub range: Range<u64>,
}

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub parts: VecDeque<Part>,
    /// After the last part.
    pub tail: Bytes,
}

impl Plan {
    /// One range, plain.
    pub fn single(range: Range<u64>) -> Self {
        Self { parts: VecDeque::from([Part { framing: Bytes::new(), range }]), tail: Bytes::new() }
    }

    /// Bytes of content: what is reserved and charged.
    pub fn content_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.range.end - part.range.start).sum()
    }

    /// Bytes of the whole answer.
    pub fn body_bytes(&self) -> u64 {
        let framing: usize = self.parts.iter().map(|part| part.framing.len()).sum();
        self.content_bytes() + (framing + self.tail.len()) as u64
    }
}

/// Why a delivery broke off. The connection is then reset: an error never looks like an end.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    #[error("the receipt lost its right to stream")]
    Revoked,
    #[error(transparent)]
    Storage(#[from] PortError),
}

/// The body of one stream.
pub struct Delivery {
    plan: Plan,
    source: Source,
    /// Content that was read and not handed over yet.
    leaf: Option<Held>,
    /// Content left of the first part.
    left: u64,
    framing: Bytes,
    reservation: Option<Reservation>,
    /// A piece that waits for its time.
    paused: Option<(Bytes, Pin<Box<Sleep>>, Instant)>,
    /// Handed over and not known to be taken.
    unconfirmed: u64,
    sent: u64,
    /// Content bytes still to be handed over.
    remaining: u64,
    position: u64,
    _stream_permit: Permit,
}

enum Source {
    /// What was read to open the delivery is all there is.
    Memory,
    Ahead(Leaves),
}

impl Delivery {
    /// Opens the content and reads its first leaf, so that what is missing or damaged is known before the headers are sent.
    ///
    /// # Errors
    /// The store's; the reservation is then given back.
    pub async fn open(
        store: &ContentStore,
        plan: Plan,
        reservation: Reservation,
        stream_permit: Permit,
        arbiter: &ArbiterHandle,
    ) -> PortResult<Self> {
        let view = &reservation.grant().view;
        let Some(meta) = &view.content else { return Err(PortError::NotFound("content")) };
        let mut ranges: VecDeque<Range<u64>> = plan.parts.iter().map(|part| part.range.clone()).collect();
        let opening = async {
            let content = store.open(meta.content_hash, meta.size_bytes).await?;
            let mut leaf = None;
            if let Some(first) = ranges.front_mut()
                && !first.is_empty()
            {
                let held = store.read(&content, first.clone(), PIECE_BYTES).await?;
                first.start += held.bytes.len() as u64;
                leaf = Some(held);
            }
            Ok((content, leaf))
        };
        let (content, leaf) = tokio::time::timeout(READ_PATIENCE, opening)
            .await
            .unwrap_or_else(|elapsed| Err(PortError::unavailable("the blob store", elapsed)))?;
        ranges.retain(|range| !range.is_empty());
        let source = if ranges.is_empty() {
            Source::Memory
        } else {
            Source::Ahead(StorageStream::start(store.clone(), content, ranges, arbiter))
        };
        let first = plan.parts.front();
        Ok(Self {
            left: first.map_or(0, |part| part.range.end - part.range.start),
            framing: first.map_or_else(Bytes::new, |part| part.framing.clone()),
            remaining: plan.content_bytes(),
            plan,
            source,
            leaf,
            reservation: Some(reservation),
            paused: None,
            unconfirmed: 0,
            sent: 0,
            position: 0,
            _stream_permit: stream_permit,
        })
    }

    fn settle(&mut self, outcome: Outcome) {
        if let Some(reservation) = self.reservation.take() {
            reservation.settle(Ended { bytes_sent: self.sent, position: self.position, outcome });
        }
    }

    fn fail(&mut self, error: DeliveryError) -> Poll<Option<Result<Bytes, DeliveryError>>> {
        let outcome = if matches!(error, DeliveryError::Revoked) { Outcome::Revoked } else { Outcome::Failed };
        self.settle(outcome);
        Poll::Ready(Some(Err(error)))
    }

    /// The next piece of content, as it comes from the store.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, DeliveryError>> {
        if self.leaf.as_ref().is_none_or(|leaf| leaf.bytes.is_empty()) {
            // Given back before the next one is waited for: a slow store then holds no memory.
            self.leaf = None;
            let Source::Ahead(leaves) = &mut self.source else { return Poll::Ready(Err(ended_early())) };
            match ready!(leaves.poll_recv(cx)) {
                Some(held) => self.leaf = Some(held?),
                None => return Poll::Ready(Err(ended_early())),
            }
        }
        let Some(leaf) = &mut self.leaf else { return Poll::Ready(Err(ended_early())) };
        let length = leaf.bytes.len().min(PIECE_BYTES as usize);
        Poll::Ready(Ok(leaf.bytes.split_to(length)))
    }

    /// Hands a piece over.
    fn hand_over(&mut self, piece: Bytes) -> Poll<Option<Result<Bytes, DeliveryError>>> {
        let length = piece.len() as u64;
        self.left -= length.min(self.left);
        self.remaining -= length.min(self.remaining);
        self.unconfirmed = length;
        if self.remaining == 0
            && let Some(reservation) = &mut self.reservation
        {
            reservation.release_slot();
        }
        Poll::Ready(Some(Ok(piece)))
    }

    /// The connection came back: what it was given has gone to its socket.
    fn confirm(&mut self) {
        let taken = std::mem::take(&mut self.unconfirmed);
        self.sent += taken;
        if taken > 0
            && let Some(part) = self.plan.parts.front()
        {
            self.position = self.position.max(part.range.end - self.left);
        }
    }
}

fn ended_early() -> DeliveryError {
    DeliveryError::Storage(PortError::Corrupt("the source ended early".to_owned()))
}

impl Stream for Delivery {
    type Item = Result<Bytes, DeliveryError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.confirm();
        let Some(reservation) = &this.reservation else { return Poll::Ready(None) };
        if reservation.grant().revocation.is_raised() {
            return this.fail(DeliveryError::Revoked);
        }
        while let Some((piece, mut sleep, due)) = this.paused.take() {
            if sleep.as_mut().poll(cx).is_pending() {
                this.paused = Some((piece, sleep, due));
                return Poll::Pending;
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return this.hand_over(piece);
            }
            this.paused = Some((piece, Box::pin(tokio::time::sleep(left.min(LONGEST_PAUSE))), due));
        }
        if !this.framing.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut this.framing))));
        }
        while this.left == 0 {
            this.plan.parts.pop_front();
            let Some(part) = this.plan.parts.front() else {
                if !this.plan.tail.is_empty() {
                    return Poll::Ready(Some(Ok(std::mem::take(&mut this.plan.tail))));
                }
                this.settle(Outcome::Completed);
                return Poll::Ready(None);
            };
            this.left = part.range.end - part.range.start;
            if !part.framing.is_empty() {
                return Poll::Ready(Some(Ok(part.framing.clone())));
            }
        }
        let piece = match ready!(this.poll_piece(cx)) {
            Ok(piece) => piece,
            Err(error) => return this.fail(error),
        };
        let pacer = this.reservation.as_ref().and_then(|reservation| reservation.grant().pacer.clone());
        let now = Instant::now();
        let wait = pacer.map_or(Duration::ZERO, |pacer| pacer.take(piece.len(), now.into_std()));
        if wait.is_zero() {
            return this.hand_over(piece);
        }
        let mut sleep = Box::pin(tokio::time::sleep(wait.min(LONGEST_PAUSE)));
        // Polled once here, so that it is known to wake this task.
        let elapsed = sleep.as_mut().poll(cx).is_ready();
        this.paused = Some((piece, sleep, now + wait));
        if elapsed {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.settle(Outcome::Aborted);
    }
}
