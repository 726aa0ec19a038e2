use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use async_trait::async_trait;
use futures::future::join_all;
use proptest::prelude::*;

use super::{allowance::SPARE_PARTS, *};
use crate::{
    model::{
        Client,
        rate_window::{RateWindow, WindowTime},
    },
    ports::PortResult,
    testkit::{clock::ManualClock, script::Script},
};

const WINDOW: Duration = Duration::from_secs(60);

fn subject(number: u32) -> Subject {
    Subject { class: "streaming", client: Client::at(IpAddr::V4(Ipv4Addr::from_bits(number))) }
}

/// A store in memory whose faults follow a script.
struct Store {
    script: Script,
    counters: RateCounters,
}

#[async_trait]
impl RateLimits for Store {
    async fn take(&self, subject: &Subject, ask: CountRequest) -> PortResult<RateGrant> {
        self.script.play("take", ask.need as usize, || Ok(self.counters.count(subject, ask))).await
    }
}

struct World {
    clock: Arc<dyn Clock>,
    manual: Arc<ManualClock>,
    store: Arc<Store>,
    instances: Arc<AtomicU32>,
}

impl World {
    fn new() -> Self {
        let manual = Arc::new(ManualClock::at("2027-03-04T05:06:07Z"));
        let clock: Arc<dyn Clock> = manual.clone();
        let counters = RateCounters::new(clock.clone(), WINDOW, 1000);
        let store = Arc::new(Store { script: Script::default(), counters });
        Self { clock, manual, store, instances: Arc::new(AtomicU32::new(1)) }
    }

    fn limiter(&self) -> RateLimiter {
        let instances = Arc::clone(&self.instances);
        let sharing = Sharing {
            limits: self.store.clone(),
            instances: Arc::new(move || instances.load(Relaxed)),
            io: Handle::current(),
        };
        RateLimiter::new(&self.clock, WINDOW, 1000, Some(sharing))
    }

    fn trips(&self) -> usize {
        self.store.script.calls("take").len()
    }
}

/// How many of `checks` consecutive checks are admitted.
async fn let_in(limiter: &RateLimiter, subject: &Subject, limit: u32, checks: usize) -> u32 {
    let mut allowed = 0;
    for _ in 0..checks {
        allowed += u32::from(limiter.check(subject, limit).await.allowed);
    }
    allowed
}

#[tokio::test]
async fn a_client_of_one_instance_gets_the_whole_limit_for_few_round_trips() {
    let world = World::new();
    let limiter = world.limiter();
    assert_eq!(let_in(&limiter, &subject(1), 6000, 7000).await, 6000);
    assert!(world.trips() < 60, "{}", world.trips());
    let refused = limiter.check(&subject(1), 6000).await;
    assert_eq!((refused.allowed, refused.remaining, refused.counted), (false, 0, CountedBy::Shared));
    assert!(refused.more_after > Duration::from_secs(59));
}

#[tokio::test]
async fn who_is_refused_costs_the_store_nothing_until_there_is_more() {
    let world = World::new();
    let limiter = world.limiter();
    let_in(&limiter, &subject(1), 10, 11).await;
    let before = world.trips();
    let_in(&limiter, &subject(1), 10, 1000).await;
    assert_eq!(world.trips(), before);
    let more_after = limiter.check(&subject(1), 10).await.more_after;
    world.manual.advance(more_after);
    assert!(limiter.check(&subject(1), 10).await.allowed);
}

#[tokio::test]
async fn instances_share_one_limit() {
    let world = World::new();
    world.instances.store(3, Relaxed);
    let limiters = [world.limiter(), world.limiter(), world.limiter()];
    let mut allowed = 0;
    for turn in 0..2000 {
        allowed += u32::from(limiters[turn % 3].check(&subject(1), 600).await.allowed);
    }
    assert_eq!(allowed, 600);
}

#[tokio::test]
async fn checks_at_once_share_round_trips() {
    let world = World::new();
    let limiter = world.limiter();
    let held = world.store.script.hold("take");
    let subject = subject(1);
    let checks = async {
        let verdicts = join_all((0..500).map(|_| limiter.check(&subject, 100))).await;
        verdicts.iter().filter(|verdict| verdict.allowed).count()
    };
    let open = async {
        while world.trips() == 0 {
            tokio::task::yield_now().await;
        }
        drop(held);
    };
    let (allowed, ()) = tokio::join!(checks, open);
    assert_eq!(allowed, 100);
    // The first asks for itself, the next for all that came meanwhile, and the last is told that nothing is left.
    assert!(world.trips() <= 3, "{:?}", world.store.script.calls("take"));
}

#[tokio::test]
async fn a_client_that_leaves_takes_no_answer_from_another_client() {
    let world = World::new();
    let limiter = world.limiter();
    let held = world.store.script.hold("take");
    let subject = subject(1);
    let mut first = Box::pin(limiter.check(&subject, 5));
    let mut second = Box::pin(limiter.check(&subject, 5));
    assert!(futures::poll!(&mut first).is_pending());
    assert!(futures::poll!(&mut second).is_pending());
    drop(first);
    drop(held);
    assert!(second.await.allowed);
    // No request counts as waiting any more; otherwise the next question would be for more than one.
    let_in(&limiter, &subject, 5, 10).await;
    assert!(world.store.script.calls("take").iter().all(|&need| need <= 2));
}

#[tokio::test]
async fn without_the_store_each_instance_limits_at_its_share_and_goes_back_by_itself() {
    let world = World::new();
    world.instances.store(4, Relaxed);
    let limiter = world.limiter();
    world.store.script.set_down(true);
    let verdict = limiter.check(&subject(1), 100).await;
    assert_eq!((verdict.allowed, verdict.limit, verdict.counted), (true, 25, CountedBy::Alone));
    assert_eq!(let_in(&limiter, &subject(1), 100, 200).await, 24);
    let refused = limiter.check(&subject(1), 100).await;
    assert!(!refused.allowed && refused.more_after > Duration::from_secs(59));
    // A share is never zero.
    assert_eq!(let_in(&limiter, &subject(2), 3, 10).await, 1);
    world.store.script.set_down(false);
    let verdict = limiter.check(&subject(1), 100).await;
    assert_eq!((verdict.allowed, verdict.limit, verdict.counted), (true, 100, CountedBy::Shared));
}

#[tokio::test]
async fn what_was_taken_before_the_store_went_is_spent_first() {
    let world = World::new();
    let limiter = world.limiter();
    let before = limiter.check(&subject(1), 100).await;
    world.store.script.set_down(true);
    let mut last = before;
    while last.counted == CountedBy::Shared {
        last = limiter.check(&subject(1), 100).await;
    }
    let trips = world.store.script.calls("take");
    assert_eq!((trips.len(), last.counted), (2, CountedBy::Alone), "{trips:?}");
}

#[tokio::test]
async fn without_a_store_requests_are_counted_here() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at("2027-03-04T05:06:07Z"));
    let limiter = RateLimiter::new(&clock, WINDOW, 1000, None);
    assert_eq!(let_in(&limiter, &subject(1), 10, 20).await, 10);
    let verdict = limiter.check(&subject(2), 10).await;
    assert_eq!((verdict.remaining, verdict.counted, limiter.subjects()), (9, CountedBy::Here, 2));
}

#[tokio::test]
async fn a_flood_of_subjects_takes_bounded_room() {
    let world = World::new();
    let limiter = world.limiter();
    for number in 0..5000 {
        assert!(limiter.check(&subject(number), 10).await.allowed);
    }
    assert!(limiter.subjects() <= 1100, "{}", limiter.subjects());
}

/// Instances, a store, and messages between them that take time. Times are in milliseconds of true time, which is the
/// store's. Each instance has a clock with its own offset that runs equally fast.
#[derive(Debug)]
struct Cluster {
    limit: u32,
    store: RateWindow,
    window: u64,
    instances: Vec<(Allowance, Duration)>,
    epoch: Instant,
    let_in: HashMap<u64, u32>,
}

const SHORT: u64 = 1000;

impl Cluster {
    fn at(&mut self, time: u64) -> WindowTime {
        while self.window < time / SHORT {
            self.store = self.store.next();
            self.window += 1;
        }
        WindowTime { elapsed: time % SHORT, window: SHORT }
    }

    fn clock(&self, instance: usize, time: u64) -> Instant {
        self.epoch + self.instances[instance].1 + Duration::from_millis(time)
    }

    /// A request at an instance. When the store must be asked, its answer arrives after both delays.
    fn request(&mut self, instance: usize, time: u64, there: u64, back: u64) -> Result<u64, TestCaseError> {
        let now = self.clock(instance, time);
        let mut end = time;
        let mut grant = self.instances[instance].0.spend(now);
        if grant.is_none() {
            let at = self.at(time + there);
            let spare_parts = SPARE_PARTS * self.instances.len() as u32;
            let granted = self.store.take(CountRequest { limit: self.limit, need: 1, spare_parts }, at);
            self.instances[instance].0.deposit(RateGrant::of(granted, self.store, self.limit, at), now);
            end = time + there + back;
            let now = self.clock(instance, end);
            grant = self.instances[instance].0.spend(now);
            if granted == 0 {
                // A refused client may only have missed the permits that the other instances still hold for this window.
                let unspent: u32 = (0..self.instances.len())
                    .map(|other| self.instances[other].0.permits(self.clock(other, end)))
                    .sum();
                prop_assert!(unspent <= self.limit / SPARE_PARTS, "{unspent} of {}", self.limit);
            }
        }
        if grant.is_some_and(|grant| grant.granted > 0) {
            let count = self.let_in.entry(end / SHORT).or_default();
            *count += 1;
            prop_assert!(*count <= self.limit, "{count} of {} in a window", self.limit);
        }
        Ok(end)
    }
}

proptest! {
    #[test]
    fn slow_messages_and_wrong_clocks_never_let_instances_pass_a_windows_limit(
        limit in 1..200_u32,
        clocks in prop::collection::vec(0..10_000_u64, 1..6),
        requests in prop::collection::vec((any::<prop::sample::Index>(), 0..40_u64, 0..60_u64, 0..60_u64), 1..600),
    ) {
        let epoch = Instant::now();
        let off = |millis: &u64| (Allowance::none(epoch), Duration::from_millis(*millis));
        let mut cluster = Cluster {
            limit,
            store: RateWindow::default(),
            window: 0,
            instances: clocks.iter().map(off).collect(),
            epoch,
            let_in: HashMap::new(),
        };
        let mut time = 0;
        for (instance, pause, there, back) in requests {
            // Messages of one client, one at a time: what matters is when permits are counted and when they are spent.
            time = cluster.request(instance.index(clocks.len()), time + pause, there, back)?;
        }
    }
}

#[test]
fn a_store_is_asked_at_most_once_per_100_milliseconds_for_one_subject() {
    let start = Instant::now();
    let mut allowance = Allowance::none(start);
    let refusal = RateGrant { granted: 0, remaining: 0, valid_for: WINDOW, more_after: Duration::from_millis(1) };
    allowance.deposit(refusal, start);
    assert!(allowance.spend(start + Duration::from_millis(99)).is_some());
    assert!(allowance.spend(start + Duration::from_millis(100)).is_none());
    assert!(allowance.is_idle(start + Duration::from_millis(100)));
}
