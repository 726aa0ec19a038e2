//! Admission is the bound; mailboxes are not.

use std::{future::poll_fn, pin::Pin, task::Poll};

use actix::{Actor, Context, Handler};
use futures::future::join_all;
use penstock_actors::quota::{book::Demand, refusal::Refusal};

use crate::{
    quota::Owned as _,
    rig::{Rig, aside, bytes, completed, eventually},
};

struct Busy {
    handled: usize,
}

#[derive(actix::Message)]
#[rtype(usize)]
struct Work;

impl Actor for Busy {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1);
    }
}

impl Handler<Work> for Busy {
    type Result = usize;

    fn handle(&mut self, _: Work, _: &mut Self::Context) -> usize {
        self.handled += 1;
        self.handled
    }
}

/// The reason for admission. If this test fails one day, actix enforces the limits of its mailboxes.
#[actix::test]
async fn a_mailbox_of_one_takes_a_hundred_messages() {
    let busy = Busy { handled: 0 }.start();
    tokio::task::yield_now().await;
    #[expect(clippy::disallowed_methods, reason = "this is what the ban is about")]
    let mut sending: Vec<_> = (0..100).map(|_| Box::pin(busy.send(Work))).collect();
    // Each is polled once, without a turn for the actor: after that all are in the mailbox.
    poll_fn(|cx| {
        for send in &mut sending {
            assert!(Pin::new(send).poll(cx).is_pending());
        }
        Poll::Ready(())
    })
    .await;
    let last = join_all(sending).await.into_iter().map(|handled| handled.expect("handled")).max();
    assert_eq!(last, Some(100));
}

#[actix::test]
async fn a_flood_of_questions_is_bounded_by_admission() {
    let rig = Rig::with(|settings| {
        settings.quota.shards = 1;
        settings.quota.queue = 8;
    })
    .await;
    let right = rig.receipt(bytes(1 << 30), 10);
    let held = rig.ledger.script.hold("refill");
    let first: Vec<_> = (0..8).map(|_| aside(rig.node.quota.clone().acquire_owned(right, Demand::Whole))).collect();
    eventually("the queue is full", || rig.waiting() == 8).await;
    for _ in 0..1000 {
        let refusal = rig.acquire(&right, Demand::Whole).await.err();
        assert!(matches!(refusal, Some(Refusal::Overloaded { queue: "quota", .. })));
    }
    assert_eq!(rig.waiting(), 8);
    drop(held);
    for answer in join_all(first).await {
        answer.expect("answered").expect("let in").settle(completed(10));
    }
    rig.end_alone().await;
}

#[actix::test]
async fn a_full_usage_queue_refuses_new_streams_and_lets_running_ones_settle() {
    let rig = Rig::with(|settings| settings.usage.queue = 3).await;
    let right = rig.receipt(bytes(1 << 30), 10);
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(rig.acquire(&right, Demand::Whole).await.expect("let in"));
    }
    rig.ledger.script.set_down(true);
    for reservation in running {
        reservation.settle(completed(10));
    }
    let refusal = rig.acquire(&right, Demand::Whole).await.err();
    assert!(matches!(refusal, Some(Refusal::Overloaded { queue: "usage", .. })));
    rig.ledger.script.set_down(false);
    rig.settled().await;
    rig.acquire(&right, Demand::Whole).await.expect("there is room again").settle(completed(10));
    rig.settled().await;
    assert_eq!(rig.ledger.rows().len(), 4);
    rig.end_alone().await;
}
