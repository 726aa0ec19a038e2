//! `ReadAhead`: reads one open content ahead of its reader.
//!
//! One actor per large stream. It owns the open source, and reads the next leaf while the connection sends the last
//! one. Bytes pass through a channel, never through a mailbox.
//!
//! **Bound.** The channel has room for one leaf, and the next one is read only when there is room. With the leaf that
//! the reader uses, a stream holds at most two. Without budget for a leaf, a piece is read when the reader waits for it, and not
//! before: so a stream whose client is slow holds nothing. When the reader goes away the channel closes; the actor then ends and
//! closes its source.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use actix::{Actor, ActorContext, ActorFutureExt, ArbiterHandle, AsyncContext, Context, WrapFuture};
use tokio::sync::{Notify, mpsc};
use tracing::{Instrument as _, Span};

use crate::{
    content::reader::{ContentStore, LeafBytes, OpenContent},
    ports::{PortError, PortResult},
    task_span,
};

/// Leaves that wait for the reader.
const AHEAD: usize = 1;

/// The size of reads when the read-ahead budget is used up, and of pieces handed to a connection: large enough that the
/// cost per piece is small, and small enough that a thousand slow readers fit in 150 MB (docs/performance.md).
pub const PIECE_BYTES: u64 = 32 << 10;

/// A read that takes longer than this has failed: the store hangs.
pub(crate) const READ_PATIENCE: Duration = Duration::from_secs(30);

/// What was read, in order.
pub(crate) struct Leaves {
    read: mpsc::Receiver<PortResult<LeafBytes>>,
    received: u64,
    demand: Arc<Demand>,
}

impl Leaves {
    pub(crate) fn poll_next(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<PortResult<LeafBytes>>> {
        let next = self.read.poll_recv(cx);
        match &next {
            Poll::Ready(_) => self.received += 1,
            Poll::Pending => self.demand.arises(self.received + 1),
        }
        next
    }
}

/// What the reader waits for.
#[derive(Default)]
struct Demand {
    /// The number of the last item that it waited for, from one.
    item: AtomicU64,
    wake: Notify,
}

impl Demand {
    fn arises(&self, item: u64) {
        if self.item.swap(item, Ordering::AcqRel) != item {
            self.wake.notify_one();
        }
    }

    async fn wait(&self, item: u64) {
        while self.item.load(Ordering::Acquire) < item {
            self.wake.notified().await;
        }
    }
}

pub(crate) struct ReadAhead {
    reading: Option<LeafReader>,
}

struct LeafReader {
    store: ContentStore,
    content: Arc<OpenContent>,
    ranges: VecDeque<Range<u64>>,
    ahead: mpsc::Sender<PortResult<LeafBytes>>,
    demand: Arc<Demand>,
    /// The span of the request, so that what the store does for it is found with it.
    span: Span,
}

impl ReadAhead {
    /// Starts reading the ranges in order. An error is the last item.
    pub(crate) fn start(
        store: ContentStore,
        content: Arc<OpenContent>,
        ranges: VecDeque<Range<u64>>,
        arbiter: &ArbiterHandle,
    ) -> Leaves {
        let (ahead, read) = mpsc::channel(AHEAD);
        let demand = Arc::<Demand>::default();
        let leaves = Leaves { read, received: 0, demand: Arc::clone(&demand) };
        let reading = LeafReader { store, content, ranges, ahead, demand, span: task_span::current() };
        Self::start_in_arbiter(arbiter, |_| Self { reading: Some(reading) });
        leaves
    }
}

impl LeafReader {
    async fn run(mut self) {
        let mut sent = 0;
        while let Some(range) = self.ranges.pop_front() {
            let mut at = range.start;
            while at < range.end {
                let Ok(room) = self.ahead.reserve().await else { return };
                let budget = self.store.budget(&self.content, at);
                if budget.is_none() {
                    tokio::select! {
                        () = self.demand.wait(sent + 1) => {}
                        () = self.ahead.closed() => return,
                    }
                }
                let read = self.store.read_within(budget, &self.content, at..range.end, PIECE_BYTES);
                let answer = tokio::time::timeout(READ_PATIENCE, read)
                    .await
                    .unwrap_or_else(|elapsed| Err(PortError::unavailable("the blob store", elapsed)));
                let last = answer.is_err();
                if let Ok(held) = &answer {
                    at += held.bytes.len() as u64;
                }
                room.send(answer);
                sent += 1;
                if last {
                    return;
                }
            }
        }
    }
}

impl Actor for ReadAhead {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(reading) = self.reading.take() {
            let span = reading.span.clone();
            ctx.spawn(reading.run().instrument(span).into_actor(self).map(|(), _, ctx| ctx.stop()));
        }
    }
}
