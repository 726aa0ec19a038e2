//! Other instances: changes that are only in the log, recalls of idle credit, and instances that died.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use penstock_actors::{
    model::{Credit, LostLease, QuotaPolicy, ReceiptStatus},
    quota::{book::Demand, refusal::Refusal},
    testkit::{clock::ManualClock, script::Fault},
};

use crate::rig::{LEASE_TTL, Rig, World, bytes, completed, eventually};

#[actix::test]
async fn a_refund_made_elsewhere_stops_running_streams_although_no_message_came() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(1 << 20), 100);
    let running = rig.acquire(&right, Demand::Whole).await.expect("let in");
    rig.ledger.set_status(right.id, ReceiptStatus::Refunded);
    eventually("the stream is revoked", || running.grant().revocation.is_raised()).await;
    assert_eq!(rig.acquire(&right, Demand::Whole).await.err(), Some(Refusal::Refunded));
    drop(running);
    rig.end_alone().await;
}

#[actix::test]
async fn a_limit_raised_elsewhere_counts_although_no_message_came() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(100), 100);
    rig.acquire(&right, Demand::Whole).await.expect("fits").settle(completed(100));
    assert!(matches!(rig.acquire(&right, Demand::Whole).await, Err(Refusal::Quota { .. })));
    rig.ledger.set_policy(right.id, bytes(200));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let raised = loop {
        match rig.acquire(&right, Demand::Whole).await {
            Ok(raised) => break raised,
            Err(_) => assert!(tokio::time::Instant::now() < deadline, "the raised limit never counts"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    raised.settle(completed(100));
    rig.end_alone().await;
}

#[actix::test]
async fn what_changed_while_the_log_could_not_be_read_is_learned_afterwards() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(1 << 20), 100);
    let running = rig.acquire(&right, Demand::Whole).await.expect("let in");
    rig.ledger.script.next("changes", [Fault::Unavailable; 3]);
    let reads = rig.ledger.script.calls("changes").len();
    rig.ledger.set_status(right.id, ReceiptStatus::Refunded);
    eventually("the log fails", || rig.ledger.script.calls("changes").len() >= reads + 3).await;
    eventually("the stream is revoked", || running.grant().revocation.is_raised()).await;
    drop(running);
    rig.end_alone().await;
}

const FOR_EVER: Duration = Duration::from_secs(86_400);

/// Takes streams of a receipt from each node in turn until all of them refuse; returns how many were admitted.
async fn exhaust(rigs: &[&Rig], right: &crate::rig::Right) -> u64 {
    let (mut taken, mut refused) = (0, 0);
    for turn in 0.. {
        match rigs[turn % rigs.len()].acquire(right, Demand::Whole).await {
            Ok(reservation) => {
                reservation.settle(completed(right.size));
                taken += 1;
                refused = 0;
            }
            Err(Refusal::Quota { .. }) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
        if refused == rigs.len() {
            break;
        }
    }
    taken
}

#[actix::test]
async fn a_quota_is_used_to_its_end_although_its_last_part_is_leased_elsewhere() {
    let world = World::default();
    let one = Rig::join(&world, |_| {}).await;
    let other = Rig::join(&world, |_| {}).await;
    eventually("they know of each other", || one.node.instances() == 2 && other.node.instances() == 2).await;
    let right = world.receipt(bytes(10_000), 100);
    // The other instance leases more than it needs, and has no further requests.
    other.acquire(&right, Demand::Whole).await.expect("fits").settle(completed(100));
    assert!(world.ledger.leased().iter().any(|lease| lease.bytes > 100), "some of it lies idle");
    assert_eq!(exhaust(&[&one], &right).await, 99, "the first instance gets all the rest");
    one.settled().await;
    let (used, reserved) = world.ledger.hour(right.id, world.now());
    assert_eq!((used, reserved.bytes), (Credit::new(10_000, 100), 0));
    one.end().await;
    other.end_alone().await;
}

#[actix::test]
async fn an_hour_is_one_hour_on_instances_whose_clocks_are_an_hour_apart() {
    let world = World::default();
    let ahead = World { clock: Arc::new(ManualClock::at("2026-11-01T11:30:00Z")), ..world.clone() };
    let one = Rig::join(&world, |_| {}).await;
    let other = Rig::join(&ahead, |_| {}).await;
    eventually("the database's clock is measured", || other.node.now() == world.now()).await;
    let hourly = QuotaPolicy { policy_name: "hourly".into(), bytes_per_hour: Some(10_000), ..QuotaPolicy::default() };
    let right = world.receipt(hourly, 100);
    assert_eq!(exhaust(&[&one, &other], &right).await, 100, "one limit for one hour");
    one.end().await;
    other.end_alone().await;
}

#[actix::test]
async fn credit_is_called_back_by_an_instance_that_counts_itself_alone() {
    let world = World::default();
    let one = Rig::join(&world, |settings| settings.heartbeat = FOR_EVER).await;
    let other = Rig::join(&world, |_| {}).await;
    let right = world.receipt(bytes(10_000), 100);
    other.acquire(&right, Demand::Whole).await.expect("fits").settle(completed(100));
    assert_eq!(one.node.instances(), 1, "it does not know of the other one");
    assert_eq!(exhaust(&[&one], &right).await, 99, "the first instance gets all the rest");
    one.end().await;
    other.end_alone().await;
}

#[actix::test]
async fn credit_is_called_back_by_the_log_where_messages_do_not_reach_others() {
    let world = World::default();
    let one = Rig::join(&world, |_| {}).await;
    let other = Rig::join(&world, |_| {}).await;
    let right = world.receipt(bytes(10_000), 100);
    other.acquire(&right, Demand::Whole).await.expect("fits").settle(completed(100));
    world.shared.script.next("invalidate", [Fault::Unavailable; 1000]);
    assert_eq!(exhaust(&[&one], &right).await, 99, "the first instance gets all the rest");
    world.shared.script.end();
    one.end().await;
    other.end_alone().await;
}

#[actix::test]
async fn an_instance_that_holds_all_reserved_credit_sends_no_recall() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(100), 100);
    let running = rig.acquire(&right, Demand::Whole).await.expect("fits");
    assert!(matches!(rig.acquire(&right, Demand::Whole).await, Err(Refusal::Quota { .. })));
    assert_eq!(rig.node.quota.counters().recalls.load(SeqCst), 0);
    drop(running);
    rig.end_alone().await;
}

#[actix::test]
async fn when_nothing_can_be_called_back_the_refusal_comes_all_the_same() {
    let world = World::default();
    let one = Rig::join(&world, |_| {}).await;
    let other = Rig::join(&world, |_| {}).await;
    let right = world.receipt(bytes(100), 100);
    // Not idle: it has a stream under way.
    let running = other.acquire(&right, Demand::Whole).await.expect("fits");
    match one.acquire(&right, Demand::Whole).await {
        Err(Refusal::Quota { retry_after, .. }) => assert_eq!(retry_after, Duration::from_secs(1), "it may come back"),
        answer => panic!("{:?}", answer.err()),
    }
    running.settle(completed(0));
    one.end().await;
    other.end_alone().await;
}

#[actix::test]
async fn what_a_dead_instance_held_is_usable_as_soon_as_its_time_is_over() {
    for (mode, left) in [(LostLease::Release, 9_900), (LostLease::Charge, 8_700)] {
        let world = World::default();
        // It dies after its first heartbeat, while it holds a lease.
        let lost = Rig::join(&world, |settings| {
            settings.heartbeat = FOR_EVER;
            settings.quota.book.entry_ttl = FOR_EVER;
        })
        .await;
        let one = Rig::join(&world, |settings| settings.quota.lost_lease = mode).await;
        let right = world.receipt(bytes(10_000), 100);
        lost.acquire(&right, Demand::Whole).await.expect("fits").settle(completed(100));
        lost.settled().await;
        let leased = world.ledger.leased();
        assert_eq!(leased.iter().map(|lease| lease.bytes).collect::<Vec<_>>(), [1_150]);
        // The other one looks on while it is silent.
        for _ in 0..2 {
            let looks = world.ledger.script.calls("pulses").len();
            eventually("the other one lives on", || world.ledger.script.calls("pulses").len() > looks + 1).await;
            world.clock.advance(LEASE_TTL / 2);
        }
        let heartbeats = world.ledger.script.calls("heartbeat").len();
        eventually("the other one lives on", || world.ledger.script.calls("heartbeat").len() > heartbeats + 1).await;
        assert_eq!(exhaust(&[&one], &right).await * 100, left, "{mode:?}");
        one.end().await;
        lost.end().await;
    }
}

#[actix::test]
async fn an_instance_that_starts_takes_nothing_of_one_that_looks_dead_before_it_has_watched_it() {
    let world = World::default();
    let other = Rig::join(&world, |settings| {
        settings.heartbeat = FOR_EVER;
        settings.quota.book.entry_ttl = FOR_EVER;
    })
    .await;
    let right = world.receipt(bytes(10_000), 100);
    other.acquire(&right, Demand::Whole).await.expect("fits").settle(completed(100));
    other.settled().await;
    // To the ledger's clock its time is over, as when that clock has leapt.
    world.ledger.stop_changes(other.id);
    let one = Rig::join(&world, |_| {}).await;
    // What the other one holds is not charged, and comes back when it is called for.
    assert_eq!(exhaust(&[&one], &right).await * 100, 9_900);
    one.end().await;
    other.end().await;
}
