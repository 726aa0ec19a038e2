//! The inbox of the usage batcher: many threads put items into it, and one message has the batcher take them all.
//!
//! A message for each item would wake the batcher's thread for each, which costs a small stream more than all its own arithmetic. The
//! batcher is told of the first item, and of the one that makes a full batch. In between it looks by itself: when its timer
//! or the ledger's answer comes.
//!
//! **Bound.** Items carry permits, or are as many as there are leases; the inbox has no bound of its own.

use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
struct InboxState<T> {
    items: Vec<T>,
    /// The batcher will look without being told.
    is_watched: bool,
    /// It is told of this many items all the same.
    many: usize,
    is_closed: bool,
}

/// Items on their way to the one that takes them.
#[derive(Debug)]
pub(super) struct UsageInbox<T> {
    state: Mutex<InboxState<T>>,
}

/// What the one that has put in an item must do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PutIn<T> {
    /// Nothing.
    Kept,
    /// Tell the batcher to look.
    Tell,
    /// The batcher is gone. Here is the item.
    Closed(T),
}

impl<T> UsageInbox<T> {
    pub(super) fn new() -> Self {
        let state = InboxState { items: Vec::new(), is_watched: false, many: usize::MAX, is_closed: false };
        Self { state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, InboxState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, item: T) -> PutIn<T> {
        let mut state = self.state();
        if state.is_closed {
            return PutIn::Closed(item);
        }
        state.items.push(item);
        let tell = !state.is_watched || state.items.len() == state.many;
        state.is_watched = true;
        if tell { PutIn::Tell } else { PutIn::Kept }
    }

    /// Moves all items into `taken`, which must be empty.
    pub(super) fn take(&self, taken: &mut Vec<T>) {
        std::mem::swap(&mut self.state().items, taken);
    }

    /// Says that the batcher looks only when it is told. False if there are items, which it must take first.
    pub(super) fn rest(&self) -> bool {
        let mut state = self.state();
        state.is_watched = !state.items.is_empty();
        !state.is_watched
    }

    /// Says that the batcher looks by itself some time later, unless there are `many` items before. False if there are so many, which it
    /// must take first.
    pub(super) fn wait_for(&self, many: usize) -> bool {
        let mut state = self.state();
        state.many = many;
        state.items.len() < many
    }

    /// Takes no further items; returns those that were not taken.
    pub(super) fn close(&self) -> Vec<T> {
        let mut state = self.state();
        state.is_closed = true;
        std::mem::take(&mut state.items)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        thread,
    };

    use super::*;

    #[test]
    fn the_first_item_and_a_full_batch_are_told() {
        let inbox = UsageInbox::new();
        let mut puts = vec![inbox.put(0)];
        assert!(!inbox.wait_for(1), "there is one");
        assert!(inbox.wait_for(3));
        puts.extend((1..5).map(|item| inbox.put(item)));
        assert_eq!(puts, [PutIn::Tell, PutIn::Kept, PutIn::Tell, PutIn::Kept, PutIn::Kept]);
        assert!(!inbox.rest(), "there are items");
        let mut taken = Vec::new();
        inbox.take(&mut taken);
        assert_eq!(taken, [0, 1, 2, 3, 4]);
        assert_eq!(inbox.put(5), PutIn::Kept, "the taker has not rested");
        assert_eq!(inbox.close(), [5]);
        assert_eq!(inbox.put(6), PutIn::Closed(6));
        assert!(inbox.rest());
    }

    #[test]
    fn no_item_is_left_without_a_message() {
        const EACH: usize = 20_000;
        let inbox = Arc::new(UsageInbox::new());
        let (tell, told) = mpsc::channel();
        let putters: Vec<_> = (0..3)
            .map(|_| {
                let (inbox, tell) = (Arc::clone(&inbox), tell.clone());
                thread::spawn(move || {
                    for item in 0..EACH {
                        if inbox.put(item) == PutIn::Tell {
                            tell.send(()).expect("the taker lives");
                        }
                    }
                })
            })
            .collect();
        drop(tell);
        let (mut count, mut taken) = (0, Vec::new());
        // Looks at nothing but messages, so an item without one would be missing.
        for () in told {
            loop {
                inbox.take(&mut taken);
                count += taken.drain(..).count();
                if inbox.rest() {
                    break;
                }
            }
        }
        putters.into_iter().for_each(|putter| putter.join().expect("no panic"));
        assert_eq!(count, 3 * EACH);
    }
}
