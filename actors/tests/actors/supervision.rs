//! What a node does about an actor that dies of a panic.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use penstock_actors::{
    quota::{book::Demand, refusal::Refusal},
    testkit::script::Fault,
};

use crate::rig::{Rig, bytes, completed, eventually};

#[actix::test]
async fn an_actor_without_state_is_built_again_and_goes_on() {
    let rig = Rig::start().await;
    for (call, deaths) in [("heartbeat", 1), ("changes", 2)] {
        rig.ledger.script.next(call, [Fault::Panic]);
        eventually("the actor is built again", || rig.node.actor_restarts() == deaths).await;
        let before = rig.ledger.script.calls(call).len();
        eventually("it works on", || rig.ledger.script.calls(call).len() > before + 1).await;
    }
    assert!(rig.node.is_alive());
    let right = rig.receipt(bytes(1 << 20), 1000);
    drop(rig.acquire(&right, Demand::Whole).await.expect("admitted"));
    rig.end_alone().await;
}

#[actix::test]
async fn an_actor_that_dies_in_each_of_its_rounds_is_given_up() {
    let rig = Rig::start().await;
    rig.ledger.script.next("changes", [Fault::Panic; 10]);
    eventually("the node is given up", || !rig.node.is_alive()).await;
    assert_eq!(rig.node.actor_restarts(), 4, "the fifth death is the last");
    rig.ledger.script.end();
    // What the node still has goes to the ledger when it stops.
    assert!(rig.node.drain(Duration::from_secs(30)).await.closed);
    rig.break_off();
}

#[actix::test]
async fn without_its_batcher_a_node_admits_no_stream_and_closes_no_epoch() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(1 << 20), 1000);
    let stream = rig.acquire(&right, Demand::Whole).await.expect("admitted");
    rig.ledger.script.next("settle", [Fault::Panic]);
    stream.settle(completed(1000));
    eventually("the row is recorded", || rig.node.usage.counters().recorded.load(SeqCst) == 1).await;
    assert!(!rig.node.usage.flush(Duration::from_secs(30)).await, "the batcher dies of its batch");
    eventually("the node is given up", || !rig.node.is_alive()).await;
    let refused = rig.acquire(&right, Demand::Whole).await.err();
    assert!(matches!(refused, Some(Refusal::Unavailable { .. })), "{refused:?}");
    let report = rig.node.drain(Duration::from_secs(1)).await;
    assert!(!report.closed, "the lost row is covered by its lease alone, so the lease stays for the reclaim to charge");
    assert!(!rig.ledger.leased().is_empty());
    rig.break_off();
}

#[actix::test]
async fn without_a_shard_its_callers_get_an_error_at_once() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(1 << 20), 1000);
    rig.ledger.script.next("refill", [Fault::Panic]);
    let began = tokio::time::Instant::now();
    let refused = rig.acquire(&right, Demand::Whole).await.err();
    assert!(matches!(refused, Some(Refusal::Unavailable { .. })), "{refused:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "it did not wait for its patience of 30 s");
    eventually("the node is given up", || !rig.node.is_alive()).await;
    rig.break_off();
}
