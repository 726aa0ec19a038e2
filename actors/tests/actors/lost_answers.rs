//! Lost answers of the ledger: no credit is stranded while the node lives, and after a clean stop every charge is
//! explained by a usage row.

use std::sync::atomic::Ordering::SeqCst;

use futures::future::join_all;
use penstock_actors::{
    ids::NodeId,
    model::{Credit, LeaseSizing, LostLease, NodeEpoch, Outcome},
    ports::{Ledger as _, Want},
    quota::{book::Demand, refusal::Refusal},
    testkit::{
        asked,
        dice::Dice,
        lost_statements::{HourUsage, Subject, no_credit_is_stranded_or_charged},
        script::Fault,
    },
};

use crate::rig::{Rig, World, aborted, bytes, completed, eventually};

/// Seeds that reach every fault at every statement many times.
const SEEDS: u64 = 40;

#[actix::test]
async fn the_model_of_the_ledger_carries_out_once_what_is_asked_again() {
    for seed in 0..SEEDS {
        let world = World::default();
        let right = world.receipt(bytes(5000), 1 << 20);
        let node = NodeEpoch { node: NodeId::random(), epoch: 1 };
        let subject = Subject { node, receipt_id: right.id, content_hash: right.hash, now: world.now() };
        let look = async || {
            world.ledger.check();
            let (used, reserved) = world.ledger.hour(right.id, world.now());
            HourUsage { used, reserved }
        };
        no_credit_is_stranded_or_charged(&*world.ledger, subject, look, seed, 150).await;
    }
}

#[actix::test]
async fn an_abandoned_refill_is_repeated_until_it_is_answered() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(1000), 100);
    rig.ledger.script.next("refill", [Fault::AnswerLost, Fault::AnswerLost, Fault::Unavailable]);
    assert!(matches!(rig.acquire(&right, Demand::Whole).await, Err(Refusal::Unavailable { .. })));
    let unanswered = || rig.node.quota.counters().unanswered.load(SeqCst);
    eventually("the shard knows that it was not answered", || unanswered() == 1).await;
    // While it is being repeated it does not count, so that it is answered shows by the number of refills, too.
    let with_faults = 3;
    eventually("it is answered", || rig.refills() == with_faults + 1 && unanswered() == 0).await;
    rig.acquire(&right, Demand::Whole).await.expect("the lease is known").settle(completed(100));
    assert_eq!(rig.refills(), with_faults + 1, "the grant is spent without another refill");
    rig.end_alone().await;
}

#[actix::test]
async fn leases_that_the_node_does_not_know_of_show_and_are_released_by_a_clean_stop() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(10_000), 100);
    rig.acquire(&right, Demand::Whole).await.expect("let in").settle(completed(100));
    rig.settled().await;
    assert_eq!(rig.node.unknown_leases(), Credit::ZERO);
    let node = NodeEpoch { node: rig.id, epoch: rig.ledger.epoch(rig.id).expect("known") };
    let other = rig.receipt(bytes(1000), 100);
    let amount = Credit::new(300, 0);
    let stray = asked(Want { receipt_id: other.id, content_hash: other.hash, need: amount, want: amount });
    rig.ledger.refill(node, &[stray], LeaseSizing { divisor: 1 }, rig.now()).await.expect("granted");
    eventually("it shows", || rig.node.unknown_leases() == amount).await;
    let world = rig.world.clone();
    rig.end_alone().await;
    world.ledger.reclaim_all(LostLease::Charge).await;
    assert_eq!(world.ledger.hour(other.id, world.now()), (Credit::ZERO, Credit::ZERO));
}

#[actix::test]
async fn a_clean_stop_releases_credit_that_the_node_never_learned_of() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(1000), 100);
    rig.acquire(&right, Demand::Bytes(40)).await.expect("let in").settle(completed(40));
    rig.settled().await;
    let other = rig.receipt(bytes(1000), 100);
    rig.ledger.script.next("refill", [Fault::AnswerLost; 100]);
    rig.ledger.script.next("close", [Fault::Unavailable, Fault::AnswerLost]);
    assert!(matches!(rig.acquire(&other, Demand::Whole).await, Err(Refusal::Unavailable { .. })));
    let world = rig.world.clone();
    rig.end_alone().await;
    world.ledger.reclaim_all(LostLease::Charge).await;
    assert_eq!(world.ledger.hour(right.id, world.now()), (Credit::new(40, 1), Credit::ZERO));
    assert_eq!(world.ledger.hour(other.id, world.now()), (Credit::ZERO, Credit::ZERO), "nothing is charged");
}

/// Faults in the next calls of each kind, at random.
fn lose_some(rig: &Rig, dice: &mut Dice) {
    for (call, sides) in [("refill", 3), ("settle", 4), ("heartbeat", 6)] {
        let fault = match dice.roll(sides) {
            0 => Some(Fault::AnswerLost),
            1 => Some(Fault::Unavailable),
            _ => None,
        };
        rig.ledger.script.next(call, [fault]);
    }
}

#[actix::test]
async fn despite_lost_answers_a_node_knows_its_leases_and_charges_what_it_sent() {
    for seed in 0..6 {
        let mut dice = Dice(seed);
        let rig = Rig::start().await;
        let rights: Vec<_> = (0..4).map(|_| rig.receipt(bytes(20_000), 500)).collect();
        let mut sent = vec![0; rights.len()];
        for _ in 0..30 {
            lose_some(&rig, &mut dice);
            let answers = join_all(rights.iter().map(|right| rig.acquire(right, Demand::Whole))).await;
            for (answer, sent) in answers.into_iter().zip(&mut sent) {
                match answer {
                    Ok(reservation) => {
                        let bytes = dice.roll(500) + 1;
                        *sent += bytes;
                        reservation.settle(aborted(bytes));
                    }
                    Err(Refusal::Unavailable { .. } | Refusal::Quota { .. }) => {}
                    Err(refusal) => panic!("{refusal:?}"),
                }
            }
        }
        if seed % 2 == 0 {
            // The node lives: it learns of every grant, and uses it to the end.
            rig.ledger.script.end();
            let unanswered = || rig.node.quota.counters().unanswered.load(SeqCst);
            eventually("all is answered", || unanswered() == 0).await;
            assert_eq!(rig.node.unknown_leases(), Credit::ZERO);
            for (right, sent) in rights.iter().zip(&mut sent) {
                while let Ok(reservation) = rig.acquire(right, Demand::Bytes(1)).await {
                    // The rest is less than a stream, or another stream.
                    drop(reservation);
                    match rig.acquire(right, Demand::Whole).await {
                        Ok(reservation) => {
                            *sent += right.size;
                            reservation.settle(completed(right.size));
                        }
                        Err(_) => break,
                    }
                }
                assert!(20_000 - *sent < right.size, "only {sent} of 20000 bytes could be used");
            }
        }
        rig.ledger.script.next("close", [(dice.roll(2) == 0).then_some(Fault::AnswerLost)]);
        let world = rig.world.clone();
        rig.end_alone().await;
        world.ledger.reclaim_all(LostLease::Charge).await;
        for (right, sent) in rights.iter().zip(sent) {
            let (used, reserved) = world.ledger.hour(right.id, world.now());
            assert_eq!((used.bytes, reserved), (sent, Credit::ZERO), "seed {seed}: charged as sent");
        }
        assert!(world.ledger.rows().iter().all(|row| row.outcome != Outcome::LostLease));
    }
}
