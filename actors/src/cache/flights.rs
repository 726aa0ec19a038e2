//! Single flight: one load at a time for a key, shared by all concurrent requests for it.
//!
//! The request that starts a load holds its [`Flight`]; every request that waits holds a [`Ticket`]. A load that began
//! before an invalidation is not joined any more: the next request starts another load in its place. **Bound.** As many
//! flights as there are permits for loads.

use std::{
    collections::{HashMap, hash_map},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{generations::Generation, memory::Value};
use crate::ports::{EntryKey, PortError, PortResult};

/// The result of a load; `None` while it is under way.
type Outcome = Option<Result<Value, Arc<PortError>>>;

#[derive(Default)]
pub(super) struct Flights {
    under_way: Arc<Mutex<HashMap<EntryKey, UnderWay>>>,
}

struct UnderWay {
    born: Generation,
    outcome: watch::Receiver<Outcome>,
}

/// How a request gets its answer.
pub(super) enum Arrival {
    /// The value arrived just now.
    There(Value),
    Joined(Ticket),
    /// No load is under way: the holder of the flight has to do it.
    First(Flight, Ticket),
}

impl Flights {
    /// Joins the load of a key if `joins` accepts the time at which it began. Otherwise returns a value that has just
    /// arrived, or begins a load as of `born`.
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

/// The right and the duty to load a value. When it is dropped, no request can join any more, and those that still wait
/// get an error.
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

    /// Answers all requests that wait, and those that still join.
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

/// A request's place among those that wait for a load.
pub(super) struct Ticket(watch::Receiver<Outcome>);

impl Ticket {
    pub(super) async fn value(&mut self) -> PortResult<Value> {
        let gone = || PortError::unavailable("the cache", "the load ended without an answer");
        let outcome = self.0.wait_for(Option::is_some).await.map_err(|_| gone())?.clone();
        outcome.ok_or_else(gone)?.map_err(|error| PortError::shared(&error))
    }
}
