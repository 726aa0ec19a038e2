//! The quota cache: which streams are admitted, with how many round trips, and which credit comes back.

use futures::future::join_all;
use penstock_actors::{
    model::{Credit, ReceiptStatus},
    quota::{book::Demand, cache::Reservation, refusal::Refusal},
};

use crate::rig::{Rig, Right, aborted, alone, aside, bytes, completed, eventually, streams};

/// Asks this many times at once.
async fn all_at_once(rig: &Rig, right: &Right, times: usize) -> Vec<Result<Reservation, Refusal>> {
    join_all((0..times).map(|_| rig.acquire(right, Demand::Whole))).await
}

#[actix::test]
async fn of_parallel_requests_on_a_budget_for_one_exactly_one_is_admitted() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(1000), 1000);
    let answers = all_at_once(&rig, &right, 50).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    let refused = answers.iter().filter_map(|answer| answer.as_ref().err());
    assert!(refused.clone().all(|refusal| matches!(refusal, Refusal::Quota { remaining: 0, .. })));
    assert!(rig.refills() <= 3, "{} round trips for 50 questions about one receipt", rig.refills());
    drop(answers);
    rig.end_alone().await;
}

#[actix::test]
async fn parallel_requests_that_fit_together_are_all_let_in() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(8000), 100);
    let answers = all_at_once(&rig, &right, 80).await;
    let refusals: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(refusals.is_empty(), "the budget is for all 80: {refusals:?}");
    assert!(matches!(rig.acquire(&right, Demand::Whole).await, Err(Refusal::Quota { .. })));
    drop(answers);
    rig.end_alone().await;
}

#[actix::test]
async fn a_small_request_is_not_refused_because_a_large_one_was() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(50), 100);
    let held = rig.ledger.script.hold("refill");
    let large = aside(rig.node.quota.clone().acquire_owned(right, Demand::Whole));
    let small = aside(rig.node.quota.clone().acquire_owned(right, Demand::Bytes(10)));
    eventually("both wait", || rig.waiting() == 2).await;
    drop(held);
    assert!(matches!(large.await.expect("answered"), Err(Refusal::Quota { remaining: 50, .. })));
    let small = small.await.expect("answered").expect("10 of 50 fit");
    small.settle(completed(10));
    rig.end_alone().await;
}

#[actix::test]
async fn concurrent_misses_for_one_receipt_share_one_refill() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(1 << 30), 10);
    let held = rig.ledger.script.hold("refill");
    let asking: Vec<_> =
        (0..16).map(|_| aside(rig.node.quota.clone().acquire_owned(right, Demand::Bytes(10)))).collect();
    eventually("all wait", || rig.waiting() == 16).await;
    drop(held);
    for answer in join_all(asking).await {
        answer.expect("answered").expect("let in").settle(completed(10));
    }
    assert_eq!(rig.ledger.script.calls("refill"), [1]);
    rig.end_alone().await;
}

#[actix::test]
async fn many_receipts_share_a_round_trip() {
    let rig = Rig::with(|settings| settings.quota.shards = 1).await;
    let rights: Vec<_> = (0..102).map(|_| rig.receipt(bytes(1 << 30), 10)).collect();
    let held = rig.ledger.script.hold("refill");
    let asking: Vec<_> =
        rights.iter().map(|&right| aside(rig.node.quota.clone().acquire_owned(right, Demand::Whole))).collect();
    eventually("all wait", || rig.waiting() == 102).await;
    drop(held);
    for answer in join_all(asking).await {
        drop(answer.expect("answered").expect("let in"));
    }
    // Two were in flight while the others came, and those went out together.
    assert_eq!(rig.ledger.script.calls("refill"), [1, 1, 100]);
    rig.end_alone().await;
}

#[actix::test]
async fn a_storm_of_refused_requests_makes_few_round_trips() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(1000), 600);
    let running = rig.acquire(&right, Demand::Whole).await.expect("fits");
    for _ in 0..1000 {
        assert!(matches!(rig.acquire(&right, Demand::Whole).await, Err(Refusal::Quota { remaining: 400, .. })));
    }
    assert!(rig.refills() <= 2, "{} round trips", rig.refills());
    let unknown = Right { id: penstock_actors::ids::ReceiptId::random(), ..right };
    let before = rig.refills();
    for _ in 0..1000 {
        assert!(matches!(rig.acquire(&unknown, Demand::Whole).await, Err(Refusal::UnknownReceipt)));
    }
    assert_eq!(rig.refills(), before + 1);
    running.settle(completed(600));
    rig.end_alone().await;
}

#[actix::test]
async fn an_invalidation_during_a_refill_in_flight_is_not_lost() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(1000), 100);
    let held = rig.ledger.script.hold("refill");
    let asking = aside(rig.node.quota.clone().acquire_owned(right, Demand::Whole));
    eventually("the refill is answered, and its answer is held back", || rig.refills() == 1).await;
    rig.ledger.set_status(right.id, ReceiptStatus::Refunded);
    rig.node.quota.invalidate(&penstock_actors::ports::Tag::Receipt(right.id));
    drop(held);
    assert_eq!(asking.await.expect("answered").err(), Some(Refusal::Refunded));
    rig.end_alone().await;
}

#[actix::test]
async fn a_reservation_without_its_requester_is_released() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(100), 100);
    let held = rig.ledger.script.hold("refill");
    let asking = aside(rig.node.quota.clone().acquire_owned(right, Demand::Whole));
    eventually("the refill is under way", || rig.refills() == 1).await;
    asking.abort();
    assert!(asking.await.err().is_some_and(|error| error.is_cancelled()));
    drop(held);
    eventually("no question waits", || rig.waiting() == 0).await;
    let next = rig.acquire(&right, Demand::Whole).await.expect("the whole budget is free");
    next.settle(completed(100));
    rig.settled().await;
    assert_eq!(rig.ledger.rows().len(), 1, "a client that vanished is charged nothing");
    rig.end_alone().await;
}

#[actix::test]
async fn a_stream_cut_by_its_client_is_charged_for_what_it_took() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(1000), 1000);
    rig.acquire(&right, Demand::Whole).await.expect("fits").settle(aborted(300));
    let next = rig.acquire(&right, Demand::Bytes(700)).await.expect("unsent credit is free");
    drop(next);
    rig.settled().await;
    assert_eq!(rig.ledger.hour(right.id, rig.now()).0, Credit::new(300, 1));
    rig.end_alone().await;
}

#[actix::test]
async fn a_drain_gives_back_what_a_refill_in_flight_brings() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(1 << 30), 100);
    let held = rig.ledger.script.hold("refill");
    let asking = aside(rig.node.quota.clone().acquire_owned(right, Demand::Whole));
    eventually("a lease is taken, and its answer is held back", || !rig.ledger.leased().is_empty()).await;
    asking.abort();
    let (node, ledger) = (rig.node.clone(), rig.ledger.clone());
    let draining = aside(async move { node.drain(std::time::Duration::from_secs(30)).await });
    // The drain begins while the answer is still held back: a question behind it in the mailbox shows that it was handled.
    let other = rig.receipt(bytes(1), 1);
    let behind = aside(rig.node.quota.clone().inspect_owned(other));
    eventually("the question is in the queue", || rig.waiting() >= 1).await;
    drop(held);
    assert!(behind.await.expect("answered").is_ok());
    draining.await.expect("drained");
    assert_eq!(ledger.leased(), [], "no lease outlives the drain");
    rig.end_alone().await;
}

#[actix::test]
async fn a_released_slot_is_free_for_the_next_request() {
    let rig = Rig::start().await;
    let right = rig.receipt(streams(8), 100);
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let quota = rig.node.quota.clone();
            aside(async move {
                for turn in 0..500 {
                    let mut stream = quota
                        .clone()
                        .acquire_owned(right, Demand::Whole)
                        .await
                        .unwrap_or_else(|refusal| panic!("{turn}: {refusal:?}"));
                    stream.release_slot();
                    stream.settle(completed(100));
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("never refused");
    }
    rig.end_alone().await;
}

#[actix::test]
async fn ten_thousand_random_aborts_leave_nothing_behind() {
    let rig = Rig::start().await;
    let policy = penstock_actors::model::QuotaPolicy { max_concurrent_streams: Some(100_000), ..bytes(1 << 40) };
    let rights: Vec<_> = (0..20).map(|_| rig.receipt(policy.clone(), 1000)).collect();
    let mut sent = 0;
    for round in 0..100_usize {
        let asking: Vec<_> = (0..100)
            .map(|n| aside(rig.node.quota.clone().acquire_owned(rights[(round * 7 + n) % 20], Demand::Whole)))
            .collect();
        for (n, asking) in asking.into_iter().enumerate() {
            // Some clients leave before their answer, some right after it, some in the middle of their stream.
            match (round * 31 + n * 17) % 4 {
                0 => asking.abort(),
                1 => {
                    if n % 3 == 0 {
                        tokio::task::yield_now().await;
                    }
                    asking.abort();
                }
                2 => drop(asking.await.expect("answered").expect("let in")),
                _ => {
                    let bytes = (n as u64 * 13) % 1000;
                    asking.await.expect("answered").expect("let in").settle(aborted(bytes));
                    sent += bytes;
                }
            }
        }
    }
    eventually("no question waits", || rig.waiting() == 0).await;
    rig.settled().await;
    assert_eq!(rig.ledger.rows().iter().map(|row| row.bytes_sent).sum::<u64>(), sent);
    rig.end_alone().await;
}

/// Questions that own their inputs, so that they can run in another task.
pub(crate) trait Owned {
    fn acquire_owned(
        self,
        right: Right,
        demand: Demand,
    ) -> impl Future<Output = Result<Reservation, Refusal>> + 'static;

    fn inspect_owned(self, right: Right) -> impl Future<Output = Result<(), Refusal>> + 'static;
}

impl Owned for penstock_actors::quota::cache::QuotaHandle {
    async fn acquire_owned(self, right: Right, demand: Demand) -> Result<Reservation, Refusal> {
        self.acquire(right.ask(demand), alone()).await
    }

    async fn inspect_owned(self, right: Right) -> Result<(), Refusal> {
        self.inspect(right.id, right.hash).await.map(drop)
    }
}
