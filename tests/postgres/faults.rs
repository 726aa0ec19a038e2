//! What a store does when the pool, a statement or the server fails it.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use penstock::adapters::postgres::PostgresSettings;
use penstock_actors::{
    clock::{Clock as _, SystemClock},
    ids::NodeId,
    model::NodeEpoch,
    ports::{Ledger as _, PortError, Receipts, Upkeep},
};
use tokio::task::yield_now;
use tokio_postgres::{Client, Config, config::Host};

use crate::{
    proxy::Proxy,
    refuser::Refuser,
    support::{TestDatabase, round_trips, store},
};

/// For time-outs that a test runs into: no time that matters to it.
const SHORT: Duration = Duration::from_millis(50);

/// Stops every reader of policies until the transaction ends.
pub(crate) async fn lock_policies(client: &Client) {
    client.batch_execute("BEGIN; LOCK TABLE quota_policies IN ACCESS EXCLUSIVE MODE").await.expect("locked");
}

/// Waits until this many backends wait for a lock in this database.
pub(crate) async fn until_waiting(client: &Client, waiting: i64) {
    const WAITING: &str =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while client.query_one(WAITING, &[]).await.expect("counted").get::<_, i64>(0) != waiting {
        yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_whose_connections_are_all_taken_says_so() {
    let database = TestDatabase::migrated().await;
    let settings = PostgresSettings { pool_max: 1, wait_timeout: SHORT, ..database.settings() };
    let (store, _metrics) = store(settings).await;
    let (locker, watcher) = (database.client().await, database.client().await);
    lock_policies(&locker).await;
    let taken = tokio::spawn({
        let store = store.clone();
        async move { store.policies().await }
    });
    until_waiting(&watcher, 1).await;
    assert!(matches!(store.ping().await, Err(PortError::Unavailable { .. })));
    assert_eq!(store.pool_status().size, 1);
    locker.batch_execute("COMMIT").await.expect("unlocked");
    assert_eq!(taken.await.expect("no panic").expect("answered after all").len(), 4);
    store.ping().await.expect("there is a connection again");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_housekeeping_that_wait_for_the_database_keep_no_lease_waiting() {
    let database = TestDatabase::migrated().await;
    let settings = PostgresSettings { pool_max: 5, max_waiting: 3, ..database.settings() };
    let (store, metrics) = store(settings).await;
    let (locker, watcher) = (database.client().await, database.client().await);
    lock_policies(&locker).await;
    // Four of five connections, and the whole queue.
    let requests: Vec<_> = (0..4 + 3)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.policies().await })
        })
        .collect();
    until_waiting(&watcher, 4).await;
    while store.pool_status().waiting != 3 {
        yield_now().await;
    }
    let Err(PortError::Unavailable { retry_after, .. }) = store.policies().await else { panic!("the queue is full") };
    assert_eq!(retry_after, Some(Duration::from_secs(1)));
    let Err(PortError::Unavailable { .. }) = store.expire_receipts(SystemClock.now(), 1).await else {
        panic!("housekeeping waits in the same queue")
    };
    let node = NodeEpoch { node: NodeId::random(), epoch: 1 };
    store.heartbeat(node, Duration::from_secs(60)).await.expect("the ledger has a connection of its own");
    store.ping().await.expect("the database is busy and not silent");

    locker.batch_execute("COMMIT").await.expect("unlocked");
    for request in requests {
        assert_eq!(request.await.expect("no panic").expect("answered after all").len(), 4);
    }
    store.expire_receipts(SystemClock.now(), 1).await.expect("its turn");
    let told = metrics.render().expect("text");
    assert!(told.contains("penstock_db_pool_refusals_total{lane=\"request\",reason=\"full\"} 1"), "{told}");
    assert!(told.contains("penstock_db_pool_wait_seconds_count{lane=\"ledger\"} 2"), "a heartbeat and a ping: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_is_cancelled_on_the_server() {
    let database = TestDatabase::migrated().await;
    let settings = PostgresSettings { pool_max: 1, statement_timeout: SHORT, ..database.settings() };
    let (store, _metrics) = store(settings).await;
    let (locker, watcher) = (database.client().await, database.client().await);
    lock_policies(&locker).await;
    assert!(matches!(store.policies().await, Err(PortError::Unavailable { .. })));
    until_waiting(&watcher, 0).await;
    locker.batch_execute("COMMIT").await.expect("unlocked");
    // On a busy machine even an answer at once may come too late for so short a limit, but not for ever.
    while store.policies().await.is_err() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_keeps_no_connection() {
    let database = TestDatabase::migrated().await;
    let (store, metrics) = store(PostgresSettings { pool_max: 1, ..database.settings() }).await;
    let (locker, watcher) = (database.client().await, database.client().await);
    lock_policies(&locker).await;
    let caller = tokio::spawn({
        let store = store.clone();
        async move { store.policies().await }
    });
    until_waiting(&watcher, 1).await;
    caller.abort();
    assert!(caller.await.is_err_and(|end| end.is_cancelled()));
    locker.batch_execute("COMMIT").await.expect("unlocked");
    store.ping().await.expect("the only connection is free");
    assert_eq!(store.pool_status().size, 1);
    assert_eq!(round_trips(&metrics), 2, "the trip that nobody waited for is counted too");
}

fn address(config: &Config) -> SocketAddr {
    let (Some(Host::Tcp(host)), Some(port)) = (config.get_hosts().first(), config.get_ports().first()) else {
        panic!("the test server listens on a port");
    };
    SocketAddr::new(host.parse().expect("an address"), *port)
}

/// The way to a database through a proxy.
fn through(proxy: &Proxy, database: &TestDatabase) -> Config {
    let (mut config, direct) = (Config::new(), database.config());
    config.host("127.0.0.1").port(proxy.address().port());
    config.user(direct.get_user().expect("a user")).dbname(direct.get_dbname().expect("a database"));
    if let Some(password) = direct.get_password() {
        config.password(password);
    }
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_calls_an_outage_meets_the_server_gets_few_attempts() {
    let database = TestDatabase::migrated().await;
    let mut proxy = Proxy::started(address(&database.config())).await;
    let settings = PostgresSettings { config: through(&proxy, &database), pool_max: 10, ..database.settings() };
    let (store, _metrics) = store(settings).await;
    store.ping().await.expect("up");
    proxy.stop().await;
    let server = Refuser::at(proxy.address());
    let (began, mut calls) = (Instant::now(), 0_u32);
    while calls < 15_000 {
        let answers = join_all((0..1000).map(|_| store.policies())).await;
        assert!(answers.iter().all(|answer| matches!(answer, Err(PortError::Unavailable { .. }))));
        calls += 1000;
    }
    // At first one attempt for each place of the pool, then one in a pause: of at least an eighth of a second after the first few.
    let most = 10 + 10 + began.elapsed().as_millis() / 125;
    let attempts = u128::from(server.attempts());
    assert!(attempts <= most, "{attempts} attempts for {calls} calls, of at most {most}");
    server.stop().await;
    proxy.start();
    store.ping().await.expect("the server is back, and found by the next attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_and_starts_again_is_found_again() {
    let database = TestDatabase::migrated().await;
    let mut proxy = Proxy::started(address(&database.config())).await;
    let config = through(&proxy, &database);
    let settings = PostgresSettings { config, pool_min: 3, ..database.settings() };
    let (store, _metrics) = store(settings).await;
    assert_eq!(store.pool_status().size, 3, "as many connections as are to be kept");
    store.ping().await.expect("up");

    proxy.stop().await;
    // The first call may still find a connection that looks whole; none of them gets an answer.
    for _ in 0..5 {
        assert!(matches!(store.ping().await, Err(PortError::Unavailable { .. })));
    }
    assert!(matches!(store.keep_warm().await, Err(PortError::Unavailable { .. })));

    proxy.start();
    store.ping().await.expect("up again");
    store.keep_warm().await.expect("warm again");
    assert_eq!(store.pool_status().size, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_unavailable_at_start() {
    let database = TestDatabase::migrated().await;
    let mut proxy = Proxy::started(address(&database.config())).await;
    proxy.stop().await;
    let mut refused = Config::new();
    refused.host("127.0.0.1").port(proxy.address().port()).user("nobody");
    let metrics = penstock::telemetry::Metrics::new().expect("metrics");
    let settings = PostgresSettings { config: refused, ..database.settings() };
    let io = tokio::runtime::Handle::current();
    let start = penstock::adapters::postgres::PostgresStore::connect(settings, Arc::clone(&metrics.db), io).await;
    assert!(matches!(start, Err(PortError::Unavailable { .. })));
}
