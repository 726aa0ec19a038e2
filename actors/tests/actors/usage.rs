//! The usage batcher: whatever the ledger does, each row gets into it once, or is set aside because the ledger can
//! never take it.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use actix::Arbiter;
use jiff::Timestamp;
use penstock_actors::{
    clock::Clock as _,
    ids::{NodeId, UsageId},
    model::{Credit, LeaseSizing, Outcome, QuotaPolicy, UsageRow},
    ports::{Ledger as _, NoSpool, Release, Want},
    quota::{
        node_epoch::NodeEpochState,
        usage_batch::BatchLimits,
        usage_batcher::{UsageDeps, UsageHandle, UsageSettings},
    },
    testkit::{asked, script::Fault},
};
use proptest::prelude::*;

use crate::rig::{Right, World, bytes};

const PATIENCE: Duration = Duration::from_secs(30);

/// A batcher alone with its ledger.
struct Bench {
    world: World,
    usage: UsageHandle,
    epoch_state: Arc<NodeEpochState>,
    arbiter: Arbiter,
}

impl Bench {
    async fn start(rows: usize) -> Self {
        let world = World::default();
        let epoch_state = Arc::new(NodeEpochState::new(NodeId::random(), 1, world.clock.monotonic()));
        world.ledger.heartbeat(epoch_state.current(), PATIENCE).await.expect("known");
        let arbiter = Arbiter::new();
        let (ledger, clock) = (world.ledger.clone(), world.clock.clone());
        let deps = UsageDeps { ledger, clock, epoch_state: Arc::clone(&epoch_state), spool: Arc::new(NoSpool) };
        let limits = BatchLimits { rows, age: Duration::from_secs(3600) };
        let usage = UsageHandle::start(UsageSettings { limits, queue: 1000 }, deps, &arbiter.handle());
        assert!(usage.flush(PATIENCE).await, "it runs");
        Self { world, usage, epoch_state, arbiter }
    }

    fn row(&self, right: &Right, bytes_sent: u64, leased: bool) -> UsageRow {
        let now: Timestamp = self.world.now();
        UsageRow {
            usage_id: UsageId::next(),
            receipt_id: right.id,
            content_hash: right.hash,
            session_id: None,
            client: None,
            started_at: now,
            finished_at: now,
            bytes_sent,
            requests: 1,
            outcome: Outcome::Completed,
            lease_epoch: leased.then_some(self.epoch_state.current().epoch),
        }
    }

    fn record(&self, row: UsageRow) {
        let permit = self.usage.admit().expect("room");
        let spent = row.lease_epoch.map_or(Credit::ZERO, |_| Credit::new(row.bytes_sent, 0));
        self.usage.record(row, spent, permit);
    }

    async fn lease(&self, right: &Right, credit: Credit) {
        let want = Want { receipt_id: right.id, content_hash: right.hash, need: credit, want: credit };
        let (node, sizing) = (self.epoch_state.current(), LeaseSizing { divisor: 1 });
        let refill = self.world.ledger.refill(node, &[asked(want)], sizing, self.world.now()).await;
        assert_eq!(refill.expect("a lease")[0].granted, credit);
    }

    fn release(&self, right: &Right, credit: Credit) {
        let epoch = self.epoch_state.current().epoch;
        self.usage.release(Release { receipt_id: right.id, window: self.world.now(), epoch, credit });
    }

    fn recorded(&self) -> HashSet<UsageId> {
        self.world.ledger.rows().iter().map(|row| row.usage_id).collect()
    }

    fn set_aside(&self) -> u64 {
        assert_eq!(self.usage.counters().dropped.load(SeqCst), 0, "nothing is dropped");
        self.usage.counters().set_aside.load(SeqCst)
    }

    async fn end(self) {
        assert!(self.usage.flush(PATIENCE).await, "everything comes to an end");
        assert_eq!(self.usage.queue().in_use, 0, "every permit is back");
        self.world.ledger.check();
        self.arbiter.stop();
    }
}

#[actix::test]
async fn the_age_of_a_batch_is_from_the_end_of_its_oldest_stream() {
    let bench = Bench::start(64).await;
    let right = bench.world.receipt(QuotaPolicy::default(), 10);
    bench.record(bench.row(&right, 10, false));
    bench.world.clock.advance(Duration::from_secs(20));
    bench.record(bench.row(&right, 10, false));
    bench.world.clock.advance(Duration::from_secs(1));
    assert!(bench.usage.flush(PATIENCE).await);
    let (ages, flushes) = (bench.usage.counters().ages.snapshot(), bench.usage.counters().flushes.snapshot());
    assert_eq!((ages.count, ages.sum), (1, Duration::from_secs(21)));
    assert_eq!(flushes.count, 1);
    bench.end().await;
}

#[actix::test]
async fn a_row_that_the_ledger_can_never_take_is_found_and_harms_no_other() {
    let bench = Bench::start(64).await;
    let (good, bad) =
        (bench.world.receipt(QuotaPolicy::default(), 10), bench.world.receipt(QuotaPolicy::default(), 10));
    bench.world.ledger.poison(bad.id);
    for n in 0..64 {
        bench.record(bench.row(if n == 37 { &bad } else { &good }, 10, false));
    }
    assert!(bench.usage.flush(PATIENCE).await);
    assert_eq!((bench.recorded().len(), bench.set_aside()), (63, 1));
    bench.end().await;
}

#[actix::test]
async fn a_row_that_can_never_be_taken_lets_the_release_beside_it_through() {
    let bench = Bench::start(64).await;
    let (good, bad) = (bench.world.receipt(bytes(1000), 10), bench.world.receipt(QuotaPolicy::default(), 10));
    bench.world.ledger.poison(bad.id);
    bench.lease(&good, Credit::new(100, 0)).await;
    bench.record(bench.row(&bad, 10, false));
    bench.release(&good, Credit::new(100, 0));
    assert!(bench.usage.flush(Duration::from_secs(5)).await, "the batch comes to an end");
    assert_eq!(bench.set_aside(), 1);
    assert_eq!(bench.world.ledger.leased(), []);
    bench.end().await;
}

#[actix::test]
async fn a_batch_whose_answer_was_lost_counts_once() {
    let bench = Bench::start(4).await;
    let right = bench.world.receipt(QuotaPolicy::default(), 10);
    bench.world.ledger.script.next("settle", [Fault::AnswerLost, Fault::Unavailable, Fault::AnswerLost]);
    for _ in 0..10 {
        bench.record(bench.row(&right, 10, false));
    }
    assert!(bench.usage.flush(PATIENCE).await);
    assert_eq!(bench.world.ledger.hour(right.id, bench.world.now()).0, Credit::new(100, 10));
    assert_eq!(bench.usage.counters().retries.load(SeqCst), 3);
    bench.end().await;
}

#[actix::test]
async fn a_flush_waits_for_what_was_recorded_before_it() {
    let bench = Bench::start(4).await;
    let right = bench.world.receipt(QuotaPolicy::default(), 10);
    let held = bench.world.ledger.script.hold("settle");
    bench.record(bench.row(&right, 10, false));
    assert!(!bench.usage.flush(Duration::from_millis(20)).await, "the ledger has not answered");
    drop(held);
    assert!(bench.usage.flush(PATIENCE).await);
    bench.end().await;
}

#[derive(Debug, Clone)]
enum Step {
    Row { receipt: usize, bytes: u64 },
    Release { bytes: u64 },
    Fault(Fault),
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fault = prop_oneof![Just(Fault::Unavailable), Just(Fault::AnswerLost), Just(Fault::Full)];
    let step = prop_oneof![
        20 => (0_usize..4, 0_u64..20).prop_map(|(receipt, bytes)| Step::Row { receipt, bytes }),
        6 => (1_u64..20).prop_map(|bytes| Step::Release { bytes }),
        1 => fault.prop_map(Step::Fault),
        2 => Just(Step::Flush),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn nothing_is_lost_and_nothing_doubled_whatever_the_ledger_does(steps in steps(), limit in 1_usize..9) {
        actix::System::new().block_on(async move {
            let bench = Bench::start(limit).await;
            let leased = bench.world.receipt(bytes(1 << 20), 10);
            bench.lease(&leased, Credit::new(1 << 20, 0)).await;
            // One receipt is leased, two have no limits, and the last can never be settled.
            let others: Vec<_> = (0..3).map(|_| bench.world.receipt(QuotaPolicy::default(), 10)).collect();
            bench.world.ledger.poison(others[2].id);
            let (mut good, mut poisoned, mut left) = (HashSet::new(), 0, 1_u64 << 20);
            for step in steps {
                match step {
                    Step::Row { receipt, bytes } => {
                        let right = if receipt == 0 { &leased } else { &others[receipt - 1] };
                        let row = bench.row(right, bytes, receipt == 0);
                        if receipt == 3 { poisoned += 1 } else { good.insert(row.usage_id); }
                        left -= if receipt == 0 { bytes } else { 0 };
                        bench.record(row);
                    }
                    Step::Release { bytes } => {
                        left -= bytes;
                        bench.release(&leased, Credit::new(bytes, 0));
                    }
                    Step::Fault(fault) => bench.world.ledger.script.next("settle", [fault]),
                    Step::Flush => assert!(bench.usage.flush(PATIENCE).await),
                }
            }
            assert!(bench.usage.flush(PATIENCE).await);
            assert_eq!(bench.recorded(), good);
            assert_eq!(bench.set_aside(), poisoned);
            let still_leased: u64 = bench.world.ledger.leased().iter().map(|lease| lease.bytes).sum();
            assert_eq!(still_leased, left, "each row and each release is taken off the lease once");
            bench.end().await;
        });
    }
}
