//! Lineage on a whole node over HTTP, on PostgreSQL: events in, walks through a large graph, and what pruning costs streams.
//!
//! **Events in**: clients that send batches of several sizes, until a million events are there. **Walks**: a graph of a million
//! edges, every root asked once, so that no answer comes from a cache. **Pruning**: the million events leave while a thousand
//! clients stream. Pruning is let on and off in turns, by its lease, so that other work on the machine meets both. Run it by
//! `./bench lineage`; a number after it is the number of events and edges.
//!
//! **The plateau**, by `./bench plateau`: see [`plateau`].

#![allow(clippy::print_stdout, reason = "the figures are what this prints")]

#[path = "../tests/support/node.rs"]
#[macro_use]
mod node;
#[path = "lineage/plateau.rs"]
mod plateau;
#[path = "../tests/support/postgres.rs"]
mod postgres;
#[path = "../tests/support/redis.rs"]
mod redis_server;

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use node::{On, Paid, Setup, TestNode};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::Method;
use uuid::Uuid;

const MILLION: usize = 1_000_000;

/// The sizes of the batches that clients send, and how many clients send at a time; they take turns. A client waits for its
/// answer, so the rate of single events is the number of clients for each commit of the store.
const BATCHES: [(usize, usize); 5] = [(1, 8), (1, 64), (1, 256), (100, SENDERS), (1000, SENDERS)];
const SENDERS: usize = 8;
const TURN: Duration = Duration::from_secs(5);

/// Jobs of the events that are sent.
const JOBS: usize = 1000;

/// The large graph: edges on either side of a job, and the datasets that they lead to at random.
const SIDE: usize = 10;
const ROOTS: usize = 300;

/// Clients that stream, how often each does, and what.
const CLIENTS: usize = 1000;
const EVERY: Duration = Duration::from_secs(2);
const CONTENT: usize = 64 << 10;

/// How long streams run with pruning, and without, before the other one has its turn. Pruning has most of the time, or a million
/// events would take all day.
const PRUNING: Duration = Duration::from_secs(15);
const RESTING: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() {
    let many = std::env::args().find_map(|word| word.parse().ok());
    if std::env::args().any(|word| word == "plateau") {
        return plateau::run(many).await;
    }
    let many = many.unwrap_or(MILLION);
    let mut node = Setup::new(On::Postgres)
        .env("RATE_LIMITS_JSON", r#"{"default":0}"#)
        .env("PENSTOCK_LINEAGE__WINDOW_EVENTS", "1000000000")
        .start()
        .await;
    // Tests log every request.
    restart(&mut node, &[("PENSTOCK_LOG__LEVEL", "warn")]).await;
    ingest(&node, many).await;
    walks(&node, many).await;
    hold_lease(&node).await;
    restart(&mut node, &[("PENSTOCK_LINEAGE__WINDOW_EVENTS", "1"), ("PENSTOCK_LINEAGE__PRUNE_INTERVAL", "100ms")])
        .await;
    prune(Arc::new(node)).await;
}

async fn restart(node: &mut TestNode, settings: &[(&str, &str)]) {
    assert!(node.terminate().await.success(), "the node drains");
    for (name, value) in settings {
        node.set_env(name, value);
    }
    node.boot().await;
}

/// The middle, the 95th and the 99th hundredth, and the most, of milliseconds.
fn hundredths(times: &mut [f64]) -> String {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times.get(((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1))).copied();
    let shown = |part| at(part).map_or_else(|| "-".to_owned(), |time: f64| format!("{time:.2}"));
    format!("p50 {:>6} ms  p95 {:>6} ms  p99 {:>6} ms  max {:>6} ms", shown(0.5), shown(0.95), shown(0.99), shown(1.0))
}

/// An event of some 1 KiB, as the clients of schedulers send them: a facet of the run, and one of what it wrote.
fn event(number: usize, at: jiff::Timestamp, into: &mut String) {
    let (job, state) = (number % JOBS, if number.is_multiple_of(2) { "START" } else { "COMPLETE" });
    let run = Uuid::from_u64_pair(number as u64 / 2, 0x8000_0000_0000_0000);
    let maker =
        r#""_producer":"https://example.org/scheduler","_schemaURL":"https://openlineage.io/spec/facets/1-0-1/"#;
    let _ = write!(
        into,
        r#"{{"eventType":"{state}","eventTime":"{at}","producer":"https://example.org/scheduler","schemaURL":"https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent","run":{{"runId":"{run}","facets":{{"nominalTime":{{{maker}NominalTimeRunFacet.json","nominalStartTime":"{at}"}}}}}},"job":{{"namespace":"scheduler","name":"daily.job_{job}"}},"inputs":[{{"namespace":"postgres://db:5432","name":"shop.public.table_{}"}},{{"namespace":"postgres://db:5432","name":"shop.public.table_{}"}}],"outputs":[{{"namespace":"s3://reports","name":"daily/report_{job}","facets":{{"schema":{{{maker}SchemaDatasetFacet.json","fields":[{{"name":"order_id","type":"bigint"}},{{"name":"customer","type":"text"}},{{"name":"placed_at","type":"timestamp"}},{{"name":"total","type":"numeric"}}]}}}}}}]}}"#,
        job % 200,
        job % 333,
    );
}

/// Sends events as a client does: what the node cannot take now is sent again.
async fn send(node: &TestNode, path: &str, body: String) {
    loop {
        let request = node.admin(Method::POST, path).header("content-type", "application/json").body(body.clone());
        let answer = request.send().await.expect("an answer");
        let (status, text) = (answer.status(), answer.text().await.expect("text"));
        if status != reqwest::StatusCode::SERVICE_UNAVAILABLE {
            assert!(status.is_success() && !text.contains("partial_success"), "{status}: {text}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn ingest(node: &TestNode, many: usize) {
    let sent = AtomicUsize::new(0);
    let began = Instant::now();
    let mut rates = vec![Vec::new(); BATCHES.len()];
    // Single events are slow: they have the first rounds, and do not keep the others from a million.
    for round in 0.. {
        for ((size, senders), rates) in BATCHES.iter().zip(&mut rates) {
            if sent.load(Relaxed) >= many || (*size == 1 && round > 2) {
                continue;
            }
            let (before, turn) = (sent.load(Relaxed), Instant::now());
            join_all((0..*senders).map(|_| async {
                while turn.elapsed() < TURN && sent.load(Relaxed) < many {
                    let first = sent.fetch_add(*size, Relaxed);
                    let mut body = String::with_capacity(size * 1200);
                    for number in first..first + size {
                        body.push(if number == first { '[' } else { ',' });
                        event(number, jiff::Timestamp::now(), &mut body);
                    }
                    match size {
                        1 => send(node, "/api/v1/lineage", body.split_off(1)).await,
                        _ => send(node, "/api/v1/lineage/batch", body + "]").await,
                    }
                }
            }))
            .await;
            rates.push((sent.load(Relaxed) - before) as f64 / turn.elapsed().as_secs_f64());
        }
        if sent.load(Relaxed) >= many {
            break;
        }
    }
    println!("events in, {} events in {:.0} s", sent.load(Relaxed), began.elapsed().as_secs_f64());
    for ((size, senders), mut rates) in BATCHES.iter().zip(rates) {
        rates.sort_by(f64::total_cmp);
        let shown: Vec<_> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
        let middle = rates.get(rates.len() / 2).copied().unwrap_or_default();
        println!("  {size:>4} in a request, {senders:>3} clients: {middle:>7.0} events/s  by turn {}", shown.join(" "));
    }
}

async fn walks(node: &TestNode, many: usize) {
    let jobs = many / (2 * SIDE);
    let mut chance = StdRng::seed_from_u64(42);
    let began = Instant::now();
    for first in (0..jobs).step_by(200) {
        let mut body = String::new();
        for job in first..(first + 200).min(jobs) {
            body.push(if job == first { '[' } else { ',' });
            let mut side = || {
                let names = (0..SIDE).map(|_| chance.random_range(0..jobs * 4));
                names.map(|name| format!(r#"{{"namespace":"large","name":"d{name}"}}"#)).collect::<Vec<_>>().join(",")
            };
            let (inputs, outputs, at) = (side(), side(), jiff::Timestamp::now());
            let _ = write!(
                body,
                r#"{{"eventTime":"{at}","producer":"https://example.org/large","schemaURL":"https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/JobEvent","job":{{"namespace":"large","name":"j{job}"}},"inputs":[{inputs}],"outputs":[{outputs}]}}"#
            );
        }
        send(node, "/api/v1/lineage/batch", body + "]").await;
    }
    let client = node.database.as_ref().expect("PostgreSQL").client().await;
    // What autovacuum does within a minute.
    client.batch_execute("ANALYZE lineage_edges; ANALYZE lineage_nodes").await.expect("analyzed");
    let edges: i64 = client.query_one("SELECT count(*) FROM lineage_edges", &[]).await.expect("a count").get(0);
    println!("a graph of {edges} edges, in {:.0} s", began.elapsed().as_secs_f64());
    for direction in ["down", "up", "both"] {
        let (mut times, mut nodes, mut cut) = (Vec::new(), Vec::new(), 0);
        let before = query_time(node).await;
        for _ in 0..ROOTS {
            let root = chance.random_range(0..jobs);
            let path = format!("/v1/openlineage/lineage?node=job:large:j{root}&depth=10&direction={direction}");
            let asked = Instant::now();
            let answer = node.get(&path).send().await.expect("an answer").text().await.expect("text");
            times.push(asked.elapsed().as_secs_f64() * 1000.0);
            let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
            nodes.push(answer["stats"]["nodes"].as_f64().expect("a number"));
            cut += usize::from(answer["stats"]["truncated"] == true);
        }
        let after = query_time(node).await;
        let mean = (after.0 - before.0) / (after.1 - before.1).max(1.0) * 1000.0;
        nodes.sort_by(f64::total_cmp);
        let (middle, most) = (nodes[nodes.len() / 2], nodes[nodes.len() - 1]);
        println!("  depth 10, {direction:<4}: {}  query alone, mean {mean:.1} ms", hundredths(&mut times));
        println!("    nodes p50 {middle:.0}, most {most:.0}; {cut} of {ROOTS} cut");
    }
}

/// Seconds in the statement of walks so far, and how many there were.
async fn query_time(node: &TestNode) -> (f64, f64) {
    let labels = "statement=\"lineage_graph\"";
    let (sum, count) = ("penstock_db_query_seconds_sum", "penstock_db_query_seconds_count");
    (node.metric(sum, labels).await, node.metric(count, labels).await)
}

/// Takes the lease of the pruner away from the node.
async fn hold_lease(node: &TestNode) {
    let sql = "INSERT INTO task_leases AS l (task, holder, token, held_until)
        VALUES ('pruner', gen_random_uuid(), 1, clock_timestamp() + interval '1 day')
        ON CONFLICT (task) DO UPDATE SET holder = excluded.holder, token = l.token + 1, held_until = excluded.held_until";
    node.database.as_ref().expect("PostgreSQL").client().await.batch_execute(sql).await.expect("held");
}

async fn release_lease(node: &TestNode) {
    let sql = "UPDATE task_leases SET held_until = clock_timestamp() WHERE task = 'pruner'";
    node.database.as_ref().expect("PostgreSQL").client().await.batch_execute(sql).await.expect("released");
}

/// What a client found: when it asked, and the milliseconds to the first byte and to the last.
type Found = (Instant, f64, f64);

async fn prune(node: Arc<TestNode>) {
    let mut wanted: Vec<Paid> = Vec::new();
    for number in 0..50 {
        wanted.push(node.paid(&node::sample(number, CONTENT), "unlimited").await);
    }
    let (wanted, over) = (Arc::new(wanted), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            tokio::spawn(stream_now_and_then(Arc::clone(&node), Arc::clone(&wanted), client, Arc::clone(&over)))
        })
        .collect();
    // All have asked twice: connections are open and everything is warm.
    tokio::time::sleep(2 * EVERY).await;
    let mut slices = Vec::new();
    let left = async || {
        let client = node.database.as_ref().expect("PostgreSQL").client().await;
        let sql = "SELECT coalesce(sum(events), 0)::bigint FROM lineage_event_counts";
        client.query_one(sql, &[]).await.expect("a count").get::<_, i64>(0)
    };
    let (before, mut pruning) = (left().await, Duration::ZERO);
    // The node's own events come and go meanwhile.
    while left().await > 2000 {
        let (began, started) = (Instant::now(), left().await);
        tokio::time::sleep(RESTING).await;
        slices.push((began, Instant::now(), false));
        release_lease(&node).await;
        let began = Instant::now();
        tokio::time::sleep(PRUNING).await;
        slices.push((began, Instant::now(), true));
        hold_lease(&node).await;
        pruning += began.elapsed();
        println!("  {} events a second left", (started - left().await) as u64 / PRUNING.as_secs());
        // A step may be under way.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    over.store(true, Relaxed);
    let mut found = Vec::new();
    for client in clients {
        found.extend(client.await.expect("a client"));
    }
    let longest = node.metric("penstock_lineage_longest_step_seconds", "").await * 1000.0;
    println!(
        "pruning {before} events in {:.0} s, with {CLIENTS} clients who stream; longest step {longest:.0} ms",
        pruning.as_secs_f64()
    );
    let mut lasts = Vec::new();
    for with in [false, true] {
        let within = |asked: Instant| slices.iter().any(|(from, to, on)| *on == with && (*from..*to).contains(&asked));
        let of: Vec<&Found> = found.iter().filter(|found| within(found.0)).collect();
        let (mut firsts, mut whole): (Vec<_>, Vec<_>) = of.iter().map(|found| (found.1, found.2)).unzip();
        println!("  {:<16} {} streams", if with { "with pruning" } else { "without pruning" }, of.len());
        println!("    first byte:   {}", hundredths(&mut firsts));
        println!("    whole stream: {}", hundredths(&mut whole));
        lasts.push(whole[whole.len() * 99 / 100]);
    }
    println!("  p99 of whole streams with pruning: {:+.1} %", (lasts[1] / lasts[0] - 1.0) * 100.0);
}

async fn stream_now_and_then(
    node: Arc<TestNode>,
    wanted: Arc<Vec<Paid>>,
    client: usize,
    over: Arc<AtomicBool>,
) -> Vec<Found> {
    // Spread evenly, and each with a time of its own whatever became of the stream before.
    let mut next = tokio::time::interval_at(
        tokio::time::Instant::now() + EVERY * u32::try_from(client).unwrap_or(0) / u32::try_from(CLIENTS).unwrap_or(1),
        EVERY,
    );
    let mut found = Vec::new();
    let mut turn = client;
    while !over.load(Relaxed) {
        next.tick().await;
        turn += 1;
        let asked = Instant::now();
        let answer = node.stream(&wanted[turn % wanted.len()]).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let first = asked.elapsed();
        assert_eq!(answer.bytes().await.expect("all of it").len(), CONTENT);
        found.push((asked, first.as_secs_f64() * 1000.0, asked.elapsed().as_secs_f64() * 1000.0));
    }
    found
}
