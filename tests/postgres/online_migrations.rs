//! Migrations beside traffic: each one is applied to large tables while others read and write them, and what it locks, for how long, and
//! what it reads meanwhile is taken down.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use penstock::adapters::postgres::{await_schema, migrate};
use refinery::Target;
use tokio::{sync::watch, task::JoinHandle, time::sleep};
use tokio_postgres::Client;

use crate::{patience::eventually, support::TestDatabase};

mod embedded {
    refinery::embed_migrations!("migrations/postgres");
}

/// Rows of each table; a longer run names another number.
const ROWS: &str = "PENSTOCK_TEST_MIGRATION_ROWS";
const FEW: i64 = 5_000;

/// The rows that there are from the version on. Foreign keys hold and are not checked one by one.
const FILLS: [(u32, &str); 6] = [
    (
        5,
        "SET session_replication_role = replica;
        INSERT INTO producers SELECT md5('producer' || n)::uuid, 'name', now() FROM generate_series(1, {rows}) n;
        INSERT INTO api_keys SELECT md5('key' || n)::uuid, md5('producer' || n)::uuid, 'producer', sha256(('key' || n)::bytea), now()
            FROM generate_series(1, {rows}) n;
        INSERT INTO overlay_storage_index (content_hash, size_bytes, media_type, state, producer_id, announced_at, stored_at)
            SELECT sha256(('content' || n)::bytea), 1000, 'text/plain', 'stored', md5('producer' || n)::uuid, now(), now()
            FROM generate_series(1, {rows}) n;
        INSERT INTO assets SELECT md5('asset' || n)::uuid, sha256(('content' || n)::bytea), 'name ' || n, 'of ' || n % 7,
            'text/plain', 'dataset ' || n % 100, '{}', md5('producer' || n)::uuid, now() FROM generate_series(1, {rows}) n;
        INSERT INTO prices SELECT md5('asset' || n)::uuid, 1, now() FROM generate_series(1, {rows}) n;
        INSERT INTO overlay_receipts SELECT md5('receipt' || n)::uuid, md5('asset' || n)::uuid, sha256(('content' || n)::bytea),
            'standard', 'confirmed', now() + interval '30 days', 1, 0, now(), now() FROM generate_series(1, {rows}) n;
        INSERT INTO quota_usage_windows (receipt_id, window_type, window_start, window_end, bytes_used, requests_used)
            SELECT md5('receipt' || n)::uuid, w.window_type, w.window_start, w.window_end, 1, 1
            FROM generate_series(1, {rows} / 3) n, penstock_windows(now()) w;
        INSERT INTO ledger_nodes SELECT md5('node' || n)::uuid, 1, now() - interval '1 day', true, 0 FROM generate_series(1, {rows}) n;
        INSERT INTO quota_leases SELECT md5('receipt' || n)::uuid, md5('node' || n)::uuid, 1, date_trunc('hour', now(), 'UTC'), 10, 1
            FROM generate_series(1, {rows}) n;
        INSERT INTO streaming_usage SELECT md5('usage' || n)::uuid, md5('receipt' || n)::uuid, sha256(('content' || n)::bytea), NULL,
            md5('node' || n)::uuid, now(), now(), 1, 1, 'completed', 1 FROM generate_series(1, {rows}) n;
        INSERT INTO change_log (tag) SELECT 'policy:standard' FROM generate_series(1, {rows}) n;
        RESET session_replication_role;
        ANALYZE;",
    ),
    (
        7,
        "SELECT penstock_prepare_lineage(ARRAY[current_date]);
        INSERT INTO lineage_events (event_time, event_hash, namespace_key, kind, run_id, received_at, body)
            SELECT date_trunc('day', now(), 'UTC'), sha256(('event' || n)::bytea), md5('namespace')::uuid, 'run', md5('run' || n)::uuid,
                now(), '{}' FROM generate_series(1, {rows}) n;
        INSERT INTO lineage_nodes (node_key, kind, namespace, name, words, first_seen, last_seen, last_day, events)
            SELECT md5('node' || n)::uuid, 'job', 'namespace', 'job ' || n, to_tsvector('simple', 'job ' || n), now(), now(), current_date, 1
            FROM generate_series(1, {rows}) n;
        INSERT INTO lineage_edges SELECT md5('source' || n)::uuid, md5('node' || n)::uuid, now(), now(), current_date, 1
            FROM generate_series(1, {rows}) n;
        INSERT INTO lineage_runs (run_id, job_key, first_seen, last_seen, last_day, events)
            SELECT md5('run' || n)::uuid, md5('node' || n)::uuid, now(), now(), current_date, 1 FROM generate_series(1, {rows}) n;
        ANALYZE;",
    ),
    (
        13,
        "SET session_replication_role = replica;
        INSERT INTO policies SELECT 'p' || n, 1, '{\"rules\": []}', now() FROM generate_series(1, {rows}) n;
        INSERT INTO policy_versions SELECT 'p' || n, 1, '{\"rules\": []}', now() FROM generate_series(1, {rows}) n;
        INSERT INTO policy_runs SELECT md5('run' || n)::uuid, 'p' || n % 10, 1, md5('asset' || n)::uuid, 'evaluate', 'allow', now(), '{}'
            FROM generate_series(1, {rows}) n;
        INSERT INTO storage_verifications SELECT md5('look' || n)::uuid, sha256(('content' || n)::bytea), 'walk', 'hot', 'intact', 1000, 1000,
            md5('node')::uuid, now() FROM generate_series(1, {rows}) n;
        INSERT INTO storage_quarantine SELECT sha256(('content' || n)::bytea), now() FROM generate_series(1, {rows}) n;
        INSERT INTO storage_moves SELECT sha256(('content' || n)::bytea), 'cold', 'leaving', now() FROM generate_series(1, {rows}) n;
        INSERT INTO content_uses SELECT sha256(('content' || n)::bytea), current_date FROM generate_series(1, {rows}) n;
        RESET session_replication_role;
        ANALYZE;",
    ),
    (47, "INSERT INTO content_uploads SELECT content_hash, producer_id FROM overlay_storage_index; ANALYZE;"),
    (
        52,
        "INSERT INTO block_headers SELECT n, sha256(('block' || n)::bytea), decode(lpad(to_hex(n), 160, '0'), 'hex'),
            decode(lpad(to_hex(n), 64, '0'), 'hex') FROM generate_series(1, {rows}) n;
        ANALYZE;",
    ),
    (
        53,
        "SET session_replication_role = replica;
        INSERT INTO brc22_utxos SELECT sha256(('tx' || n)::bytea), 0, 'penstock_receipts', 1, '', NULL, now()
            FROM generate_series(1, {rows}) n;
        INSERT INTO payments SELECT sha256(('tx' || n)::bytea), 0, 1, 1, '\\x02'::bytea || sha256(('payer' || n)::bytea),
            '\\x02'::bytea || sha256('payee'::bytea), 'p', 's', md5('asset' || n)::uuid, md5('receipt' || n)::uuid, 'unproven', NULL,
            now(), now(), '' FROM generate_series(1, {rows}) n;
        INSERT INTO payment_inputs SELECT sha256(('spent' || n)::bytea), 0, sha256(('tx' || n)::bytea) FROM generate_series(1, {rows}) n;
        INSERT INTO payment_roots SELECT sha256(('tx' || n)::bytea), n, sha256(('root' || n)::bytea) FROM generate_series(1, {rows}) n;
        INSERT INTO earlier_prices SELECT md5('asset' || n)::uuid, now(), 1 FROM generate_series(1, {rows}) n;
        RESET session_replication_role;
        ANALYZE;",
    ),
];

/// What a migration leaves to steps after it, from the version on.
const STEPS: [(u32, &str); 2] =
    [(10, "SELECT penstock_backfill_search(1000)"), (31, "SELECT penstock_refold_search(1000)")];

/// Released migrations that read a table under a lock, and cannot be changed: docs/operations.md says how long each takes. Nothing is added
/// here for a new one.
const KNOWN: [u32; 3] = [26, 28, 47];

/// Tables with rows: the table that a partition is of, or its own name; how many; its file.
const LARGE: &str = "
    SELECT coalesce((SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = c.oid), c.relname::text), c.oid,
        c.reltuples::bigint, coalesce(pg_relation_filenode(c.oid), 0)
    FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.reltuples >= $1::bigint
    ORDER BY 1, 2";

/// Locks of this transaction that block those who write, and the strongest those who read.
const LOCKS: &str = "
    SELECT relation, max(CASE mode WHEN 'ShareLock' THEN 1 WHEN 'ShareRowExclusiveLock' THEN 2 WHEN 'ExclusiveLock' THEN 3 ELSE 4 END)
    FROM pg_locks
    WHERE pid = pg_backend_pid() AND relation IS NOT NULL AND granted
        AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    GROUP BY relation";

const MODES: [&str; 5] = ["", "SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"];

/// Rows that this transaction has read from end to end.
const READ: &str = "SELECT relid, seq_tup_read FROM pg_stat_xact_user_tables WHERE seq_tup_read > 0";

#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    name: String,
    rows: i64,
    file: u32,
}

async fn large(client: &Client, rows: i64) -> BTreeMap<u32, Table> {
    let found = client.query(LARGE, &[&(rows / 2)]).await.expect("the tables");
    let table =
        |row: &tokio_postgres::Row| (row.get(1), Table { name: row.get(0), rows: row.get(2), file: row.get(3) });
    found.iter().map(table).collect()
}

/// Sessions that read and write each table.
struct Traffic {
    sessions: BTreeMap<String, [Arc<Client>; 2]>,
}

impl Traffic {
    async fn reach(&mut self, database: &TestDatabase, tables: &BTreeMap<u32, Table>) {
        for table in tables.values() {
            if !self.sessions.contains_key(&table.name) {
                let pair = [Arc::new(database.client().await), Arc::new(database.client().await)];
                self.sessions.insert(table.name.clone(), pair);
            }
        }
    }

    /// Begins; the end tells the longest wait of a reader and of a writer of each table.
    fn begin(&self) -> (watch::Sender<bool>, BTreeMap<String, [JoinHandle<Duration>; 2]>) {
        let (stop, stopped) = watch::channel(false);
        let running = self.sessions.iter().map(|(name, [reader, writer])| {
            // A statement that writes no row takes the lock of one that does.
            let sql = [format!("SELECT FROM {name} LIMIT 1"), format!("DELETE FROM {name} WHERE false")];
            let [read, write] = sql;
            let tasks = [(reader, read), (writer, write)]
                .map(|(client, sql)| tokio::spawn(repeat(Arc::clone(client), sql, stopped.clone())));
            (name.clone(), tasks)
        });
        let running = running.collect();
        (stop, running)
    }
}

async fn repeat(client: Arc<Client>, sql: String, stopped: watch::Receiver<bool>) -> Duration {
    let mut longest = Duration::ZERO;
    while !*stopped.borrow() {
        let began = Instant::now();
        client.batch_execute(&sql).await.expect("it waits, and then it is served");
        longest = longest.max(began.elapsed());
        sleep(Duration::from_millis(2)).await;
    }
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_migration_reads_or_writes_a_large_table_under_a_lock_that_others_wait_for() {
    let rows: i64 = std::env::var(ROWS).map_or(FEW, |rows| rows.parse().expect("a number"));
    let database = TestDatabase::empty().await;
    let client = database.client().await;
    let mut traffic = Traffic { sessions: BTreeMap::new() };
    let mut offenders = BTreeSet::new();
    let runner = embedded::migrations::runner();
    let mut migrations: Vec<_> = runner.get_migrations().iter().collect();
    migrations.sort_by_key(|migration| migration.version());
    eprintln!(
        "| migration | table | rows | lock | transaction | longest read | longest write | rows read under locks |"
    );
    eprintln!("|---|---|---|---|---|---|---|---|");
    for migration in migrations {
        let version = u32::try_from(migration.version()).expect("a version");
        let before = large(&client, rows).await;
        traffic.reach(&database, &before).await;
        let (stop, running) = traffic.begin();
        // A new session, since the server adds what a session has read before and not reported yet.
        let session = database.client().await;
        session.batch_execute("BEGIN").await.expect("begun");
        let began = Instant::now();
        session.batch_execute(migration.sql().expect("its text")).await.expect("applied");
        let took = began.elapsed();
        let locks = session.query(LOCKS, &[]).await.expect("the locks");
        let read = session.query(READ, &[]).await.expect("what was read");
        let files = large(&session, rows).await;
        session.batch_execute("COMMIT").await.expect("committed");
        stop.send_replace(true);

        let read: i64 =
            read.iter().filter(|row| before.contains_key(&row.get(0))).map(|row| row.get::<_, i64>(1)).sum();
        let is_rewritten = before.iter().any(|(oid, table)| files.get(oid).is_none_or(|now| now.file != table.file));
        let mut waits = BTreeMap::new();
        for (name, [reader, writer]) in running {
            waits.insert(name, [reader.await.expect("a reader"), writer.await.expect("a writer")]);
        }
        for (oid, mode) in locks.iter().map(|row| (row.get::<_, u32>(0), row.get::<_, i32>(1))) {
            let Some(Table { name, rows: count, .. }) = before.get(&oid) else { continue };
            let [reader, writer] = waits[name];
            let mode = MODES[usize::try_from(mode).expect("small")];
            eprintln!("| V{version} | {name} | {count} | {mode} | {took:.1?} | {reader:.1?} | {writer:.1?} | {read} |");
            if read >= rows / 2 || is_rewritten {
                offenders.insert(version);
            }
        }
        for (_, fill) in FILLS.iter().filter(|(from, _)| *from == version) {
            client.batch_execute(&fill.replace("{rows}", &rows.to_string())).await.expect("filled");
        }
        for (_, step) in STEPS.iter().filter(|(from, _)| *from == version) {
            while client.query_one(*step, &[]).await.expect("a step").get::<_, i64>(0) > 0 {}
            client.batch_execute("ANALYZE").await.expect("analyzed");
        }
    }
    assert!(large(&client, rows).await.len() >= 20, "every table that grows was large");
    assert_eq!(offenders, BTreeSet::from(KNOWN));
}

/// The version before a column is added to receipts.
const BEFORE: i32 = 25;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_waits_for_a_long_transaction_lets_requests_pass() {
    let database = TestDatabase::empty().await;
    let mut client = database.client().await;
    let earlier = embedded::migrations::runner().set_target(Target::Version(BEFORE));
    earlier.run_async(&mut client).await.expect("an earlier schema");
    let error =
        await_schema(&database.settings()).await.expect_err("it does not serve on an earlier schema").to_string();
    assert!(error.contains(&format!("the schema is at version {BEFORE} and this build needs")), "{error}");
    // As a dump does.
    let dump = database.client().await;
    dump.batch_execute("BEGIN; SELECT FROM overlay_receipts").await.expect("it reads");

    let settings = database.settings();
    let migrating = tokio::spawn(async move { migrate(&settings).await });
    const WAITING: &str =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    // As the node bounds its statements.
    client.batch_execute("SET statement_timeout = '5s'").await.expect("set");
    for _ in 0..3 {
        eventually("the migration waits for the lock", async || {
            client.query_one(WAITING, &[]).await.expect("counted").get::<_, i64>(0) > 0
        })
        .await;
        client
            .batch_execute("SELECT FROM overlay_receipts; DELETE FROM overlay_receipts WHERE false")
            .await
            .expect("served");
    }
    assert!(!migrating.is_finished());
    dump.batch_execute("ROLLBACK").await.expect("ended");
    let applied = migrating.await.expect("no panic").expect("migrated");
    assert!(applied > 0, "{applied}");
    assert_eq!(migrate(&database.settings()).await.expect("nothing is left"), 0);
}
