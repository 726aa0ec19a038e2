//! Instances that share everything: one PostgreSQL behind a PgBouncer as it is shipped, one Redis, one S3.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use penstock::config::S3Client;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{
    node::{Paid, Setup, TestNode},
    pgbouncer::PgBouncer,
    postgres::TestDatabase,
    s3::TestBuckets,
    shared_redis,
};

/// Instances of a fleet: what the promises are made for.
pub(crate) const INSTANCES: usize = 10;

/// Refusals in a row, over all instances, after which a crowd takes the quota for used up.
const ENOUGH: usize = 60;

/// Connections of all instances together that PgBouncer may see: `PG_POOL_MAX`, 15 by default, for each.
const CONNECTIONS: u64 = 15 * INSTANCES as u64;

/// Connections that PostgreSQL may see.
const SERVER_CONNECTIONS: u64 = 40;

/// How long anything may take on a busy machine before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Fleet {
    pub(crate) nodes: Vec<TestNode>,
    /// Looks for as long as the fleet runs at how many connections there are.
    watch: JoinHandle<()>,
    peaks: Arc<Peaks>,
    _database: TestDatabase,
}

/// The most connections at a time, of instances and to the server.
#[derive(Debug, Default)]
struct Peaks {
    instances: AtomicU64,
    server: AtomicU64,
}

/// What a crowd of clients got.
#[derive(Debug, Default)]
pub(crate) struct Got {
    /// Payload bytes that clients received, of streams that were cut as well.
    pub(crate) bytes: AtomicU64,
    /// Streams that were let in.
    pub(crate) streams: AtomicU64,
    /// Refusals for want of quota.
    pub(crate) refused: AtomicU64,
    /// Requests that died with an instance.
    pub(crate) lost: AtomicU64,
}

impl Got {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(SeqCst)
    }

    pub(crate) fn streams(&self) -> u64 {
        self.streams.load(SeqCst)
    }
}

impl Fleet {
    /// Ten instances, with these settings beside those that all have.
    pub(crate) async fn start(settings: &[(&'static str, &str)]) -> Self {
        Self::start_each(|_| settings.iter().map(|&(name, value)| (name, value.to_owned())).collect()).await
    }

    /// Ten instances, each with settings of its own by its number.
    pub(crate) async fn start_each(settings: impl Fn(usize) -> Vec<(&'static str, String)>) -> Self {
        // Migrations need a session, which PgBouncer does not give.
        let database = TestDatabase::migrated().await;
        let bouncer = PgBouncer::before(&database.config(), "").await;
        let url = bouncer.url();
        let peaks = Arc::new(Peaks::default());
        let watch = tokio::spawn(watch(bouncer, Arc::clone(&peaks)));
        let buckets = TestBuckets::new(S3Client::ObjectStore);
        let prefix = shared_redis::prefix();
        let setup = |number: usize| {
            let mut setup = Setup::on_database_of(&url)
                .env("PENSTOCK_DATABASE__MIGRATE_AT_START", "false")
                .envs(buckets.env())
                .env("REDIS_URL", shared_redis::shared_url())
                .env("PENSTOCK_REDIS__KEY_PREFIX", prefix.as_str())
                .env("PENSTOCK_QUOTA__REFUSAL_TTL", "200ms");
            for (name, value) in settings(number) {
                setup = setup.env(name, value);
            }
            setup.start()
        };
        let nodes = join_all((0..INSTANCES).map(setup)).await;
        Self { nodes, watch, peaks, _database: database }
    }

    /// An instance that lives, at random.
    pub(crate) fn any(&self) -> &TestNode {
        let alive: Vec<_> = self.nodes.iter().filter(|node| node.is_running()).collect();
        alive[Uuid::new_v4().as_u128() as usize % alive.len()]
    }

    /// So many clients ask for a content, each time at an instance at random, until a long row of refusals says that the quota
    /// is used up. Whatever they got is added to `got` as it comes.
    pub(crate) async fn crowd(&self, clients: usize, paid: &Paid, got: &Got) {
        let (in_a_row, deadline) = (AtomicUsize::new(0), Instant::now() + PATIENCE);
        let client = async || {
            while in_a_row.load(SeqCst) < ENOUGH {
                assert!(Instant::now() < deadline, "the quota never ends: {got:?}");
                if self.ask(self.any(), paid, got).await {
                    in_a_row.store(0, SeqCst);
                } else {
                    in_a_row.fetch_add(1, SeqCst);
                }
            }
        };
        join_all((0..clients).map(|_| client())).await;
    }

    /// Asks every instance in turn until all of them refuse in one round.
    pub(crate) async fn sweep_up(&self, paid: &Paid, got: &Got) {
        loop {
            let before = got.streams();
            for node in self.nodes.iter().filter(|node| node.is_running()) {
                while self.ask(node, paid, got).await {}
            }
            if got.streams() == before {
                return;
            }
        }
    }

    /// One request; whether it was let in.
    async fn ask(&self, node: &TestNode, paid: &Paid, got: &Got) -> bool {
        let Ok(mut answer) = node.stream(paid).send().await else {
            got.lost.fetch_add(1, SeqCst);
            return false;
        };
        match answer.status().as_u16() {
            200 => {}
            429 => {
                got.refused.fetch_add(1, SeqCst);
                return false;
            }
            // An instance that cannot reach the ledger at this moment; nothing was given.
            503 => return false,
            other => panic!("{other}: {}", answer.text().await.unwrap_or_default()),
        }
        got.streams.fetch_add(1, SeqCst);
        loop {
            match answer.chunk().await {
                Ok(Some(part)) => got.bytes.fetch_add(part.len() as u64, SeqCst),
                Ok(None) => return true,
                Err(_) => {
                    got.lost.fetch_add(1, SeqCst);
                    return true;
                }
            };
        }
    }

    /// Waits until nothing runs on any instance and all usage is in the ledger.
    pub(crate) async fn come_to_rest(&self) {
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            node.metric_becomes("penstock_streams_active", "", 0.0).await;
            node.metric_becomes("penstock_admission_in_use", "{queue=\"usage\"}", 0.0).await;
        }
    }

    /// The sum of a metric over the instances that live.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        let nodes = self.nodes.iter().filter(|node| node.is_running());
        join_all(nodes.map(|node| node.metric(name, labels))).await.iter().sum()
    }

    /// Stops every instance that still runs, has the ledger audited, and looks whether connections were within bounds.
    pub(crate) async fn finish(mut self) {
        let (instances, server) = (self.peaks.instances.load(SeqCst), self.peaks.server.load(SeqCst));
        eprintln!("{instances} connections of instances, {server} to the server");
        assert!((1..=CONNECTIONS).contains(&instances), "{instances} connections of instances");
        assert!((1..=SERVER_CONNECTIONS).contains(&server), "{server} connections to the server");
        let stops = self.nodes.iter_mut().filter(|node| node.is_running()).map(TestNode::terminate);
        assert!(join_all(stops).await.iter().all(|status| status.success()), "every node drains and exits with 0");
        // One audit of what they share.
        self.nodes[INSTANCES - 1].finish().await;
        self.watch.abort();
    }
}

/// Keeps PgBouncer, and counts its connections now and then.
async fn watch(bouncer: PgBouncer, peaks: Arc<Peaks>) {
    loop {
        let pool = bouncer.pool().await;
        let sum = |columns: &[&str]| columns.iter().map(|column| pool(column)).sum();
        peaks.instances.fetch_max(sum(&["cl_active", "cl_waiting"]), SeqCst);
        peaks.server.fetch_max(sum(&["sv_active", "sv_idle", "sv_used", "sv_tested", "sv_login"]), SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
