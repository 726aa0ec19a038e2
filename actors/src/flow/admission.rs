//! Admission: the only queue bound in the node.
//!
//! A mailbox is no bound (`Addr::send` ignores its capacity), so the bound is a permit, counted in items or bytes. The
//! permit travels inside the message or the stream and comes back when that is dropped, for whatever reason, so it
//! cannot be leaked. Mailboxes are opened without a limit, so that they never interfere.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A bound on work that is under way.
#[derive(Debug, Clone)]
pub struct Admission {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: &'static str,
    capacity: u32,
    permits: Arc<Semaphore>,
    refused: AtomicU64,
    waited_micros: AtomicU64,
}

/// The right to do an amount of work; dropping it gives the right back.
#[derive(Debug)]
pub struct Permit {
    _permit: OwnedSemaphorePermit,
}

/// The counters of an [`Admission`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionSnapshot {
    pub name: &'static str,
    pub capacity: u64,
    pub in_use: u64,
    /// Permits refused at once, or not given in time.
    pub refused: u64,
    /// Time that callers of [`Admission::admit`] spent waiting.
    pub waited: Duration,
}

impl Admission {
    /// At most `capacity` items (or bytes) at a time; `name` is a metric label.
    pub fn new(name: &'static str, capacity: u32) -> Self {
        let permits = Arc::new(Semaphore::new(capacity as usize));
        Self { inner: Arc::new(Inner { name, capacity, permits, refused: 0.into(), waited_micros: 0.into() }) }
    }

    /// A permit for `amount`, or `None` if that much is not free right now. For the edge of the node: the caller
    /// answers 503.
    pub fn try_admit(&self, amount: u32) -> Option<Permit> {
        match Arc::clone(&self.inner.permits).try_acquire_many_owned(amount) {
            Ok(permit) => Some(Permit { _permit: permit }),
            Err(_) => {
                self.refused();
                None
            }
        }
    }

    /// Counts a permit that was refused.
    pub(super) fn refused(&self) {
        self.inner.refused.fetch_add(1, Relaxed);
    }

    /// A permit for `amount` within `patience`. For work inside the node that may wait; the time waited is counted.
    pub async fn admit(&self, amount: u32, patience: Duration) -> Option<Permit> {
        if let Ok(permit) = Arc::clone(&self.inner.permits).try_acquire_many_owned(amount) {
            return Some(Permit { _permit: permit });
        }
        let began = Instant::now();
        let waited = tokio::time::timeout(patience, Arc::clone(&self.inner.permits).acquire_many_owned(amount)).await;
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.inner.waited_micros.fetch_add(micros, Relaxed);
        if let Ok(Ok(permit)) = waited {
            return Some(Permit { _permit: permit });
        }
        self.refused();
        None
    }

    /// How much is in use now.
    pub fn in_use(&self) -> u64 {
        u64::from(self.inner.capacity).saturating_sub(self.inner.permits.available_permits() as u64)
    }

    pub fn snapshot(&self) -> AdmissionSnapshot {
        AdmissionSnapshot {
            name: self.inner.name,
            capacity: u64::from(self.inner.capacity),
            in_use: self.in_use(),
            refused: self.inner.refused.load(Relaxed),
            waited: Duration::from_micros(self.inner.waited_micros.load(Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_given_back_when_it_is_dropped() {
        let admission = Admission::new("test", 3);
        let two = admission.try_admit(2).expect("two of three");
        assert!(admission.try_admit(2).is_none());
        assert_eq!((admission.in_use(), admission.snapshot().refused), (2, 1));
        drop(two);
        assert_eq!(admission.in_use(), 0);
        assert!(admission.try_admit(3).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_with_the_patience() {
        let admission = Admission::new("test", 1);
        let held = admission.try_admit(1).expect("free");
        assert!(admission.admit(1, Duration::from_secs(1)).await.is_none());
        drop(held);
        assert!(admission.admit(1, Duration::from_secs(1)).await.is_some());
    }
}
