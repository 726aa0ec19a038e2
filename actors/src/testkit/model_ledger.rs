//! A ledger in memory with windows and leases. It stops a test that breaks one of its invariants.

mod upkeep;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::script::Script;
use crate::{
    clock::Clock,
    ids::{NodeId, ReceiptId, TimelineId, UsageId},
    model::{
        Credit, LeaseSizing, LostLease, NodeEpoch, QuotaPolicy, ReceiptStatus, Timeline, UsageRow, Window, WindowKind,
        WindowSet, WindowUsage,
    },
    ports::{
        Closed, EpochStanding, Ledger, PortError, PortResult, Pulse, ReceiptView, Reclaimed, Refill, RefillRequest,
        Release, SetAside, SettleBatch, Settled, Tag,
    },
};

const HOUR: Duration = Duration::from_secs(3600);

/// A lease is identified by the node's epoch, the receipt and the start of the hour.
type LeaseKey = (NodeEpoch, ReceiptId, Timestamp);

#[derive(Clone)]
struct LedgerTables {
    receipts: HashMap<ReceiptId, ReceiptView>,
    windows: HashMap<(ReceiptId, Window), (Credit, Credit)>,
    leases: HashMap<LeaseKey, Credit>,
    /// The last request of each node's epoch for a receipt, and its grant.
    answered: HashMap<(NodeEpoch, ReceiptId), (i64, Credit)>,
    /// Charges for reclaimed leases, less the part that late rows have explained.
    charged: HashMap<LeaseKey, Credit>,
    nodes: HashMap<NodeEpoch, ModelEpoch>,
    fenced: HashSet<NodeEpoch>,
    watermarks: HashMap<NodeEpoch, i64>,
    rows: HashMap<UsageId, UsageRow>,
    poison: HashSet<ReceiptId>,
    compared: HashMap<NodeEpoch, (Credit, Timestamp)>,
    log: Vec<Tag>,
    set_aside: Vec<SetAside>,
    timeline: Timeline,
}

/// The state of an epoch.
#[derive(Debug, Clone, Copy)]
struct ModelEpoch {
    until: Instant,
    lease: Duration,
    heartbeats: u64,
    /// Its leases are released at its end, since a later epoch replaced it while it was alive.
    spared: bool,
}

/// A state to which a ledger can be restored.
pub struct Restorable(LedgerTables);

/// A ledger in memory.
pub struct ModelLedger {
    /// Its scripted faults.
    pub script: Script,
    clock: Arc<dyn Clock>,
    books: Mutex<LedgerTables>,
}

impl ModelLedger {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { script: Script::default(), clock, books: Mutex::new(LedgerTables::new()) }
    }

    fn books(&self) -> MutexGuard<'_, LedgerTables> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn put_receipt(&self, view: ReceiptView) {
        self.books().receipts.insert(view.receipt.receipt_id, view);
    }

    /// # Panics
    /// When there is no such receipt.
    pub fn set_status(&self, id: ReceiptId, status: ReceiptStatus) {
        let mut books = self.books();
        let receipt = &mut books.receipts.get_mut(&id).expect("a receipt").receipt;
        receipt.status = status;
        receipt.epoch += 1;
        books.log.push(Tag::Receipt(id));
    }

    /// # Panics
    /// When there is no such receipt.
    pub fn set_policy(&self, id: ReceiptId, policy: QuotaPolicy) {
        let mut books = self.books();
        books.log.push(Tag::QuotaPolicy(policy.policy_name.clone()));
        books.receipts.get_mut(&id).expect("a receipt").policy = policy;
    }

    /// Restores the database: everything committed since `earlier` is gone. A dump is restored into another place; a
    /// copy of the files keeps its place.
    pub fn restore(&self, earlier: Restorable, moved: bool) {
        let mut books = self.books();
        *books = earlier.0;
        books.timeline.moved = moved;
    }

    /// A dump.
    pub fn dump(&self) -> Restorable {
        Restorable(self.books().clone())
    }

    /// From now on rows of this receipt are rejected.
    pub fn poison(&self, id: ReceiptId) {
        self.books().poison.insert(id);
    }

    /// Ends the heartbeats of a node: any other may reclaim its leases.
    pub fn stop_changes(&self, node: NodeId) {
        let now = self.clock.monotonic();
        let mut books = self.books();
        for (_, life) in books.nodes.iter_mut().filter(|(epoch, _)| epoch.node == node) {
            life.until = now;
        }
    }

    /// Another node reclaims all leases that are not kept alive.
    ///
    /// # Panics
    /// When the ledger is scripted to fail.
    pub async fn reclaim_all(&self, mode: LostLease) {
        let by = NodeEpoch { node: NodeId::from_uuid(Uuid::from_u128(1)), epoch: 1 };
        let life = ModelEpoch { until: self.clock.monotonic() + HOUR, lease: HOUR, heartbeats: 1, spared: false };
        self.books().nodes.insert(by, life);
        let silent = self.pulses().await.expect("seen");
        while self.reclaim(by, &silent, mode, self.clock.now(), 10).await.expect("reclaimed").more {}
        self.books().nodes.remove(&by);
    }

    /// The latest epoch of a node.
    pub fn epoch(&self, node: NodeId) -> Option<i64> {
        self.books().latest(node).map(|(epoch, _)| epoch)
    }

    /// Usage rows in the ledger.
    pub fn rows(&self) -> Vec<UsageRow> {
        self.books().rows.values().cloned().collect()
    }

    /// The live leases, without empty ones.
    pub fn leased(&self) -> Vec<Credit> {
        self.books().leases.values().copied().filter(|lease| !lease.is_zero()).collect()
    }

    /// Used and reserved of a receipt in the hour of `at`.
    pub fn hour(&self, id: ReceiptId, at: Timestamp) -> (Credit, Credit) {
        let key = (id, WindowKind::Hour.window(at));
        self.books().windows.get(&key).copied().unwrap_or_default()
    }

    /// Compares windows with rows and leases, and with the limits.
    ///
    /// # Panics
    /// When they differ, or when a limit is passed.
    pub fn check(&self) {
        let books = self.books();
        for (&(id, window), &(used, reserved)) in &books.windows {
            let sum = |of: &HashMap<LeaseKey, Credit>| {
                let held = of.iter().filter(|(key, _)| key.1 == id && window.contains(key.2));
                held.fold(Credit::ZERO, |sum, (_, &credit)| sum + credit)
            };
            let rows = books.rows.values().filter(|row| row.receipt_id == id && window.contains(row.started_at));
            let rows = rows.fold(Credit::ZERO, |sum, row| sum + row.credit());
            assert_eq!(reserved, sum(&books.leases), "reserved of {window:?} is the sum of its leases");
            assert_eq!(used, rows + sum(&books.charged), "used of {window:?} is the sum of its rows");
            let limits = books.receipts[&id].policy.limits(window.kind);
            let taken = used + reserved;
            assert!(limits.bytes.is_none_or(|limit| taken.bytes <= limit), "{taken:?} passes {limits:?}");
            assert!(limits.requests.is_none_or(|limit| taken.requests <= limit), "{taken:?} passes {limits:?}");
        }
    }
}

impl LedgerTables {
    fn new() -> Self {
        Self {
            receipts: HashMap::new(),
            windows: HashMap::new(),
            leases: HashMap::new(),
            answered: HashMap::new(),
            charged: HashMap::new(),
            nodes: HashMap::new(),
            fenced: HashSet::new(),
            watermarks: HashMap::new(),
            rows: HashMap::new(),
            poison: HashSet::new(),
            compared: HashMap::new(),
            log: Vec::new(),
            set_aside: Vec::new(),
            timeline: Timeline { timeline_id: TimelineId::random(), moved: false },
        }
    }

    fn usage(&self, id: ReceiptId, now: Timestamp) -> [WindowUsage; 3] {
        let set = WindowSet::at(now);
        WindowKind::ALL.map(|kind| {
            let window = set.get(kind);
            let (used, reserved) = self.windows.get(&(id, window)).copied().unwrap_or_default();
            WindowUsage { window, used, reserved }
        })
    }

    /// Changes used and reserved in the three windows of a moment.
    fn change(&mut self, id: ReceiptId, at: Timestamp, mut change: impl FnMut(&mut Credit, &mut Credit)) {
        for window in WindowSet::at(at).iter() {
            let (used, reserved) = self.windows.entry((id, window)).or_default();
            change(used, reserved);
        }
    }

    fn is_alive(&self, node: NodeEpoch) -> bool {
        !self.fenced.contains(&node) && self.nodes.contains_key(&node)
    }

    /// Whether its time is over by the ledger's clock.
    fn is_late(&self, node: NodeEpoch, now: Instant) -> bool {
        self.nodes.get(&node).is_none_or(|life| life.until <= now)
    }

    fn latest(&self, node: NodeId) -> Option<(i64, ModelEpoch)> {
        let epochs = self.nodes.iter().filter(|(epoch, _)| epoch.node == node);
        epochs.map(|(epoch, life)| (epoch.epoch, *life)).max_by_key(|&(epoch, _)| epoch)
    }

    fn refill(&mut self, node: NodeEpoch, request: &RefillRequest, sizing: LeaseSizing, now: Timestamp) -> Refill {
        let want = &request.want;
        let id = want.receipt_id;
        let Some(view) = self.receipts.get(&id).cloned() else {
            return Refill { view: None, windows: self.usage(id, now), granted: Credit::ZERO };
        };
        let size = view.content.as_ref().map_or(0, |content| content.size_bytes);
        let need = Credit::new(want.need.bytes.min(size), want.need.requests);
        let may_lease = view.receipt.status_at(now).may_stream()
            && view.receipt.content_hash == want.content_hash
            && view.policy.is_metered()
            && !want.want.max(need).is_zero();
        if let Some(&(last, granted)) = self.answered.get(&(node, id))
            && last >= request.id
        {
            let granted = if last == request.id { granted } else { Credit::ZERO };
            return Refill { view: Some(view), windows: self.usage(id, now), granted };
        }
        let mut granted = Credit::ZERO;
        if may_lease {
            let taken = self.usage(id, now);
            let taken = taken.iter().map(|row| (view.policy.limits(row.window.kind), row.used + row.reserved));
            granted = sizing.grant_all(taken, need, want.want).unwrap_or_default();
        }
        if request.again || !granted.is_zero() {
            self.answered.insert((node, id), (request.id, granted));
        }
        if !granted.is_zero() {
            let hour = WindowKind::Hour.window(now).start;
            *self.leases.entry((node, id, hour)).or_default() += granted;
            self.change(id, now, |_, reserved| *reserved += granted);
        }
        Refill { view: Some(view), windows: self.usage(id, now), granted }
    }

    fn spend(&mut self, node: NodeId, row: &UsageRow) {
        let (id, spent) = (row.receipt_id, row.credit());
        let hour = WindowKind::Hour.window(row.started_at).start;
        let key = row.lease_epoch.map(|epoch| (NodeEpoch { node, epoch }, id, hour));
        // Dimensions without a limit are not leased.
        let limited = self.receipts[&id].policy.limited_part(spent);
        if let Some(lease) = key.and_then(|key| self.leases.get_mut(&key)) {
            assert!(lease.covers(limited), "{spent:?} was spent of a lease of {lease:?}");
            let taken = spent.min(*lease);
            *lease -= taken;
            self.change(id, hour, |used, reserved| {
                *used += spent;
                *reserved -= taken;
            });
        } else if let Some(charged) = key.and_then(|key| self.charged.get_mut(&key)) {
            // The window was already charged: the row replaces part of the charge.
            assert!(charged.covers(limited), "{spent:?} was spent of a reclaimed lease of {charged:?}");
            let explained = spent.min(*charged);
            *charged -= explained;
            self.change(id, hour, |used, _| *used += spent - explained);
        } else {
            self.change(id, hour, |used, _| *used += spent);
        }
    }

    fn give_back(&mut self, node: NodeId, release: &Release) {
        let hour = WindowKind::Hour.window(release.window).start;
        let key = (NodeEpoch { node, epoch: release.epoch }, release.receipt_id, hour);
        // Only a live lease can be given back.
        let Some(lease) = self.leases.get_mut(&key) else { return };
        assert!(lease.covers(release.credit), "{release:?} gives back more than the lease of {lease:?}");
        *lease -= release.credit;
        self.change(release.receipt_id, hour, |_, reserved| *reserved -= release.credit);
    }
}

#[async_trait]
impl Ledger for ModelLedger {
    async fn refill(
        &self,
        node: NodeEpoch,
        requests: &[RefillRequest],
        sizing: LeaseSizing,
        now: Timestamp,
    ) -> PortResult<Vec<Refill>> {
        let work = || {
            let mut books = self.books();
            if !books.is_alive(node) {
                return Err(PortError::Fenced);
            }
            let ids: HashSet<ReceiptId> = requests.iter().map(|request| request.want.receipt_id).collect();
            assert_eq!(ids.len(), requests.len(), "a receipt stands at most once in a round trip");
            Ok(requests.iter().map(|request| books.refill(node, request, sizing, now)).collect())
        };
        self.script.play("refill", requests.len(), work).await
    }

    async fn settle(&self, batch: &SettleBatch) -> PortResult<Settled> {
        let work = || {
            let mut books = self.books();
            let watermark = books.watermarks.get(&batch.node).copied().unwrap_or_default();
            if batch.sequence <= watermark {
                return Ok(Settled::default());
            }
            let is_taken = |id| books.receipts.contains_key(id) && !books.poison.contains(id);
            if !batch.rows.iter().all(|row| is_taken(&row.receipt_id)) {
                return Err(PortError::rejected("the model ledger", "a row can never be taken"));
            }
            books.watermarks.insert(batch.node, batch.sequence);
            let mut settled = Settled::default();
            for row in &batch.rows {
                if books.rows.insert(row.usage_id, row.clone()).is_none() {
                    books.spend(batch.node.node, row);
                    settled.inserted += 1;
                }
            }
            for release in &batch.releases {
                books.give_back(batch.node.node, release);
            }
            Ok(settled)
        };
        self.script.play("settle", batch.rows.len(), work).await
    }

    async fn set_aside(&self, node: NodeId, row: &UsageRow, reason: &str) -> PortResult<()> {
        let work = || {
            let (mut books, set_aside_at) = (self.books(), self.clock.now());
            books.set_aside.push(SetAside { row: row.clone(), node, set_aside_at, reason: reason.to_owned() });
            Ok(())
        };
        self.script.play("set_aside", 1, work).await
    }

    async fn heartbeat(&self, node: NodeEpoch, ttl: Duration) -> PortResult<()> {
        let work = || {
            let mut books = self.books();
            let known = books.latest(node.node).map(|(epoch, _)| epoch);
            if books.fenced.contains(&node) || known.is_some_and(|known| known > node.epoch) {
                return Err(PortError::Fenced);
            }
            let now = self.clock.monotonic();
            for (earlier, life) in &mut books.nodes {
                life.spared |= earlier.node == node.node && earlier.epoch < node.epoch && life.until > now;
            }
            let life =
                books.nodes.entry(node).or_insert(ModelEpoch { until: now, lease: ttl, heartbeats: 0, spared: false });
            life.until = now + ttl;
            life.lease = ttl;
            life.heartbeats += 1;
            Ok(())
        };
        self.script.play("heartbeat", 1, work).await
    }

    async fn standing(&self, node: NodeId) -> PortResult<Option<EpochStanding>> {
        let work = || {
            let (books, now) = (self.books(), self.clock.monotonic());
            Ok(books.latest(node).map(|(epoch, life)| {
                let alive = life.until > now && !books.fenced.contains(&NodeEpoch { node, epoch });
                EpochStanding { epoch, heartbeats: life.heartbeats, alive }
            }))
        };
        self.script.play("standing", 1, work).await
    }

    async fn leased(&self, node: NodeEpoch) -> PortResult<Credit> {
        let books = self.books();
        let held = books.leases.iter().filter(|(key, _)| key.0 == node);
        Ok(held.fold(Credit::ZERO, |sum, (_, &lease)| sum + lease))
    }

    async fn pulses(&self) -> PortResult<Vec<Pulse>> {
        let work = || {
            let books = self.books();
            let lives = books.nodes.iter().filter(|(node, _)| !books.fenced.contains(node));
            Ok(lives.map(|(&life, of)| Pulse { life, heartbeats: of.heartbeats, lease: Some(of.lease) }).collect())
        };
        self.script.play("pulses", 1, work).await
    }

    async fn note_unknown(&self, node: NodeEpoch, unknown: Credit) -> PortResult<()> {
        let work = || {
            let (mut books, now) = (self.books(), self.clock.now());
            books.compared.insert(node, (unknown, now));
            Ok(())
        };
        self.script.play("note_unknown", 1, work).await
    }

    async fn declare_dead(&self, node: NodeEpoch) -> PortResult<()> {
        let work = || {
            let (mut books, now) = (self.books(), self.clock.monotonic());
            if let Some(life) = books.nodes.get_mut(&node) {
                life.until = life.until.min(now);
                books.fenced.insert(node);
            }
            Ok(())
        };
        self.script.play("declare_dead", 1, work).await
    }

    async fn nodes_alive(&self) -> PortResult<u64> {
        let (books, now) = (self.books(), self.clock.monotonic());
        let alive: HashSet<NodeId> =
            books.nodes.iter().filter(|(_, life)| life.until > now).map(|(epoch, _)| epoch.node).collect();
        Ok(alive.len() as u64)
    }

    async fn reclaim(
        &self,
        by: NodeEpoch,
        silent: &[Pulse],
        mode: LostLease,
        _: Timestamp,
        limit: u32,
    ) -> PortResult<Reclaimed> {
        let work = || {
            let (mut books, now) = (self.books(), self.clock.monotonic());
            if books.is_late(by, now) {
                return Ok(Reclaimed::default());
            }
            for pulse in silent {
                let heartbeats = books.nodes.get(&pulse.life).map(|life| life.heartbeats);
                if heartbeats == Some(pulse.heartbeats) && pulse.life != by && books.is_late(pulse.life, now) {
                    books.fenced.insert(pulse.life);
                }
            }
            let dead = |key: &LeaseKey| books.fenced.contains(&key.0);
            let mut keys: Vec<LeaseKey> = books.leases.keys().copied().filter(dead).collect();
            let more = keys.len() > limit as usize;
            keys.truncate(limit as usize);
            let mut reclaimed = Reclaimed { more, ..Reclaimed::default() };
            for key in keys {
                let held = books.leases.remove(&key).unwrap_or_default();
                let spared = mode == LostLease::Charge && books.nodes.get(&key.0).is_some_and(|life| life.spared);
                let mode = if spared { LostLease::Release } else { mode };
                let charged = if mode == LostLease::Charge { held } else { Credit::ZERO };
                books.change(key.1, key.2, |used, reserved| {
                    *reserved -= held;
                    *used += charged;
                });
                if mode == LostLease::Charge {
                    books.charged.insert(key, held);
                }
                reclaimed.leases += 1;
                reclaimed.credit += held;
                if spared {
                    reclaimed.spared_leases += 1;
                    reclaimed.spared += held;
                }
            }
            Ok(reclaimed)
        };
        self.script.play("reclaim", 1, work).await
    }

    async fn close(&self, node: NodeEpoch, limit: u32) -> PortResult<Closed> {
        let work = || {
            let mut books = self.books();
            books.fenced.insert(node);
            let now = self.clock.monotonic();
            if let Some(life) = books.nodes.get_mut(&node) {
                life.until = now;
            }
            let all = books.leases.keys().chain(books.charged.keys());
            let mut keys: Vec<LeaseKey> = all.copied().filter(|key| key.0 == node).collect();
            let more = keys.len() > limit as usize;
            keys.truncate(limit as usize);
            let mut closed = Closed { more, ..Closed::default() };
            for key in keys {
                let held = books.leases.remove(&key).unwrap_or_default();
                let charged = books.charged.remove(&key).unwrap_or_default();
                books.change(key.1, key.2, |used, reserved| {
                    *reserved -= held;
                    *used -= charged;
                });
                closed.leases += u64::from(!held.is_zero());
                closed.credit += held;
                closed.uncharged_leases += u64::from(!charged.is_zero());
                closed.uncharged += charged;
            }
            Ok(closed)
        };
        self.script.play("close", 1, work).await
    }
}
