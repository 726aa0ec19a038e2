//! The book against a ledger made of a few numbers, so that every step can be checked.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::{
    ids::VersionId,
    model::{ContentMeta, LeaseSizing, QuotaPolicy, Receipt, ReceiptStatus, WindowSet, WindowUsage},
};

const START: &str = "2026-11-01T10:58:00Z";

fn settings() -> BookSettings {
    BookSettings {
        entries: 100,
        entry_ttl: Duration::from_secs(45),
        negative_ttl: Duration::from_secs(5),
        refusal_ttl: Duration::from_secs(1),
        held_back_retry: Duration::from_secs(1),
        lease_max: Credit::new(1 << 30, 1000),
    }
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn policy(bytes_per_hour: u64, requests_per_hour: u64) -> QuotaPolicy {
    QuotaPolicy {
        policy_name: "test".into(),
        bytes_per_hour: Some(bytes_per_hour),
        bytes_per_day: Some(bytes_per_hour * 2),
        requests_per_hour: Some(requests_per_hour),
        ..QuotaPolicy::default()
    }
}

fn content() -> ContentHash {
    ContentHash::from_bytes([7; 32])
}

fn view(id: ReceiptId, status: ReceiptStatus, policy: QuotaPolicy, size: u64) -> ReceiptView {
    ReceiptView {
        receipt: Receipt {
            receipt_id: id,
            version_id: VersionId::next(),
            content_hash: content(),
            quota_tier: policy.policy_name.clone(),
            status,
            expires_at: time("2027-01-01T00:00:00Z"),
            total_satoshis: 0,
            created_at: time(START),
            epoch: 0,
        },
        policy,
        content: Some(ContentMeta {
            content_hash: content(),
            size_bytes: size,
            media_type: "video/mp4".into(),
            stored_at: time(START),
        }),
        asset_name: "a".into(),
    }
}

/// One receipt's windows and this node's leases, by window start.
struct ModelLedger {
    view: ReceiptView,
    windows: HashMap<Window, (Credit, Credit)>,
    leases: HashMap<Timestamp, Credit>,
}

use crate::model::Window;

impl ModelLedger {
    fn new(view: ReceiptView) -> Self {
        Self { view, windows: HashMap::new(), leases: HashMap::new() }
    }

    fn refill(&mut self, want: &Want, now: Timestamp) -> Refill {
        let set = WindowSet::at(now);
        let size = self.view.content.as_ref().map_or(0, |content| content.size_bytes);
        let need = Credit::new(want.need.bytes.min(size), want.need.requests);
        let taken = set.iter().map(|window| {
            let (used, reserved) = self.windows.get(&window).copied().unwrap_or_default();
            (self.view.policy.limits(window.kind), used + reserved)
        });
        let leasable = self.view.policy.is_metered() && want.content_hash == content() && !want.want.is_zero();
        let granted = if leasable {
            LeaseSizing { divisor: 8 }.grant_all(taken, need, want.want).unwrap_or_default()
        } else {
            Credit::ZERO
        };
        *self.leases.entry(set.hour().start).or_default() += granted;
        let mut windows = WindowKind::ALL.map(|kind| WindowUsage::empty(set.get(kind)));
        for usage in &mut windows {
            let row = self.windows.entry(usage.window).or_default();
            row.1 += granted;
            (usage.used, usage.reserved) = *row;
        }
        Refill { view: Some(self.view.clone()), windows, granted }
    }

    /// `leased` is the part of `sent` that some window limits.
    fn settle(&mut self, at: Timestamp, sent: Credit, leased: Credit) {
        let set = WindowSet::at(at);
        *self.leases.get_mut(&set.hour().start).expect("settled from a lease") -= leased;
        for window in set.iter() {
            let row = self.windows.get_mut(&window).expect("leased from a window");
            row.0 += sent;
            row.1 -= leased;
        }
    }

    fn release(&mut self, release: &Release) {
        let set = WindowSet::at(release.window);
        *self.leases.get_mut(&set.hour().start).expect("released from a lease") -= release.credit;
        for window in set.iter() {
            self.windows.get_mut(&window).expect("leased from a window").1 -= release.credit;
        }
    }

    fn check_limits(&self) {
        for (window, (used, reserved)) in &self.windows {
            let limits = self.view.policy.limits(window.kind);
            let taken = *used + *reserved;
            assert!(limits.bytes.is_none_or(|limit| taken.bytes <= limit), "{window:?} holds {taken:?}");
            assert!(limits.requests.is_none_or(|limit| taken.requests <= limit), "{window:?} holds {taken:?}");
        }
    }
}

struct Bench {
    book: QuotaBook,
    ledger: ModelLedger,
    moment: DecisionTime,
    id: ReceiptId,
}

impl Bench {
    fn new(status: ReceiptStatus, policy: QuotaPolicy, size: u64) -> Self {
        let id = ReceiptId::random();
        Self {
            book: QuotaBook::new(settings()),
            ledger: ModelLedger::new(view(id, status, policy, size)),
            moment: DecisionTime { wall: time(START), monotonic: Instant::now(), epoch: 1, may_spend: true },
            id,
        }
    }

    fn ask(&self, demand: Demand) -> StreamAsk {
        StreamAsk { receipt_id: self.id, content_hash: content(), demand }
    }

    fn advance(&mut self, by: Duration) {
        self.moment.wall += by;
        self.moment.monotonic += by;
    }

    /// Acquires as a shard does: one refill, then its answer decides.
    fn acquire(&mut self, demand: Demand) -> Result<Grant, Refusal> {
        let ask = self.ask(demand);
        for _ in 0..2 {
            match self.book.acquire(&ask, &self.moment, Freshness::Required) {
                BookDecision::Granted(grant) => return Ok(grant),
                BookDecision::Refused(refusal) => return Err(refusal),
                BookDecision::Refill(want) => {
                    let refill = self.ledger.refill(&want, self.moment.wall);
                    if let Some(release) = self.book.apply(self.id, refill, &self.moment) {
                        self.ledger.release(&release);
                    }
                }
            }
        }
        Err(self.book.refuse(&ask, &self.moment))
    }

    fn settle(&mut self, grant: &Grant, sent: Credit) {
        let back = self.book.settle(self.id, grant.leased, sent, grant.lease_epoch, grant.started_at);
        if grant.lease_epoch.is_some() {
            self.ledger.settle(grant.started_at, sent, sent.min(grant.leased));
        }
        if let Some(release) = back {
            self.ledger.release(&release);
        }
    }
}

#[test]
fn refusals_come_in_the_order_of_the_contract() {
    let cases = [
        (ReceiptStatus::Pending, Refusal::NotConfirmed),
        (ReceiptStatus::Expired, Refusal::Expired),
        (ReceiptStatus::Refunded, Refusal::Refunded),
        (ReceiptStatus::Consumed, Refusal::Consumed),
    ];
    for (status, refusal) in cases {
        let mut bench = Bench::new(status, policy(1000, 10), 100);
        assert_eq!(bench.acquire(Demand::Whole).expect_err("may not stream"), refusal);
    }
    let mut bench = Bench::new(ReceiptStatus::Consumed, policy(1000, 10), 100);
    bench.ledger.view.receipt.content_hash = ContentHash::from_bytes([8; 32]);
    assert_eq!(bench.acquire(Demand::Whole).expect_err("other content"), Refusal::OtherContent);
    let mut bench = Bench::new(ReceiptStatus::Confirmed, policy(1000, 10), 100);
    bench.ledger.view.content = None;
    assert_eq!(bench.acquire(Demand::Inspect).expect_err("not stored"), Refusal::ContentNotStored);
    let mut bench = Bench::new(ReceiptStatus::Confirmed, policy(1000, 10), 100);
    bench.ledger.view.policy.max_file_size_bytes = Some(99);
    assert_eq!(bench.acquire(Demand::Bytes(1)).expect_err("too large"), Refusal::TooLarge { limit: 99, size: 100 });
}

#[test]
fn an_expired_receipt_is_refused_before_the_janitor_has_marked_it() {
    let mut bench = Bench::new(ReceiptStatus::Confirmed, policy(1000, 10), 100);
    bench.ledger.view.receipt.expires_at = bench.moment.wall + Duration::from_secs(10);
    bench.acquire(Demand::Whole).expect("still valid");
    bench.advance(Duration::from_secs(10));
    assert_eq!(bench.acquire(Demand::Whole).expect_err("expired"), Refusal::Expired);
}

#[test]
fn an_unknown_receipt_is_remembered_for_a_short_time() {
    let mut bench = Bench::new(ReceiptStatus::Confirmed, policy(1000, 10), 100);
    let unknown = Refill { view: None, ..bench.ledger.refill(&bench.book.want_of(&bench), bench.moment.wall) };
    bench.book.apply(bench.id, unknown, &bench.moment);
    let ask = bench.ask(Demand::Whole);
    let decision = bench.book.acquire(&ask, &bench.moment, Freshness::Required);
    assert!(matches!(decision, BookDecision::Refused(Refusal::UnknownReceipt)));
    bench.advance(Duration::from_secs(5));
    let decision = bench.book.acquire(&ask, &bench.moment, Freshness::Required);
    assert!(matches!(decision, BookDecision::Refill(_)));
}

#[test]
fn quota_refusals_name_the_window_and_when_it_opens() {
    let mut bench = Bench::new(ReceiptStatus::Confirmed, policy(250, 10), 100);
    let grants: Vec<_> = (0..2).map(|_| bench.acquire(Demand::Whole).expect("fits")).collect();
    let refusal = bench.acquire(Demand::Whole).expect_err("250 holds two");
    let expected = Refusal::Quota {
        window: WindowKind::Hour,
        what: crate::quota::refusal::Exhausted::Bytes,
        limit: 250,
        used: 200,
        remaining: 50,
        // Nothing is used yet: credit that the streams reserved may come back at any time.
        retry_after: Duration::from_secs(1),
    };
    assert_eq!(refusal, expected);
    assert_eq!(bench.acquire(Demand::Bytes(50)).expect("the rest fits").reserved.bytes, 50);
    for grant in grants {
        bench.settle(&grant, Credit::new(100, 1));
    }
    let refusal = bench.acquire(Demand::Whole).expect_err("two are used");
    assert!(matches!(refusal, Refusal::Quota { retry_after, .. } if retry_after == Duration::from_secs(120)));
}

#[test]
fn what_was_reserved_and_not_sent_is_free_again() {
    let mut bench = Bench::new(ReceiptStatus::Confirmed, policy(250, 10), 100);
    let grants: Vec<_> = (0..2).map(|_| bench.acquire(Demand::Whole).expect("fits")).collect();
    bench.acquire(Demand::Whole).expect_err("250 holds two");
    for grant in grants {
        bench.settle(&grant, Credit::ZERO);
    }
    bench.acquire(Demand::Whole).expect("fits again");
}

#[test]
fn a_refusal_is_repeated_without_the_ledger_for_a_short_time() {
    let mut bench = Bench::new(ReceiptStatus::Confirmed, policy(150, 10), 100);
    bench.acquire(Demand::Whole).expect("fits");
    bench.acquire(Demand::Whole).expect_err("150 holds one");
    let ask = bench.ask(Demand::Whole);
    let decision = bench.book.acquire(&ask, &bench.moment, Freshness::Required);
    assert!(matches!(decision, BookDecision::Refused(Refusal::Quota { .. })));
    bench.advance(Duration::from_secs(1));
    let decision = bench.book.acquire(&ask, &bench.moment, Freshness::Required);
    assert!(matches!(decision, BookDecision::Refill(_)));
}

#[test]
fn a_new_hour_opens_the_window_and_the_old_lease_goes_back() {
    let mut bench = Bench::new(ReceiptStatus::Confirmed, policy(1000, 100), 100);
    let old = bench.acquire(Demand::Whole).expect("fits");
    bench.advance(Duration::from_secs(180));
    let new = bench.acquire(Demand::Whole).expect("a new hour");
    bench.settle(&old, Credit::new(100, 1));
    bench.settle(&new, Credit::new(100, 1));
    for release in bench.book.drain() {
        bench.ledger.release(&release);
    }
    assert!(bench.ledger.leases.values().all(|lease| lease.is_zero()), "{:?}", bench.ledger.leases);
}

#[test]
fn leases_are_not_spent_when_the_node_may_not() {
    let mut bench = Bench::new(ReceiptStatus::Confirmed, policy(1000, 100), 100);
    bench.acquire(Demand::Whole).expect("fits");
    bench.moment.may_spend = false;
    assert!(matches!(bench.acquire(Demand::Whole), Err(Refusal::Unavailable { .. })));
}

#[test]
fn what_is_not_metered_needs_no_lease() {
    let mut bench = Bench::new(ReceiptStatus::Settled, QuotaPolicy::default(), 1 << 40);
    let grant = bench.acquire(Demand::Whole).expect("no limit");
    assert_eq!((grant.lease_epoch, grant.reserved.bytes), (None, 1 << 40));
    assert!(bench.ledger.leases.values().all(|lease| lease.is_zero()));
}

#[test]
fn nothing_is_leased_in_a_dimension_without_a_limit() {
    let bytes = QuotaPolicy { bytes_per_day: Some(1000), ..QuotaPolicy::default() };
    let requests = QuotaPolicy { requests_per_month: Some(10), ..QuotaPolicy::default() };
    for (policy, leased) in [(bytes, Credit::new(100, 0)), (requests, Credit::new(0, 1))] {
        let mut bench = Bench::new(ReceiptStatus::Confirmed, policy, 100);
        let grant = bench.acquire(Demand::Whole).expect("fits");
        assert_eq!((grant.reserved, grant.leased), (Credit::new(100, 1), leased));
        let held = bench.ledger.leases.values().copied().fold(Credit::ZERO, |sum, lease| sum + lease);
        assert_eq!((held.bytes > 0, held.requests > 0), (leased.bytes > 0, leased.requests > 0));
        bench.settle(&grant, Credit::new(60, 1));
        for release in bench.book.drain() {
            bench.ledger.release(&release);
        }
        assert!(bench.ledger.leases.values().all(|lease| lease.is_zero()), "{:?}", bench.ledger.leases);
    }
}

#[test]
fn an_empty_content_needs_no_credit_where_only_bytes_are_limited() {
    let policy = QuotaPolicy { bytes_per_hour: Some(0), ..QuotaPolicy::default() };
    let mut bench = Bench::new(ReceiptStatus::Confirmed, policy, 0);
    assert_eq!(bench.acquire(Demand::Whole).expect("nothing is asked for").lease_epoch, None);
}

#[test]
fn what_the_policy_has_ceased_to_limit_goes_back() {
    let mut bench = Bench::new(ReceiptStatus::Confirmed, policy(10_000, 100), 100);
    let running = bench.acquire(Demand::Whole).expect("fits");
    bench.ledger.view.policy = QuotaPolicy { requests_per_hour: Some(100), ..QuotaPolicy::default() };
    bench.book.invalidate(bench.id);
    let later = bench.acquire(Demand::Whole).expect("fits");
    assert_eq!(later.leased, Credit::new(0, 1));
    let held = bench.ledger.leases.values().next().expect("a lease");
    assert_eq!(held.bytes, 100, "the first stream keeps its leased credit");
    bench.settle(&running, Credit::new(100, 1));
    bench.settle(&later, Credit::new(100, 1));
    for release in bench.book.drain() {
        bench.ledger.release(&release);
    }
    assert!(bench.ledger.leases.values().all(|lease| lease.is_zero()), "{:?}", bench.ledger.leases);
}

#[test]
fn a_refund_revokes_running_streams() {
    let mut bench = Bench::new(ReceiptStatus::Confirmed, policy(1000, 100), 100);
    let grant = bench.acquire(Demand::Whole).expect("fits");
    assert!(bench.book.invalidate(bench.id), "a stream runs");
    bench.ledger.view.receipt.status = ReceiptStatus::Refunded;
    let want = bench.book.reload(bench.id).expect("known");
    let refill = bench.ledger.refill(&want, bench.moment.wall);
    bench.book.apply(bench.id, refill, &bench.moment);
    assert!(grant.revocation.is_raised());
}

#[test]
fn idle_entries_leave_and_their_leases_go_back() {
    let mut bench = Bench::new(ReceiptStatus::Confirmed, policy(1000, 100), 100);
    let grant = bench.acquire(Demand::Whole).expect("fits");
    bench.advance(Duration::from_secs(100));
    assert!(bench.book.sweep(bench.moment.monotonic, 10).is_empty(), "a stream of it runs");
    bench.settle(&grant, Credit::new(100, 1));
    bench.advance(Duration::from_secs(100));
    let releases = bench.book.sweep(bench.moment.monotonic, 10);
    assert_eq!(releases.len(), 1);
    assert!(bench.book.is_empty());
}

#[test]
fn the_book_keeps_within_its_bound() {
    let mut bench = Bench::new(ReceiptStatus::Confirmed, QuotaPolicy::default(), 100);
    for _ in 0..150 {
        bench.id = ReceiptId::random();
        bench.ledger.view.receipt.receipt_id = bench.id;
        bench.acquire(Demand::Inspect).expect("let in");
    }
    bench.book.sweep(bench.moment.monotonic, 1000);
    assert_eq!(bench.book.len(), 100);
}

#[test]
fn guessed_receipts_push_out_no_receipt_and_leave_in_time() {
    let mut bench = Bench::new(ReceiptStatus::Confirmed, QuotaPolicy::default(), 100);
    bench.acquire(Demand::Inspect).expect("known");
    let want = bench.book.want_of(&bench);
    let guess = |bench: &mut Bench| {
        let unknown = Refill { view: None, ..bench.ledger.refill(&want, bench.moment.wall) };
        bench.book.apply(ReceiptId::random(), unknown, &bench.moment);
    };
    for _ in 0..300 {
        guess(&mut bench);
        bench.book.sweep(bench.moment.monotonic, 2);
    }
    assert_eq!(bench.book.len(), 100);
    bench.advance(Duration::from_secs(5));
    bench.book.sweep(bench.moment.monotonic, 1000);
    assert_eq!(bench.book.len(), 1, "the guesses are forgotten");
    let known = bench.book.acquire(&bench.ask(Demand::Inspect), &bench.moment, Freshness::Required);
    assert!(matches!(known, BookDecision::Granted(_)), "{known:?}");
    // A receipt that was asked for before it was made stays once it is known.
    let refill = Refill { view: None, ..bench.ledger.refill(&want, bench.moment.wall) };
    bench.id = ReceiptId::random();
    bench.ledger.view.receipt.receipt_id = bench.id;
    bench.book.apply(bench.id, refill, &bench.moment);
    bench.advance(Duration::from_secs(5));
    bench.acquire(Demand::Inspect).expect("made");
    bench.book.sweep(bench.moment.monotonic, 1000);
    assert_eq!(bench.book.len(), 2);
}

impl QuotaBook {
    fn want_of(&self, bench: &Bench) -> Want {
        first_want(&bench.ask(Demand::Inspect), self.settings.lease_max)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Acquire(Demand),
    Settle { which: usize, share: u64 },
    Wait(u64),
    Invalidate,
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u64..2000).prop_map(|bytes| Step::Acquire(Demand::Bytes(bytes))),
        2 => Just(Step::Acquire(Demand::Whole)),
        1 => Just(Step::Acquire(Demand::Inspect)),
        5 => (any::<usize>(), 0_u64..=100).prop_map(|(which, share)| Step::Settle { which, share }),
        2 => (0_u64..2000).prop_map(Step::Wait),
        1 => Just(Step::Invalidate),
        1 => Just(Step::Sweep),
    ];
    proptest::collection::vec(step, 1..150)
}

proptest! {
    #[test]
    fn nothing_passes_a_limit_and_what_is_leased_is_settled_or_returned(
        steps in steps(),
        bytes in proptest::option::weighted(0.8, 0_u64..20_000),
        requests in proptest::option::weighted(0.8, 0_u64..40),
    ) {
        let mut policy = policy(bytes.unwrap_or_default(), requests.unwrap_or_default());
        policy.bytes_per_hour = bytes.and(policy.bytes_per_hour);
        policy.bytes_per_day = bytes.and(policy.bytes_per_day);
        policy.bytes_per_month = bytes.and(policy.bytes_per_month);
        policy.requests_per_hour = requests.and(policy.requests_per_hour);
        policy.requests_per_day = requests.and(policy.requests_per_day);
        policy.requests_per_month = requests.and(policy.requests_per_month);
        let mut bench = Bench::new(ReceiptStatus::Confirmed, policy, 1500);
        let mut running: Vec<Grant> = Vec::new();
        for step in steps {
            match step {
                Step::Acquire(demand) => {
                    if let Ok(grant) = bench.acquire(demand) && demand != Demand::Inspect {
                        running.push(grant);
                    }
                }
                Step::Settle { which, share } if !running.is_empty() => {
                    let grant = running.swap_remove(which % running.len());
                    let sent = grant.reserved.bytes * share / 100;
                    bench.settle(&grant, Credit::new(sent, u64::from(sent > 0)));
                }
                Step::Settle { .. } => {}
                Step::Wait(seconds) => bench.advance(Duration::from_secs(seconds)),
                Step::Invalidate => {
                    bench.book.invalidate(bench.id);
                }
                Step::Sweep => {
                    for release in bench.book.sweep(bench.moment.monotonic, 100) {
                        bench.ledger.release(&release);
                    }
                }
            }
            bench.ledger.check_limits();
        }
        for grant in running {
            bench.settle(&grant, grant.reserved);
        }
        for release in bench.book.drain() {
            bench.ledger.release(&release);
        }
        bench.ledger.check_limits();
        for (hour, lease) in &bench.ledger.leases {
            prop_assert!(lease.is_zero(), "{lease:?} of {hour} was neither settled nor returned");
        }
    }
}
