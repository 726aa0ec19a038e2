//! What Redis costs a stream's start, while it is well, dead and hung; and what a receipt costs Redis.
//!
//! A node with the default settings and a Redis of its own serves small streams to 16 clients whose receipt has a limit of
//! concurrent streams, so that each start takes a slot. The time is from the request to the head of the answer. The states
//! take turns, so that other work on the machine meets all of them; in the run of the dead one Redis is killed, and in that
//! of the hung one stopped, when a fifth is over. Run it by `./bench redis`.

#![allow(clippy::print_stdout, reason = "the figures are what this prints")]

#[path = "../tests/support/node.rs"]
#[macro_use]
mod node;
#[path = "../tests/support/postgres.rs"]
mod postgres;
#[path = "../tests/support/redis.rs"]
mod redis_server;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::join_all, stream};
use jiff::Timestamp;
use node::{On, Paid, Setup, TestNode, sample};
use penstock::adapters::redis::RedisState;
use penstock_actors::{
    clock::SystemClock,
    ids::{ContentHash, ReceiptId, SessionId, UsageId},
    model::{Session, SessionProgress, StreamSession},
    ports::{SessionStore as _, StreamSlot, StreamSlots as _},
};
use redis_server::{RedisServer, link, settings, until};
use serde_json::json;

const RUN: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;
const CLIENTS: usize = 16;

/// Receipts whose memory is measured.
const RECEIPTS: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    InProcess,
    Well,
    Dead,
    Hung,
}

#[tokio::main]
async fn main() {
    memory().await;
    starts().await;
}

async fn starts() {
    let mut server = RedisServer::start();
    // One address asks more often than a client may.
    let setup =
        || Setup::new(On::Sqlite).env("PENSTOCK_LOG__LEVEL", "error").env("RATE_LIMITS_JSON", r#"{"default":0}"#);
    let mut alone = setup().start().await;
    let mut shared = setup().env("REDIS_URL", server.url()).start().await;
    let paid = [content(&alone).await, content(&shared).await];
    let states = [State::InProcess, State::Well, State::Dead, State::Hung];
    let mut starts: [Vec<Duration>; 4] = Default::default();
    let mut waits = [0.0; 4];
    for _ in 0..ROUNDS {
        for (number, state) in states.into_iter().enumerate() {
            let (node, paid) = if state == State::InProcess { (&alone, &paid[0]) } else { (&shared, &paid[1]) };
            let waited = async || node.metric("penstock_redis_commands_total", "timeout").await;
            let before = waited().await;
            let load = join_all((0..CLIENTS).map(|_| stream_for(RUN, node, paid)));
            let fault = async {
                tokio::time::sleep(RUN / 5).await;
                match state {
                    State::Dead => server.kill(),
                    State::Hung => server.pause(),
                    State::InProcess | State::Well => {}
                }
            };
            let (times, ()) = tokio::join!(load, fault);
            starts[number].extend(times.into_iter().flatten());
            waits[number] += waited().await - before;
            match state {
                State::Dead => server.restart(),
                State::Hung => server.resume(),
                State::InProcess | State::Well => {}
            }
            until("Redis serves", async || shared.metric("penstock_redis_breakers_open", "").await == 0.0).await;
        }
    }
    println!("{CLIENTS} clients, {ROUNDS} rounds of {RUN:?}; time to the head of the answer in ms");
    println!(
        "{:<22} {:>9} {:>7} {:>7} {:>7} {:>7} {:>14}",
        "Redis", "streams", "p50", "p99", "p99.9", "max", "waits in vain"
    );
    for (number, state) in states.into_iter().enumerate() {
        let times = &mut starts[number];
        times.sort_unstable();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
        let name = match state {
            State::InProcess => "none: in process",
            State::Well => "well",
            State::Dead => "killed after 1 s",
            State::Hung => "stopped after 1 s",
        };
        let (p50, p99, p999, max) = (at(0.5), at(0.99), at(0.999), at(1.0));
        println!("{name:<22} {:>9} {p50:>7.2} {p99:>7.2} {p999:>7.2} {max:>7.2} {:>14}", times.len(), waits[number]);
    }
    alone.finish().await;
    shared.finish().await;
}

async fn content(node: &TestNode) -> Paid {
    node.tier("limited", json!({ "bytesPerHour": 1_u64 << 50, "maxConcurrentStreams": 1000 })).await;
    node.paid(&sample(1, 1000), "limited").await
}

async fn stream_for(time: Duration, node: &TestNode, paid: &Paid) -> Vec<Duration> {
    let (end, mut times) = (Instant::now() + time, Vec::new());
    while Instant::now() < end {
        let began = Instant::now();
        let answer = node.stream(paid).send().await.expect("an answer");
        times.push(began.elapsed());
        assert_eq!(answer.status(), 200);
        answer.bytes().await.expect("a body");
    }
    times
}

/// What sessions and held slots take of Redis' memory, from `used_memory` before and after.
async fn memory() {
    let server = RedisServer::start();
    let (link, _metrics) = link(settings(server.servers())).await;
    let state = RedisState::start(link, Arc::new(SystemClock), 1);
    let used = || server.used_memory() as f64;
    let ttl = Duration::from_secs(3600);
    // What scripts and buffers take is not the receipts'.
    begin(&state, ttl).await;
    let empty = used();
    each(|| begin(&state, ttl)).await;
    let with_sessions = used();
    each(|| async {
        let session = StreamSession::Named(SessionId::random()).mark();
        let slot = StreamSlot { receipt: ReceiptId::random(), stream: UsageId::next(), session };
        state.take_slot(&slot, 1, ttl).await.expect("taken");
    })
    .await;
    let with_slots = used();
    println!("memory of Redis, {RECEIPTS} receipts each");
    println!("  a session                    {:>5.0} bytes", (with_sessions - empty) / RECEIPTS as f64);
    println!("  a stream's slot while it runs {:>4.0} bytes", (with_slots - with_sessions) / RECEIPTS as f64);
}

async fn each<F: Future<Output = ()>>(mut work: impl FnMut() -> F) {
    stream::iter(0..RECEIPTS).for_each_concurrent(256, |_| work()).await;
}

async fn begin(state: &RedisState, ttl: Duration) {
    let session = Session {
        session_id: SessionId::random(),
        receipt_id: ReceiptId::random(),
        content_hash: ContentHash::from_bytes([7; 32]),
        size_bytes: 1 << 30,
        created_at: Timestamp::now(),
        progress: SessionProgress::default(),
    };
    state.put_session(&session, ttl).await.expect("kept");
    state.add_progress(session.session_id, 1 << 20, 1 << 20, Timestamp::now(), ttl).await.expect("added");
}
