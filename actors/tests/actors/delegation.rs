//! Delegations: the charge when a URL is issued instead of bytes, and no charge when none is.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;
use jiff::Timestamp;
use penstock_actors::{
    content::{
        delegation::{DelegationError, DelegationResult, Delegator},
        delivery::DeliveryPlan,
    },
    ids::{ReceiptId, SessionId},
    model::{Credit, Outcome, QuotaPolicy, ReceiptStatus, Session, SessionProgress, StreamSession},
    ports::{PortError, PortResult, SessionStore as _, SignedUrl, Tag, UrlRequest, UrlSigner},
    quota::{book::Demand, refusal::Refusal},
    testkit::script::{Fault, Script},
};

use crate::{
    delivery::content,
    rig::{Rig, Right, World, aside, bytes, eventually, streams},
};

const TTL: Duration = Duration::from_secs(300);

/// Signs everything, or fails by script.
#[derive(Default)]
struct Signer {
    script: Script,
    /// Whether it lacks URLs for the place of the content.
    elsewhere: bool,
}

#[async_trait]
impl UrlSigner for Signer {
    async fn sign(&self, wanted: &UrlRequest<'_>) -> PortResult<Option<SignedUrl>> {
        let url = format!("https://cdn/{}?until={}", wanted.content_hash, wanted.until.as_second());
        let signed = SignedUrl { url, expires_at: wanted.until };
        self.script.play("sign", 1, || Ok((!self.elsewhere).then_some(signed))).await
    }
}

fn delegator(world: &World, signer: &Arc<Signer>) -> Delegator {
    Delegator::new(signer.clone(), world.clock.clone(), TTL)
}

async fn delegate(rig: &Rig, signer: &Arc<Signer>, right: &Right) -> Result<DelegationResult, DelegationError> {
    let reservation = rig.acquire(right, Demand::Whole).await.expect("let in");
    delegator(rig, signer).delegate(reservation, "inline").await
}

fn url(delegated: Result<DelegationResult, DelegationError>) -> SignedUrl {
    match delegated {
        Ok(DelegationResult::Given(signed)) => signed,
        Ok(DelegationResult::Kept(_)) => panic!("the node was to stream it itself"),
        Err(error) => panic!("{error}"),
    }
}

#[actix::test]
async fn a_url_is_charged_whole_when_it_is_given_and_holds_no_slot() {
    let rig = Rig::start().await;
    let (right, signer) = (rig.receipt(streams(1), 1000), Arc::default());
    for given in 1..=3 {
        let signed = url(delegate(&rig, &signer, &right).await);
        assert_eq!(signed.expires_at, rig.now() + TTL);
        rig.settled().await;
        assert_eq!(rig.ledger.hour(right.id, rig.now()).0, Credit::new(1000 * given, given));
        eventually("the slot is free", || rig.shared.slots_taken() == 0).await;
    }
    assert!(rig.ledger.rows().iter().all(|row| row.outcome == Outcome::Delegated && row.bytes_sent == 1000));
    rig.end_alone().await;
}

#[actix::test]
async fn a_url_of_empty_content_is_a_request_of_no_bytes() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(1000), 0);
    url(delegate(&rig, &Arc::default(), &right).await);
    rig.settled().await;
    assert_eq!(rig.ledger.hour(right.id, rig.now()).0, Credit::new(0, 1));
    rig.end_alone().await;
}

#[actix::test]
async fn what_cannot_be_signed_is_charged_nothing() {
    let rig = Rig::start().await;
    let (right, signer) = (rig.receipt(streams(1), 1000), Arc::<Signer>::default());
    signer.script.next("sign", [Fault::Unavailable, Fault::AnswerLost]);
    for _ in 0..2 {
        let failed = delegate(&rig, &signer, &right).await;
        assert!(matches!(failed, Err(DelegationError::Store(PortError::Unavailable { .. }))));
        // At once, and not only when the slot expires: the next stream gets it.
        rig.settled().await;
    }
    eventually("the slot is free", || rig.shared.slots_taken() == 0).await;
    assert_eq!(rig.ledger.rows(), []);
    url(delegate(&rig, &signer, &right).await);
    rig.end_alone().await;
}

#[actix::test]
async fn a_client_that_leaves_before_it_has_its_url_is_charged_nothing() {
    let rig = Rig::start().await;
    let (right, signer) = (rig.receipt(streams(1), 1000), Arc::<Signer>::default());
    let held = signer.script.hold("sign");
    let (delegator, reservation) =
        (delegator(&rig, &signer), rig.acquire(&right, Demand::Whole).await.expect("let in"));
    let asking = aside(async move { delegator.delegate(reservation, "inline").await });
    eventually("the signer is asked", || signer.script.calls("sign").len() == 1).await;
    asking.abort();
    assert!(asking.await.err().is_some_and(|error| error.is_cancelled()));
    rig.settled().await;
    eventually("the slot is free", || rig.shared.slots_taken() == 0).await;
    assert_eq!(rig.ledger.rows(), []);
    drop(held);
    rig.end_alone().await;
}

#[actix::test]
async fn a_receipt_that_is_refunded_while_the_url_is_made_gets_none() {
    let rig = Rig::start().await;
    let (right, signer) = (rig.receipt(bytes(10_000), 1000), Arc::<Signer>::default());
    let held = signer.script.hold("sign");
    let (delegator, reservation) =
        (delegator(&rig, &signer), rig.acquire(&right, Demand::Whole).await.expect("let in"));
    let revocation = Arc::clone(&reservation.grant().revocation);
    let asking = aside(async move { delegator.delegate(reservation, "inline").await });
    eventually("the signer is asked", || signer.script.calls("sign").len() == 1).await;
    let id = right.id;
    rig.ledger.set_status(id, ReceiptStatus::Refunded);
    rig.node.quota.invalidate(&Tag::Receipt(id));
    eventually("the node knows", || revocation.is_raised()).await;
    drop(held);
    assert!(matches!(asking.await.expect("an answer"), Err(DelegationError::Revoked)));
    rig.settled().await;
    assert_eq!(rig.ledger.rows(), []);
    rig.end_alone().await;
}

#[actix::test]
async fn what_is_stored_where_no_urls_are_given_for_is_streamed_on_the_same_reservation() {
    let rig = Rig::start().await;
    let content = content(1000);
    let right = rig.receipt_to(streams(1), content);
    let signer = Arc::new(Signer { elsewhere: true, ..Signer::default() });
    let Ok(DelegationResult::Kept(reservation)) = delegate(&rig, &signer, &right).await else {
        panic!("the node is to stream it itself")
    };
    assert_eq!(reservation.grant().reserved, Credit::new(1000, 1));
    drop(rig.deliver_plan(*reservation, DeliveryPlan::single(0..right.size)).await);
    rig.settled().await;
    assert_eq!(rig.ledger.rows(), [], "nothing was read of it");
    rig.end_alone().await;
}

#[actix::test]
async fn a_url_ends_with_its_receipt_and_there_is_none_for_its_last_moment() {
    let rig = Rig::start().await;
    // Without a limit, since leases do not last as long as the clock jumps here.
    let right = rig.receipt(QuotaPolicy::default(), 1000);
    let expires_at: Timestamp = rig.now() + Duration::from_secs(400 * 86_400);
    for (left, ends) in [(TTL * 2, TTL), (TTL / 2, TTL / 2), (Duration::from_secs(1), Duration::from_secs(1))] {
        rig.clock.advance(Duration::try_from(expires_at.duration_since(rig.now())).expect("ahead") - left);
        // Until then the ledger refuses an epoch that is so late.
        let before = rig.ledger.script.calls("heartbeat").len();
        eventually("a heartbeat revives the epoch", || rig.ledger.script.calls("heartbeat").len() > before + 1).await;
        let signed = url(delegate(&rig, &Arc::default(), &right).await);
        assert_eq!(signed.expires_at, rig.now() + ends, "with {left:?} left");
    }
    rig.clock.advance(Duration::from_millis(1));
    assert!(matches!(delegate(&rig, &Arc::default(), &right).await, Err(DelegationError::Expired)));
    rig.clock.advance(Duration::from_secs(1));
    assert_eq!(rig.acquire(&right, Demand::Whole).await.err(), Some(Refusal::Expired));
    rig.end_alone().await;
}

#[actix::test]
async fn two_nodes_give_no_url_more_than_the_quota_covers_however_many_ask() {
    let one = Rig::start().await;
    let two = Rig::join(&one.world, |_| {}).await;
    // Ten URLs, and not quite an eleventh.
    let (right, signer) = (one.receipt(bytes(10_999), 1000), Arc::default());
    let mut given = 0;
    // A refusal may be for idle credit of the other node, which gives it back, so the test asks again.
    for _ in 0..20 {
        let asking = (0..50).map(|n| {
            let rig = if n % 2 == 0 { &one } else { &two };
            let signer = &signer;
            async move {
                let Ok(reservation) = rig.acquire(&right, Demand::Whole).await else { return 0 };
                url(delegator(rig, signer).delegate(reservation, "inline").await);
                1
            }
        });
        given += join_all(asking).await.into_iter().sum::<u64>();
        one.settled().await;
        two.settled().await;
        // Both give back unspent credit, as when a receipt is not used for a while.
        one.node.quota.drain().await;
        two.node.quota.drain().await;
        one.settled().await;
        two.settled().await;
        assert_eq!(one.ledger.hour(right.id, one.now()).0, Credit::new(1000 * given, given));
        one.clock.advance(Duration::from_secs(2));
    }
    assert_eq!(given, 10, "as much as the quota covers, and no more");
    two.end().await;
    one.end_alone().await;
}

#[actix::test]
async fn a_session_learns_what_was_charged_but_not_how_far_its_client_got() {
    let rig = Rig::start().await;
    let right = rig.receipt(bytes(10_000), 1000);
    let session = open_session(&rig, right.id, right).await;
    let reservation =
        rig.node.quota.acquire(right.ask(Demand::Whole), StreamSession::Named(session)).await.expect("let in");
    url(delegator(&rig, &Arc::default()).delegate(reservation, "inline").await);
    rig.settled().await;
    let progress = rig.shared.session(session).await.expect("an answer").expect("it is there").progress;
    assert_eq!((progress.streams, progress.bytes_delivered, progress.position), (1, 1000, 0));
    rig.end_alone().await;
}

async fn open_session(rig: &Rig, receipt_id: ReceiptId, right: Right) -> SessionId {
    let session = Session {
        session_id: SessionId::random(),
        receipt_id,
        content_hash: right.hash,
        size_bytes: right.size,
        created_at: rig.now(),
        progress: SessionProgress::default(),
    };
    rig.shared.put_session(&session, TTL).await.expect("kept");
    session.session_id
}
