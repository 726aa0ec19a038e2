//! The SQLite adapter from outside: the conformance suites, migrations and what survives a restart.

#[path = "sqlite/collection.rs"]
mod collection;
#[path = "support/snapshot.rs"]
mod snapshot;

use std::{process::Command, sync::Arc, time::Duration};

use penstock::{
    adapters::sqlite::{SqliteSettings, SqliteStore, migrate},
    telemetry::Metrics,
};
use penstock_actors::{
    ids::{KeyId, NodeId, ProducerId},
    model::{ApiKey, NewProducer, NodeEpoch, Role},
    ports::{
        ApiKeys as _, Installations as _, Ledger as _, PortError, Pulse, Receipts as _, Timelines as _, Upkeep as _,
    },
    testkit::{
        api_keys_suite, catalog_suite, changes_suite, client_keys_suite, console_sessions_suite, governance_suite,
        header_store_suite, identities_suite, installations_suite, ledger_suite, lineage_suite, payments_suite,
        resumable_uploads_suite, search_suite, storage_records_suite, task_leases_suite, timekeeper_suite,
    },
};
use tempfile::TempDir;

fn settings(folder: &TempDir) -> SqliteSettings {
    SqliteSettings { path: folder.path().join("penstock.db"), readers: 2, busy_timeout: Duration::from_secs(10) }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn open(settings: &SqliteSettings) -> SqliteStore {
    let metrics = Metrics::new().expect("metrics");
    SqliteStore::open(settings, metrics.db).expect("an open store")
}

/// A store on a fresh database.
fn fresh(folder: &TempDir) -> SqliteStore {
    let settings = settings(folder);
    migrate(&settings).expect("migrations");
    open(&settings)
}

#[tokio::test]
async fn the_catalogue_keeps_the_promises_of_its_port() {
    let folder = folder();
    catalog_suite::run(Arc::new(fresh(&folder))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_keep_the_promises_of_their_port() {
    let folder = folder();
    payments_suite::run(Arc::new(fresh(&folder))).await;
}

#[tokio::test]
async fn identities_keep_the_promises_of_their_port() {
    let folder = folder();
    identities_suite::run(Arc::new(fresh(&folder))).await;
}

#[tokio::test]
async fn the_installation_keeps_the_promises_of_its_port() {
    let folder = folder();
    installations_suite::run(&fresh(&folder)).await;
}

#[tokio::test]
async fn an_installation_stays_the_same_and_another_database_is_another_one() {
    let (folder, other) = (folder(), folder());
    let made = fresh(&folder).installation().await.expect("an installation");
    assert_eq!(fresh(&folder).installation().await.expect("an installation"), made);
    assert_ne!(fresh(&other).installation().await.expect("an installation").installation_id, made.installation_id);
}

#[tokio::test]
async fn keys_keep_the_promises_of_their_port() {
    let folder = folder();
    api_keys_suite::run(Arc::new(fresh(&folder))).await;
}

#[tokio::test]
async fn a_copy_of_the_file_is_in_another_place_until_a_timeline_is_begun_there() {
    let (folder, other) = (folder(), folder());
    let store = fresh(&folder);
    let first = store.timeline().await.expect("a timeline");
    assert!(!first.moved);
    drop(store);
    std::fs::copy(&settings(&folder).path, &settings(&other).path).expect("copied");
    let copy = fresh(&other);
    let moved = copy.timeline().await.expect("a timeline");
    assert!(moved.moved && moved.timeline_id == first.timeline_id, "{moved:?}");
    let begun = copy.begin_timeline(first.timeline_id, "a test").await.expect("begun");
    let now = copy.timeline().await.expect("a timeline");
    assert!(!now.moved && now.timeline_id == begun.timeline_id && now.timeline_id != first.timeline_id, "{now:?}");
    drop(copy);
    assert_eq!(fresh(&other).timeline().await.expect("a timeline"), now);
    assert_eq!(fresh(&folder).timeline().await.expect("a timeline"), first, "the one that was copied goes on");
}

#[test]
fn a_build_runs_on_the_schema_of_a_later_one_as_long_as_that_lets_it_in() {
    let folder = folder();
    let settings = settings(&folder);
    migrate(&settings).expect("migrated");
    let conn = rusqlite::Connection::open(&settings.path).expect("open");
    let later = "INSERT INTO refinery_schema_history
        SELECT max(version) + 1, 'of_the_next_release', '2026-12-01T00:00:00Z', '1' FROM refinery_schema_history";
    conn.execute_batch(later).expect("a later build has migrated");
    assert_eq!(migrate(&settings).expect("let in"), 0);
    let raise = "UPDATE schema_floor SET least_version = (SELECT max(version) FROM refinery_schema_history)";
    conn.execute_batch(raise).expect("raised");
    let refused = migrate(&settings).expect_err("refused").to_string();
    assert!(refused.contains("of a later release"), "{refused}");
}

#[test]
fn the_schema_in_force_is_the_one_in_the_repository() {
    let folder = folder();
    let settings = settings(&folder);
    migrate(&settings).expect("migrated");
    let conn = rusqlite::Connection::open(&settings.path).expect("open");
    let of_table = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY tbl_name, type <> 'table', type, name";
    let mut read = conn.prepare(of_table).expect("prepared");
    let statements = read.query_map([], |row| row.get::<_, String>(0)).expect("read");
    let schema: String = statements.map(|sql| sql.expect("text").trim().to_owned() + ";\n\n").collect();
    snapshot::assert_schema("sqlite", &(schema.trim_end().to_owned() + "\n"));
}

#[tokio::test]
async fn the_search_keeps_the_promises_of_its_port() {
    let folder = folder();
    search_suite::run(Arc::new(fresh(&folder))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_keeps_the_promises_of_its_ports() {
    let folder = folder();
    ledger_suite::run(Arc::new(fresh(&folder))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lineage_keeps_the_promises_of_its_ports() {
    let folder = folder();
    lineage_suite::run(Arc::new(fresh(&folder))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_stored_copies_keeps_the_promises_of_its_port() {
    let folder = folder();
    storage_records_suite::run(Arc::new(fresh(&folder))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_tasks_keep_the_promises_of_their_port() {
    let folder = folder();
    task_leases_suite::run(Arc::new(fresh(&folder))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resumable_uploads_keep_the_promises_of_their_port() {
    let folder = folder();
    let store = Arc::new(fresh(&folder));
    let producer = catalog_suite::producer(&*store).await;
    resumable_uploads_suite::run(store, producer).await;
}

#[tokio::test]
async fn the_clock_keeps_the_promises_of_its_port() {
    let folder = folder();
    timekeeper_suite::run(Arc::new(fresh(&folder))).await;
}

#[tokio::test]
async fn the_keys_of_clients_keep_the_promises_of_their_port() {
    let folder = folder();
    client_keys_suite::run(Arc::new(fresh(&folder))).await;
}

#[tokio::test]
async fn the_sessions_of_the_console_keep_the_promises_of_their_port() {
    let folder = folder();
    console_sessions_suite::run(Arc::new(fresh(&folder))).await;
}

#[tokio::test]
async fn the_headers_of_blocks_keep_the_promises_of_their_port() {
    let folder = folder();
    header_store_suite::run(Arc::new(fresh(&folder))).await;
}

#[tokio::test]
async fn governance_keeps_the_promises_of_its_port() {
    let folder = folder();
    governance_suite::run(Arc::new(fresh(&folder))).await;
}

#[tokio::test]
async fn the_log_of_changes_keeps_the_promises_of_its_port() {
    let folder = folder();
    changes_suite::run(Arc::new(fresh(&folder))).await;
}

#[tokio::test]
async fn a_revoked_key_is_not_found() {
    let folder = folder();
    let store = fresh(&folder);
    catalog_suite::a_revoked_key_is_not_found(&store, async |key: KeyId| {
        let conn = rusqlite::Connection::open(settings(&folder).path).expect("a connection");
        let revoke = "UPDATE api_keys SET revoked_at = created_at WHERE key_id = ?1";
        assert_eq!(conn.execute(revoke, [key.as_uuid().as_bytes()]).expect("revoked"), 1);
    })
    .await;
}

/// Names the folder in which this test binary, when it is started again, only migrates.
const MIGRATE_IN: &str = "PENSTOCK_TEST_MIGRATE_IN";

/// Does nothing unless another test starts this binary with [`MIGRATE_IN`].
#[test]
fn migrate_in_a_process_of_its_own() {
    let Some(folder) = std::env::var_os(MIGRATE_IN) else { return };
    let path = std::path::PathBuf::from(folder).join("penstock.db");
    let applied = migrate(&SqliteSettings { path, readers: 1, busy_timeout: Duration::from_secs(10) });
    #[expect(clippy::print_stdout, reason = "the starter reads it")]
    {
        println!("applied={}", applied.expect("migrations"));
    }
}

#[test]
fn processes_that_migrate_at_once_apply_each_migration_once() {
    let folder = folder();
    let this = std::env::current_exe().expect("this binary");
    let start = || {
        Command::new(&this)
            .args(["--exact", "migrate_in_a_process_of_its_own", "--nocapture"])
            .env(MIGRATE_IN, folder.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("a process")
    };
    let processes: Vec<_> = (0..4).map(|_| start()).collect();
    let mut applied = Vec::new();
    for process in processes {
        let output = process.wait_with_output().expect("its output");
        assert!(output.status.success());
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.split("applied=").nth(1).and_then(|rest| rest.lines().next()).expect("a count");
        applied.push(line.parse::<usize>().expect("a count"));
    }
    applied.sort_unstable();
    assert_eq!(applied[..3], [0, 0, 0]);
    assert!(applied[3] > 0);
    assert_eq!(migrate(&settings(&folder)).expect("migrations"), 0);
}

#[tokio::test]
async fn the_tiers_are_there_from_the_start() {
    let folder = folder();
    let policies = fresh(&folder).policies().await.expect("policies");
    let names: Vec<_> = policies.iter().map(|policy| policy.policy_name.as_str()).collect();
    assert_eq!(names, ["enterprise", "premium", "standard", "unlimited"]);
    let [enterprise, premium, standard, unlimited] = policies.try_into().expect("four policies");
    assert_eq!(standard.bytes_per_hour, Some(1 << 30));
    assert_eq!(standard.max_concurrent_streams, Some(1));
    assert_eq!(premium.bytes_per_day, Some(50 << 30));
    assert_eq!(premium.max_bandwidth_mbps, Some(50.0));
    assert_eq!(enterprise.bytes_per_month, Some(2000 << 30));
    assert_eq!(enterprise.requests_per_month, Some(200_000));
    assert!(!unlimited.is_metered());
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let folder = folder();
    let key = ApiKey {
        key_id: KeyId::next(),
        producer_id: ProducerId::next(),
        role: Role::Admin,
        secret_hash: [7; 32],
        ends_in: None,
    };
    let node = NodeEpoch { node: NodeId::random(), epoch: 2 };
    {
        let store = fresh(&folder);
        let producer = NewProducer { name: "producer".into(), key: key.clone(), created_at: jiff::Timestamp::now() };
        store.create_producer(&producer).await.expect("a producer");
        store.heartbeat(node, Duration::from_secs(3600)).await.expect("a heartbeat");
    }
    let store = open(&settings(&folder));
    assert_eq!(store.key(&[7; 32]).await.expect("an answer"), Some(key));
    assert_eq!(Pulse::count_alive(&store.pulses().await.expect("an answer")), 1);
    let earlier = store.heartbeat(NodeEpoch { epoch: 1, ..node }, Duration::from_secs(3600)).await;
    assert!(matches!(earlier, Err(PortError::Fenced)), "{earlier:?}");
}

#[test]
fn a_database_that_was_never_made_is_unavailable() {
    let folder = folder();
    let metrics = Metrics::new().expect("metrics");
    let opened = SqliteStore::open(&settings(&folder), metrics.db);
    assert!(matches!(opened.err(), Some(PortError::Unavailable { .. })));
    assert!(!settings(&folder).path.exists());
}

#[tokio::test]
async fn a_lock_that_another_process_keeps_is_unavailable_and_passes() {
    let folder = folder();
    let patience = SqliteSettings { busy_timeout: Duration::from_millis(1), ..settings(&folder) };
    migrate(&patience).expect("migrations");
    let store = open(&patience);
    let other = rusqlite::Connection::open(&patience.path).expect("a connection");
    other.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
    let refused = store.ping().await;
    assert!(matches!(refused, Err(PortError::Unavailable { .. })), "{refused:?}");
    assert_eq!(store.policies().await.expect("readers go on").len(), 4);
    other.execute_batch("ROLLBACK").expect("the lock is given back");
    store.ping().await.expect("the lock is free");
}
