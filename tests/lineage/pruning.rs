//! The sliding window, on a node that is killed in the middle of pruning, on two nodes, and over a long time.

use serde_json::Value;
use uuid::Uuid;

use crate::{
    node::{On, Setup, TestNode, expect},
    patience::eventually,
    scene::{created, graph, post_batch, run_event},
};

/// Events that a namespace may have in these tests.
const WINDOW: u64 = 300;

/// So many events of one job and its datasets, each of a run of its own, in the order of their times.
fn events(count: usize) -> Vec<Value> {
    (0..count).map(|_| run_event("COMPLETE", Uuid::now_v7(), "load", &["in"], &["out"])).collect()
}

async fn send(node: &TestNode, events: &[Value]) {
    for batch in events.chunks(1000) {
        let report = post_batch(node, batch).await;
        assert_eq!(report["status"], "success", "{report}");
    }
}

/// How many events have been pruned by this process.
async fn pruned(node: &TestNode) -> f64 {
    node.metric("penstock_lineage_pruned_total", "kind=\"event\"").await
}

/// Rows of lineage's tables, read behind the node's back: events, runs, edges, nodes.
async fn rows(node: &TestNode) -> [u64; 4] {
    const TABLES: [&str; 4] = ["lineage_events", "lineage_runs", "lineage_edges", "lineage_nodes"];
    let mut counts = [0; 4];
    match &node.database {
        Some(database) => {
            let client = database.client().await;
            for (count, table) in counts.iter_mut().zip(TABLES) {
                let row = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap();
                *count = u64::try_from(row.get::<_, i64>(0)).unwrap();
            }
        }
        None => {
            let conn = rusqlite::Connection::open(node.data_dir().join("penstock.sqlite3")).unwrap();
            for (count, table) in counts.iter_mut().zip(TABLES) {
                let rows: i64 = conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
                *count = u64::try_from(rows).unwrap();
            }
        }
    }
    counts
}

/// Waits until the server has ended the sessions of a killed node. It finishes the statement that it was given, so rows may leave
/// after the kill.
async fn its_sessions_have_ended(node: &TestNode) {
    const OTHERS: &str = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let Some(database) = &node.database else { return };
    let client = database.client().await;
    eventually("the sessions of the killed node have ended", async || {
        client.query_one(OTHERS, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
}

/// A node that prunes in small steps, so that there is a middle.
fn slow(on: On) -> Setup {
    Setup::new(on)
        .env("PENSTOCK_LINEAGE__EMIT", "false")
        .env("PENSTOCK_LINEAGE__WINDOW_EVENTS", WINDOW.to_string())
        .env("PENSTOCK_LINEAGE__PRUNE_INTERVAL", "20ms")
        .env("PENSTOCK_LINEAGE__PRUNE_STEP", "20")
        .env("PENSTOCK_LINEAGE__PRUNE_PAUSE", "20ms")
        .env("PENSTOCK_LINEAGE__PRUNE_LEASE", "1s")
}

/// What must hold when pruning is done: the newest events are there, the rest has left, and the graph knows of all.
async fn nothing_is_lost(node: &TestNode, events: &[Value]) {
    let window = usize::try_from(WINDOW).unwrap();
    assert_eq!(rows(node).await, [WINDOW, WINDOW, 2, 3]);
    let way = graph(node, "job:etl:load", &[]).await;
    let all = events.len() as u64;
    assert!(way["edges"].as_array().unwrap().iter().all(|edge| edge["events"] == all), "{way}");
    assert!(way["nodes"].as_array().unwrap().iter().all(|node| node["events"] == all), "{way}");
    let (left, kept) = events.split_at(events.len() - window);
    let report = post_batch(node, kept).await;
    assert!(report["results"].as_array().unwrap().iter().all(|result| result["outcome"] == "known"), "{report}");
    // What has left is refused rather than counted twice.
    let report = post_batch(node, &left[left.len() - 10..]).await;
    assert_eq!(report["summary"]["failed"], 10, "{report}");
    assert_eq!(rows(node).await, [WINDOW, WINDOW, 2, 3]);
}

async fn is_killed_and_goes_on(on: On) {
    let mut node = slow(on).start().await;
    let events = events(3000);
    send(&node, &events).await;
    eventually("pruning has begun", async || pruned(&node).await >= 100.0).await;
    node.kill().await;
    its_sessions_have_ended(&node).await;
    let [left, ..] = rows(&node).await;
    assert!((WINDOW + 1..3000).contains(&left), "it was in the middle: {left}");
    node.boot().await;
    eventually("the window holds what it may", async || rows(&node).await[0] == WINDOW).await;
    eventually("the node says so", async || node.metric("penstock_lineage_kept_events", "").await == WINDOW as f64)
        .await;
    assert_eq!(node.metric("penstock_lineage_excess_events", "").await, 0.0);
    assert_eq!(pruned(&node).await, (left - WINDOW) as f64);
    nothing_is_lost(&node, &events).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pruner_killed_in_the_middle_goes_on_where_it_was_on_sqlite() {
    is_killed_and_goes_on(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pruner_killed_in_the_middle_goes_on_where_it_was_on_postgres() {
    is_killed_and_goes_on(On::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_one_prunes_and_the_other_goes_on_when_it_dies() {
    let mut one = slow(On::Postgres).start().await;
    let url = one.database.as_ref().unwrap().url();
    let passes = async |node: &TestNode| node.metric("penstock_lineage_prune_passes_total", "outcome=\"ended\"").await;
    eventually("the first node prunes", async || passes(&one).await > 0.0).await;
    let mut other = Setup::on_database_of(&url)
        .env("PENSTOCK_LINEAGE__EMIT", "false")
        .env("PENSTOCK_LINEAGE__WINDOW_EVENTS", WINDOW.to_string())
        .env("PENSTOCK_LINEAGE__PRUNE_INTERVAL", "20ms")
        .env("PENSTOCK_LINEAGE__PRUNE_LEASE", "1s")
        .start()
        .await;
    let events = events(2000);
    send(&other, &events).await;
    eventually("pruning has begun", async || pruned(&one).await >= 100.0).await;
    assert_eq!((passes(&other).await, pruned(&other).await), (0.0, 0.0), "one at a time");
    one.kill().await;
    eventually("the other one has gone on", async || rows(&one).await[0] == WINDOW).await;
    assert!(pruned(&other).await > 0.0);
    // What the graph says is not the business of who prunes. The answers come from the node that is left.
    let way = graph(&other, "job:etl:load", &[]).await;
    assert!(way["edges"].as_array().unwrap().iter().all(|edge| edge["events"] == 2000), "{way}");
    other.finish().await;
}

async fn stays_on_a_plateau(on: On) {
    let mut node = Setup::new(on)
        .env("PENSTOCK_LINEAGE__EMIT", "false")
        .env("PENSTOCK_LINEAGE__WINDOW_EVENTS", WINDOW.to_string())
        .env("PENSTOCK_LINEAGE__PRUNE_INTERVAL", "10ms")
        .env("PENSTOCK_LINEAGE__PRUNE_PAUSE", "1ms")
        .start()
        .await;
    for round in 1..=12_u64 {
        send(&node, &events(1000)).await;
        // However much came before, no round leaves more behind than the one before it.
        eventually("the window holds what it may", async || rows(&node).await[0] == WINDOW).await;
        assert_eq!(rows(&node).await, [WINDOW, WINDOW, 2, 3], "round {round}");
        let job = expect(node.get("/v1/openlineage/jobs/etl/load").send().await.unwrap(), &[200]).await;
        assert_eq!(job["events"], round * 1000);
    }
    // A namespace that is within its bounds is left alone.
    let mut quiet = run_event("COMPLETE", Uuid::now_v7(), "rare", &[], &[]);
    quiet["job"]["namespace"] = "quiet".into();
    created(&node, &quiet).await;
    send(&node, &events(1000)).await;
    eventually("the window holds what it may", async || rows(&node).await[0] == WINDOW + 1).await;
    assert_eq!(node.metric("penstock_lineage_prune_passes_total", "outcome=\"failed\"").await, 0.0);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ingest_without_end_stays_on_a_plateau_on_sqlite() {
    stays_on_a_plateau(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ingest_without_end_stays_on_a_plateau_on_postgres() {
    stays_on_a_plateau(On::Postgres).await;
}

/// Sends new events without a pause, and in each batch some that were sent before; how many were created, once each.
async fn sends_old_and_new(node: &TestNode, rounds: usize) -> u64 {
    let (mut sent, mut created) = (Vec::<Value>::new(), 0);
    for round in 0..rounds {
        let mut batch = events(40);
        batch.extend(
            (0..20)
                .filter_map(|nth| sent.len().checked_sub(1 + nth * 17 % (1 + round * 13)))
                .map(|at| sent[at].clone()),
        );
        let report = post_batch(node, &batch).await;
        created +=
            report["results"].as_array().unwrap().iter().filter(|result| result["outcome"] == "created").count() as u64;
        sent.extend(batch.into_iter().take(40));
    }
    created
}

/// Pruning moves the end of the window under batches that are on their way, with events on either side of it.
async fn counts_everything_once_while_it_prunes(on: On) {
    let mut node = Setup::new(on)
        .env("PENSTOCK_LINEAGE__EMIT", "false")
        .env("PENSTOCK_LINEAGE__WINDOW_EVENTS", WINDOW.to_string())
        .env("PENSTOCK_LINEAGE__PRUNE_INTERVAL", "1ms")
        .env("PENSTOCK_LINEAGE__PRUNE_STEP", "30")
        .env("PENSTOCK_LINEAGE__PRUNE_PAUSE", "0s")
        .start()
        .await;
    let senders = (0..4).map(|_| sends_old_and_new(&node, 40));
    let created: u64 = futures::future::join_all(senders).await.into_iter().sum();
    // A batch that comes when three hundred newer events are there already has left before it came.
    let sent = 4 * 40 * 40;
    assert!((sent / 2..=sent).contains(&created), "{created}");
    eventually("the window holds what it may", async || rows(&node).await[0] == WINDOW).await;
    let job = expect(node.get("/v1/openlineage/jobs/etl/load").send().await.unwrap(), &[200]).await;
    assert_eq!(job["events"], created, "no event is counted twice, however often it comes");
    assert_eq!(rows(&node).await, [WINDOW, WINDOW, 2, 3]);
    assert_eq!(node.metric("penstock_lineage_prune_passes_total", "outcome=\"failed\"").await, 0.0);
    assert_eq!(node.metric("penstock_lineage_events_total", "outcome=\"failed\"").await, 0.0);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_that_moves_under_a_batch_counts_everything_once_on_sqlite() {
    counts_everything_once_while_it_prunes(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_that_moves_under_a_batch_counts_everything_once_on_postgres() {
    counts_everything_once_while_it_prunes(On::Postgres).await;
}

/// An event from before the end of the window that is on its way while that end moves over it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_leaves_the_window_while_it_waits_is_refused_like_a_late_one() {
    let mut node = Setup::new(On::Postgres).env("PENSTOCK_LINEAGE__EMIT", "false").start().await;
    let mut events = events(21);
    let late = events.remove(3);
    send(&node, &events).await;
    let database = node.database.as_ref().unwrap();
    let (holder, pruner) = (database.client().await, database.client().await);
    holder.batch_execute("BEGIN; SELECT FROM lineage_nodes FOR UPDATE").await.unwrap();
    let (report, ()) = tokio::join!(post_batch(&node, std::slice::from_ref(&late)), async {
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("the batch waits", async || pruner.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0)
            .await;
        let trim = "INSERT INTO task_leases VALUES ('pruner', gen_random_uuid(), 1000, now() + interval '1 hour')
                ON CONFLICT (task) DO UPDATE SET token = 1000, held_until = now() + interval '1 hour';
            SELECT penstock_trim_lineage(1000, namespace_key, 10) FROM lineage_namespaces WHERE namespace = 'etl'";
        pruner.batch_execute(trim).await.expect("it waits for no batch");
        holder.batch_execute("COMMIT").await.unwrap();
    });
    assert_eq!(report["results"][0]["outcome"], "invalid", "{report}");
    assert_eq!(report["results"][0]["errors"][0]["path"], "eventTime", "{report}");
    let job = expect(node.get("/v1/openlineage/jobs/etl/load").send().await.unwrap(), &[200]).await;
    assert_eq!((&job["events"], rows(&node).await[0]), (&Value::from(20), 10));
    node.finish().await;
}

/// A day's partition cannot be taken off while somebody reads it, or the table of which it is a part, in a long transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_that_a_long_reader_holds_goes_later_and_keeps_nothing_else_from_leaving() {
    let mut node = slow(On::Postgres).env("PENSTOCK_POSTGRES__STATEMENT_TIMEOUT", "1s").start().await;
    let database = node.database.as_ref().unwrap();
    let (reader, other) = (database.client().await, database.client().await);
    // Its snapshot stays to the end, as that of a dump does: a detachment that was begun is not ended before.
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM lineage_events").await.unwrap();
    let old_day = "SELECT penstock_prepare_lineage(ARRAY['2020-01-01', '2020-01-02']::date[]);
        INSERT INTO lineage_events VALUES ('2020-01-02 12:00Z', sha256(''), gen_random_uuid(), 'job', NULL, NULL, now(), '{}');
        INSERT INTO lineage_event_counts VALUES ('2020-01-02', gen_random_uuid(), 1)";
    other.batch_execute(old_day).await.unwrap();
    let failed = async || node.metric("penstock_lineage_prune_passes_total", "outcome=\"failed\"").await;
    eventually("the day could not go", async || failed().await > 0.0).await;
    send(&node, &events(1000)).await;
    eventually("what is too much has left", async || pruned(&node).await == 700.0).await;
    eventually("the node says what is left", async || {
        node.metric("penstock_lineage_kept_events", "").await == (WINDOW + 1) as f64
    })
    .await;
    assert!(node.metric("penstock_lineage_prune_lag_seconds", "").await > 0.0);
    reader.batch_execute("COMMIT").await.unwrap();
    eventually("the day has gone", async || node.metric("penstock_lineage_prune_lag_seconds", "").await == 0.0).await;
    assert_eq!(pruned(&node).await, 701.0, "a day without events counts none");
    assert_eq!(rows(&node).await, [WINDOW, WINDOW, 2, 3]);
    let days = "SELECT count(*) FROM pg_class WHERE relname LIKE 'lineage_events_2020%' AND relkind = 'r'";
    assert_eq!(other.query_one(days, &[]).await.unwrap().get::<_, i64>(0), 0);
    node.finish().await;
}
