//! Several nodes over one ledger, with crashes and reclaims: no limit is exceeded, and no node gives away credit that
//! it lost.

use std::{collections::HashMap, time::Duration};

use futures::FutureExt as _;
use jiff::Timestamp;
use penstock_actors::{
    clock::Clock as _,
    ids::{NodeId, UsageId},
    model::{Credit, LeaseSizing, LostLease, NodeEpoch, Outcome, UsageRow, WindowKind},
    ports::{Ledger as _, Release, SettleBatch},
    quota::book::{BookDecision, DecisionTime, Demand, Freshness, Grant, QuotaBook},
    testkit::asked,
};
use proptest::prelude::*;

use crate::rig::{self, LEASE_TTL, Right, World, bytes};

const SIZE: u64 = 500;
const SIZING: LeaseSizing = LeaseSizing { divisor: 8 };

struct Stream {
    grant: Grant,
    sent: u64,
}

struct Instance {
    id: NodeEpoch,
    book: QuotaBook,
    sequence: i64,
    may_spend: bool,
    running: Vec<Stream>,
}

struct Cluster {
    world: World,
    right: Right,
    mode: LostLease,
    nodes: Vec<Instance>,
    /// The bytes that connections took, by the hour in which their stream started.
    sent: HashMap<Timestamp, u64>,
}

/// The ports of the model are ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the model ledger does not wait")
}

impl Instance {
    fn new(id: NodeEpoch) -> Self {
        let book = QuotaBook::new(rig::settings().quota.book);
        Self { id, book, sequence: 0, may_spend: true, running: Vec::new() }
    }
}

impl Cluster {
    fn new(mode: LostLease, limit: u64) -> Self {
        let world = World::default();
        let right = world.receipt(bytes(limit), SIZE);
        let nodes = (0..3).map(|_| Instance::new(NodeEpoch { node: NodeId::random(), epoch: 1 })).collect();
        let cluster = Self { world, right, mode, nodes, sent: HashMap::new() };
        for node in &cluster.nodes {
            now(cluster.world.ledger.heartbeat(node.id, LEASE_TTL)).expect("known");
        }
        cluster
    }

    fn moment(&self, at: usize) -> DecisionTime {
        let node = &self.nodes[at];
        DecisionTime {
            wall: self.world.now(),
            monotonic: self.world.clock.monotonic(),
            epoch: node.id.epoch,
            may_spend: node.may_spend,
        }
    }

    fn settle(&mut self, at: usize, rows: Vec<UsageRow>, releases: Vec<Release>) {
        let node = &mut self.nodes[at];
        node.sequence += 1;
        let batch = SettleBatch { node: node.id, sequence: node.sequence, rows, releases };
        now(self.world.ledger.settle(&batch)).expect("settled");
    }

    /// As a shard does: one refill, and then its answer decides.
    fn acquire(&mut self, at: usize, demand: Demand) {
        let (ask, moment) = (self.right.ask(demand), self.moment(at));
        for _ in 0..2 {
            let node = &mut self.nodes[at];
            match node.book.acquire(&ask, &moment, Freshness::Required) {
                BookDecision::Granted(grant) => return node.running.push(Stream { grant, sent: 0 }),
                BookDecision::Refused(_) => return,
                BookDecision::Refill(want) => {
                    let refill = now(self.world.ledger.refill(node.id, &[asked(want)], SIZING, moment.wall));
                    let Ok(mut refills) = refill else { return };
                    let release = node.book.apply(self.right.id, refills.remove(0), &moment);
                    self.settle(at, Vec::new(), release.into_iter().collect());
                }
            }
        }
    }

    fn send(&mut self, at: usize, which: usize, share: u64) {
        let running = &mut self.nodes[at].running;
        if running.is_empty() {
            return;
        }
        let which = which % running.len();
        let stream = &mut running[which];
        let sent = (stream.grant.reserved.bytes - stream.sent) * share / 100;
        stream.sent += sent;
        *self.sent.entry(WindowKind::Hour.window(stream.grant.started_at).start).or_default() += sent;
    }

    fn end(&mut self, at: usize, which: usize) {
        let node = &mut self.nodes[at];
        if node.running.is_empty() {
            return;
        }
        let Stream { grant, sent } = node.running.swap_remove(which % node.running.len());
        let credit = Credit::new(sent, u64::from(sent > 0));
        let release = node.book.settle(self.right.id, grant.leased, credit, grant.lease_epoch, grant.started_at);
        let row = UsageRow {
            usage_id: UsageId::next(),
            receipt_id: self.right.id,
            content_hash: self.right.hash,
            session_id: None,
            client: None,
            started_at: grant.started_at,
            finished_at: self.world.now(),
            bytes_sent: sent,
            requests: 1,
            outcome: Outcome::Aborted,
            lease_epoch: grant.lease_epoch,
        };
        let rows = if sent > 0 { vec![row] } else { Vec::new() };
        self.settle(at, rows, release.into_iter().collect());
    }

    /// The process is gone, with its streams and their unsettled bytes; it starts again.
    fn crash(&mut self, at: usize) {
        let id = self.nodes[at].id;
        now(self.world.ledger.declare_dead(id)).expect("its process is gone");
        self.nodes[at] = Instance::new(NodeEpoch { epoch: id.epoch + 1, ..id });
        now(self.world.ledger.heartbeat(self.nodes[at].id, LEASE_TTL)).expect("a new life");
    }

    /// The node is not heard of and stops spending; its streams go on. Its leases are reclaimed, and it comes back.
    fn fence(&mut self, at: usize) {
        self.nodes[at].may_spend = false;
        self.acquire(at, Demand::Whole);
        self.world.ledger.stop_changes(self.nodes[at].id.node);
        self.reclaim();
        let node = &mut self.nodes[at];
        node.id.epoch += 1;
        node.book.forfeit(node.id.epoch);
        now(self.world.ledger.heartbeat(node.id, LEASE_TTL)).expect("a new epoch");
        node.may_spend = true;
    }

    fn reclaim(&mut self) {
        now(self.world.ledger.reclaim_all(self.mode));
    }

    fn give_back(&mut self, at: usize, all: bool) {
        let monotonic = self.world.clock.monotonic();
        let book = &mut self.nodes[at].book;
        let releases = if all { book.drain() } else { book.sweep(monotonic, 10) };
        self.settle(at, Vec::new(), releases);
    }

    fn check(&self, limit: u64) {
        self.world.ledger.check();
        if self.mode == LostLease::Charge {
            for (hour, sent) in &self.sent {
                assert!(*sent <= limit, "{sent} bytes of {limit} were sent in the hour of {hour}");
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Acquire(usize, Demand),
    Send(usize, usize, u64),
    End(usize, usize),
    Crash(usize),
    Fence(usize),
    Reclaim,
    Wait(u64),
    Invalidate(usize),
    Sweep(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = 0_usize..3;
    let step = prop_oneof![
        8 => (node.clone(), 1_u64..=SIZE).prop_map(|(at, bytes)| Step::Acquire(at, Demand::Bytes(bytes))),
        4 => node.clone().prop_map(|at| Step::Acquire(at, Demand::Whole)),
        8 => (node.clone(), any::<usize>(), 0_u64..=100).prop_map(|(at, which, share)| Step::Send(at, which, share)),
        8 => (node.clone(), any::<usize>()).prop_map(|(at, which)| Step::End(at, which)),
        1 => node.clone().prop_map(Step::Crash),
        1 => node.clone().prop_map(Step::Fence),
        1 => Just(Step::Reclaim),
        1 => (0_u64..1500).prop_map(Step::Wait),
        1 => node.clone().prop_map(Step::Invalidate),
        1 => node.prop_map(Step::Sweep),
    ];
    proptest::collection::vec(step, 1..200)
}

fn run(mode: LostLease, limit: u64, steps: Vec<Step>) {
    let mut cluster = Cluster::new(mode, limit);
    for step in steps {
        match step {
            Step::Acquire(at, demand) => cluster.acquire(at, demand),
            Step::Send(at, which, share) => cluster.send(at, which, share),
            Step::End(at, which) => cluster.end(at, which),
            Step::Crash(at) => cluster.crash(at),
            // In this mode late rows are added to a released lease, which may exceed the limit, so the step is left out.
            Step::Fence(at) if mode == LostLease::Charge => cluster.fence(at),
            Step::Fence(_) | Step::Reclaim => cluster.reclaim(),
            Step::Wait(seconds) => cluster.world.clock.advance(Duration::from_secs(seconds)),
            Step::Invalidate(at) => {
                cluster.nodes[at].book.invalidate(cluster.right.id);
            }
            Step::Sweep(at) => cluster.give_back(at, false),
        }
        // Heartbeats come in time, except for the fenced node's.
        for node in &cluster.nodes {
            now(cluster.world.ledger.heartbeat(node.id, LEASE_TTL)).expect("alive");
        }
        cluster.check(limit);
    }
    for at in 0..3 {
        while !cluster.nodes[at].running.is_empty() {
            cluster.end(at, 0);
        }
        cluster.give_back(at, true);
    }
    cluster.reclaim();
    cluster.check(limit);
    assert_eq!(cluster.world.ledger.leased(), [], "every lease was settled, given back or reclaimed");
}

proptest! {
    #[test]
    fn three_nodes_never_pass_a_limit_and_never_send_more_when_lost_leases_are_charged(
        limit in 0_u64..20_000,
        steps in steps(),
    ) {
        run(LostLease::Charge, limit, steps);
    }

    #[test]
    fn three_nodes_never_pass_a_limit_when_lost_leases_are_released(limit in 0_u64..20_000, steps in steps()) {
        run(LostLease::Release, limit, steps);
    }
}
