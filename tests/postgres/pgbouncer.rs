//! Through a real PgBouncer in transaction mode, as `config/pgbouncer.ini` sets it up.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use penstock::{
    adapters::postgres::{PostgresSettings, await_schema, is_hopeless, migrate},
    config::StatementMode,
};
use penstock_actors::{
    ports::{PortError, Receipts as _},
    testkit::{catalog_suite, ledger_suite},
};

use crate::{
    faults::{lock_policies, until_waiting},
    pgbouncer::PgBouncer,
    support::{TestDatabase, generous, store},
};

/// What the file promises that the server sees at most.
const SERVER_CONNECTIONS: u64 = 40;

/// The default of `postgres.pool_max`.
const POOL_MAX: usize = 15;

#[tokio::test(flavor = "multi_thread")]
async fn the_ports_keep_their_promises_through_pgbouncer() {
    let database = TestDatabase::migrated().await;
    let bouncer = PgBouncer::before(&database.config(), "").await;
    let settings = PostgresSettings { statement_mode: StatementMode::Unnamed, ..generous(bouncer.config()) };
    let (store, _metrics) = store(settings).await;
    let store = Arc::new(store);
    ledger_suite::run(Arc::clone(&store)).await;
    catalog_suite::run(store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_through_pgbouncer_are_refused_with_what_to_do_instead() {
    let database = TestDatabase::empty().await;
    // Some poolers refuse what only a session of one's own can keep, others pass over it.
    for settings in ["", "ignore_startup_parameters = options"] {
        let bouncer = PgBouncer::before(&database.config(), settings).await;
        let through = generous(bouncer.config());
        let error = migrate(&through).await.expect_err("refused");
        assert!(is_hopeless(&error), "waiting does not help: {error:#}");
        let told = error.to_string();
        for part in
            ["PgBouncer", "`penstock migrate` with a URL of the server itself", "database.migrate_at_start = false"]
        {
            assert!(told.contains(part), "{told}");
        }
        let error = await_schema(&through).await.expect_err("nobody has migrated");
        assert!(!is_hopeless(&error), "somebody may be about to");
        assert!(error.to_string().starts_with("the schema is at version 0"), "{error:#}");
    }
    migrate(&database.settings()).await.expect("migrated");
    let bouncer = PgBouncer::before(&database.config(), "").await;
    await_schema(&generous(bouncer.config())).await.expect("it is there now");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_instances_that_want_all_their_connections_are_forty_to_the_server() {
    let database = TestDatabase::migrated().await;
    let bouncer = PgBouncer::before(&database.config(), "").await;
    let settings = PostgresSettings { pool_max: POOL_MAX, ..generous(bouncer.config()) };
    let stores = join_all((0..10).map(|_| store(settings.clone()))).await;
    let (locker, watcher) = (database.client().await, database.client().await);
    lock_policies(&locker).await;
    let reads: Vec<_> = stores
        .iter()
        .flat_map(|(store, _)| std::iter::repeat_n(store, 2 * POOL_MAX))
        .map(|store| {
            let store = store.clone();
            tokio::spawn(async move { store.policies().await })
        })
        .collect();
    // Every connection that the server has for them waits for the lock, and every other one for PgBouncer.
    until_waiting(&watcher, i64::try_from(SERVER_CONNECTIONS).expect("few")).await;
    let requests = 10 * (POOL_MAX as u64 - 3);
    while (bouncer.pool().await)("cl_waiting") + SERVER_CONNECTIONS < requests {
        tokio::task::yield_now().await;
    }
    const SEEN: &str = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend' AND application_name = 'penstock'";
    let seen: i64 = watcher.query_one(SEEN, &[]).await.expect("counted").get(0);
    assert_eq!(u64::try_from(seen), Ok(SERVER_CONNECTIONS));
    let pool = bouncer.pool().await;
    assert!(pool("cl_active") + pool("cl_waiting") <= 10 * POOL_MAX as u64);
    for (store, _) in &stores {
        assert!(store.pool_status().size <= POOL_MAX);
    }

    locker.batch_execute("COMMIT").await.expect("unlocked");
    // On a busy machine some have waited longer than PgBouncer lets them; whoever asks now is answered.
    join_all(reads).await;
    for (store, _) in &stores {
        while store.policies().await.is_err() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_ends_on_the_server_behind_pgbouncer_too() {
    let database = TestDatabase::migrated().await;
    let (locker, watcher) = (database.client().await, database.client().await);
    lock_policies(&locker).await;
    // Whether it refuses what tells a pooler from a server, or passes over it.
    let server = database.config();
    let refusing = PgBouncer::before(&server, "").await;
    let lenient = PgBouncer::before(&server, "ignore_startup_parameters = options").await;
    let ends = [&refusing, &lenient].map(|bouncer| async {
        let settings = generous(bouncer.config());
        let hasty = PostgresSettings { statement_timeout: Duration::from_millis(200), ..settings.clone() };
        let ((patient, _), (hasty, _)) = (store(settings).await, store(hasty).await);
        // Were one of these cancelled by a request, PgBouncer 1.18 would end now and then, with the connections of all.
        let given_up = join_all((0..10).map(|_| hasty.policies()));
        let (patient, given_up) = tokio::join!(patient.policies(), given_up);
        let Err(PortError::Unavailable { source, .. }) = patient else { panic!("the server ends it") };
        assert!(source.to_string().contains("statement timeout"), "{source}");
        for answer in given_up {
            let Err(PortError::Unavailable { source, .. }) = answer else { panic!("nobody waits for it") };
            assert!(source.to_string().contains("took longer"), "{source}");
        }
    });
    join_all(ends).await;
    until_waiting(&watcher, 0).await;
}
