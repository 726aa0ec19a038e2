//! A database that goes back to an earlier moment under a running node.

use std::sync::atomic::Ordering::SeqCst;

use penstock_actors::{
    model::{Credit, LostLease},
    ports::Upkeep as _,
    quota::book::Demand,
};

use crate::rig::{Rig, bytes, completed, eventually};

#[actix::test]
async fn a_node_drops_what_it_holds_and_stops_streams_that_no_receipt_covers_any_more() {
    // From a dump, which is restored into another place, and from a copy of the database's files, which keeps its place.
    for moved in [true, false] {
        let rig = Rig::start().await;
        let kept = rig.receipt(bytes(10_000), 100);
        rig.acquire(&kept, Demand::Whole).await.expect("let in").settle(completed(100));
        rig.settled().await;
        let earlier = rig.ledger.dump();
        let heartbeats = rig.ledger.script.calls("heartbeat").len();
        eventually("the node lives on", || rig.ledger.script.calls("heartbeat").len() > heartbeats + 2).await;
        let later = rig.receipt(bytes(10_000), 100);
        let (lost, covered) = (rig.acquire(&later, Demand::Whole).await, rig.acquire(&kept, Demand::Whole).await);
        let (lost, covered) = (lost.expect("let in"), covered.expect("let in"));
        let epoch = rig.ledger.epoch(rig.id);

        rig.ledger.restore(earlier, moved);
        eventually("the node notices", || rig.node.restores() == 1).await;
        eventually("it has a new epoch", || rig.ledger.epoch(rig.id) > epoch).await;
        eventually("the stream without a receipt is stopped", || lost.grant().revocation.is_raised()).await;
        assert!(!covered.grant().revocation.is_raised(), "the other one goes on");
        lost.settle(completed(70));
        covered.settle(completed(60));
        rig.settled().await;
        let counters = rig.node.usage.counters();
        assert_eq!((counters.set_aside.load(SeqCst), counters.dropped.load(SeqCst)), (1, 0));
        let aside = rig.ledger.usage_set_aside(None, 10).await.expect("kept");
        assert_eq!((aside[0].row.receipt_id, aside[0].row.bytes_sent), (later.id, 70));

        rig.ledger.reclaim_all(LostLease::Charge).await;
        assert_eq!(
            rig.ledger.hour(kept.id, rig.now()).0,
            Credit::new(160, 2),
            "the sent bytes are charged, and no lease"
        );
        assert_eq!(rig.node.restores(), 1);
        rig.end().await;
    }
}
