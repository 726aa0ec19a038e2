//! Reads that may lag, on a real streaming replica: when it serves, and when the primary does.

use std::time::{Duration, Instant};

use penstock::{
    adapters::postgres::{PostgresSettings, PostgresStore, ReplicaSettings, migrate},
    config::TlsSettings,
    telemetry::Metrics,
    wiring,
};
use penstock_actors::{
    clock::{Clock as _, SystemClock},
    ids::VersionId,
    model::QuotaPolicy,
    ports::{Assets as _, Receipts as _, Search as _, SearchFilter, Tag},
    search::TextQuery,
};
use tokio::task::yield_now;

use crate::{
    cluster::Cluster,
    support::{generous, store},
};

/// Long enough that a busy machine does not make a healthy replica look old, short enough to wait for.
const MAX_LAG: Duration = Duration::from_secs(4);

/// How long a replica may take to be seen, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Checks until these replicas serve, or do not.
async fn until(store: &PostgresStore, metrics: &Metrics, wanted: &[(&str, bool)]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        store.check_replicas().await;
        let told = metrics.render().expect("text");
        let is_so = |(number, serves): &(&str, bool)| {
            told.contains(&format!("penstock_db_replica_serves{{replica=\"{number}\"}} {}", i32::from(*serves)))
        };
        if wanted.iter().all(is_so) {
            return;
        }
        assert!(Instant::now() < deadline, "{told}");
        yield_now().await;
    }
}

/// A primary, a replica of it, and a store on both.
struct Pair {
    primary: Cluster,
    replica: Cluster,
    store: PostgresStore,
    metrics: Metrics,
}

impl Pair {
    async fn new() -> Self {
        let primary = Cluster::start(&[]).await;
        let settings = generous(primary.config());
        migrate(&settings).await.expect("migrated");
        let replica = primary.replica().await;
        let servers = vec![(replica.config(), TlsSettings::default())];
        let replicas = ReplicaSettings { servers, max_lag: MAX_LAG };
        let (store, metrics) = store(PostgresSettings { replicas, ..settings }).await;
        Self { primary, replica, store, metrics }
    }

    /// Checks until the replica serves, or does not.
    async fn until_serves(&self, serves: bool) {
        until(&self.store, &self.metrics, &[("1", serves)]).await;
    }

    /// The reads that a server has answered.
    fn served_by(&self, server: &str) -> u64 {
        let name = format!("penstock_db_reads_total{{server=\"{server}\"}} ");
        let told = self.metrics.render().expect("text");
        told.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().expect("a number"))
    }

    /// Which server answers a read of the policies, and how many it sees.
    async fn policies(&self) -> (&'static str, usize) {
        let before = self.served_by("replica");
        let policies = self.store.policies().await.expect("an answer");
        (if self.served_by("replica") > before { "replica" } else { "primary" }, policies.len())
    }

    /// Checks until the replica answers a read of this many policies.
    async fn until_replica_reads(&self, policies: usize) {
        while self.policies().await != ("replica", policies) {
            self.store.check_replicas().await;
        }
    }

    /// A change that somebody else makes, and this instance is not told of.
    async fn elsewhere(&self, name: &str) {
        let insert = "INSERT INTO quota_policies (policy_name, updated_at) VALUES ($1, now())";
        self.primary.client().await.execute(insert, &[&name]).await.expect("made");
    }
}

fn policy(name: &str) -> QuotaPolicy {
    QuotaPolicy { policy_name: name.into(), ..QuotaPolicy::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_serves_until_it_is_behind_and_again_when_it_has_caught_up() {
    let pair = Pair::new().await;
    assert_eq!(pair.policies().await, ("primary", 4), "nothing is known of the replica before the first check");
    pair.until_replica_reads(4).await;

    // What this instance changes it reads at once, and from the replica again when that has it.
    pair.store.put_quota_policy(&policy("mine"), SystemClock.now()).await.expect("made");
    assert_eq!(pair.policies().await, ("primary", 5));
    pair.until_replica_reads(5).await;

    let replica = pair.replica.client().await;
    replica.batch_execute("SELECT pg_wal_replay_pause()").await.expect("paused");
    pair.elsewhere("theirs").await;
    // A change that it is told of is read from the primary, and so is everything when the replica is too old.
    pair.store.heard(Some(&Tag::QuotaPolicy("theirs".into())));
    assert_eq!(pair.policies().await, ("primary", 6));
    pair.until_serves(false).await;
    assert_eq!(pair.policies().await, ("primary", 6));
    let lag = pair.metrics.render().expect("text");
    assert!(lag.contains("penstock_db_replica_lag_seconds{replica=\"1\"} "), "{lag}");

    replica.batch_execute("SELECT pg_wal_replay_resume()").await.expect("resumed");
    pair.until_replica_reads(6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_dies_costs_no_answer_and_is_found_again() {
    let mut pair = Pair::new().await;
    pair.until_replica_reads(4).await;
    pair.replica.kill();
    // The first read still goes to it, and is answered all the same.
    for _ in 0..3 {
        assert_eq!(pair.policies().await, ("primary", 4));
    }
    pair.until_serves(false).await;
    assert_eq!(pair.policies().await, ("primary", 4));
    assert!(
        !pair.metrics.render().expect("text").contains("penstock_db_replica_lag_seconds{"),
        "nothing is known of it"
    );

    pair.replica.boot().await;
    pair.until_replica_reads(4).await;

    // One that hangs costs the read's patience once.
    pair.replica.pause();
    assert_eq!(pair.policies().await, ("primary", 4));
    pair.replica.resume();

    // Without the primary, what is fresh enough is still read. Later nobody can tell any more how fresh it is.
    pair.until_serves(true).await;
    pair.primary.kill();
    assert_eq!(pair.policies().await, ("replica", 4));
    pair.until_serves(false).await;
    assert!(pair.store.policies().await.is_err());
}

/// What every search for words asks first, replaced.
fn searches_begin_with(statement: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION penstock_expected(query tsquery) RETURNS bigint
        LANGUAGE plpgsql STRICT AS 'BEGIN {statement}; RETURN 0; END'"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn no_search_takes_a_replica_out() {
    let pair = Pair::new().await;
    let checks = tokio::spawn(wiring::watch_replicas(pair.store.clone()));
    let filter = SearchFilter { text: TextQuery::parse("tide").ok(), ..SearchFilter::default() };
    let primary = pair.primary.client().await;
    // One that stops after its second, one that is refused, one that never ends.
    for (policies, begin, by_replica, by_primary) in [
        (5, "PERFORM pg_sleep(1.2)", 1, 0),
        (6, "RAISE EXCEPTION ''refused''", 0, 1),
        (7, "PERFORM pg_sleep(600)", 0, 0),
    ] {
        primary.batch_execute(&searches_begin_with(begin)).await.expect("replaced");
        // What comes later is replayed later.
        pair.elsewhere(&format!("policy-{policies}")).await;
        pair.until_replica_reads(policies).await;
        let before = ["replica", "primary"].map(|server| pair.served_by(server));
        let page = pair.store.search(&filter, None, 10).await;
        let after = ["replica", "primary"].map(|server| pair.served_by(server));
        assert_eq!(page.is_ok(), by_replica > 0, "{begin}");
        assert_eq!([after[0] - before[0], after[1] - before[1]], [by_replica, by_primary], "{begin}");
        assert_eq!(pair.policies().await, ("replica", policies), "{begin}");
    }
    checks.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_does_not_have_yet_is_looked_for_on_the_primary() {
    let pair = Pair::new().await;
    pair.until_serves(true).await;
    let before = pair.served_by("primary");
    assert!(pair.store.asset(VersionId::next()).await.expect("an answer").is_none());
    assert_eq!((pair.served_by("replica"), pair.served_by("primary")), (1, before + 1));

    // Two replicas take turns; a server that is none serves nothing, however fresh.
    let second = pair.primary.replica().await;
    let servers = [&pair.replica, &pair.primary, &second].map(|server| (server.config(), TlsSettings::default()));
    let replicas = ReplicaSettings { servers: servers.into(), max_lag: MAX_LAG };
    let (store, metrics) = store(PostgresSettings { replicas, ..generous(pair.primary.config()) }).await;
    until(&store, &metrics, &[("1", true), ("2", false), ("3", true)]).await;
    for _ in 0..10 {
        store.policies().await.expect("an answer");
    }
    for server in [&pair.replica, &second] {
        const CONNECTED: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'penstock'
            AND query LIKE '%FROM quota_policies%'";
        let connected: i64 = server.client().await.query_one(CONNECTED, &[]).await.expect("counted").get(0);
        assert!(connected > 0, "each has answered one of them");
    }
}
