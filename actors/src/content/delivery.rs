//! `Delivery`: the body of one stream, from the open blob to the connection.
//!
//! It paces, checks for revocation with each piece, counts the bytes that left the node, and settles exactly once: at
//! the end, or when it is dropped because the client left or the node stops. It ends when all bytes have left the node.
//! A delivery that breaks off is charged for what its [`Connection`] has sent: the connection is cut, and the rest
//! never leaves the node.
//!
//! Before a piece is handed over, the usage spool has a note that covers it ([`mark`]): a kill at any moment leaves a charge for what
//! the client may have got.

mod mark;

use std::{
    collections::VecDeque,
    future::Future,
    ops::Range,
    pin::Pin,
    sync::Weak,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix::ArbiterHandle;
use bytes::Bytes;
use futures::Stream;
use tokio::time::{Instant, Sleep};

use self::mark::Mark;
use crate::{
    content::{
        read_ahead::{Leaves, PIECE_BYTES, READ_PATIENCE, ReadAhead},
        reader::{ContentStore, LeafBytes},
    },
    flow::fairness::FairPermit,
    ids::ReceiptId,
    model::{LEAF_BYTES, Outcome},
    ports::{Connection, Missing, PortError, PortResult},
    quota::{
        cache::{Reservation, StreamEnd},
        revocation::Watch,
    },
};

/// A paced stream checks for revocation at least this often.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How often a stream checks whether all handed-over bytes have left the node: at first, and at most. A client's next
/// request on the same connection waits no longer than this.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(25);

/// Content of up to this size leaves with the head of the answer, after the stream is settled.
const AT_ONCE: u64 = PIECE_BYTES / 2;

/// A part of an answer: bytes that are not content (a multipart header), then a range of the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerPart {
    pub framing: Bytes,
    pub range: Range<u64>,
}

/// The parts to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryPlan {
    pub parts: VecDeque<AnswerPart>,
    /// After the last part.
    pub tail: Bytes,
}

impl DeliveryPlan {
    /// One range, plain.
    pub fn single(range: Range<u64>) -> Self {
        Self { parts: VecDeque::from([AnswerPart { framing: Bytes::new(), range }]), tail: Bytes::new() }
    }

    /// Bytes of content: the bytes that are reserved and charged.
    pub fn content_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.range.end - part.range.start).sum()
    }

    /// Bytes of the whole answer.
    pub fn body_bytes(&self) -> u64 {
        let framing: usize = self.parts.iter().map(|part| part.framing.len()).sum();
        self.content_bytes() + (framing + self.tail.len()) as u64
    }

    /// For the first `body_bytes` bytes of the answer: how many are content, and the highest content offset among them.
    fn reached(&self, mut body_bytes: u64) -> SendProgress {
        let mut reached = SendProgress::default();
        for AnswerPart { framing, range } in &self.parts {
            body_bytes = body_bytes.saturating_sub(framing.len() as u64);
            let content = body_bytes.min(range.end - range.start);
            if content > 0 {
                reached.content_bytes += content;
                reached.position = reached.position.max(range.start + content);
            }
            body_bytes -= content;
        }
        reached
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct SendProgress {
    content_bytes: u64,
    position: u64,
}

/// An admitted stream, and its destination.
pub struct DeliveryOrder {
    pub plan: DeliveryPlan,
    pub reservation: Reservation,
    pub permit: FairPermit<ReceiptId>,
    /// Where the connection is unknown, bytes that were handed over count as sent.
    pub connection: Weak<dyn Connection>,
}

/// Why a delivery broke off. The connection is then reset: an error never looks like an end.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    #[error("the receipt lost its right to stream")]
    Revoked,
    /// The credit that admitted it may have been given to other nodes.
    #[error("the node lost the lease of the stream")]
    LeaseLost,
    #[error("a newer stream of the same session took the slot of the stream")]
    Replaced,
    #[error(transparent)]
    Storage(#[from] PortError),
    /// Neither the next bytes nor their absence could be noted in the usage spool.
    #[error("the usage spool failed: {0}")]
    Unnoted(#[source] PortError),
}

/// The body of one stream.
pub struct Delivery {
    plan: DeliveryPlan,
    /// The part being handed over.
    part: usize,
    source: ByteSource,
    /// Content that was read and not yet handed over.
    leaf: Option<LeafBytes>,
    /// Content bytes left of the part.
    left: u64,
    framing: Bytes,
    tail: Bytes,
    reservation: Option<Reservation>,
    /// The next piece waits for its time.
    paused: Option<(Pin<Box<Sleep>>, Instant)>,
    /// The next piece has its time.
    is_paced: bool,
    /// Bytes of the answer handed over.
    handed_over: u64,
    /// All bytes were handed over, and some have not left the node.
    leaving: Option<Leaving>,
    /// Content bytes still to be handed over.
    remaining: u64,
    /// Content bytes that the usage spool knows of.
    mark: Mark,
    connection: Weak<dyn Connection>,
    watch: Option<Watch>,
    _stream_permit: FairPermit<ReceiptId>,
}

/// When to check next whether all bytes have left.
enum Leaving {
    /// After the server has written the bytes it was given last.
    Written,
    After(Pin<Box<Sleep>>, Duration),
}

enum ByteSource {
    /// The whole content was read when the delivery was opened.
    Memory,
    Ahead(Leaves),
}

impl Delivery {
    /// Opens the content and reads its first leaf, so that missing or damaged content is known before the headers are
    /// sent. Then notes the first piece in the usage spool.
    ///
    /// # Errors
    /// The store's own, or the spool's; the reservation is then given back.
    pub async fn open(store: &ContentStore, order: DeliveryOrder, arbiter: &ArbiterHandle) -> PortResult<Self> {
        let DeliveryOrder { plan, mut reservation, permit, connection } = order;
        let view = &reservation.grant().view;
        let Some(meta) = &view.content else { return Err(PortError::NotFound(Missing::Content)) };
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
            ByteSource::Memory
        } else {
            ByteSource::Ahead(ReadAhead::start(store.clone(), content, ranges, arbiter))
        };
        let remaining = plan.content_bytes();
        let piece = leaf.as_ref().map_or(0, |leaf| (leaf.bytes.len() as u64).min(PIECE_BYTES));
        let mark = Mark::first(piece, remaining, Instant::now().into_std());
        if piece > 0 || remaining == 0 {
            note(&mut reservation, mark)?;
        }
        let first = plan.parts.front();
        Ok(Self {
            left: first.map_or(0, |part| part.range.end - part.range.start),
            framing: first.map_or_else(Bytes::new, |part| part.framing.clone()),
            tail: plan.tail.clone(),
            remaining,
            mark,
            plan,
            part: 0,
            source,
            leaf,
            reservation: Some(reservation),
            paused: None,
            is_paced: false,
            handed_over: 0,
            leaving: None,
            connection,
            watch: None,
            _stream_permit: permit,
        })
    }

    fn settle(&mut self, sent: u64, outcome: Outcome) {
        let Some(reservation) = self.reservation.take() else { return };
        if let Some(watch) = self.watch.take() {
            reservation.grant().revocation.leave(&watch);
        }
        let SendProgress { content_bytes, position } = self.plan.reached(sent);
        reservation.settle(StreamEnd { bytes_sent: content_bytes, position, outcome });
    }

    /// Ends early: settles for the bytes that have left the node. No more leave it afterwards.
    fn abort(&mut self, outcome: Outcome) {
        if self.reservation.is_none() {
            return;
        }
        let mut unsent = 0;
        // An answer of which nothing was handed over may still be replaced by another one.
        if self.handed_over > 0
            && let Some(connection) = self.connection.upgrade()
        {
            connection.cut();
            unsent = connection.unsent();
        }
        self.settle(self.handed_over.saturating_sub(unsent), outcome);
    }

    fn fail(&mut self, error: DeliveryError) -> Poll<Option<Result<Bytes, DeliveryError>>> {
        let outcome = match &error {
            DeliveryError::Revoked => Outcome::Revoked,
            DeliveryError::LeaseLost => self.lost_its_lease(),
            // Its client has turned to the newer stream.
            DeliveryError::Replaced => Outcome::Aborted,
            DeliveryError::Storage(error) => {
                tracing::warn!(%error, "stored content cannot be read any further; this node cuts the stream");
                Outcome::Failed
            }
            DeliveryError::Unnoted(error) => {
                tracing::error!(%error, "the next bytes of a stream cannot be noted in the usage spool; this node cuts the stream");
                Outcome::Failed
            }
        };
        self.abort(outcome);
        Poll::Ready(Some(Err(error)))
    }

    fn lost_its_lease(&self) -> Outcome {
        self.reservation.iter().for_each(Reservation::count_cut);
        Outcome::Failed
    }

    fn is_revoked(&self) -> bool {
        self.reservation.as_ref().is_some_and(|reservation| reservation.grant().revocation.is_raised())
    }

    /// Waits until all handed-over bytes have left the node. At most one piece is not worth the wait.
    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.handed_over <= PIECE_BYTES {
            return Poll::Ready(());
        }
        loop {
            let pause = match &mut self.leaving {
                None => None,
                Some(Leaving::Written) => Some(FIRST_LOOK),
                Some(Leaving::After(sleep, pause)) => {
                    ready!(sleep.as_mut().poll(cx));
                    Some((*pause * 2).min(LAST_LOOK))
                }
            };
            if self.connection.upgrade().is_none_or(|connection| connection.unsent() == 0) {
                return Poll::Ready(());
            }
            let Some(pause) = pause else {
                self.leaving = Some(Leaving::Written);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            };
            self.leaving = Some(Leaving::After(Box::pin(tokio::time::sleep(pause)), pause));
        }
    }

    /// The length of the next piece: as the store reads it when the read-ahead budget is used up.
    fn piece_length(&self) -> u64 {
        let position = self.plan.parts.get(self.part).map_or(0, |part| part.range.end - self.left);
        PIECE_BYTES.min(self.left).min(LEAF_BYTES - position % LEAF_BYTES)
    }

    /// Waits until the next piece may be sent. It is not read before, so that a paced stream holds none.
    fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.is_paced, true)
            && let Some(pacer) = self.reservation.as_ref().and_then(|reservation| reservation.grant().pacer.as_ref())
        {
            let now = Instant::now();
            let wait = pacer.take(self.piece_length() as usize, now.into_std());
            if !wait.is_zero() {
                self.paused = Some((Box::pin(tokio::time::sleep(wait.min(LONGEST_PAUSE))), now + wait));
            }
        }
        while let Some((sleep, due)) = &mut self.paused {
            ready!(sleep.as_mut().poll(cx));
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.paused = None;
            } else {
                sleep.as_mut().reset(Instant::now() + left.min(LONGEST_PAUSE));
            }
        }
        Poll::Ready(())
    }

    /// The next piece of content, as it comes from the store.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, DeliveryError>> {
        if self.leaf.is_none() {
            let ByteSource::Ahead(leaves) = &mut self.source else { return Poll::Ready(Err(ended_early())) };
            match ready!(leaves.poll_next(cx)) {
                Some(held) => self.leaf = Some(held?),
                None => return Poll::Ready(Err(ended_early())),
            }
        }
        let Some(leaf) = &mut self.leaf else { return Poll::Ready(Err(ended_early())) };
        let length = leaf.bytes.len().min(PIECE_BYTES as usize);
        let piece = leaf.bytes.split_to(length);
        if leaf.bytes.is_empty() {
            // Its budget is for others, however long the client takes for the piece.
            self.leaf = None;
        }
        Poll::Ready(Ok(piece))
    }

    /// Hands a piece of content over, once it is noted.
    fn hand_over_content(&mut self, piece: Bytes) -> Poll<Option<Result<Bytes, DeliveryError>>> {
        let length = piece.len() as u64;
        let until = self.mark.all() - self.remaining + length;
        if let Some(next) = self.mark.next(until, Instant::now().into_std()) {
            if let Some(reservation) = &mut self.reservation
                && let Err(error) = note(reservation, next)
            {
                return self.fail(DeliveryError::Unnoted(error));
            }
            self.mark = next;
        }
        self.left -= length.min(self.left);
        self.remaining -= length.min(self.remaining);
        if let Some(reservation) = &mut self.reservation {
            if self.remaining == 0 {
                reservation.release_slot();
                if self.mark.all() > AT_ONCE {
                    reservation.leave();
                }
            } else if self.watch.is_none() {
                // A stream that fits in one piece is gone before it could be stopped.
                self.watch = Some(reservation.grant().revocation.watch(&self.connection));
                reservation.watch_slot(&self.connection);
            }
        }
        self.hand_over(piece)
    }

    fn hand_over(&mut self, bytes: Bytes) -> Poll<Option<Result<Bytes, DeliveryError>>> {
        let length = bytes.len() as u64;
        self.handed_over += length;
        if let Some(connection) = self.connection.upgrade() {
            connection.handed_over(length);
        }
        Poll::Ready(Some(Ok(bytes)))
    }
}

/// Notes what is charged if the process ends now. What is not noted whole has failed then.
fn note(reservation: &mut Reservation, mark: Mark) -> PortResult<()> {
    let outcome = if mark.is_whole() { Outcome::Completed } else { Outcome::Failed };
    reservation.note(mark.bytes(), outcome)
}

fn ended_early() -> DeliveryError {
    DeliveryError::Storage(PortError::Corrupt("the source ended early".to_owned()))
}

impl Stream for Delivery {
    type Item = Result<Bytes, DeliveryError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(reservation) = &this.reservation else { return Poll::Ready(None) };
        if reservation.lost_its_lease() {
            return this.fail(DeliveryError::LeaseLost);
        }
        if reservation.lost_its_slot() {
            return this.fail(DeliveryError::Replaced);
        }
        if this.is_revoked() {
            return this.fail(DeliveryError::Revoked);
        }
        if !this.framing.is_empty() {
            let framing = std::mem::take(&mut this.framing);
            return this.hand_over(framing);
        }
        while this.left == 0 {
            this.part += 1;
            let Some(part) = this.plan.parts.get(this.part) else {
                if !this.tail.is_empty() {
                    let tail = std::mem::take(&mut this.tail);
                    return this.hand_over(tail);
                }
                ready!(this.poll_departure(cx));
                this.settle(this.handed_over, Outcome::Completed);
                return Poll::Ready(None);
            };
            this.left = part.range.end - part.range.start;
            if !part.framing.is_empty() {
                let framing = part.framing.clone();
                return this.hand_over(framing);
            }
        }
        ready!(this.poll_pace(cx));
        match ready!(this.poll_piece(cx)) {
            Ok(piece) => {
                this.is_paced = false;
                this.hand_over_content(piece)
            }
            Err(error) => this.fail(error),
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let lost = self.reservation.as_ref().is_some_and(Reservation::lost_its_lease);
        // A connection may have been cut before this piece's check.
        let outcome = if lost {
            self.lost_its_lease()
        } else if self.is_revoked() {
            Outcome::Revoked
        } else {
            Outcome::Aborted
        };
        self.abort(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_content_of_the_beginning_of_an_answer() {
        let part = |framing: &'static [u8], range| AnswerPart { framing: Bytes::from_static(framing), range };
        let parts = VecDeque::from([part(b"--", 90..100), part(b"", 0..0), part(b"---", 0..5)]);
        let plan = DeliveryPlan { parts, tail: Bytes::from_static(b"--") };
        let reached = [0, 2, 3, 12, 15, 16, 20, 22].map(|bytes| {
            let SendProgress { content_bytes, position } = plan.reached(bytes);
            (content_bytes, position)
        });
        assert_eq!(reached, [(0, 0), (0, 0), (1, 91), (10, 100), (10, 100), (11, 100), (15, 100), (15, 100)]);
        assert_eq!(plan.reached(plan.body_bytes()).content_bytes, plan.content_bytes());
    }
}
