//! Single flight: one load under way for a key, shared by all who ask meanwhile.
//!
//! Who begins a load holds a [`Flight`], everybody who waits a [`Ticket`]. A load that began before an invalidation is no
//! longer joined: whoever asks then begins another one in its place. **Bound.** As many as there are permits for loads.

use std::{
    collections::{HashMap, hash_map},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{generations::Generation, memory::Value};
use crate::ports::{EntryKey, PortError, PortResult};

/// What came of a load; `None` while it is under way.
type Outcome = Option<Result<Value, Arc<PortError>>>;

#[derive(Default)]
pub(super) struct Flights {
    under_way: Arc<Mutex<HashMap<EntryKey, UnderWay>>>,
}

struct UnderWay {
    born: Generation,
    outcome: watch::Receiver<Outcome>,
}

/// How whoever asks gets its answer.
pub(super) enum Arrival {
    /// It has just come.
    There(Value),
    Joined(Ticket),
    /// Nobody is under way: the one with the flight has to be.
    First(Flight, Ticket),
}

impl Flights {
    /// Joins the load of a key if `joins` says so of when it began, or begins one as of `born`, unless its value is there by
    /// now.
    pub(super) fn board(
        &self,
        key: &EntryKey,
        born: Generation,
        joins: impl Fn(Generation) -> bool,
        arrived: impl FnOnce() -> Option<Value>,
    ) -> Arrival {
        let mut under_way = held(&self.under_way);
        if let Some(flight) = under_way.get(key).filter(|flight| joins(flight.born)) {
            return Arrival::Joined(Ticket(flight.outcome.clone()));
        }
        if let Some(value) = arrived() {
            return Arrival::There(value);
        }
        let (sender, outcome) = watch::channel(None);
        under_way.insert(key.clone(), UnderWay { born, outcome: outcome.clone() });
        let flight = Flight { key: key.clone(), born, outcome: sender, under_way: Arc::clone(&self.under_way) };
        Arrival::First(flight, Ticket(outcome))
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right and the duty to bring a value. When it is dropped, nobody joins any more; whoever still waits gets an error.
pub(super) struct Flight {
    key: EntryKey,
    born: Generation,
    outcome: watch::Sender<Outcome>,
    under_way: Arc<Mutex<HashMap<EntryKey, UnderWay>>>,
}

impl Flight {
    pub(super) const fn born(&self) -> Generation {
        self.born
    }

    /// Answers everybody who waits, and who still joins.
    pub(super) fn answer(&self, outcome: Result<Value, Arc<PortError>>) {
        self.outcome.send_replace(Some(outcome));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut under_way = held(&self.under_way);
        if let hash_map::Entry::Occupied(entry) = under_way.entry(self.key.clone())
            && entry.get().outcome.same_channel(&self.outcome.subscribe())
        {
            entry.remove();
        }
    }
}

/// A place among those who wait for a load.
pub(super) struct Ticket(watch::Receiver<Outcome>);

impl Ticket {
    pub(super) async fn value(&mut self) -> PortResult<Value> {
        let gone = || PortError::unavailable("the cache", "the load ended without an answer");
        let outcome = self.0.wait_for(Option::is_some).await.map_err(|_| gone())?.clone();
        outcome.ok_or_else(gone)?.map_err(|error| PortError::shared(&error))
    }
}
