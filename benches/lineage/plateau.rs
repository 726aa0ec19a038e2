//! Events at full speed into a namespace that may have a hundred thousand of them, for much longer than that takes: as many as come
//! within an hour at the promised rate, or as a number on the command line says. Walks are asked for all the while, so that the
//! caches have something to keep.
//!
//! What is printed: how many events stayed, what the tables, their indexes and Redis take, and how long anybody was seen to wait for a
//! lock that a step of pruning had.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use futures::future::{join, join_all};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio_postgres::Client;

use crate::{
    JOBS, SENDERS, event,
    node::{On, Setup, TestNode},
    redis_server::RedisServer,
    restart, send,
};

/// Events that the namespace may have, how many are sent, and how often the sizes are looked at.
const WINDOW: usize = 100_000;
const HOUR_OF_EVENTS: usize = 5_000 * 3_600;
const LOOKS: usize = 18;

/// Between two walks that are asked for, and between two looks at locks.
const WALK_EVERY: Duration = Duration::from_millis(50);
const LOCKS_EVERY: Duration = Duration::from_millis(10);

/// No lock of pruning may be held for longer.
const BOUND: f64 = 50.0;

const SIZES: &str = "SELECT
    (SELECT sum(events) FROM lineage_event_counts)::bigint,
    (SELECT sum(pg_table_size(relid)) FROM pg_partition_tree('lineage_events'))::bigint,
    (SELECT sum(pg_indexes_size(relid)) FROM pg_partition_tree('lineage_events'))::bigint,
    pg_total_relation_size('lineage_runs'),
    (pg_total_relation_size('lineage_nodes') + pg_total_relation_size('lineage_edges'))::bigint";

/// Who waits for a lock that a step of pruning has, since when, and for how many milliseconds now.
const WAITS: &str =
    "SELECT l.pid, l.waitstart::text, extract(epoch FROM clock_timestamp() - l.waitstart)::float8 * 1000
    FROM pg_locks l
    WHERE NOT l.granted AND l.waitstart IS NOT NULL AND EXISTS (
        SELECT FROM pg_stat_activity a
        WHERE a.pid = ANY (pg_blocking_pids(l.pid)) AND a.query LIKE '%penstock_trim_lineage%')";

pub(crate) async fn run(many: Option<usize>) {
    let many = many.unwrap_or(HOUR_OF_EVENTS);
    let redis = RedisServer::start();
    let mut node = Setup::new(On::Postgres)
        .env("RATE_LIMITS_JSON", r#"{"default":0}"#)
        .env("PENSTOCK_LINEAGE__WINDOW_EVENTS", WINDOW.to_string())
        .env("PENSTOCK_LINEAGE__EMIT", "false")
        .env("REDIS_URL", redis.url())
        .start()
        .await;
    restart(&mut node, &[("PENSTOCK_LOG__LEVEL", "warn")]).await;
    let database = node.database.as_ref().expect("PostgreSQL");
    let (client, watcher) = (database.client().await, database.client().await);
    println!("{WINDOW} events may stay; sizes in MiB");
    println!(
        "{:>10} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "sent", "events/s", "kept", "events", "indexes", "runs", "graph", "redis", "walks", "node"
    );
    let (sent, walks, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let measured = async {
        for look in 1..=LOOKS {
            let (until, before, began) = (many * look / LOOKS, sent.load(Relaxed), Instant::now());
            join_all((0..SENDERS).map(|_| send_until(&node, &sent, until))).await;
            let rate = (sent.load(Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
            let row = client.query_one(SIZES, &[]).await.expect("sizes");
            let mib = |column: usize| row.get::<_, i64>(column) >> 20;
            let resident = node.metric("process_resident_memory_bytes", "").await / f64::from(1 << 20);
            println!(
                "{:>10} {rate:>9.0} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8.1} {:>8} {resident:>8.0}",
                sent.load(Relaxed),
                row.get::<_, i64>(0),
                mib(1),
                mib(2),
                mib(3),
                mib(4),
                redis.used_memory() as f64 / f64::from(1 << 20),
                walks.load(Relaxed),
            );
        }
        over.store(true, Relaxed);
    };
    let ((), (waits, ())) = join(measured, join(watch_locks(&watcher, &over), walk(&node, &walks, &over))).await;
    let longest = node.metric("penstock_lineage_longest_step_seconds", "").await * 1000.0;
    println!("longest step of pruning, with its waits for others: {longest:.0} ms");
    let most = waits.values().copied().fold(0.0, f64::max);
    let beyond = waits.values().filter(|waited| **waited > BOUND).count();
    println!(
        "waits for a step's locks that were seen: {}, the longest {most:.0} ms, {beyond} of more than {BOUND} ms",
        waits.len()
    );
}

async fn send_until(node: &TestNode, sent: &AtomicUsize, until: usize) {
    while sent.load(Relaxed) < until {
        let first = sent.fetch_add(1000, Relaxed);
        let mut body = String::with_capacity(1_200_000);
        for number in first..first + 1000 {
            body.push(if number == first { '[' } else { ',' });
            event(number, jiff::Timestamp::now(), &mut body);
        }
        send(node, "/api/v1/lineage/batch", body + "]").await;
    }
}

/// Asks for walks from any of the jobs.
async fn walk(node: &TestNode, walks: &AtomicUsize, over: &AtomicBool) {
    let mut chance = StdRng::seed_from_u64(7);
    while !over.load(Relaxed) {
        let job = chance.random_range(0..JOBS);
        let path = format!("/v1/openlineage/lineage?node=job:scheduler:daily.job_{job}&depth=2");
        let answer = node.get(&path).send().await.expect("an answer");
        // A job of which nothing has come yet is not known.
        assert!(answer.status().is_success() || answer.status() == reqwest::StatusCode::NOT_FOUND, "{answer:?}");
        answer.bytes().await.expect("a body");
        walks.fetch_add(1, Relaxed);
        tokio::time::sleep(WALK_EVERY).await;
    }
}

/// The longest that each wait for a step's lock was seen to last, in milliseconds.
async fn watch_locks(client: &Client, over: &AtomicBool) -> HashMap<(i32, String), f64> {
    let mut waits = HashMap::new();
    while !over.load(Relaxed) {
        for row in client.query(WAITS, &[]).await.expect("locks") {
            let longest: &mut f64 = waits.entry((row.get(0), row.get(1))).or_default();
            *longest = longest.max(row.get(2));
        }
        tokio::time::sleep(LOCKS_EVERY).await;
    }
    waits
}
