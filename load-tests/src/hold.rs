//! Streams that are held in the middle of their bodies: the client has read the first bytes, and reads nothing more for the time being.

use std::time::Instant;

use anyhow::Context;
use tokio::task::JoinSet;

use crate::{
    client::{Connection, Target},
    fault::Fault,
    measure::{Received, Tally},
    stream::{Ended, Stream, Wanted},
};

/// What the kernel may take in for a held stream before it is read. Without a bound it would take in some of the contents
/// whole, and their streams would be over for the node while they are held here.
const HELD_RECEIVE_BUFFER: u32 = 64 * 1024;

/// What has left the node for a client that then leaves, and what that client never read: its receive buffer in the kernel, and as much
/// again in the HTTP library, each of which the kernel may double. The node cannot know of it, so a bill may have it.
const UNREAD_AT_MOST: u64 = 4 * HELD_RECEIVE_BUFFER as u64;

/// Streams that begin at one moment. The node's own queue of connections bounds them too.
const BEGIN_AT_A_TIME: usize = 1000;

/// Begins so many streams and holds them. What did not get so far is in the tally.
///
/// # Errors
/// When a client was stopped.
pub(crate) async fn hold(
    target: &Target,
    wanted: &[Wanted],
    streams: usize,
    tally: &mut Tally,
) -> anyhow::Result<Vec<Held>> {
    let mut opening = JoinSet::new();
    let mut held = Vec::with_capacity(streams);
    let mut keep = |begun: Result<Held, Box<Failed>>| match begun {
        Ok(stream) => held.push(stream),
        Err(failed) => tally.record(&failed.receipt_id, &failed.ended),
    };
    for wanted in wanted.iter().cycle().take(streams).cloned() {
        if opening.len() == BEGIN_AT_A_TIME
            && let Some(begun) = opening.join_next().await
        {
            keep(begun.context("a client was stopped")?);
        }
        opening.spawn(begin(target.clone(), wanted));
    }
    // No stream is read on before the last one has begun: this loop is the barrier.
    while let Some(begun) = opening.join_next().await {
        keep(begun.context("a client was stopped")?);
    }
    Ok(held)
}

/// How many of them are in the middle.
pub(crate) fn midway(held: &[Held]) -> usize {
    held.iter().filter(|held| held.stream.is_midway()).count()
}

/// A stream that is held in the middle.
pub(crate) struct Held {
    receipt_id: String,
    stream: Stream,
    /// Kept open: the connection is part of what is held.
    _connection: Connection,
}

impl Held {
    /// Reads it to its end.
    pub(crate) async fn finish(self) -> (String, Ended) {
        (self.receipt_id, self.stream.finish().await)
    }

    /// Leaves it, as a client does that closes its connection.
    pub(crate) fn leave(self, tally: &mut Tally) {
        let ended = self.stream.ended(None);
        tally.count(&ended);
        tally.charge(
            &self.receipt_id,
            Received { bytes: ended.received, streams: 1, unread_at_most: UNREAD_AT_MOST, cut: 0 },
        );
    }
}

/// A stream that did not get so far.
struct Failed {
    receipt_id: String,
    ended: Ended,
}

/// Connects, asks, and reads until the first bytes are there.
async fn begin(target: Target, wanted: Wanted) -> Result<Held, Box<Failed>> {
    let began = Instant::now();
    let receipt_id = wanted.receipt_id.clone();
    let opened = async {
        let mut connection = Connection::open(&target, Some(HELD_RECEIVE_BUFFER)).await?;
        let stream = Stream::open(&target, &mut connection, &wanted).await?;
        Ok::<_, Fault>((connection, stream))
    };
    let (connection, mut stream) = match opened.await {
        Ok(opened) => opened,
        Err(fault) => return Err(Box::new(Failed { receipt_id, ended: Ended::refused(began, fault) })),
    };
    while !stream.is_midway() {
        match stream.read().await {
            Ok(true) => {}
            // It is at its end already, which the count of those in the middle will show.
            Ok(false) => break,
            Err(fault) => return Err(Box::new(Failed { receipt_id, ended: stream.ended(Some(fault)) })),
        }
    }
    Ok(Held { receipt_id, stream, _connection: connection })
}
