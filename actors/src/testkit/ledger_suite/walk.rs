//! A random walk of two nodes over one receipt, compared with a model of a few lines after every step.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{
    Store,
    scene::{Scene, limited},
};
use crate::{
    model::{Credit, LostLease, NodeEpoch, UsageRow, WindowKind},
    ports::{Release, SettleBatch},
    testkit::dice::Dice,
};

/// Walks that reach every step many times; more of them find no more faults, and each costs a database some seconds.
pub(super) const SEEDS: [u64; 3] = [1, 20_261, 777_777];
const STEPS: usize = 120;

/// A random part of this credit: possibly all of it, or nothing.
fn part_of(dice: &mut Dice, whole: Credit) -> Credit {
    Credit::new(dice.roll(whole.bytes + 1), dice.roll(whole.requests + 1))
}

/// Epoch and hour name a lease of a node.
type LeaseKey = (NodeEpochKey, Timestamp);
type NodeEpochKey = (usize, i64);

/// The expected contents of the ledger.
#[derive(Default)]
struct Model {
    live: BTreeMap<LeaseKey, Credit>,
    lost: BTreeMap<LeaseKey, Credit>,
    /// By the hour that they started in.
    used: BTreeMap<Timestamp, Credit>,
    leased: Credit,
    settled: Credit,
    returned: Credit,
}

struct Walk {
    scene: Scene,
    dice: Dice,
    model: Model,
    nodes: [NodeEpoch; 2],
    sequences: BTreeMap<NodeEpochKey, i64>,
    last: Option<SettleBatch>,
}

/// # Panics
/// When the ledger and the model differ.
pub(super) async fn used_and_reserved_never_pass_the_limit_and_nothing_is_lost(store: &Store, seed: u64) {
    let mut scene = Scene::new(store, limited(5000, 60)).await;
    // All hours of the walk lie in one day, so its day and month windows are the sums of its hours.
    scene.now = WindowKind::Day.window(scene.now).start + Duration::from_secs(600);
    let nodes = [scene.node().await, scene.node().await];
    let mut walk =
        Walk { scene, dice: Dice(seed), model: Model::default(), nodes, sequences: BTreeMap::new(), last: None };
    for step in 0..STEPS {
        walk.step().await;
        walk.compare(&format!("seed {seed}, step {step}")).await;
    }
    walk.finish().await;
    walk.compare(&format!("seed {seed}, at the end")).await;
    let model = &walk.model;
    let charged = model.lost.values().fold(Credit::ZERO, |sum, &lost| sum + lost);
    assert_eq!(model.settled + model.returned + charged, model.leased, "seed {seed}");
    assert!(model.live.values().all(|live| live.is_zero()), "seed {seed}");
}

impl Walk {
    async fn step(&mut self) {
        let node = usize::try_from(self.dice.roll(2)).unwrap_or_default();
        match self.dice.roll(12) {
            0..=4 => self.refill(node).await,
            5..=8 => self.settle(node).await,
            9 => self.repeat().await,
            10 => self.crash(node).await,
            _ if self.dice.roll(4) == 0 => self.scene.now += Duration::from_secs(3600),
            _ => self.refill(node).await,
        }
    }

    async fn refill(&mut self, node: usize) {
        let need = Credit::new(self.dice.roll(300), self.dice.roll(3));
        let want = Credit::new(self.dice.roll(900), self.dice.roll(9));
        let refill = self.scene.refill(self.nodes[node], self.scene.want(need, want)).await.expect("answered");
        assert!(refill.granted.is_zero() || refill.granted.covers(need));
        let key = ((node, self.nodes[node].epoch), self.hour());
        *self.model.live.entry(key).or_default() += refill.granted;
        self.model.leased += refill.granted;
    }

    fn hour(&self) -> Timestamp {
        WindowKind::Hour.window(self.scene.now).start
    }

    /// Settles parts of this node's leases, of all its epochs, and releases parts of the rest.
    async fn settle(&mut self, node: usize) {
        let (mut rows, mut releases) = (Vec::new(), Vec::new());
        let keys: Vec<LeaseKey> =
            self.model.live.keys().chain(self.model.lost.keys()).filter(|key| key.0.0 == node).copied().collect();
        for key in keys {
            for _ in 0..self.dice.roll(3) {
                let held = self.model.held(key);
                let spent = part_of(&mut self.dice, held);
                rows.push(self.row(key, spent));
                self.model.spend(key, spent);
            }
            let given = part_of(&mut self.dice, self.model.held(key));
            if self.dice.roll(2) == 0 {
                releases.push(self.release(key, given));
                self.model.give_back(key, given);
            }
        }
        let batch = self.batch(node, rows, releases);
        let settled = self.scene.store.settle(&batch).await.expect("settled");
        assert_eq!(settled.inserted, u64::try_from(batch.rows.len()).unwrap_or_default());
        self.last = Some(batch);
    }

    fn batch(&mut self, node: usize, rows: Vec<UsageRow>, releases: Vec<Release>) -> SettleBatch {
        let sequence = self.sequences.entry((node, self.nodes[node].epoch)).or_default();
        *sequence += 1;
        SettleBatch { node: self.nodes[node], sequence: *sequence, rows, releases }
    }

    fn row(&self, (epoch, hour): LeaseKey, spent: Credit) -> UsageRow {
        UsageRow {
            started_at: hour + Duration::from_secs(60),
            requests: spent.requests,
            lease_epoch: Some(epoch.1),
            ..self.scene.row(self.nodes[epoch.0], spent.bytes)
        }
    }

    fn release(&self, (epoch, hour): LeaseKey, credit: Credit) -> Release {
        Release { receipt_id: self.scene.receipt, window: hour, epoch: epoch.1, credit }
    }

    /// Sends the last batch again: first unchanged, then its rows under a new sequence.
    async fn repeat(&mut self) {
        let Some(last) = self.last.clone() else { return };
        assert_eq!(self.scene.store.settle(&last).await.expect("answered").inserted, 0);
        let Some(node) = self.nodes.iter().position(|node| *node == last.node) else { return };
        let again = self.batch(node, last.rows, vec![]);
        assert_eq!(self.scene.store.settle(&again).await.expect("answered").inserted, 0);
    }

    /// The node dies, its leases are reclaimed in either mode, and it comes back.
    async fn crash(&mut self, node: usize) {
        self.scene.dies(self.nodes[node]).await;
        let mode = if self.dice.roll(2) == 0 { LostLease::Charge } else { LostLease::Release };
        self.scene.reclaim(mode).await;
        self.model.reclaim(node, mode);
        let fenced = self.nodes[node];
        self.nodes[node] = self.scene.restarted(fenced).await;
        // It was no crash: the node lived on, and has settled everything.
        if self.dice.roll(2) == 0 {
            let closed = self.scene.store.close(fenced, 100).await.expect("closed");
            assert_eq!(closed.uncharged, self.model.uncharge((node, fenced.epoch)));
        }
    }

    /// Both nodes give all their leases back.
    async fn finish(&mut self) {
        for node in 0..2 {
            let keys: Vec<LeaseKey> = self.model.live.keys().filter(|key| key.0.0 == node).copied().collect();
            let mut releases = Vec::new();
            for key in keys {
                let held = self.model.held(key);
                releases.push(self.release(key, held));
                self.model.give_back(key, held);
            }
            let batch = self.batch(node, vec![], releases);
            self.scene.store.settle(&batch).await.expect("settled");
        }
    }

    async fn compare(&self, at: &str) {
        let windows = self.scene.windows().await;
        let used = self.model.used.values().fold(Credit::ZERO, |sum, &used| sum + used);
        let reserved = self.model.live.values().fold(Credit::ZERO, |sum, &live| sum + live);
        let hour = self.hour();
        let of_hour = self.model.live.iter().filter(|((_, of), _)| *of == hour);
        let reserved_of_hour = of_hour.fold(Credit::ZERO, |sum, (_, &live)| sum + live);
        let used_of_hour = self.model.used.get(&hour).copied().unwrap_or_default();
        let expected = [(used_of_hour, reserved_of_hour), (used, reserved), (used, reserved)];
        for (window, (used, reserved)) in windows.iter().zip(expected) {
            assert_eq!((window.used, window.reserved), (used, reserved), "{at}: {:?}", window.window.kind);
            assert!(Credit::new(5000, 60).covers(window.used + window.reserved), "{at}: overshoot in {window:?}");
        }
        assert_eq!(self.scene.audit().await.differences, [], "{at}");
    }
}

impl Model {
    /// The credit that may still be settled under this lease.
    fn held(&self, key: LeaseKey) -> Credit {
        self.live.get(&key).or_else(|| self.lost.get(&key)).copied().unwrap_or_default()
    }

    fn spend(&mut self, key: LeaseKey, spent: Credit) {
        self.settled += spent;
        match (self.live.get_mut(&key), self.lost.get_mut(&key)) {
            (Some(live), _) => {
                *live -= spent;
                *self.used.entry(key.1).or_default() += spent;
            }
            // The window was already charged: the row replaces part of the charge.
            (None, Some(lost)) => *lost -= spent,
            (None, None) => *self.used.entry(key.1).or_default() += spent,
        }
    }

    fn give_back(&mut self, key: LeaseKey, given: Credit) {
        // Only a live lease can be given back.
        if let Some(live) = self.live.get_mut(&key) {
            *live -= given;
            self.returned += given;
        }
    }

    fn uncharge(&mut self, epoch: NodeEpochKey) -> Credit {
        let mut uncharged = Credit::ZERO;
        for (key, rest) in self.lost.extract_if(.., |key, _| key.0 == epoch) {
            *self.used.entry(key.1).or_default() -= rest;
            uncharged += rest;
        }
        self.returned += uncharged;
        uncharged
    }

    fn reclaim(&mut self, node: usize, mode: LostLease) {
        let keys: Vec<LeaseKey> = self.live.keys().filter(|key| key.0.0 == node).copied().collect();
        for key in keys {
            let held = self.live.remove(&key).unwrap_or_default();
            match mode {
                LostLease::Charge => {
                    *self.used.entry(key.1).or_default() += held;
                    self.lost.insert(key, held);
                }
                LostLease::Release => self.returned += held,
            }
        }
    }
}
