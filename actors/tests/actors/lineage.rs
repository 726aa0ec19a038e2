//! The actors of lineage: events are acknowledged when they are durable, one instance at a time prunes the window, and
//! every change is emitted once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use actix::Arbiter;
use jiff::Timestamp;
use penstock_actors::{
    clock::Clock as _,
    lineage::{
        event::{self, EventBounds},
        ingest::{LineageHandle, LineageIngestDeps, LineageIngestSettings},
        node_events::NodeEventNames,
        outbox_relay::{OutboxRelayCounters, OutboxRelayDeps, OutboxRelaySettings, tell},
        pruner::{PassOutcome, PrunerCounters, PrunerDeps, PrunerHandle, PrunerSettings, Troubles, pass},
    },
    model::{EventKind, LineageEvent},
    ports::{EventOutcome, LeasedTask, OutboxEntry, OutboxKind, PortError, PortResult, TaskLeases as _},
    testkit::{
        clock::ManualClock,
        memory_lineage::{MemoryLineage, POISON},
        script::Fault,
    },
};
use serde_json::json;
use uuid::Uuid;

use crate::rig::{START, aside, eventually, watch_of};

const PATIENCE: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(86_400);

fn bounds() -> EventBounds {
    EventBounds { datasets: 10, facets: 10, facet_bytes: 1000, namespace: 100, name: 500, window: 30 * DAY, ahead: DAY }
}

/// Lineage with its store in memory, and an ingest in front of it.
struct Bench {
    store: Arc<MemoryLineage>,
    clock: Arc<ManualClock>,
    ingest: LineageHandle,
    arbiter: Arbiter,
}

impl Bench {
    async fn start() -> Self {
        let (store, clock) = (Arc::<MemoryLineage>::default(), Arc::new(ManualClock::at(START)));
        let arbiter = Arbiter::new();
        let settings = LineageIngestSettings { batch_events: 100, queue: 100_000 };
        let deps = LineageIngestDeps { store: store.clone(), clock: clock.clone() };
        let ingest = LineageHandle::start(settings, deps, &arbiter.handle());
        ingest.started().await;
        Self { store, clock, ingest, arbiter }
    }

    /// An event this many seconds after the start.
    fn event(&self, job: &str, seconds: i64) -> LineageEvent {
        let start: Timestamp = START.parse().expect("a time");
        let time = start.checked_add(jiff::SignedDuration::from_secs(seconds)).expect("a time of our time");
        let value = json!({
            "eventType": "START", "eventTime": time.to_string(), "run": { "runId": Uuid::new_v4() },
            "job": { "namespace": "etl", "name": job }, "producer": "urn:a:b", "schemaURL": "urn:a:b",
        });
        event::read(EventKind::Run, &value, value.to_string(), &bounds(), self.clock.now()).expect("an event")
    }

    /// Offers events in a task of their own.
    fn offer(&self, events: Vec<LineageEvent>) -> tokio::task::JoinHandle<PortResult<Vec<EventOutcome>>> {
        let (ingest, permit) = (self.ingest.clone(), self.ingest.admit(100).expect("room"));
        aside(async move { ingest.keep(events, permit).await })
    }

    async fn end(self) {
        assert!(self.ingest.drain(PATIENCE).await, "every permit is back");
        assert!(self.ingest.is_alive());
        self.arbiter.stop();
    }
}

#[actix::test]
async fn offers_that_come_while_a_batch_is_under_way_make_the_next_one() {
    let bench = Bench::start().await;
    let held = bench.store.script.hold("ingest");
    let first = bench.offer(vec![bench.event("a", 0)]);
    eventually("the first batch is under way", || bench.store.script.calls("ingest") == [1]).await;
    let later: Vec<_> =
        (1..=7).map(|second| bench.offer(vec![bench.event("a", second), bench.event("b", second)])).collect();
    // Each task offers when it runs.
    tokio::task::yield_now().await;
    eventually("all have offered", || bench.ingest.queue().in_use == 800).await;
    drop(held);
    assert_eq!(first.await.expect("answered").expect("kept"), [EventOutcome::New]);
    for offer in later {
        assert_eq!(offer.await.expect("answered").expect("kept"), [EventOutcome::New; 2]);
    }
    // Some may not have reached the mailbox when the second batch went, but they did not go one by one.
    let calls = bench.store.script.calls("ingest");
    assert!(calls.len() < 8 && calls.iter().sum::<usize>() == 15, "{calls:?}");
    assert_eq!(bench.ingest.counters().new.load(Relaxed), 15);
    bench.end().await;
}

#[actix::test]
async fn a_batch_takes_no_more_of_the_waiting_offers_than_its_bound() {
    let bench = Bench::start().await;
    let held = bench.store.script.hold("ingest");
    let first = bench.offer(vec![bench.event("a", 0)]);
    eventually("the first batch is under way", || bench.store.script.calls("ingest") == [1]).await;
    let later: Vec<_> = (1..=250).map(|second| bench.offer(vec![bench.event("a", second)])).collect();
    eventually("all have offered", || bench.ingest.queue().in_use == 25_100).await;
    drop(held);
    first.await.expect("answered").expect("kept");
    // The clock of the bench stands still: the batches are sent although no time has passed.
    for offer in later {
        assert_eq!(offer.await.expect("answered").expect("kept"), [EventOutcome::New]);
    }
    let calls = bench.store.script.calls("ingest");
    assert!(calls.iter().sum::<usize>() == 251 && calls.iter().all(|events| *events <= 100), "{calls:?}");
    assert_eq!(bench.ingest.counters().batches.load(Relaxed), calls.len() as u64);
    bench.end().await;
}

#[actix::test]
async fn an_event_that_is_offered_again_after_a_failure_counts_once() {
    let bench = Bench::start().await;
    let event = bench.event("a", 0);
    bench.store.script.next("ingest", [Fault::Unavailable, Fault::AnswerLost]);
    for _ in 0..2 {
        let answer = bench.offer(vec![event.clone()]).await.expect("answered");
        assert!(matches!(answer, Err(PortError::Unavailable { .. })), "{answer:?}");
    }
    assert_eq!(bench.offer(vec![event]).await.expect("answered").expect("kept"), [EventOutcome::Known]);
    assert_eq!((bench.store.kept(), bench.ingest.counters().failed.load(Relaxed)), (1, 2));
    bench.end().await;
}

#[actix::test]
async fn an_offer_that_can_never_be_kept_fails_alone() {
    let bench = Bench::start().await;
    let held = bench.store.script.hold("ingest");
    let first = bench.offer(vec![bench.event("a", 0)]);
    eventually("the first batch is under way", || bench.store.script.calls("ingest") == [1]).await;
    let offers: Vec<_> =
        (1..=9).map(|second| bench.offer(vec![bench.event(if second == 5 { POISON } else { "a" }, second)])).collect();
    eventually("all have offered", || bench.ingest.queue().in_use == 1000).await;
    drop(held);
    first.await.expect("answered").expect("kept");
    for (place, offer) in offers.into_iter().enumerate() {
        let answer = offer.await.expect("answered");
        match place {
            4 => assert!(matches!(answer, Err(PortError::Rejected { .. })), "{answer:?}"),
            _ => assert_eq!(answer.expect("kept"), [EventOutcome::New]),
        }
    }
    assert_eq!(bench.store.kept(), 9);
    bench.end().await;
}

/// An event that names this many datasets.
fn wide(bench: &Bench, job: &str, datasets: usize) -> LineageEvent {
    let inputs: Vec<_> = (0..datasets).map(|n| json!({ "namespace": "db", "name": format!("d{n}") })).collect();
    let value = json!({
        "eventTime": START, "job": { "namespace": "etl", "name": job }, "inputs": inputs, "producer": "urn:a:b", "schemaURL": "urn:a:b",
    });
    let bounds = EventBounds { datasets, ..bounds() };
    event::read(EventKind::Job, &value, value.to_string(), &bounds, bench.clock.now()).expect("an event")
}

#[actix::test]
async fn an_offer_that_is_too_much_for_one_batch_is_kept_in_several_and_answered_as_one() {
    let bench = Bench::start().await;
    // Some 2,000 rows each; a batch may have 10,000.
    let mut events: Vec<_> = (0..11).map(|n| wide(&bench, &format!("job{n}"), 1000)).collect();
    events.push(events[0].clone());
    let kept = bench.offer(events.clone()).await.expect("answered").expect("kept");
    assert_eq!((&kept[..11], kept[11]), (&[EventOutcome::New; 11][..], EventOutcome::Known));
    assert_eq!(bench.store.script.calls("ingest"), [4, 4, 4]);
    // A single event that is larger than a batch is a batch.
    let huge = vec![wide(&bench, "huge", 6000), bench.event("a", 0), wide(&bench, "huger", 7000)];
    assert_eq!(bench.offer(huge).await.expect("answered").expect("kept"), [EventOutcome::New; 3]);
    assert_eq!(bench.store.script.calls("ingest")[3..], [1, 1, 1]);
    // An offer that fails halfway can be sent again as a whole, and counts once.
    let events: Vec<_> = (0..8).map(|n| wide(&bench, &format!("later{n}"), 1000)).collect();
    bench.store.script.next("ingest", [None, Some(Fault::Unavailable)]);
    bench.offer(events.clone()).await.expect("answered").expect_err("the second half");
    let kept = bench.offer(events).await.expect("answered").expect("kept");
    assert_eq!((&kept[..4], &kept[4..]), (&[EventOutcome::Known; 4][..], &[EventOutcome::New; 4][..]));
    assert_eq!((bench.store.kept(), bench.ingest.counters().failed.load(Relaxed)), (11 + 3 + 8, 4));
    bench.end().await;
}

#[actix::test]
async fn an_offer_in_several_batches_keeps_its_results_when_another_is_rejected() {
    let bench = Bench::start().await;
    let held = bench.store.script.hold("ingest");
    let first = bench.offer(vec![bench.event("a", 0)]);
    eventually("the first batch is under way", || bench.store.script.calls("ingest") == [1]).await;
    let known = wide(&bench, "known", 1000);
    let mut many: Vec<_> = (0..6).map(|n| wide(&bench, &format!("job{n}"), 1000)).collect();
    many.push(known.clone());
    let offers = [
        bench.offer(vec![known]),
        bench.offer(vec![bench.event(POISON, 1)]),
        bench.offer(many),
        bench.offer(vec![bench.event("b", 2)]),
    ];
    eventually("all have offered", || bench.ingest.queue().in_use == 500).await;
    drop(held);
    first.await.expect("answered").expect("kept");
    let mut answers = Vec::new();
    for offer in offers {
        answers.push(offer.await.expect("answered"));
    }
    assert_eq!(answers[0].as_deref().expect("kept"), [EventOutcome::New]);
    assert!(matches!(answers[1], Err(PortError::Rejected { .. })), "{:?}", answers[1]);
    let kept = answers[2].as_deref().expect("kept");
    assert_eq!((&kept[..6], kept[6]), (&[EventOutcome::New; 6][..], EventOutcome::Known));
    assert_eq!(answers[3].as_deref().expect("kept"), [EventOutcome::New]);
    bench.end().await;
}

#[actix::test]
async fn events_are_kept_although_their_sender_has_left() {
    let bench = Bench::start().await;
    let held = bench.store.script.hold("ingest");
    let first = bench.offer(vec![bench.event("a", 0)]);
    let second = bench.offer(vec![bench.event("a", 1)]);
    eventually("a batch is under way", || !bench.store.script.calls("ingest").is_empty()).await;
    tokio::task::yield_now().await;
    first.abort();
    second.abort();
    drop(held);
    eventually("both are kept", || bench.store.kept() == 2).await;
    bench.end().await;
}

#[actix::test]
async fn a_full_queue_refuses_at_once() {
    let bench = Bench::start().await;
    let all = bench.ingest.admit(100_000).expect("all of it");
    assert!(bench.ingest.admit(1).is_none());
    assert!(bench.ingest.admit_in_time(1, Duration::from_millis(1)).await.is_none());
    assert!(!bench.ingest.drain(Duration::from_millis(1)).await, "something is under way");
    drop(all);
    bench.end().await;
}

fn pruner(bench: &Bench, holder: Uuid) -> PrunerDeps {
    PrunerDeps {
        upkeep: bench.store.clone(),
        graph: bench.store.clone(),
        leases: bench.store.clone(),
        outbox: bench.store.clone(),
        clock: bench.clock.clone(),
        watch: watch_of(&bench.clock),
        holder,
    }
}

fn settings(window_events: u64) -> PrunerSettings {
    PrunerSettings {
        interval: DAY,
        step: 10,
        pause: Duration::ZERO,
        lease_ttl: PATIENCE,
        window: 30 * DAY,
        window_events,
        graph: 400 * DAY,
    }
}

fn counted(counter: &AtomicU64) -> u64 {
    counter.load(Relaxed)
}

async fn filled(events: i64) -> Bench {
    let bench = Bench::start().await;
    let events = (0..events).map(|second| bench.event("a", second)).collect();
    bench.offer(events).await.expect("answered").expect("kept");
    bench
}

/// A pass without earlier failures.
async fn pass_of(bench: &Bench, holder: Uuid, settings: &PrunerSettings, counters: &PrunerCounters) -> PassOutcome {
    pass(&pruner(bench, holder), settings, counters, &mut Troubles::default()).await
}

#[actix::test]
async fn a_pass_removes_what_is_too_much_in_small_steps_and_no_more() {
    let bench = filled(57).await;
    let counters = PrunerCounters::default();
    assert_eq!(pass_of(&bench, Uuid::new_v4(), &settings(20), &counters).await, PassOutcome::Done);
    assert_eq!((bench.store.kept(), counted(&counters.events)), (20, 37));
    assert_eq!(bench.store.script.calls("trim"), [10, 10, 10, 7]);
    assert_eq!((counted(&counters.kept), counted(&counters.excess), counted(&counters.lag_seconds)), (20, 0, 0));
    // When the window has moved on, the rest is removed too.
    bench.clock.advance(40 * DAY);
    assert_eq!(pass_of(&bench, Uuid::nil(), &settings(20), &counters).await, PassOutcome::Elsewhere, "one at a time");
    bench.store.lease_goes_to(Uuid::nil());
    assert_eq!(pass_of(&bench, Uuid::nil(), &settings(20), &counters).await, PassOutcome::Done);
    assert_eq!((bench.store.kept(), counted(&counters.events)), (0, 57));
    bench.end().await;
}

#[actix::test]
async fn an_instance_that_has_lost_its_lease_does_nothing_more() {
    let bench = filled(100).await;
    let (one, other) = (Uuid::new_v4(), Uuid::new_v4());
    let counters = Arc::<PrunerCounters>::default();
    let held = bench.store.script.hold("trim");
    let passing = aside({
        let (deps, counters) = (pruner(&bench, one), Arc::clone(&counters));
        async move { pass(&deps, &settings(20), &counters, &mut Troubles::default()).await }
    });
    eventually("a step is under way", || bench.store.script.calls("trim") == [10]).await;
    bench.store.lease_goes_to(other);
    drop(held);
    assert_eq!(passing.await.expect("ended"), PassOutcome::Elsewhere);
    assert_eq!((bench.store.kept(), counted(&counters.failures)), (90, 0), "the step before was its last");
    assert_eq!(pass_of(&bench, other, &settings(20), &counters).await, PassOutcome::Done);
    assert_eq!(bench.store.kept(), 20);
    bench.end().await;
}

#[actix::test]
async fn steps_that_fail_hold_up_no_other_kind_and_are_tried_again_after_the_interval() {
    let failing = ["prepare_days", "drop_days", "trim", "prune_runs", "prune_edges", "prune_nodes", "prune_namespaces"];
    for failing in failing {
        let bench = filled(30).await;
        let (deps, counters) = (pruner(&bench, Uuid::new_v4()), PrunerCounters::default());
        let mut troubles = Troubles::default();
        bench.store.script.next(failing, [Fault::Unavailable]);
        assert_eq!(pass(&deps, &settings(20), &counters, &mut troubles).await, PassOutcome::Failed, "{failing}");
        assert_eq!((counted(&counters.failures), counted(&counters.passes)), (1, 1), "{failing}");
        let left = if failing == "trim" { 30 } else { 20 };
        assert_eq!((bench.store.kept(), counted(&counters.kept)), (left, left as u64), "{failing}");
        let tried = bench.store.script.calls(failing).len();
        assert_eq!(pass(&deps, &settings(20), &counters, &mut troubles).await, PassOutcome::Failed, "{failing}");
        assert_eq!(bench.store.script.calls(failing).len(), tried, "{failing}: not at once");
        bench.clock.advance(DAY);
        assert_eq!(pass(&deps, &settings(20), &counters, &mut troubles).await, PassOutcome::Done, "{failing}");
        assert!(bench.store.script.calls(failing).len() > tried, "{failing}");
        assert_eq!((bench.store.kept(), counted(&counters.failures)), (20, 1), "{failing}");
        bench.end().await;
    }
}

#[actix::test]
async fn more_than_a_pass_may_do_is_said_so() {
    let bench = filled(15).await;
    let counters = PrunerCounters::default();
    let narrow = PrunerSettings { step: 1, ..settings(0) };
    // 20 steps of one event: the pass is bounded, although here it finishes.
    assert_eq!(pass_of(&bench, Uuid::new_v4(), &narrow, &counters).await, PassOutcome::Done);
    assert_eq!(bench.store.kept(), 0);
    let events = (0..30).map(|second| bench.event("a", second)).collect();
    bench.offer(events).await.expect("answered").expect("kept");
    bench.store.lease_goes_to(Uuid::nil());
    assert_eq!(pass_of(&bench, Uuid::nil(), &narrow, &counters).await, PassOutcome::More);
    assert_eq!((bench.store.kept(), counted(&counters.excess)), (10, 10));
    assert_eq!(pass_of(&bench, Uuid::nil(), &narrow, &counters).await, PassOutcome::Done);
    bench.end().await;
}

#[actix::test]
async fn jobs_and_datasets_wait_until_no_old_edge_is_left() {
    let bench = filled(1).await;
    let (holder, counters) = (Uuid::new_v4(), PrunerCounters::default());
    // A pass has 20 steps of 10.
    bench.store.has_old_edges(250);
    assert_eq!(pass_of(&bench, holder, &settings(20), &counters).await, PassOutcome::More);
    assert_eq!(bench.store.script.calls("prune_nodes").len(), 0);
    assert_eq!(pass_of(&bench, holder, &settings(20), &counters).await, PassOutcome::Done);
    assert_eq!((counted(&counters.edges), bench.store.script.calls("prune_nodes").len()), (250, 1));
    bench.end().await;
}

#[actix::test]
async fn who_does_not_prune_any_more_does_not_say_what_the_window_holds() {
    let bench = filled(57).await;
    let (one, other) = (Uuid::new_v4(), Uuid::new_v4());
    let (counters, others) = (PrunerCounters::default(), PrunerCounters::default());
    bench.clock.advance(40 * DAY);
    // Neither the oldest day nor the excess can be removed: the gauges have values.
    bench.store.script.next("drop_days", [Fault::Unavailable]);
    bench.store.script.next("trim", [Fault::Unavailable]);
    assert_eq!(pass_of(&bench, one, &settings(20), &counters).await, PassOutcome::Failed);
    assert_eq!((counted(&counters.kept), counted(&counters.excess)), (57, 37));
    assert!(counted(&counters.lag_seconds) > 0);
    bench.store.lease_goes_to(other);
    assert_eq!(pass_of(&bench, one, &settings(20), &counters).await, PassOutcome::Elsewhere);
    assert_eq!(
        (counted(&counters.kept), counted(&counters.excess), counted(&counters.lag_seconds)),
        (0, 0, 0),
        "the other instance reports it"
    );
    bench.store.script.next("drop_days", [Fault::Unavailable]);
    assert_eq!(pass_of(&bench, other, &settings(20), &others).await, PassOutcome::Failed);
    assert_eq!(counted(&others.kept), 20);
    bench.end().await;
}

#[actix::test]
async fn the_lease_is_kept_between_passes_and_given_back_at_a_clean_stop() {
    let bench = filled(1).await;
    let other = Uuid::new_v4();
    let short = PrunerSettings { lease_ttl: Duration::from_millis(30), ..settings(20) };
    let pruner = PrunerHandle::start(pruner(&bench, Uuid::new_v4()), short, &bench.arbiter.handle());
    eventually("the lease was renewed", || bench.store.script.calls("acquire").len() >= 4).await;
    assert_eq!(counted(&pruner.counters().passes), 1, "the interval is long");
    assert_eq!(bench.store.acquire(LeasedTask::PruneLineage, other, PATIENCE).await.expect("an answer"), None);
    pruner.stop().await;
    assert!(bench.store.acquire(LeasedTask::PruneLineage, other, PATIENCE).await.expect("an answer").is_some());
    assert!(pruner.is_alive());
    bench.end().await;
}

#[actix::test]
async fn a_clean_stop_does_not_wait_for_a_pass_that_is_under_way() {
    let bench = filled(100).await;
    let held = bench.store.script.hold("trim");
    let pruner = PrunerHandle::start(pruner(&bench, Uuid::new_v4()), settings(20), &bench.arbiter.handle());
    eventually("a step is under way", || bench.store.script.calls("trim") == [10]).await;
    pruner.stop().await;
    drop(held);
    assert!(bench.store.acquire(LeasedTask::PruneLineage, Uuid::nil(), PATIENCE).await.expect("an answer").is_some());
    assert_eq!(bench.store.kept(), 90);
    bench.end().await;
}

fn upload(bench: &Bench, id: i64) -> OutboxEntry {
    let detail = json!({ "content": format!("{id:064}"), "size": 1, "mediaType": "text/plain" });
    OutboxEntry { id, kind: OutboxKind::Upload, happened_at: bench.clock.now(), detail }
}

#[actix::test]
async fn an_event_is_emitted_once_in_spite_of_any_failure() {
    let bench = Bench::start().await;
    let deps =
        OutboxRelayDeps { outbox: bench.store.clone(), ingest: bench.ingest.clone(), clock: bench.clock.clone() };
    let names = NodeEventNames { namespace: "penstock".into(), producer: "urn:penstock:node".into() };
    let settings = OutboxRelaySettings { names, bounds: bounds(), interval: DAY };
    let counters = OutboxRelayCounters::default();
    (1..=120).for_each(|id| bench.store.add_entry(upload(&bench, id)));
    // A malformed entry is skipped, and does not block the others for ever.
    bench.store.add_entry(OutboxEntry { detail: json!({}), ..upload(&bench, 121) });
    for (call, fault) in [
        ("claim", Fault::Unavailable),
        ("ingest", Fault::Unavailable),
        ("ingest", Fault::AnswerLost),
        ("mark_emitted", Fault::Unavailable),
        ("mark_emitted", Fault::AnswerLost),
    ] {
        bench.store.script.next(call, [fault]);
        assert!(tell(&deps, &settings, &counters).await.is_err(), "{call} {fault:?}");
        // The instance that had claimed them may be dead.
        bench.store.claims_run_out();
    }
    while tell(&deps, &settings, &counters).await.expect("told") {}
    assert_eq!((bench.store.unsent(), bench.store.kept()), (0, 120));
    assert_eq!(counted(&counters.skipped), 1);
    // The entries of the lost answer were removed, so they are not counted here.
    assert_eq!(counted(&counters.emitted), 71);
    bench.end().await;
}
