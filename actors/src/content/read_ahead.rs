//! `ReadAhead`: reads one open content ahead of its reader.
//!
//! One actor per large stream. It owns the open source, and reads the next leaf while the connection sends the last
//! one. Bytes pass through a channel, never through a mailbox.
//!
//! **Bound.** The channel has room for one leaf, and the next one is read only when there is room. With the leaf that
//! the reader uses, a stream holds at most two. When the reader goes away the channel closes; the actor then ends and
//! closes its source.

use std::{collections::VecDeque, ops::Range, sync::Arc, time::Duration};

use actix::{Actor, ActorContext, ActorFutureExt, ArbiterHandle, AsyncContext, Context, WrapFuture};
use tokio::sync::mpsc;
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

pub(crate) type Leaves = mpsc::Receiver<PortResult<LeafBytes>>;

pub(crate) struct ReadAhead {
    reading: Option<LeafReader>,
}

struct LeafReader {
    store: ContentStore,
    content: Arc<OpenContent>,
    ranges: VecDeque<Range<u64>>,
    ahead: mpsc::Sender<PortResult<LeafBytes>>,
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
        let (ahead, leaves) = mpsc::channel(AHEAD);
        let stream = Self { reading: Some(LeafReader { store, content, ranges, ahead, span: task_span::current() }) };
        Self::start_in_arbiter(arbiter, |_| stream);
        leaves
    }
}

impl LeafReader {
    async fn run(mut self) {
        while let Some(range) = self.ranges.pop_front() {
            let mut at = range.start;
            while at < range.end {
                let Ok(room) = self.ahead.reserve().await else { return };
                let read = self.store.read(&self.content, at..range.end, PIECE_BYTES);
                let answer = tokio::time::timeout(READ_PATIENCE, read)
                    .await
                    .unwrap_or_else(|elapsed| Err(PortError::unavailable("the blob store", elapsed)));
                let last = answer.is_err();
                if let Ok(held) = &answer {
                    at += held.bytes.len() as u64;
                }
                room.send(answer);
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
