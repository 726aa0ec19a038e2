//! How many messages wait in a mailbox, and how long they waited.
//!
//! actix tells neither, so each message goes into the mailbox with the moment at which it was sent. A wait says how busy an actor is,
//! which no count of permits does: a permit covers the work as well. Actors that receive no messages, because timers drive them, have no
//! mailbox of this kind.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use actix::Message;

use crate::flow::timings::{Timings, TimingsSnapshot};

/// The mailbox of an actor, or of several that share their work.
#[derive(Debug)]
pub struct Mailbox {
    actor: &'static str,
    waiting: AtomicU64,
    waits: Timings,
}

impl Mailbox {
    /// `actor` is a metric label.
    pub(crate) fn of(actor: &'static str) -> Arc<Self> {
        Arc::new(Self { actor, waiting: AtomicU64::new(0), waits: Timings::default() })
    }

    /// A message that is about to be sent.
    pub(crate) fn post<M>(self: &Arc<Self>, message: M) -> Posted<M> {
        self.waiting.fetch_add(1, Relaxed);
        Posted { message, stay: Stay { mailbox: Arc::clone(self), since: Instant::now() } }
    }

    pub const fn actor(&self) -> &'static str {
        self.actor
    }

    /// Messages that no actor has begun to handle.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    /// How long messages waited, from their sending to their handling.
    pub fn waits(&self) -> TimingsSnapshot {
        self.waits.snapshot()
    }
}

/// A message in a mailbox.
pub(crate) struct Posted<M> {
    message: M,
    stay: Stay,
}

impl<M: Message<Result = ()>> Message for Posted<M> {
    type Result = ();
}

impl<M> Posted<M> {
    /// Takes the message out, to handle it.
    pub(crate) fn open(self) -> M {
        self.stay.mailbox.waits.record(self.stay.since.elapsed());
        self.message
    }
}

/// The stay of a message in a mailbox. It also ends when the actor dies, and its messages are dropped.
struct Stay {
    mailbox: Arc<Mailbox>,
    since: Instant,
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.mailbox.waiting.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_waits_until_it_is_opened_or_dropped() {
        let mailbox = Mailbox::of("test");
        let (first, second) = (mailbox.post(1), mailbox.post(2));
        assert_eq!((mailbox.waiting(), mailbox.waits().count), (2, 0));
        assert_eq!(first.open(), 1);
        assert_eq!((mailbox.waiting(), mailbox.waits().count), (1, 1));
        drop(second);
        assert_eq!((mailbox.waiting(), mailbox.waits().count), (0, 1), "it was never handled");
    }
}
