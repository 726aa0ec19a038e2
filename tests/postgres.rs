//! The PostgreSQL adapter against a real server.

#[path = "support/authority.rs"]
mod authority;
#[path = "postgres/blocking_forms.rs"]
mod blocking_forms;
#[path = "postgres/changes.rs"]
mod changes;
#[path = "support/cluster.rs"]
mod cluster;
#[path = "postgres/defaults.rs"]
mod defaults;
#[path = "postgres/earlier_versions.rs"]
mod earlier_versions;
#[path = "postgres/every_plan.rs"]
mod every_plan;
#[path = "postgres/faults.rs"]
mod faults;
#[path = "postgres/large.rs"]
mod large;
#[path = "postgres/online_migrations.rs"]
mod online_migrations;
#[path = "support/patience.rs"]
mod patience;
#[path = "support/pgbouncer.rs"]
mod pgbouncer;
#[path = "postgres/plans.rs"]
mod plans;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/refuser.rs"]
mod refuser;
#[path = "postgres/replicas.rs"]
mod replicas;
#[path = "postgres/retention.rs"]
mod retention;
#[path = "postgres/schema.rs"]
mod schema;
#[path = "postgres/search.rs"]
mod search;
#[path = "postgres/search_plans.rs"]
mod search_plans;
#[path = "support/shipped.rs"]
mod shipped;
#[path = "support/snapshot.rs"]
mod snapshot;
#[path = "support/postgres.rs"]
mod support;
#[path = "postgres/switchover.rs"]
mod switchover;
#[path = "postgres/pgbouncer.rs"]
mod through_pgbouncer;
#[path = "postgres/tls.rs"]
mod tls;

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;
use penstock::{
    adapters::postgres::{PostgresSettings, await_schema, is_hopeless, migrate},
    config::StatementMode,
};
use penstock_actors::{
    ids::{KeyId, NodeId},
    model::{LostLease, NodeEpoch},
    ports::{Changes as _, Ledger as _, PortError, Reclaimed, SettleBatch, Timelines as _, Upkeep},
    testkit::{
        api_keys_suite, catalog_suite, changes_suite, client_keys_suite, console_sessions_suite, governance_suite,
        header_store_suite, identities_suite, installations_suite, ledger_suite, lineage_suite, payments_suite,
        resumable_uploads_suite, search_suite, storage_records_suite, task_leases_suite, timekeeper_suite,
    },
};
use support::{TestDatabase, store};

async fn run_the_suite(statement_mode: StatementMode) {
    let database = TestDatabase::migrated().await;
    let (store, _metrics) = store(PostgresSettings { statement_mode, ..database.settings() }).await;
    let store = Arc::new(store);
    timekeeper_suite::run(Arc::clone(&store)).await;
    client_keys_suite::run(Arc::clone(&store)).await;
    console_sessions_suite::run(Arc::clone(&store)).await;
    header_store_suite::run(Arc::clone(&store)).await;
    ledger_suite::run(Arc::clone(&store)).await;
    catalog_suite::run(Arc::clone(&store)).await;
    payments_suite::run(Arc::clone(&store)).await;
    changes_suite::run(Arc::clone(&store)).await;
    search_suite::run(Arc::clone(&store)).await;
    governance_suite::run(Arc::clone(&store)).await;
    storage_records_suite::run(Arc::clone(&store)).await;
    task_leases_suite::run(Arc::clone(&store)).await;
    resumable_uploads_suite::run(Arc::clone(&store), catalog_suite::producer(&*store).await).await;
    identities_suite::run(Arc::clone(&store)).await;
    installations_suite::run(&*store).await;
    api_keys_suite::run(Arc::clone(&store)).await;
    let client = database.client().await;
    catalog_suite::a_revoked_key_is_not_found(&*store, async |key: KeyId| {
        let revoke = "UPDATE api_keys SET revoked_at = created_at WHERE key_id = $1";
        assert_eq!(client.execute(revoke, &[&key.as_uuid()]).await.expect("revoked"), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ports_keep_their_promises_with_named_statements() {
    run_the_suite(StatementMode::Named).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ports_keep_their_promises_with_unnamed_statements() {
    run_the_suite(StatementMode::Unnamed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lineage_keeps_the_promises_of_its_ports() {
    let database = TestDatabase::migrated().await;
    let (store, _metrics) = store(database.settings()).await;
    lineage_suite::run(Arc::new(store)).await;
}

/// An operator's defaults for the database: not one of them may move the end of an hour, a day or a month.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_another_time_zone_keeps_the_same_windows_and_days() {
    let database = TestDatabase::empty().await;
    let client = database.client().await;
    let name: String = client.query_one("SELECT current_database()::text", &[]).await.expect("a name").get(0);
    for default in ["timezone = 'Asia/Kathmandu'", "datestyle = 'SQL, DMY'", "intervalstyle = 'sql_standard'"] {
        client.batch_execute(&format!("ALTER DATABASE {name} SET {default}")).await.expect("set");
    }
    migrate(&database.settings()).await.expect("migrated");
    let (store, _metrics) = store(database.settings()).await;
    let store = Arc::new(store);
    ledger_suite::run(Arc::clone(&store)).await;
    lineage_suite::run(store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_instances_that_start_at_once_migrate_once() {
    let database = TestDatabase::empty().await;
    let settings = database.settings();
    let instances = join_all((0..10).map(|_| migrate(&settings))).await;
    let mut applied: Vec<usize> = instances.into_iter().map(|applied| applied.expect("migrated")).collect();
    applied.sort_unstable();
    let migrations = std::fs::read_dir("migrations/postgres").expect("the migrations").count();
    assert_eq!(applied.pop(), Some(migrations), "one instance applies them all");
    assert_eq!(applied, [0; 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_fails_by_itself_says_why_and_is_not_waited_for() {
    let (changed, foreign) = (TestDatabase::migrated().await, TestDatabase::empty().await);
    let change = "UPDATE refinery_schema_history SET checksum = '1' WHERE version = 1";
    changed.client().await.batch_execute(change).await.expect("changed");
    foreign.client().await.batch_execute("CREATE TABLE producers ()").await.expect("somebody else's");
    for (database, why) in
        [(changed, "applied migration V1__catalog is different"), (foreign, "\"producers\" already exists")]
    {
        let error = migrate(&database.settings()).await.expect_err("refused");
        assert!(is_hopeless(&error) && error.to_string().contains(why), "{error:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_runs_on_the_schema_of_a_later_one_as_long_as_that_lets_it_in() {
    let database = TestDatabase::migrated().await;
    let (client, settings) = (database.client().await, database.settings());
    let later = "INSERT INTO refinery_schema_history
        SELECT max(version) + 1, 'of_the_next_release', '2026-12-01T00:00:00Z', '1' FROM refinery_schema_history";
    client.batch_execute(later).await.expect("a later build has migrated");
    assert_eq!(migrate(&settings).await.expect("let in"), 0);
    await_schema(&settings).await.expect("let in");
    let raise = "UPDATE schema_floor SET least_version = (SELECT max(version) FROM refinery_schema_history)";
    client.batch_execute(raise).await.expect("raised");
    for refused in [migrate(&settings).await.map(drop), await_schema(&settings).await] {
        let error = refused.expect_err("refused");
        assert!(is_hopeless(&error) && error.to_string().contains("of a later release"), "{error:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_settles_and_charges_nothing_until_its_timeline_begins() {
    let database = TestDatabase::migrated().await;
    let (store, _metrics) = store(database.settings()).await;
    let client = database.client().await;
    let by = NodeEpoch { node: NodeId::random(), epoch: 1 };
    store.heartbeat(by, Duration::from_secs(3600)).await.expect("alive");
    let first = store.timeline().await.expect("a timeline");
    assert!(!first.moved);

    // As it is while a dump is being restored.
    client.batch_execute("REFRESH MATERIALIZED VIEW penstock_whole WITH NO DATA").await.expect("emptied");
    let empty = SettleBatch { node: by, sequence: 1, rows: Vec::new(), releases: Vec::new() };
    for refused in [
        store.timeline().await.map(drop),
        store.changes(None, 1).await.map(drop),
        store.settle(&empty).await.map(drop),
        store.reclaim(by, &[], LostLease::Charge, Timestamp::now(), 10).await.map(drop),
    ] {
        assert!(matches!(refused, Err(PortError::Unavailable { .. })), "{refused:?}");
    }

    // As it is when that has ended.
    let restored = "REFRESH MATERIALIZED VIEW penstock_whole; UPDATE timelines SET home = '1:2:3'";
    client.batch_execute(restored).await.expect("restored");
    assert!(store.timeline().await.expect("a timeline").moved);
    assert!(store.changes(None, 1).await.expect("a page").timeline.moved);
    assert!(matches!(store.settle(&empty).await, Err(PortError::Unavailable { .. })));
    let reclaimed = store.reclaim(by, &[], LostLease::Charge, Timestamp::now(), 10).await.expect("answered");
    assert_eq!(reclaimed, Reclaimed::default());
    store.begin_timeline(first.timeline_id, "a test").await.expect("begun");
    let now = store.timeline().await.expect("a timeline");
    assert!(!now.moved && now.timeline_id != first.timeline_id, "{now:?}");
    store.settle(&empty).await.expect("settled");
    assert!(matches!(store.heartbeat(by, Duration::from_secs(60)).await, Err(PortError::Fenced)));
}

#[tokio::test(flavor = "multi_thread")]
async fn months_are_prepared_ahead_and_take_over_what_came_unprepared() {
    let database = TestDatabase::migrated().await;
    let (store, _metrics) = store(database.settings()).await;
    let client = database.client().await;
    let insert = "INSERT INTO streaming_usage (usage_id, receipt_id, content_hash, started_at, finished_at,
        bytes_sent, requests,
        outcome) VALUES (gen_random_uuid(), gen_random_uuid(), decode(repeat('00', 32), 'hex'), $1, $1, 1, 1,
            'completed')";
    let times = ["2031-05-31T23:59:59.999999Z", "2031-06-01T00:00:00Z", "1999-12-31T23:00:00Z"];
    for time in times {
        let time: Timestamp = time.parse().expect("a time");
        client.execute(insert, &[&time]).await.expect("kept, although nobody prepared its month");
    }
    let now: Timestamp = "2031-01-15T00:00:00Z".parse().expect("a time");
    // January to April of 2031, and the three months that rows had come for.
    assert_eq!(store.prepare(now, 3).await.expect("prepared"), 4 + 3);
    assert_eq!(store.prepare(now, 3).await.expect("prepared"), 0);
    let partitions = client
        .query("SELECT DISTINCT tableoid::regclass::text AS name FROM streaming_usage ORDER BY 1", &[])
        .await
        .expect("partitions");
    let partitions: Vec<String> = partitions.iter().map(|row| row.get("name")).collect();
    assert_eq!(partitions, ["streaming_usage_1999_12", "streaming_usage_2031_05", "streaming_usage_2031_06"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn instances_that_start_at_one_moment_make_one_admin() {
    let database = TestDatabase::migrated().await;
    let instances: Vec<_> = join_all((0..8).map(|_| store(database.settings()))).await;
    let folder = tempfile::tempdir().expect("a folder");
    for round in 0..20 {
        let secret = format!("secret-{round}");
        let starts = instances.iter().map(|(store, _)| {
            let (store, secret, folder) = (store.clone(), secret.clone(), folder.path().to_owned());
            tokio::spawn(async move { penstock::keys::ensure_admin(&store, Some(&secret), &folder).await.map(drop) })
        });
        for started in join_all(starts).await {
            started.expect("no panic").expect("it starts");
        }
        let admin = "DELETE FROM api_keys; DELETE FROM producers";
        database.client().await.batch_execute(admin).await.expect("as if nobody had started yet");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_reads_in_psql_what_each_table_and_column_is() {
    // Parts of a partitioned table are as the whole; what refinery keeps is its own.
    const SILENT: &str = "
        SELECT concat_ws('.', relname, attname) FROM (
            SELECT oid, relname, NULL AS attname, obj_description(oid, 'pg_class') AS told FROM pg_class
            WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = 'public'::regnamespace
            UNION ALL
            SELECT c.oid, relname, attname, col_description(c.oid, attnum)
            FROM pg_class c JOIN pg_attribute ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
            WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = 'public'::regnamespace
        ) AS each
        WHERE told IS NULL AND relname <> 'refinery_schema_history'
        ORDER BY 1";
    let database = TestDatabase::migrated().await;
    let silent = database.client().await.query(SILENT, &[]).await.expect("an answer");
    let silent: Vec<String> = silent.iter().map(|row| row.get(0)).collect();
    assert!(silent.is_empty(), "a later migration has to say what these are (COMMENT ON): {silent:?}");
}
