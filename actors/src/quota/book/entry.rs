//! One receipt in a book: its state, its lease, and the streams that it admits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{DecisionTime, Demand, FIRST_LOOK_AHEAD, Grant, LAST_LOOK_AHEAD, StreamAsk};
use crate::{
    flow::token_bucket::TokenBucket,
    ids::ReceiptId,
    model::{Credit, ReceiptStatus, Window, WindowUsage},
    ports::{ReceiptView, Release, Want},
    quota::{
        refusal::{Exhausted, Refusal},
        revocation::Revocation,
    },
};

/// One of the two dimensions of credit.
type Dimension = fn(Credit) -> u64;

/// The unspent part of a lease.
#[derive(Debug, Clone, Copy)]
pub(super) struct BookLease {
    pub(super) epoch: i64,
    pub(super) hour: Window,
    pub(super) available: Credit,
}

impl BookLease {
    pub(super) fn is_current(&self, moment: &DecisionTime) -> bool {
        self.epoch == moment.epoch && self.hour.contains(moment.wall)
    }
}

#[derive(Debug)]
pub(super) struct BookEntry {
    pub(super) view: Arc<ReceiptView>,
    pub(super) windows: [WindowUsage; 3],
    pub(super) lease: Option<BookLease>,
    pub(super) look_ahead: u64,
    /// Running streams.
    pub(super) in_flight: u32,
    /// Those of them whose last bytes are handed over.
    pub(super) leaving: u32,
    /// The credit that they took from leases.
    pub(super) leased_in_flight: Credit,
    /// `None` after an invalidation.
    pub(super) fresh_until: Option<Instant>,
    pub(super) last_used: Instant,
    /// When quota was last refused, and for how much.
    pub(super) refused: Option<(Instant, Credit)>,
    pub(super) pacer: Option<Arc<TokenBucket>>,
    pub(super) revocation: Arc<Revocation>,
}

impl BookLease {
    pub(super) fn release(self, id: ReceiptId) -> Option<Release> {
        release(id, self.epoch, self.hour.start, self.available)
    }
}

pub(super) fn release(receipt_id: ReceiptId, epoch: i64, window: Timestamp, credit: Credit) -> Option<Release> {
    (!credit.is_zero()).then_some(Release { receipt_id, window, epoch, credit })
}

impl BookEntry {
    pub(super) fn new(view: ReceiptView, windows: [WindowUsage; 3], fresh_until: Instant, now: Instant) -> Self {
        Self {
            pacer: TokenBucket::of(&view.policy, now).map(Arc::new),
            view: Arc::new(view),
            windows,
            lease: None,
            look_ahead: FIRST_LOOK_AHEAD,
            in_flight: 0,
            leaving: 0,
            leased_in_flight: Credit::ZERO,
            fresh_until: Some(fresh_until),
            last_used: now,
            refused: None,
            revocation: Arc::default(),
        }
    }

    pub(super) fn refresh(&mut self, view: ReceiptView, windows: [WindowUsage; 3], fresh_until: Instant, now: Instant) {
        if self.view.policy != view.policy {
            self.pacer = TokenBucket::of(&view.policy, now).map(Arc::new);
        }
        if *self.view != view {
            self.view = Arc::new(view);
        }
        self.windows = windows;
        self.fresh_until = Some(fresh_until);
        self.refused = None;
    }

    /// Adds a grant of the ledger. Returns credit that cannot be spent any more: a stale lease, or the part of a
    /// dimension that the policy no longer limits.
    pub(super) fn add_lease(&mut self, granted: Credit, hour: Window, moment: &DecisionTime) -> Option<Release> {
        let id = self.view.receipt.receipt_id;
        let stale = match &mut self.lease {
            Some(lease) if lease.epoch == moment.epoch && lease.hour == hour => {
                lease.available += granted;
                let surplus = lease.available - self.view.policy.limited_part(lease.available);
                lease.available -= surplus;
                return release(id, lease.epoch, hour.start, surplus);
            }
            lease => lease.take(),
        };
        if !granted.is_zero() {
            self.lease = Some(BookLease { epoch: moment.epoch, hour, available: granted });
        }
        // Credit of a reclaimed epoch no longer belongs to this node, so it is not given back.
        stale.filter(|lease| lease.epoch == moment.epoch).and_then(|lease| lease.release(id))
    }

    /// The refusals that do not depend on quota, in the order that the API documents.
    pub(super) fn forbids(&self, ask: &StreamAsk, now: Timestamp) -> Option<Refusal> {
        let receipt = &self.view.receipt;
        let status = receipt.status_at(now);
        match status {
            ReceiptStatus::Pending => return Some(Refusal::NotConfirmed),
            ReceiptStatus::Expired => return Some(Refusal::Expired),
            ReceiptStatus::Refunded => return Some(Refusal::Refunded),
            ReceiptStatus::Confirmed | ReceiptStatus::Settled | ReceiptStatus::Consumed => {}
        }
        if receipt.content_hash != ask.content_hash {
            return Some(Refusal::OtherContent);
        }
        if status == ReceiptStatus::Consumed {
            return Some(Refusal::Consumed);
        }
        let Some(content) = &self.view.content else { return Some(Refusal::ContentNotStored) };
        if ask.demand == Demand::Inspect {
            return None;
        }
        if !self.view.policy.allows(&content.media_type) {
            return Some(Refusal::MediaTypeNotAllowed);
        }
        match self.view.policy.max_file_size_bytes {
            Some(limit) if content.size_bytes > limit => Some(Refusal::TooLarge { limit, size: content.size_bytes }),
            _ => None,
        }
    }

    pub(super) fn need(&self, demand: Demand) -> Credit {
        let size = self.view.content.as_ref().map_or(0, |content| content.size_bytes);
        match demand {
            Demand::Inspect => Credit::ZERO,
            Demand::Whole => Credit::new(size, 1),
            Demand::Bytes(bytes) => Credit::new(bytes.min(size), 1),
        }
    }

    /// The lease to ask the ledger for, given the credit still in hand.
    pub(super) fn want(&mut self, ask: &StreamAsk, need: Credit, moment: &DecisionTime, lease_max: Credit) -> Want {
        let in_hand = match &self.lease {
            Some(lease) if lease.is_current(moment) => lease.available,
            _ => Credit::ZERO,
        };
        let mut want =
            Want { receipt_id: ask.receipt_id, content_hash: ask.content_hash, need: Credit::ZERO, want: Credit::ZERO };
        let need = self.view.policy.limited_part(need);
        if !in_hand.covers(need) {
            want.need = need - need.min(in_hand);
            let ahead = Credit::new(need.bytes.saturating_mul(self.look_ahead), need.requests * self.look_ahead);
            want.want = ahead.min(lease_max).max(want.need);
            self.look_ahead = (self.look_ahead * 2).min(LAST_LOOK_AHEAD);
        }
        want
    }

    pub(super) fn start(
        &mut self,
        reserved: Credit,
        leased: Credit,
        lease_epoch: Option<i64>,
        now: Timestamp,
    ) -> Grant {
        self.in_flight += 1;
        self.leased_in_flight += leased;
        self.grant(reserved, leased, lease_epoch, now)
    }

    pub(super) fn grant(&self, reserved: Credit, leased: Credit, lease_epoch: Option<i64>, now: Timestamp) -> Grant {
        Grant {
            view: Arc::clone(&self.view),
            reserved,
            leased,
            lease_epoch,
            started_at: now,
            remaining_bytes: self.remaining_bytes(now),
            pacer: self.pacer.clone(),
            revocation: Arc::clone(&self.revocation),
            active: self.in_flight,
        }
    }

    /// The credit of a window that this instance could still grant: credit that is free, and credit that it holds.
    pub(super) fn remaining(&self, usage: &WindowUsage, limit: u64, of: Dimension, now: Timestamp) -> u64 {
        if !usage.window.contains(now) {
            return limit;
        }
        let own = match &self.lease {
            Some(lease) if lease.hour.contains(now) => of(lease.available),
            _ => 0,
        };
        limit.saturating_sub(of(usage.used) + of(usage.reserved)).saturating_add(own).min(limit)
    }

    /// Whether every window has room for `need` beside its use: then only reserved credit is in the way.
    pub(super) fn is_held_back(&self, need: Credit) -> bool {
        self.windows.iter().all(|usage| {
            let limits = self.view.policy.limits(usage.window.kind);
            let fits =
                |limit: Option<u64>, used: u64, need: u64| limit.is_none_or(|limit| used.saturating_add(need) <= limit);
            fits(limits.bytes, usage.used.bytes, need.bytes)
                && fits(limits.requests, usage.used.requests, need.requests)
        })
    }

    /// Whether a window has more reserved than is idle here and taken by running streams here.
    pub(super) fn is_leased_elsewhere(&self) -> bool {
        let idle = self.lease.map_or(Credit::ZERO, |lease| lease.available);
        let own = idle + self.leased_in_flight;
        self.windows.iter().any(|usage| !own.covers(usage.reserved))
    }

    pub(super) fn remaining_bytes(&self, now: Timestamp) -> Option<u64> {
        let windows = self.windows.iter();
        windows
            .filter_map(|usage| {
                let limit = self.view.policy.limits(usage.window.kind).bytes?;
                Some(self.remaining(usage, limit, |credit| credit.bytes, now))
            })
            .min()
    }

    /// The window that refuses `need`, if any; of several, the one that opens last.
    pub(super) fn refuse_quota(
        &self,
        need: Credit,
        moment: &DecisionTime,
        held_back_retry: Duration,
    ) -> Option<Refusal> {
        let mut refusal = None;
        for usage in &self.windows {
            let limits = self.view.policy.limits(usage.window.kind);
            let dimensions: [(_, _, Dimension); 2] = [
                (Exhausted::Requests, limits.requests, |credit| credit.requests),
                (Exhausted::Bytes, limits.bytes, |credit| credit.bytes),
            ];
            for (what, limit, of) in dimensions {
                let Some(limit) = limit else { continue };
                let remaining = self.remaining(usage, limit, of, moment.wall);
                if of(need) > remaining {
                    let wait = usage.window.end.duration_since(moment.wall);
                    let wait = Duration::try_from(wait).unwrap_or_default();
                    // Credit that running streams and other instances hold may come back long before the window ends.
                    let held_back = of(usage.used).saturating_add(of(need)) <= limit;
                    refusal = Some(Refusal::Quota {
                        window: usage.window.kind,
                        what,
                        limit,
                        used: limit - remaining,
                        remaining,
                        retry_after: if held_back { wait.min(held_back_retry) } else { wait },
                    });
                }
            }
        }
        refusal
    }
}
