//! Rate limits in this process: the counters of all subjects, spread over shards.
//!
//! Each subject belongs to one shard. Its lock is held for two look-ups and never across an await, so checks of
//! different clients seldom meet. A shard keeps two tables, for the current window and the one before. When a window
//! ends, the tables swap and the older one is emptied. So old counts go without a pass over the others.
//!
//! **Bound.** The subjects of a window. When a shard is full, it drops the half with the fewest requests: an attacker
//! with very many addresses displaces other subjects with few requests, and no client that is at its limit.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;

use crate::{
    clock::Clock,
    model::{
        Subject,
        rate_window::{CountRequest, RateWindow, WindowTime},
    },
    ports::{PortResult, RateGrant, RateLimits},
};

/// Enough that threads of a large machine seldom wait for each other.
const SHARDS: usize = 64;

/// Counters of requests per subject.
pub struct RateCounters {
    clock: Arc<dyn Clock>,
    /// When the first window began.
    began: Instant,
    /// In milliseconds.
    window: u64,
    /// Subjects that a shard keeps of each window.
    room: usize,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Default)]
struct Shard {
    window: u64,
    current: HashMap<Subject, u32>,
    previous: HashMap<Subject, u32>,
}

impl RateCounters {
    /// Counts in windows of this length (whole milliseconds), for about `subjects` subjects.
    pub fn new(clock: Arc<dyn Clock>, window: Duration, subjects: usize) -> Self {
        Self {
            began: clock.monotonic(),
            clock,
            window: u64::try_from(window.as_millis()).unwrap_or(u64::MAX).max(1),
            room: subjects.div_ceil(SHARDS).max(2),
            hasher: RandomState::new(),
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
        }
    }

    /// Like [`RateLimits::take`], without waiting.
    pub fn count(&self, subject: &Subject, ask: CountRequest) -> RateGrant {
        let shard = self.hasher.hash_one(subject) as usize % SHARDS;
        let (mut shard, at) = self.enter(&self.shards[shard]);
        let mut counts = shard.counts(subject);
        let granted = counts.take(ask, at);
        if granted > 0 {
            shard.keep(subject, counts.current, self.room);
        }
        RateGrant::of(granted, counts, ask.limit, at)
    }

    /// Subjects in memory; one that has counts in both windows counts twice.
    pub fn subjects(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| self.enter(shard).0)
            .map(|shard| shard.current.len() + shard.previous.len())
            .sum()
    }

    /// A shard, moved on to the current window. The clock is read under the lock, so that no old window comes back.
    fn enter<'a>(&self, shard: &'a Mutex<Shard>) -> (MutexGuard<'a, Shard>, WindowTime) {
        // Every change under the lock is complete before any code can panic.
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let since = self.clock.monotonic().saturating_duration_since(self.began).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        shard.roll(since / self.window);
        (shard, WindowTime { elapsed: since % self.window, window: self.window })
    }
}

impl Shard {
    fn roll(&mut self, window: u64) {
        if window == self.window {
            return;
        }
        std::mem::swap(&mut self.current, &mut self.previous);
        self.current.clear();
        if window != self.window + 1 {
            self.previous.clear();
        }
        self.window = window;
    }

    fn counts(&self, subject: &Subject) -> RateWindow {
        let of = |table: &HashMap<Subject, u32>| table.get(subject).copied().unwrap_or_default();
        RateWindow { previous: of(&self.previous), current: of(&self.current) }
    }

    fn keep(&mut self, subject: &Subject, count: u32, room: usize) {
        if self.current.len() >= room && !self.current.contains_key(subject) {
            self.forget_half();
        }
        self.current.insert(*subject, count);
    }

    /// Drops the half with the fewest requests.
    fn forget_half(&mut self) {
        let mut counts: Vec<_> = self.current.values().copied().collect();
        let half = counts.len().div_ceil(2);
        let (_, &mut least, _) = counts.select_nth_unstable(half - 1);
        // Of the subjects with exactly `least` requests, drop only as many as needed.
        let mut of_these = half - counts.iter().filter(|&&count| count < least).count();
        self.current.retain(|_, count| {
            let goes = *count < least || *count == least && of_these > 0;
            if *count == least {
                of_these = of_these.saturating_sub(1);
            }
            !goes
        });
    }
}

#[async_trait]
impl RateLimits for RateCounters {
    async fn take(&self, subject: &Subject, ask: CountRequest) -> PortResult<RateGrant> {
        Ok(self.count(subject, ask))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::{
        clock::SystemClock,
        model::Client,
        testkit::{clock::ManualClock, rate_limits_suite},
    };

    const WINDOW: Duration = Duration::from_secs(3);

    fn subject(number: u32) -> Subject {
        Subject { class: "streaming", client: Client::at(IpAddr::V4(number.into())) }
    }

    #[tokio::test]
    async fn the_counters_keep_what_the_port_promises() {
        let clock = Arc::new(ManualClock::at("2027-03-04T05:06:07Z"));
        let counters = Arc::new(RateCounters::new(clock.clone(), WINDOW, 1000));
        rate_limits_suite::run(counters, WINDOW, async |by| clock.advance(by)).await;
    }

    #[test]
    fn subjects_go_by_themselves_after_two_windows() {
        let clock = Arc::new(ManualClock::at("2027-03-04T05:06:07Z"));
        let counters = RateCounters::new(clock.clone(), WINDOW, 10_000);
        for number in 0..1000 {
            counters.count(&subject(number), CountRequest::one(5));
        }
        assert_eq!(counters.subjects(), 1000);
        clock.advance(WINDOW);
        assert_eq!(counters.subjects(), 1000);
        clock.advance(WINDOW);
        assert_eq!(counters.subjects(), 0);
    }

    #[test]
    fn a_flood_of_addresses_uses_bounded_memory_and_frees_no_client_at_its_limit() {
        let clock = Arc::new(ManualClock::at("2027-03-04T05:06:07Z"));
        let counters = RateCounters::new(clock, WINDOW, 6400);
        let greedy = subject(u32::MAX);
        while counters.count(&greedy, CountRequest::one(100)).granted > 0 {}
        for number in 0..100_000 {
            counters.count(&subject(number), CountRequest::one(100));
        }
        assert!(counters.subjects() <= 6400, "{}", counters.subjects());
        assert_eq!(counters.count(&greedy, CountRequest::one(100)).granted, 0);
    }

    #[test]
    fn threads_that_count_at_once_never_pass_the_limit_together() {
        let counters = RateCounters::new(Arc::new(SystemClock), Duration::from_hours(1), 1000);
        let granted: u32 = std::thread::scope(|scope| {
            let asks = || (0..2000).map(|_| counters.count(&subject(1), CountRequest::one(1000)).granted).sum::<u32>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(asks)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(granted, 1000);
    }
}
