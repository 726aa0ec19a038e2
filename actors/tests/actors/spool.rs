//! The usage spool: what is noted before bytes go out, and what becomes of it when the process that noted it is gone.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use penstock_actors::{
    content::delivery::{DeliveryError, DeliveryPlan},
    ids::{NodeId, UsageId},
    model::{Credit, LeaseSizing, LostLease, NodeEpoch, Outcome, QuotaPolicy, UsageRow},
    ports::{Ledger as _, Leftover, PortError, UsageSpool as _, Want},
    quota::{book::Demand, refusal::Refusal},
    testkit::{
        asked,
        memory_spool::MemorySpool,
        script::Fault,
        usage_spool_suite::{self, SpoolHome},
    },
};

use crate::{
    delivery::content,
    rig::{Rig, Right, World, bytes, completed, eventually},
};

const PIECE: u64 = 32 << 10;

/// A spool that outlives its processes.
struct Home(MemorySpool);

impl SpoolHome for Home {
    type Spool = MemorySpool;

    fn open(&mut self) -> (MemorySpool, Leftover) {
        (self.0.clone(), self.0.left())
    }
}

#[test]
fn the_spool_of_these_tests_keeps_the_promises_of_the_port() {
    usage_spool_suite::run(|| Home(MemorySpool::default()));
}

/// The only row that the next process would charge.
fn noted(spool: &MemorySpool) -> UsageRow {
    let mut left = spool.left().rows;
    assert_eq!(left.len(), 1, "{left:?}");
    left.remove(0).1
}

#[actix::test]
async fn every_piece_is_noted_before_it_is_handed_over() {
    let rig = Rig::start().await;
    let size = 20 * PIECE + 5;
    let right = rig.receipt_to(QuotaPolicy::default(), content(size as usize));
    let mut delivery = rig.deliver(&right).await;
    assert_eq!(noted(&rig.spool).bytes_sent, PIECE, "the first piece, before anything is sent");
    let mut out = 0;
    while let Some(piece) = delivery.next().await {
        out += piece.expect("readable").len() as u64;
        let row = noted(&rig.spool);
        assert!(
            (out..=out + 9 * PIECE).contains(&row.bytes_sent),
            "{out} bytes went out, {} are noted",
            row.bytes_sent
        );
        assert_eq!(row.outcome, if row.bytes_sent == size { Outcome::Completed } else { Outcome::Failed });
        assert_eq!((row.receipt_id, row.content_hash, row.requests), (right.id, right.hash, 1));
    }
    drop(delivery);
    rig.settled().await;
    eventually("a settled row is forgotten", || rig.spool.left().rows.is_empty()).await;
    rig.end_alone().await;
}

#[actix::test]
async fn a_stream_that_breaks_off_is_noted_with_what_it_sent() {
    let rig = Rig::start().await;
    let right = rig.receipt_to(bytes(1 << 30), content(10 * PIECE as usize));
    let held = rig.ledger.script.hold("settle");
    let mut delivery = rig.deliver(&right).await;
    for _ in 0..2 {
        delivery.next().await.expect("a piece").expect("readable");
    }
    drop(delivery);
    eventually("its end is noted", || noted(&rig.spool).outcome == Outcome::Aborted).await;
    assert_eq!(noted(&rig.spool).bytes_sent, 2 * PIECE);
    drop(held);
    rig.end_alone().await;
}

#[actix::test]
async fn a_stream_that_delivered_nothing_leaves_no_note() {
    let rig = Rig::start().await;
    let right = rig.receipt_to(bytes(1 << 30), content(PIECE as usize));
    drop(rig.deliver(&right).await);
    rig.settled().await;
    assert!(rig.spool.left().rows.is_empty());
    assert!(rig.ledger.rows().is_empty());
    rig.end_alone().await;
}

#[actix::test]
async fn a_delegation_is_noted_before_the_url_is_given() {
    let rig = Rig::start().await;
    let right = rig.receipt_to(bytes(1 << 30), content(1000));
    let held = rig.ledger.script.hold("settle");
    rig.acquire(&right, Demand::Whole).await.expect("let in").delegate().expect("noted");
    let row = noted(&rig.spool);
    assert_eq!((row.bytes_sent, row.outcome), (1000, Outcome::Delegated));
    drop(held);
    rig.settled().await;
    rig.spool.set_failing(true);
    rig.acquire(&right, Demand::Whole).await.expect("let in").delegate().expect_err("no URL without a note");
    rig.settled().await;
    assert_eq!(rig.ledger.rows().len(), 1, "nothing is charged for it");
    rig.spool.set_failing(false);
    rig.end_alone().await;
}

#[actix::test]
async fn without_room_in_the_spool_no_stream_begins_and_running_ones_go_on() {
    let rig = Rig::start().await;
    let right = rig.receipt_to(bytes(1 << 30), content(10 * PIECE as usize));
    let delivery = rig.deliver(&right).await;
    rig.spool.set_full(true);
    let refused = rig.acquire(&right, Demand::Whole).await.err();
    assert!(matches!(refused, Some(Refusal::Overloaded { queue: "usage", .. })), "{refused:?}");
    let pieces: Vec<_> = delivery.collect().await;
    assert!(pieces.iter().all(Result::is_ok));
    rig.spool.set_full(false);
    rig.acquire(&right, Demand::Whole).await.expect("room again").settle(completed(1));
    rig.end_alone().await;
}

#[actix::test]
async fn a_spool_that_fails_lets_running_streams_go_on_while_it_can_record_the_gap() {
    let rig = Rig::start().await;
    let right = rig.receipt_to(bytes(1 << 30), content(10 * PIECE as usize));
    let [mut first, mut second] = [rig.deliver(&right).await, rig.deliver(&right).await];
    rig.spool.set_failing(true);
    while let Some(piece) = first.next().await {
        piece.expect("it goes on");
    }
    assert!(rig.spool.left().complete.is_empty(), "the spool does not answer for this epoch any more");
    let reservation = rig.acquire(&right, Demand::Whole).await.expect("let in");
    let refused = rig.open(reservation, DeliveryPlan::single(0..right.size)).await.err();
    assert!(matches!(refused, Some(PortError::Unavailable { .. })), "{refused:?}");
    rig.spool.set_gone(true);
    let error = loop {
        match second.next().await.expect("it does not end well") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, DeliveryError::Unnoted(_)), "{error}");
    drop((first, second));
    rig.spool.set_gone(false);
    rig.spool.set_failing(false);
    rig.settled().await;
    assert_eq!(rig.ledger.hour(right.id, rig.now()).0, Credit::new(right.size + PIECE, 2));
    rig.end_alone().await;
}

/// A process that was killed: its epoch, its lease, and a stream of `sent` bytes that only the spool knows of.
async fn killed(world: &World, right: &Right, sent: u64) -> (NodeEpoch, Arc<MemorySpool>, UsageRow) {
    let life = NodeEpoch { node: NodeId::random(), epoch: 1 };
    let lease = Credit::new(1000, 10);
    world.ledger.heartbeat(life, Duration::from_secs(60)).await.expect("known");
    let want = Want { receipt_id: right.id, content_hash: right.hash, need: lease, want: lease };
    world.ledger.refill(life, &[asked(want)], LeaseSizing { divisor: 1 }, world.now()).await.expect("leased");
    let row = UsageRow {
        usage_id: UsageId::next(),
        receipt_id: right.id,
        content_hash: right.hash,
        session_id: None,
        client: None,
        started_at: world.now(),
        finished_at: world.now(),
        bytes_sent: sent,
        requests: 1,
        outcome: Outcome::Failed,
        lease_epoch: Some(life.epoch),
    };
    let spool = Arc::new(MemorySpool::default());
    spool.epoch_began(life.epoch);
    spool.begin(&row).expect("noted");
    world.ledger.declare_dead(life).await.expect("known");
    (life, spool, row)
}

#[actix::test]
async fn what_a_killed_process_sent_is_charged_by_the_next_one_and_its_lease_is_given_back() {
    for reclaimed in [false, true] {
        let world = World::default();
        let right = world.receipt(bytes(10_000), 100);
        let (life, spool, row) = killed(&world, &right, 60).await;
        if reclaimed {
            // Another node was quicker, and charged the lease.
            world.ledger.reclaim_all(LostLease::Charge).await;
        }
        world.ledger.script.next("settle", [Fault::AnswerLost]);
        let rig = Rig::again(&world, life.node, spool, |_| {}).await;
        assert_eq!(rig.ledger.rows(), [row], "no lost lease is charged");
        assert_eq!(rig.ledger.hour(right.id, rig.now()).0, Credit::new(60, 1));
        assert_eq!(rig.ledger.leased(), []);
        rig.end_alone().await;
    }
}

#[actix::test]
async fn what_the_ledger_does_not_take_at_the_start_is_settled_when_it_does() {
    let world = World::default();
    let right = world.receipt(bytes(10_000), 100);
    let (life, spool, row) = killed(&world, &right, 60).await;
    world.ledger.script.next("settle", [Fault::Unavailable; 4]);
    world.ledger.script.next("close", [Fault::Unavailable]);
    let rig =
        Rig::again(&world, life.node, spool, |settings| settings.quota.patience = Duration::from_millis(50)).await;
    eventually("the row is settled and the epoch is ended", || {
        rig.ledger.rows() == [row.clone()] && rig.ledger.leased().is_empty() && rig.spool.left().rows.is_empty()
    })
    .await;
    rig.end_alone().await;
}

#[actix::test]
async fn an_epoch_whose_spool_has_a_gap_keeps_the_charge_for_its_lease() {
    let world = World::default();
    let right = world.receipt(bytes(10_000), 100);
    let (life, spool, row) = killed(&world, &right, 60).await;
    spool.epoch_ended(life.epoch);
    let rig = Rig::again(&world, life.node, spool, |_| {}).await;
    rig.ledger.reclaim_all(LostLease::Charge).await;
    assert_eq!(rig.ledger.rows(), [row]);
    assert_eq!(rig.ledger.hour(right.id, rig.now()).0.bytes, 1000, "what the row explains is not charged twice");
    rig.end_alone().await;
}
