//! Who gets a connection when there are not enough: the ledger first, housekeeping last, and no call waits in a long
//! queue.
//!
//! Three lanes share the pool's connections. The ledger's calls (leases, settlement, heartbeat) are few, serve many
//! streams each, and may use any connection. Requests leave a fifth of the connections to the ledger. Housekeeping uses
//! at most a fifth, out of the requests' share. So a thousand slow listings cannot keep the ledger from taking a lease,
//! and a Janitor with a year's work cannot delay a listing.
//!
//! Calls beyond that wait: at most `max_waiting` requests, each for at most `wait_timeout`. A request that finds the
//! queue full is refused at once. When the database slows down, an answer of 503 then costs microseconds instead of the
//! whole time-out, and the admitted requests are still served.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// The ledger has one part in this many of the connections to itself, and housekeeping may use as many at most.
const PART: usize = 5;

/// The purpose of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PoolLane {
    /// Leases, settlement, heartbeats: streams depend on them.
    Ledger,
    /// A client's request.
    Request,
    /// The Janitor, sweeps and audits.
    Upkeep,
}

impl PoolLane {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Request => "request",
            Self::Upkeep => "upkeep",
        }
    }
}

/// Why a call got no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GateRefusal {
    /// The queue is full.
    Away,
    /// The wait was too long.
    TooLong,
}

/// The bounds of a pool, as permits.
#[derive(Debug)]
pub(super) struct Gate {
    connections: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    upkeep: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_waiting: usize,
    wait_timeout: Duration,
}

/// The right to one connection.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    _permits: Vec<OwnedSemaphorePermit>,
}

/// One waiting call, counted for as long as this lives.
struct WaitingCall<'a>(&'a AtomicUsize);

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Gate {
    pub(super) fn new(connections: usize, max_waiting: usize, wait_timeout: Duration) -> Self {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Self {
            connections: semaphore(connections),
            requests: semaphore(connections - reserve(connections)),
            upkeep: semaphore(reserve(connections).max(1)),
            waiting: AtomicUsize::new(0),
            max_waiting,
            wait_timeout,
        }
    }

    /// The number of waiting calls.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    pub(super) async fn pass(&self, lane: PoolLane) -> Result<ConnectionPermit, GateRefusal> {
        if let Some(pass) = self.try_pass(lane) {
            return Ok(pass);
        }
        let before = self.waiting.fetch_add(1, Relaxed);
        let _waiting = WaitingCall(&self.waiting);
        // The ledger's calls are never refused: the actor that makes them bounds each of them.
        if lane != PoolLane::Ledger && before >= self.max_waiting {
            return Err(GateRefusal::Away);
        }
        let waiting = async {
            let mut permits = Vec::with_capacity(3);
            for permit in self.doors(lane) {
                // The semaphores are never closed.
                permits.push(Arc::clone(permit).acquire_owned().await.map_err(|_| GateRefusal::Away)?);
            }
            Ok(ConnectionPermit { _permits: permits })
        };
        timeout(self.wait_timeout, waiting).await.unwrap_or(Err(GateRefusal::TooLong))
    }

    fn try_pass(&self, lane: PoolLane) -> Option<ConnectionPermit> {
        let permits: Option<_> = self.doors(lane).map(|permit| Arc::clone(permit).try_acquire_owned().ok()).collect();
        Some(ConnectionPermit { _permits: permits? })
    }

    /// The permits that a lane needs, always in this order: a call that waits for a later permit holds only earlier
    /// ones.
    fn doors(&self, lane: PoolLane) -> impl Iterator<Item = &Arc<Semaphore>> {
        let upkeep = (lane == PoolLane::Upkeep).then_some(&self.upkeep);
        let requests = (lane != PoolLane::Ledger).then_some(&self.requests);
        [upkeep, requests, Some(&self.connections)].into_iter().flatten()
    }
}

/// Connections for the ledger alone. A pool of one connection has none to reserve.
const fn reserve(connections: usize) -> usize {
    let part = connections / PART;
    if part == 0 && connections > 1 { 1 } else { part }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONG: Duration = Duration::from_secs(1);

    fn free(gate: &Gate, lane: PoolLane) -> Vec<ConnectionPermit> {
        std::iter::from_fn(|| gate.try_pass(lane)).collect()
    }

    proptest! {
        #[test]
        fn requests_leave_the_ledger_something_and_housekeeping_leaves_requests_something(connections in 2..500_usize) {
            let gate = Gate::new(connections, 0, LONG);
            let housekeeping = free(&gate, PoolLane::Upkeep);
            prop_assert!(!housekeeping.is_empty());
            let requests = free(&gate, PoolLane::Request);
            prop_assert!(!requests.is_empty() || connections == 2);
            let ledger = free(&gate, PoolLane::Ledger);
            prop_assert!(!ledger.is_empty());
            prop_assert_eq!(housekeeping.len() + requests.len() + ledger.len(), connections);
            drop((housekeeping, requests, ledger));
            prop_assert_eq!(free(&gate, PoolLane::Ledger).len(), connections);
        }
    }

    #[test]
    fn the_default_pool_keeps_three_for_the_ledger_and_gives_housekeeping_three() {
        let gate = Gate::new(15, 0, LONG);
        assert_eq!(free(&gate, PoolLane::Upkeep).len(), 3);
        assert_eq!(free(&gate, PoolLane::Request).len(), 12);
    }

    #[test]
    fn a_pool_of_one_serves_every_lane() {
        let gate = Gate::new(1, 0, LONG);
        for lane in [PoolLane::Ledger, PoolLane::Request, PoolLane::Upkeep] {
            assert_eq!(free(&gate, lane).len(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_behind_a_full_queue_is_refused_at_once_and_a_ledger_call_is_not() {
        let gate = Arc::new(Gate::new(1, 1, LONG));
        let held = gate.pass(PoolLane::Request).await.expect("free");
        let wait = |lane| {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { gate.pass(lane).await })
        };
        let first = wait(PoolLane::Request);
        tokio::task::yield_now().await;
        assert_eq!(gate.waiting(), 1);
        assert_eq!(gate.pass(PoolLane::Request).await.expect_err("the queue is full"), GateRefusal::Away);
        let ledger = wait(PoolLane::Ledger);
        tokio::task::yield_now().await;
        assert_eq!(gate.waiting(), 2);
        drop(held);
        // It came later and is served first.
        drop(ledger.await.expect("no panic").expect("its turn"));
        drop(first.await.expect("no panic").expect("its turn"));
        assert_eq!(gate.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_and_leaves_nothing_held() {
        let gate = Gate::new(2, 8, LONG);
        let held = free(&gate, PoolLane::Ledger);
        assert_eq!(gate.pass(PoolLane::Upkeep).await.expect_err("none is free"), GateRefusal::TooLong);
        drop(held);
        assert_eq!(free(&gate, PoolLane::Ledger).len(), 2);
        assert_eq!((free(&gate, PoolLane::Upkeep).len(), gate.waiting()), (1, 0));
    }
}
