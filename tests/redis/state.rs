//! Shared state on Redis: the suite of the port, then what holds between instances, and what is left without Redis.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;
use penstock::adapters::redis::{RedisSettings, RedisState};
use penstock_actors::{
    clock::SystemClock,
    ids::{ContentHash, ReceiptId, SessionId, UsageId},
    model::{Session, SessionMark, SessionProgress},
    ports::{
        InvalidationBus as _, PortError, ReplayCheck, ReplayGuard as _, ReplayKey, ReplayTerms, SessionStore as _,
        SharedState as _, SlotGrant, StreamSlot, StreamSlots as _, Tag,
    },
    testkit::shared_state_suite,
};

use crate::support::{RedisCluster, RedisServer, link, settings, shared_url, single, until};

/// No time that a test lives to see the end of.
const HOUR: Duration = Duration::from_secs(3600);

/// An instance, as a node has one. Those of the same settings share their state.
async fn instance(settings: &RedisSettings) -> Arc<RedisState> {
    let (link, _metrics) = link(settings.clone()).await;
    RedisState::start(link, Arc::new(SystemClock), 1000)
}

async fn two_on(server: &RedisServer) -> [Arc<RedisState>; 2] {
    let settings = settings(server.servers());
    [instance(&settings).await, instance(&settings).await]
}

async fn two_on_the_shared_server() -> [Arc<RedisState>; 2] {
    let settings = settings(single(&shared_url()));
    [instance(&settings).await, instance(&settings).await]
}

/// The slot of a stream, in a session of its own.
fn slot(receipt: ReceiptId, stream: UsageId) -> StreamSlot {
    StreamSlot { receipt, stream, session: SessionMark::from_bytes(stream.as_uuid().into_bytes()) }
}

const fn full(active: u32) -> SlotGrant {
    SlotGrant::Full { active, same_session: None }
}

async fn take(state: &RedisState, receipt: ReceiptId, stream: UsageId, limit: u32) -> SlotGrant {
    state.take_slot(&slot(receipt, stream), limit, HOUR).await.expect("asked")
}

async fn count(state: &RedisState, receipt: ReceiptId) -> u32 {
    state.slots(receipt).await.expect("counted")
}

/// Waits until an instance goes over Redis again, and has put back what is to be put back.
async fn until_back(state: &RedisState) {
    until("Redis serves again", async || state.ping().await.is_ok()).await;
}

fn session() -> Session {
    Session {
        session_id: SessionId::random(),
        receipt_id: ReceiptId::random(),
        content_hash: ContentHash::from_bytes([7; 32]),
        size_bytes: 1 << 40,
        created_at: Timestamp::from_microsecond(1_790_000_000_123_456).expect("a time"),
        progress: SessionProgress::default(),
    }
}

async fn find(state: &RedisState, id: SessionId) -> Option<Session> {
    state.session(id).await.expect("looked")
}

async fn stream_ended(state: &RedisState, id: SessionId, bytes: u64) -> SessionProgress {
    let at = Timestamp::from_second(1_800_000_000).expect("a time");
    let sum = state.add_progress(id, bytes, bytes, at, HOUR).await.expect("added");
    sum.expect("the session is there")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_keeps_its_promises_on_one_server() {
    let state = instance(&settings(single(&shared_url()))).await;
    shared_state_suite::run(state, tokio::time::sleep).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_keeps_its_promises_on_a_cluster() {
    let cluster = RedisCluster::start();
    let state = instance(&settings(cluster.servers())).await;
    shared_state_suite::run(state, tokio::time::sleep).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_has_its_slots_on_all_instances_together() {
    let [one, other] = two_on_the_shared_server().await;
    let receipt = ReceiptId::random();
    let answers = join_all((0..50).map(|n| {
        let state = if n % 2 == 0 { &one } else { &other };
        take(state, receipt, UsageId::next(), 7)
    }))
    .await;
    assert_eq!(answers.iter().filter(|slot| **slot == SlotGrant::Taken).count(), 7);
    assert_eq!((count(&one, receipt).await, count(&other, receipt).await), (7, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_given_back_on_one_instance_is_there_for_the_next_stream_on_another() {
    let [one, other] = two_on_the_shared_server().await;
    let receipt = ReceiptId::random();
    let mut stream = UsageId::next();
    assert_eq!(take(&one, receipt, stream, 1).await, SlotGrant::Taken);
    for n in 0..200 {
        let (from, to) = if n % 2 == 0 { (&one, &other) } else { (&other, &one) };
        // Not awaited: the client has its last byte, and is there before Redis knows.
        let (from, next) = (Arc::clone(from), UsageId::next());
        let (ending, asking) = (stream, next);
        let released = tokio::spawn(async move { from.release_slot(&slot(receipt, ending)).await });
        assert_eq!(take(to, receipt, asking, 1).await, SlotGrant::Taken, "stream {n}");
        released.await.expect("no panic").expect("given back");
        stream = next;
    }
    assert_eq!(count(&one, receipt).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slots_of_an_instance_that_died_free_themselves() {
    let [one, other] = two_on_the_shared_server().await;
    let receipt = ReceiptId::random();
    let ttl = Duration::from_secs(1);
    assert_eq!(one.take_slot(&slot(receipt, UsageId::next()), 1, ttl).await.expect("asked"), SlotGrant::Taken);
    assert_eq!(take(&other, receipt, UsageId::next(), 1).await, full(1));
    drop(one);
    let next = UsageId::next();
    until("the slot is free", async || take(&other, receipt, next, 1).await == SlotGrant::Taken).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_begun_on_one_instance_goes_on_at_another() {
    let [one, other] = two_on_the_shared_server().await;
    let session = session();
    one.put_session(&session, HOUR).await.expect("kept");
    assert_eq!(find(&other, session.session_id).await, Some(session.clone()));
    stream_ended(&other, session.session_id, 100).await;
    let sum = stream_ended(&one, session.session_id, 50).await;
    assert_eq!((sum.streams, sum.bytes_delivered, sum.position), (2, 150, 100));
    assert_eq!(find(&other, session.session_id).await.expect("there").progress, sum);
}

#[tokio::test(flavor = "multi_thread")]
async fn word_of_a_change_reaches_every_instance_once_and_in_order() {
    let [one, other] = two_on_the_shared_server().await;
    let tags: Vec<_> = (0..500).map(|n| Tag::QuotaPolicy(format!("policy {n}"))).collect();
    let mut listeners = [one.invalidations(), other.invalidations()];
    // A subscription is made in the background.
    until("the other listens", async || {
        one.invalidate(&[Tag::QuotaPolicy("hello".into())]).await.expect("told");
        listeners[1].try_recv().is_ok()
    })
    .await;
    one.invalidate(&tags).await.expect("told");
    for listener in &mut listeners {
        let mut heard = Vec::new();
        while heard.len() < tags.len() {
            let tag = listener.recv().await.expect("not behind");
            if tag != Tag::QuotaPolicy("hello".into()) {
                heard.push(tag);
            }
        }
        assert_eq!(heard, tags);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_lost_is_made_anew() {
    let server = RedisServer::start();
    let [one, other] = two_on(&server).await;
    let mut listener = other.invalidations();
    for round in 0..3 {
        let tag = Tag::QuotaPolicy(format!("round {round}"));
        until("the other hears of it", async || {
            one.invalidate(std::slice::from_ref(&tag)).await.expect("told");
            std::iter::from_fn(|| listener.try_recv().ok()).any(|heard| heard == tag)
        })
        .await;
        redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").exec(&mut server.client()).expect("killed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_slots_are_counted_on_each_instance_and_put_back_afterwards() {
    let mut server = RedisServer::start();
    let [one, other] = two_on(&server).await;
    let (receipt, streams) = (ReceiptId::random(), [(); 6].map(|()| UsageId::next()));
    assert_eq!(take(&one, receipt, streams[0], 2).await, SlotGrant::Taken);
    assert_eq!(take(&other, receipt, streams[1], 2).await, SlotGrant::Taken);
    assert_eq!(take(&other, receipt, streams[2], 2).await, full(2));
    server.kill();
    // Each has one, and so room for one more.
    assert_eq!(take(&one, receipt, streams[2], 2).await, SlotGrant::Taken);
    assert_eq!(take(&one, receipt, streams[3], 2).await, full(2));
    assert_eq!(take(&other, receipt, streams[4], 2).await, SlotGrant::Taken);
    assert_eq!((count(&one, receipt).await, count(&other, receipt).await), (2, 2));
    one.refresh_slots(&[slot(receipt, streams[0]), slot(receipt, streams[2])], HOUR).await.expect("nothing to do");
    other.release_slot(&slot(receipt, streams[1])).await.expect("given back here");
    assert!(matches!(one.ping().await, Err(PortError::Unavailable { .. })));

    server.restart();
    until("running streams have their slots again", async || {
        count(&one, receipt).await == 3 && count(&other, receipt).await == 3
    })
    .await;
    for stream in streams {
        one.release_slot(&slot(receipt, stream)).await.expect("given back");
    }
    assert_eq!(count(&other, receipt).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_stream_is_refused_for_a_slot_that_a_hung_server_took_too_late() {
    let server = RedisServer::start();
    let settings = RedisSettings { response_timeout: Duration::from_millis(300), ..settings(server.servers()) };
    let (link, _metrics) = link(settings).await;
    let state = RedisState::start(link.clone(), Arc::new(SystemClock), 1000);
    let (receipt, stream) = (ReceiptId::random(), UsageId::next());
    // The server knows the script from here on.
    assert_eq!(take(&state, ReceiptId::random(), UsageId::next(), 1).await, SlotGrant::Taken);
    server.pause();
    assert_eq!(take(&state, receipt, stream, 1).await, SlotGrant::Taken, "here, while the server is still to do it");
    // So much has ended before it that telling takes a while.
    for _ in 0..60_000 {
        state.release_slot(&slot(ReceiptId::random(), UsageId::next())).await.expect("given back here");
    }
    state.release_slot(&slot(receipt, stream)).await.expect("given back here");
    server.resume();
    until("Redis serves again", async || link.is_up()).await;
    assert_eq!(take(&state, receipt, UsageId::next(), 1).await, SlotGrant::Taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_stream_is_refused_for_an_end_that_another_instance_has_yet_to_send() {
    let server = RedisServer::start();
    let patient = RedisSettings {
        response_timeout: Duration::from_millis(300),
        breaker_period: Duration::from_millis(1500),
        ..settings(server.servers())
    };
    let (one, other) = (instance(&patient).await, instance(&patient).await);
    let (receipt, stream) = (ReceiptId::random(), UsageId::next());
    assert_eq!(take(&other, receipt, stream, 1).await, SlotGrant::Taken);
    server.pause();
    until("one notices", async || one.ping().await.is_err()).await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    until("the other notices later", async || other.ping().await.is_err()).await;
    other.release_slot(&slot(receipt, stream)).await.expect("given back there");
    server.resume();
    until_back(&one).await;
    // The other one looks again only about a second later.
    assert_eq!(take(&one, receipt, UsageId::next(), 1).await, SlotGrant::Taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_stream_is_refused_where_a_hang_was_not_noticed() {
    let server = RedisServer::start();
    let unaware = settings(server.servers());
    // So long that the test does not see the end of its rest.
    let aware = RedisSettings { response_timeout: Duration::from_millis(300), breaker_period: HOUR, ..unaware.clone() };
    let (one, other) = (instance(&aware).await, instance(&unaware).await);
    let (receipt, stream) = (ReceiptId::random(), UsageId::next());
    assert_eq!(take(&one, receipt, stream, 1).await, SlotGrant::Taken);
    server.pause();
    until("one notices", async || one.ping().await.is_err()).await;
    one.release_slot(&slot(receipt, stream)).await.expect("given back there");
    let waiting = tokio::spawn({
        let other = Arc::clone(&other);
        async move { take(&other, receipt, UsageId::next(), 1).await }
    });
    server.resume();
    assert_eq!(waiting.await.expect("no panic"), SlotGrant::Taken);
    // What ends there while the server is on trial is told as well.
    let (receipt, stream) = (ReceiptId::random(), UsageId::next());
    assert_eq!(take(&other, receipt, stream, 1).await, SlotGrant::Taken);
    one.release_slot(&slot(receipt, stream)).await.expect("given back");
    assert_eq!(take(&other, receipt, UsageId::next(), 1).await, SlotGrant::Taken);
    assert!(one.ping().await.is_err(), "nobody waits for a server that is on trial");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_given_back_while_redis_hung_is_taken_out_when_it_goes_on() {
    let server = RedisServer::start();
    let settings = RedisSettings { response_timeout: Duration::from_millis(300), ..settings(server.servers()) };
    let one = instance(&settings).await;
    let (receipt, stream) = (ReceiptId::random(), UsageId::next());
    assert_eq!(take(&one, receipt, stream, 1).await, SlotGrant::Taken);
    server.pause();
    until("its silence is noticed", async || one.ping().await.is_err()).await;
    one.release_slot(&slot(receipt, stream)).await.expect("given back here");
    let next = UsageId::next();
    assert_eq!(take(&one, receipt, next, 1).await, SlotGrant::Taken, "here it is free");
    server.resume();
    until_back(&one).await;
    let other = instance(&settings).await;
    until("only the stream that runs has a slot", async || count(&other, receipt).await == 1).await;
    one.release_slot(&slot(receipt, next)).await.expect("given back");
    until("none has", async || count(&other, receipt).await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_takes_no_running_stream_its_slot_for_long() {
    let server = RedisServer::start();
    let [one, other] = two_on(&server).await;
    let held: Vec<_> = (0..1000).map(|_| (ReceiptId::random(), UsageId::next())).collect();
    join_all(held.iter().map(async |&(receipt, stream)| {
        assert_eq!(take(&one, receipt, stream, 1).await, SlotGrant::Taken);
    }))
    .await;
    server.flush();
    assert_eq!(count(&other, held[0].0).await, 0);
    let (ended, running) = held.split_at(500);
    for &(receipt, stream) in ended {
        drop(tokio::spawn({
            let one = Arc::clone(&one);
            async move { one.release_slot(&slot(receipt, stream)).await }
        }));
    }
    // As a node does every third of the time to live.
    let slots: Vec<_> = held.iter().map(|&(receipt, stream)| slot(receipt, stream)).collect();
    one.refresh_slots(&slots, HOUR).await.expect("refreshed");
    until("those that ended are gone", async || {
        join_all(ended.iter().map(|&(receipt, _)| count(&other, receipt))).await.iter().sum::<u32>() == 0
    })
    .await;
    for &(receipt, _) in running {
        assert_eq!(count(&other, receipt).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_sessions_go_on_here_and_are_found_everywhere_afterwards() {
    let mut server = RedisServer::start();
    let [one, other] = two_on(&server).await;
    let (before, during) = (session(), session());
    one.put_session(&before, HOUR).await.expect("kept");
    stream_ended(&other, before.session_id, 1000).await;
    stream_ended(&one, before.session_id, 1).await;
    server.kill();
    one.put_session(&during, HOUR).await.expect("kept here");
    assert_eq!(stream_ended(&one, before.session_id, 20).await.bytes_delivered, 1021);
    assert_eq!(stream_ended(&one, during.session_id, 300).await.bytes_delivered, 300);
    assert_eq!(find(&one, before.session_id).await.expect("found here").progress.streams, 3);
    assert_eq!(find(&other, during.session_id).await, None, "the other cannot know of it");

    server.restart();
    until("both are found from elsewhere", async || {
        let found = [find(&other, before.session_id).await, find(&other, during.session_id).await];
        found.map(|session| session.map_or(0, |session| session.progress.bytes_delivered)) == [1021, 300]
    })
    .await;
    assert_eq!(stream_ended(&other, during.session_id, 5).await.bytes_delivered, 305);
    assert_eq!(find(&one, during.session_id).await.expect("there").progress.streams, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_made_while_redis_hung_is_added_once_to_what_it_kept() {
    let server = RedisServer::start();
    let settings = RedisSettings { response_timeout: Duration::from_millis(300), ..settings(server.servers()) };
    let (one, other) = (instance(&settings).await, instance(&settings).await);
    let session = session();
    other.put_session(&session, HOUR).await.expect("kept");
    assert_eq!(stream_ended(&other, session.session_id, 1000).await.streams, 1);
    server.pause();
    until("its silence is noticed", async || one.ping().await.is_err()).await;
    for _ in 0..10 {
        // This instance has never seen the session.
        stream_ended(&one, session.session_id, 7).await;
    }
    server.resume();
    until("all of it is there", async || {
        find(&other, session.session_id).await.is_some_and(|found| found.progress.bytes_delivered == 1070)
    })
    .await;
    until_back(&one).await;
    assert_eq!(find(&one, session.session_id).await.expect("there").progress.streams, 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_redis_has_lost_is_put_back_when_it_is_used() {
    let server = RedisServer::start();
    let [one, other] = two_on(&server).await;
    let (looked_at, streamed) = (session(), session());
    for session in [&looked_at, &streamed] {
        one.put_session(session, HOUR).await.expect("kept");
        stream_ended(&one, session.session_id, 10).await;
    }
    server.flush();
    assert_eq!(find(&other, looked_at.session_id).await, None);
    assert_eq!(find(&one, looked_at.session_id).await.expect("still known").progress.bytes_delivered, 10);
    assert_eq!(stream_ended(&one, streamed.session_id, 1).await.bytes_delivered, 11);
    for (session, bytes) in [(&looked_at, 10), (&streamed, 11)] {
        let found = find(&other, session.session_id).await.expect("put back");
        assert_eq!(found.progress.bytes_delivered, bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_that_the_operators_page_names_are_enough() {
    const RIGHTS: [&str; 7] =
        ["~test-*", "&test-*", "+@all", "-@dangerous", "+info", "+cluster|slots", "+cluster|info"];
    let server = RedisServer::start();
    let mut admin = server.client();
    let user = ["ACL", "SETUSER", "node", "on", ">secret"].into_iter().chain(RIGHTS);
    user.fold(&mut redis::Cmd::new(), redis::Cmd::arg).exec(&mut admin).expect("made");
    let url = format!("redis://node:secret@127.0.0.1:{}", server.port());
    let settings = settings(single(&url));
    let (one, other) = (instance(&settings).await, instance(&settings).await);
    one.ping().await.expect("let in");
    let (receipt, stream, session) = (ReceiptId::random(), UsageId::next(), session());
    assert_eq!(take(&one, receipt, stream, 1).await, SlotGrant::Taken);
    one.refresh_slots(&[slot(receipt, stream)], HOUR).await.expect("refreshed");
    assert_eq!(count(&other, receipt).await, 1);
    one.release_slot(&slot(receipt, stream)).await.expect("given back");
    one.put_session(&session, HOUR).await.expect("kept");
    stream_ended(&one, session.session_id, 1).await;
    assert_eq!(find(&other, session.session_id).await.expect("found").progress.streams, 1);
    let mut listener = other.invalidations();
    until("word of a change arrives", async || {
        one.invalidate(&[Tag::QuotaPolicy("gold".into())]).await.expect("told");
        listener.try_recv().is_ok()
    })
    .await;
    for command in [&["CLUSTER", "SLOTS"], &["CLUSTER", "INFO"], &["INFO", "server"]] {
        let dry_run = redis::cmd("ACL").arg("DRYRUN").arg("node").arg(command).query::<String>(&mut admin);
        assert_eq!(dry_run.expect("asked"), "OK", "{command:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_its_last_moments_accepts_no_replay() {
    let mut server = RedisServer::start();
    let state = instance(&settings(server.servers())).await;
    let terms = ReplayTerms { window: HOUR, ahead: Duration::ZERO, uses: 1000 };
    let mut name = 0;
    let mut made_now = async || {
        name += 1;
        ReplayKey { name: [name; 32], made_at: Timestamp::now() }
    };
    let mut first = made_now().await;
    until("something is the first", async || {
        first = made_now().await;
        state.check_replay(first, terms).await.expect("asked") == ReplayCheck::First
    })
    .await;
    redis::cmd("SAVE").query::<()>(&mut server.client()).expect("saved");
    let unsaved = made_now().await;
    assert_eq!(state.check_replay(unsaved, terms).await.expect("asked"), ReplayCheck::First);
    server.restart();
    until_back(&state).await;
    for used in [first, unsaved] {
        assert!(matches!(state.check_replay(used, terms).await.expect("asked"), ReplayCheck::Forgotten(_)));
    }
    let new = ReplayKey { made_at: Timestamp::now() + Duration::from_millis(1), ..made_now().await };
    let ahead = ReplayTerms { ahead: Duration::from_secs(60), ..terms };
    assert!(
        matches!(state.check_replay(new, ahead).await.expect("asked"), ReplayCheck::Forgotten(_)),
        "its maker's clock may be ahead"
    );
}
