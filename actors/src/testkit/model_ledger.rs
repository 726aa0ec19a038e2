//! A ledger in memory with windows and leases. It stops a test that breaks one of its invariants.

pub mod flaw;
mod ledger;
mod upkeep;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use uuid::Uuid;

use self::flaw::Flaw;
use super::script::Script;
use crate::{
    clock::Clock,
    ids::{NodeId, ReceiptId, TimelineId, UsageId},
    model::{
        Credit, LeaseSizing, LostLease, NodeEpoch, QuotaPolicy, ReceiptStatus, Timeline, UsageRow, Window, WindowKind,
        WindowSet, WindowUsage,
    },
    ports::{Ledger as _, ReceiptView, Refill, RefillRequest, Release, SetAside, Tag},
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
    /// Heartbeats in a row that came in time, after the first.
    on_time: u64,
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
    flaw: Option<Flaw>,
    books: Mutex<LedgerTables>,
}

impl ModelLedger {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { script: Script::default(), clock, flaw: None, books: Mutex::new(LedgerTables::new()) }
    }

    /// A ledger that breaks its promises in one way, to prove that a test notices.
    pub fn flawed(clock: Arc<dyn Clock>, flaw: Option<Flaw>) -> Self {
        Self { flaw, ..Self::new(clock) }
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
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
        for (_, state) in books.nodes.iter_mut().filter(|(epoch, _)| epoch.node == node) {
            state.until = now;
        }
    }

    /// Another node reclaims all leases that are not kept alive.
    ///
    /// # Panics
    /// When the ledger is scripted to fail.
    pub async fn reclaim_all(&self, mode: LostLease) {
        let by = NodeEpoch { node: NodeId::from_uuid(Uuid::from_u128(1)), epoch: 1 };
        let state =
            ModelEpoch { until: self.clock.monotonic() + HOUR, lease: HOUR, heartbeats: 3, on_time: 2, spared: false };
        self.books().nodes.insert(by, state);
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

    /// The epochs with a live lease, each with the sum of its leases.
    pub fn holders(&self) -> Vec<(NodeEpoch, Credit)> {
        let mut sums = HashMap::<NodeEpoch, Credit>::new();
        for (key, &lease) in &self.books().leases {
            *sums.entry(key.0).or_default() += lease;
        }
        sums.into_iter().filter(|(_, held)| !held.is_zero()).collect()
    }

    /// The epochs with a charge for lost leases, each with the part of it that no row explains.
    pub fn charges(&self) -> Vec<(NodeEpoch, Credit)> {
        let mut sums = HashMap::<NodeEpoch, Credit>::new();
        for (key, &charge) in &self.books().charged {
            *sums.entry(key.0).or_default() += charge;
        }
        sums.into_iter().filter(|(_, charged)| !charged.is_zero()).collect()
    }

    pub fn is_fenced(&self, node: NodeEpoch) -> bool {
        self.books().fenced.contains(&node)
    }

    /// Used and reserved of a receipt in the hour of `at`.
    pub fn hour(&self, id: ReceiptId, at: Timestamp) -> (Credit, Credit) {
        let key = (id, WindowKind::Hour.window(at));
        self.books().windows.get(&key).copied().unwrap_or_default()
    }

    /// Used of a receipt in the present hour, day and month.
    pub fn used(&self, id: ReceiptId) -> [Credit; 3] {
        let now = self.clock.now();
        self.books().usage(id, now).map(|usage| usage.used)
    }

    /// Compares windows with rows and leases, and with the limits.
    ///
    /// # Panics
    /// When they differ, or when a limit is passed.
    pub fn check(&self) {
        self.check_within(Credit::ZERO);
    }

    /// [`check`](Self::check), where a limit may be passed by as much as this: by late rows of leases that were released.
    ///
    /// # Panics
    /// When windows and their rows or leases differ, or when a limit is passed by more.
    pub fn check_within(&self, given_away: Credit) {
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
            let fits = |limit: Option<u64>, taken: u64, away: u64| limit.is_none_or(|limit| taken <= limit + away);
            assert!(fits(limits.bytes, taken.bytes, given_away.bytes), "{taken:?} passes {limits:?}");
            assert!(fits(limits.requests, taken.requests, given_away.requests), "{taken:?} passes {limits:?}");
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

    fn is_alive(&self, node: NodeEpoch, now: Instant) -> bool {
        !self.fenced.contains(&node) && !self.is_late(node, now)
    }

    /// Whether an epoch may reclaim leases of others: one that was late must have been in time twice since.
    fn may_reclaim(&self, by: NodeEpoch, now: Instant) -> bool {
        self.is_alive(by, now) && self.nodes.get(&by).is_some_and(|life| life.on_time >= 2)
    }

    /// Whether its time is over by the ledger's clock.
    fn is_late(&self, node: NodeEpoch, now: Instant) -> bool {
        self.nodes.get(&node).is_none_or(|state| state.until <= now)
    }

    fn latest(&self, node: NodeId) -> Option<(i64, ModelEpoch)> {
        let epochs = self.nodes.iter().filter(|(epoch, _)| epoch.node == node);
        epochs.map(|(epoch, state)| (epoch.epoch, *state)).max_by_key(|&(epoch, _)| epoch)
    }

    fn refill(
        &mut self,
        node: NodeEpoch,
        request: &RefillRequest,
        sizing: LeaseSizing,
        now: Timestamp,
        flaw: Option<Flaw>,
    ) -> Refill {
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
            && flaw != Some(Flaw::GrantsTwice)
        {
            let is_last = last == request.id && flaw != Some(Flaw::ForgetsGrants);
            let granted = if is_last { granted } else { Credit::ZERO };
            return Refill { view: Some(view), windows: self.usage(id, now), granted };
        }
        let mut granted = Credit::ZERO;
        if may_lease {
            let taken = self.usage(id, now);
            let taken = taken.iter().map(|row| (view.policy.limits(row.window.kind), row.used + row.reserved));
            granted = sizing.grant_all(taken, need, want.want).unwrap_or_default();
            if flaw == Some(Flaw::GrantsOneMore) && granted.bytes > 0 {
                granted.bytes += 1;
            }
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
