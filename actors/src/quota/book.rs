//! The arithmetic of admission: receipts with their policy, windows and leases, and how much of them may be granted.
//!
//! A plain struct without actor, I/O or clock, so that it is tested and measured alone. Each shard of the quota cache
//! has one.
//!
//! # Invariants
//! - Grants never exceed what the ledger leased to this node: `granted + available + released == leased`.
//! - A lease is spent only in the hour and under the epoch in which it was taken.

mod entry;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use self::entry::{BookEntry, release};
use crate::{
    flow::token_bucket::TokenBucket,
    ids::{ContentHash, ReceiptId},
    model::{Credit, WindowKind},
    ports::{ReceiptView, Refill, Release, Want},
    quota::{refusal::Refusal, revocation::Revocation},
};

/// The first lease covers this many streams like the requested one; each further one doubles it. So a receipt that
/// streams once strands little credit, and one that goes on streaming costs few round trips.
const FIRST_LOOK_AHEAD: u64 = 16;
const LAST_LOOK_AHEAD: u64 = 512;

/// The first lease to ask for when the content's size is not known yet.
const FIRST_LEASE_BYTES: u64 = 4 << 20;

/// Bounds and times of a book.
#[derive(Debug, Clone, Copy)]
pub struct BookSettings {
    /// Receipts kept, known and unknown. The oldest unknown one is dropped first, then the oldest idle one.
    pub entries: usize,
    /// How long an entry counts as fresh.
    pub entry_ttl: Duration,
    /// How long an unknown receipt is remembered as unknown.
    pub negative_ttl: Duration,
    /// How long a refusal for quota is repeated before the ledger is asked again.
    pub refusal_ttl: Duration,
    /// When to retry for credit that is reserved but unused: by then other nodes' idle credit has been recalled.
    pub held_back_retry: Duration,
    /// The largest lease to ask for.
    pub lease_max: Credit,
}

/// How much of a content is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// Only whether a stream would be admitted: nothing is reserved.
    Inspect,
    Whole,
    Bytes(u64),
}

/// A request to stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamAsk {
    pub receipt_id: ReceiptId,
    pub content_hash: ContentHash,
    pub demand: Demand,
}

/// The moment of a decision, and whether leases may be spent then.
#[derive(Debug, Clone, Copy)]
pub struct DecisionTime {
    pub wall: Timestamp,
    pub monotonic: Instant,
    /// The epoch that leases must have.
    pub epoch: i64,
    pub may_spend: bool,
}

/// Whether an expired entry may decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    Required,
    /// The ledger is down: entries in memory decide at any age.
    AnyAge,
}

/// A granted stream.
#[derive(Debug, Clone)]
pub struct Grant {
    pub view: Arc<ReceiptView>,
    /// Zero for [`Demand::Inspect`].
    pub reserved: Credit,
    /// The part of it taken from the lease: nothing in a dimension that the policy does not limit.
    pub leased: Credit,
    /// `None` where nothing was taken from a lease.
    pub lease_epoch: Option<i64>,
    pub started_at: Timestamp,
    /// The bytes that this instance can still grant in the tightest window; `None` without a limit on bytes.
    pub remaining_bytes: Option<u64>,
    pub pacer: Option<Arc<TokenBucket>>,
    pub revocation: Arc<Revocation>,
    /// Streams of the receipt on this instance, including this one.
    pub active: u32,
}

/// The answer to a [`StreamAsk`].
#[derive(Debug)]
pub enum BookDecision {
    Granted(Grant),
    Refused(Refusal),
    /// The book lacks data: ask the ledger for this, [`QuotaBook::apply`] the answer, and ask again.
    Refill(Want),
}

#[derive(Debug)]
enum BookRecord {
    Receipt(Box<BookEntry>),
    Nothing { until: Instant },
}

/// Receipts in memory, and decisions about them.
#[derive(Debug)]
pub struct QuotaBook {
    settings: BookSettings,
    entries: HashMap<ReceiptId, BookRecord>,
    /// When to check each known receipt again, in the order of insertion, which is that of time. Each is here at least once.
    due: VecDeque<(Instant, ReceiptId)>,
    /// The same of unknown receipts. They leave first when the book is full, so that guesses push out guesses.
    unknown: VecDeque<(Instant, ReceiptId)>,
}

impl QuotaBook {
    pub fn new(settings: BookSettings) -> Self {
        Self { settings, entries: HashMap::new(), due: VecDeque::new(), unknown: VecDeque::new() }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Decides from memory.
    pub fn acquire(&mut self, ask: &StreamAsk, moment: &DecisionTime, freshness: Freshness) -> BookDecision {
        let entry = match self.entries.get_mut(&ask.receipt_id) {
            None => return BookDecision::Refill(first_want(ask, self.settings.lease_max)),
            Some(BookRecord::Nothing { until }) if *until > moment.monotonic => {
                return BookDecision::Refused(Refusal::UnknownReceipt);
            }
            Some(BookRecord::Nothing { .. }) => return BookDecision::Refill(first_want(ask, self.settings.lease_max)),
            Some(BookRecord::Receipt(entry)) => entry,
        };
        entry.last_used = moment.monotonic;
        let fresh = entry.fresh_until.is_some_and(|until| until > moment.monotonic);
        if !fresh && freshness == Freshness::Required {
            return BookDecision::Refill(entry.want(ask, entry.need(ask.demand), moment, self.settings.lease_max));
        }
        if let Some(refusal) = entry.forbids(ask, moment.wall) {
            return BookDecision::Refused(refusal);
        }
        if ask.demand == Demand::Inspect {
            return BookDecision::Granted(entry.grant(Credit::ZERO, Credit::ZERO, None, moment.wall));
        }
        let need = entry.need(ask.demand);
        let leased = entry.view.policy.limited_part(need);
        if leased.is_zero() {
            return BookDecision::Granted(entry.start(need, leased, None, moment.wall));
        }
        if !moment.may_spend {
            return BookDecision::Refused(Refusal::unavailable());
        }
        if let Some(lease) = entry.lease.as_mut().filter(|lease| lease.is_current(moment))
            && lease.available.covers(leased)
        {
            lease.available -= leased;
            let epoch = lease.epoch;
            return BookDecision::Granted(entry.start(need, leased, Some(epoch), moment.wall));
        }
        if let Some((at, refused)) = entry.refused
            && moment.monotonic.saturating_duration_since(at) < self.settings.refusal_ttl
            && need.covers(refused)
            && let Some(refusal) = entry.refuse_quota(need, moment, self.settings.held_back_retry)
        {
            return BookDecision::Refused(refusal);
        }
        BookDecision::Refill(entry.want(ask, need, moment, self.settings.lease_max))
    }

    /// The refusal of an ask after the ledger's answer was not enough; remembered for a short time.
    pub fn refuse(&mut self, ask: &StreamAsk, moment: &DecisionTime) -> Refusal {
        match self.entries.get_mut(&ask.receipt_id) {
            Some(BookRecord::Receipt(entry)) => {
                let need = entry.need(ask.demand);
                entry.refused = Some((moment.monotonic, need));
                // The windows and the refusal come from one answer, so they agree; if they did not, another request
                // would tell.
                entry.refuse_quota(need, moment, self.settings.held_back_retry).unwrap_or_else(Refusal::unavailable)
            }
            _ => Refusal::UnknownReceipt,
        }
    }

    /// Takes in the ledger's answer. Returns the credit that must go back: the rest of a lease of a past hour, or of a
    /// dimension no longer limited.
    pub fn apply(&mut self, id: ReceiptId, refill: Refill, moment: &DecisionTime) -> Option<Release> {
        let Some(view) = refill.view else {
            let until = moment.monotonic + self.settings.negative_ttl;
            // A receipt disappears only with its timeline; then no right to stream is left.
            if let Some(BookRecord::Receipt(entry)) = self.entries.get(&id) {
                entry.revocation.raise();
            }
            self.insert(id, BookRecord::Nothing { until }, until);
            return None;
        };
        let fresh_until = moment.monotonic + self.settings.entry_ttl;
        if !matches!(self.entries.get(&id), Some(BookRecord::Receipt(_))) {
            let entry = BookEntry::new(view, refill.windows, fresh_until, moment.monotonic);
            self.insert(id, BookRecord::Receipt(Box::new(entry)), fresh_until);
        } else if let Some(BookRecord::Receipt(entry)) = self.entries.get_mut(&id) {
            entry.refresh(view, refill.windows, fresh_until, moment.monotonic);
        }
        let Some(BookRecord::Receipt(entry)) = self.entries.get_mut(&id) else { return None };
        if !entry.view.receipt.status_at(moment.wall).may_stream() {
            entry.revocation.raise();
        } else if entry.revocation.is_raised() {
            // The receipt got its right only now, or got it back: streams that start from now on are not stopped by the
            // old revocation.
            entry.revocation = Arc::default();
        }
        entry.add_lease(refill.granted, refill.windows[WindowKind::Hour.index()].window, moment)
    }

    /// Ends a stream: of its leased credit, `sent` is kept for the ledger to settle and the rest is free again. Credit
    /// that cannot be spent here any more is returned as a release.
    pub fn settle(
        &mut self,
        id: ReceiptId,
        leased: Credit,
        sent: Credit,
        lease_epoch: Option<i64>,
        started_at: Timestamp,
    ) -> Option<Release> {
        let unspent = leased - sent.min(leased);
        let entry = match self.entries.get_mut(&id) {
            Some(BookRecord::Receipt(entry)) => entry,
            // An entry stays while it has a running stream, so here there is no entry to give back to.
            _ => return release(id, lease_epoch?, started_at, unspent),
        };
        entry.in_flight = entry.in_flight.saturating_sub(1);
        entry.leased_in_flight = entry.leased_in_flight - leased.min(entry.leased_in_flight);
        let epoch = lease_epoch?;
        match &mut entry.lease {
            Some(lease) if lease.epoch == epoch && lease.hour.contains(started_at) => {
                lease.available += unspent;
                None
            }
            _ => release(id, epoch, started_at, unspent),
        }
    }

    /// Makes the next decision about this receipt ask the ledger; true when it has running streams, which should learn
    /// at once whether they may go on.
    pub fn invalidate(&mut self, id: ReceiptId) -> bool {
        match self.entries.get_mut(&id) {
            Some(BookRecord::Receipt(entry)) => {
                entry.fresh_until = None;
                entry.refused = None;
                entry.in_flight > 0
            }
            Some(BookRecord::Nothing { .. }) => {
                self.entries.remove(&id);
                false
            }
            None => false,
        }
    }

    /// [`Self::invalidate`] for every receipt of a policy, or for all receipts; returns those with running streams.
    pub fn invalidate_quota_policy(&mut self, name: Option<&str>) -> Vec<ReceiptId> {
        let mut running = Vec::new();
        for (&id, known) in &mut self.entries {
            if let BookRecord::Receipt(entry) = known
                && name.is_none_or(|name| entry.view.receipt.quota_tier == name)
            {
                entry.fresh_until = None;
                entry.refused = None;
                if entry.in_flight > 0 {
                    running.push(id);
                }
            }
        }
        running
    }

    /// Gives back the idle part of a receipt's lease: another instance needs it.
    pub fn recall(&mut self, id: ReceiptId) -> Option<Release> {
        let Some(BookRecord::Receipt(entry)) = self.entries.get_mut(&id) else { return None };
        let lease = entry.lease.as_mut()?;
        let idle = lease.release(id);
        lease.available = Credit::ZERO;
        idle
    }

    /// Whether leases, and not use, leave no room for `need`: leased credit may come back.
    pub fn is_held_back(&self, id: ReceiptId, need: Credit) -> bool {
        match self.entries.get(&id) {
            Some(BookRecord::Receipt(entry)) => entry.is_held_back(need),
            _ => false,
        }
    }

    /// Whether more of a receipt is reserved than this instance holds: by other instances, or by unsettled usage.
    pub fn is_leased_elsewhere(&self, id: ReceiptId) -> bool {
        match self.entries.get(&id) {
            Some(BookRecord::Receipt(entry)) => entry.is_leased_elsewhere(),
            _ => false,
        }
    }

    /// Counts a stream whose last bytes are handed over, until it has [`left`](Self::left).
    pub fn leave(&mut self, id: ReceiptId) {
        if let Some(BookRecord::Receipt(entry)) = self.entries.get_mut(&id) {
            entry.leaving += 1;
        }
    }

    /// A stream that was leaving is settled.
    pub fn left(&mut self, id: ReceiptId) {
        if let Some(BookRecord::Receipt(entry)) = self.entries.get_mut(&id) {
            entry.leaving = entry.leaving.saturating_sub(1);
        }
    }

    /// Whether the last bytes of a stream of this receipt are handed over, and the stream is not settled.
    pub fn is_leaving(&self, id: ReceiptId) -> bool {
        match self.entries.get(&id) {
            Some(BookRecord::Receipt(entry)) => entry.leaving > 0,
            _ => false,
        }
    }

    /// Whether a stream of this receipt needs a slot, as far as is known.
    pub fn limits_streams(&self, id: ReceiptId) -> bool {
        match self.entries.get(&id) {
            Some(BookRecord::Receipt(entry)) => entry.view.policy.max_concurrent_streams.is_some(),
            _ => false,
        }
    }

    /// Whether streams of this receipt run although it was invalidated and has not been loaded since.
    pub fn must_learn(&self, id: ReceiptId) -> bool {
        match self.entries.get(&id) {
            Some(BookRecord::Receipt(entry)) => entry.in_flight > 0 && entry.fresh_until.is_none(),
            _ => false,
        }
    }

    /// A load without a lease, for a receipt whose streams must learn whether they may go on.
    pub fn reload(&self, id: ReceiptId) -> Option<Want> {
        match self.entries.get(&id) {
            Some(BookRecord::Receipt(entry)) => Some(Want {
                receipt_id: id,
                content_hash: entry.view.receipt.content_hash,
                need: Credit::ZERO,
                want: Credit::ZERO,
            }),
            _ => None,
        }
    }

    /// Drops up to `step` expired entries without a running stream; their leases go back. Keeps the book within its
    /// bound as well.
    pub fn sweep(&mut self, now: Instant, step: usize) -> Vec<Release> {
        let mut releases = Vec::new();
        for _ in 0..step {
            let over = self.entries.len() > self.settings.entries;
            let may_leave = |&(due, _): &(Instant, ReceiptId)| due <= now || over;
            if let Some((_, id)) = self.unknown.pop_front_if(|first| may_leave(first)) {
                if matches!(self.entries.get(&id), Some(BookRecord::Nothing { .. })) {
                    self.entries.remove(&id);
                }
                continue;
            }
            let Some((_, id)) = self.due.pop_front_if(|first| may_leave(first)) else { break };
            match self.entries.get(&id) {
                Some(BookRecord::Receipt(entry)) => {
                    let idle_at = entry.last_used + self.settings.entry_ttl;
                    if entry.in_flight > 0 || (idle_at > now && !over) {
                        self.due.push_back((now + self.settings.entry_ttl, id));
                        continue;
                    }
                    releases.extend(entry.lease.and_then(|lease| lease.release(id)));
                    self.entries.remove(&id);
                }
                Some(BookRecord::Nothing { .. }) => {
                    self.entries.remove(&id);
                }
                None => {}
            }
        }
        releases
    }

    /// Drops all leases of other epochs without giving them back: the ledger has reclaimed them.
    pub fn forfeit(&mut self, epoch: i64) {
        for known in self.entries.values_mut() {
            if let BookRecord::Receipt(entry) = known {
                entry.lease = entry.lease.filter(|lease| lease.epoch == epoch);
            }
        }
    }

    /// Raises the revocation of every stream that took credit from a lease; returns how many. Streams that start later
    /// are not affected.
    pub fn cut_leased(&mut self) -> u64 {
        let mut streams = 0;
        for known in self.entries.values_mut() {
            if let BookRecord::Receipt(entry) = known
                && !entry.leased_in_flight.is_zero()
                && !entry.revocation.is_raised()
            {
                entry.revocation.raise();
                entry.revocation = Arc::default();
                streams += u64::from(entry.in_flight);
            }
        }
        streams
    }

    /// Gives every lease back, for shutdown.
    pub fn drain(&mut self) -> Vec<Release> {
        let mut releases = Vec::new();
        for (&id, known) in &mut self.entries {
            if let BookRecord::Receipt(entry) = known {
                releases.extend(entry.lease.take().and_then(|lease| lease.release(id)));
            }
        }
        releases
    }

    fn insert(&mut self, id: ReceiptId, known: BookRecord, due: Instant) {
        let is_unknown = |record: &BookRecord| matches!(record, BookRecord::Nothing { .. });
        let unknown = is_unknown(&known);
        let before = self.entries.insert(id, known);
        // A receipt that has become known, or unknown, is also in the other queue, which passes over it.
        if before.is_none_or(|before| is_unknown(&before) != unknown) {
            let queue = if unknown { &mut self.unknown } else { &mut self.due };
            queue.push_back((due, id));
        }
    }
}

/// The lease to ask for when a receipt is not in memory: the size of its content is not known yet.
fn first_want(ask: &StreamAsk, lease_max: Credit) -> Want {
    let (need, bytes) = match ask.demand {
        Demand::Inspect => (Credit::ZERO, 0),
        Demand::Whole => (Credit::new(u64::MAX, 1), FIRST_LEASE_BYTES),
        Demand::Bytes(bytes) => (Credit::new(bytes, 1), bytes.saturating_mul(FIRST_LOOK_AHEAD)),
    };
    let requests = if need.is_zero() { 0 } else { FIRST_LOOK_AHEAD };
    Want {
        receipt_id: ask.receipt_id,
        content_hash: ask.content_hash,
        need,
        want: Credit::new(bytes, requests).min(lease_max),
    }
}

#[cfg(test)]
mod tests;
