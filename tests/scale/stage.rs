//! Ten instances with a PostgreSQL server of their own, which can be killed and whose clock can be set, one folder of contents, and
//! clients.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc};

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use penstock::adapters::postgres::migrate;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::{AbortHandle, JoinSet};
use uuid::Uuid;

use crate::{
    clients::{Clients, LONG, Product},
    cluster::Cluster,
    faketime::by_file,
    fleet::INSTANCES,
    node::{Setup, TestNode, sample},
    patience::eventually,
    pgbouncer::PgBouncer,
    postgres::generous,
    shared_redis,
};

/// What the instances run with.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) redis: bool,
    pub(crate) pgbouncer: bool,
    /// The time that the database starts with, unless it has this machine's clock.
    pub(crate) time: Option<Timestamp>,
    /// Leases end soon after their instance was lost, and the Janitor looks for them each second.
    pub(crate) short_leases: bool,
    pub(crate) settings: &'static [(&'static str, &'static str)],
}

const SHORT_LEASES: [(&str, &str); 3] =
    [("PENSTOCK_QUOTA__LEASE_TTL", "6s"), ("PENSTOCK_QUOTA__HEARTBEAT", "1s"), ("PENSTOCK_JANITOR__INTERVAL", "1s")];

pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) nodes: Vec<TestNode>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) tasks: JoinSet<()>,
    pub(crate) clock: Option<DatabaseClock>,
    _bouncer: Option<PgBouncer>,
    _blobs: TempDir,
}

/// The wall clock of the database's server.
pub(crate) struct DatabaseClock {
    folder: TempDir,
}

impl DatabaseClock {
    fn at(time: Timestamp) -> Self {
        let folder = tempfile::Builder::new().prefix("penstock-clock.").tempdir_in("/tmp").unwrap();
        // The server runs as another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let clock = Self { folder };
        clock.set(time);
        clock
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ahead")
    }

    /// Sets it; it goes on from there.
    pub(crate) fn set(&self, time: Timestamp) {
        let ahead = time.duration_since(Timestamp::now());
        assert!(ahead >= SignedDuration::ZERO, "a clock that is ahead");
        let new = self.folder.path().join("new");
        fs::write(&new, format!("+{}", ahead.as_secs())).unwrap();
        // In one step, for it is read all the time.
        fs::rename(new, self.file()).unwrap();
    }
}

impl Stage {
    pub(crate) async fn set_up(plan: Plan) -> Self {
        let mut cluster = Cluster::made(&["max_connections=150"]);
        let clock = plan.time.map(DatabaseClock::at);
        if let Some(clock) = &clock {
            cluster.set_env(by_file(&clock.file()));
        }
        cluster.boot().await;
        migrate(&generous(cluster.config())).await.expect("migrated");
        let bouncer = if plan.pgbouncer { Some(PgBouncer::before(&cluster.config(), "").await) } else { None };
        let url = bouncer.as_ref().map_or_else(|| cluster.url(), PgBouncer::url);
        let blobs = tempfile::tempdir().unwrap();
        let prefix = shared_redis::prefix();
        let start = || {
            let mut setup = Setup::on_database_of(&url)
                .env("PENSTOCK_LOG__LEVEL", "info")
                .env("PENSTOCK_DATABASE__MIGRATE_AT_START", "false")
                .env("DATA_ROOT", blobs.path().to_str().unwrap())
                .env("PENSTOCK_QUOTA__REFUSAL_TTL", "200ms")
                // A request goes past a server that is away soon.
                .env("PENSTOCK_POSTGRES__WAIT_TIMEOUT", "1s")
                .env("PG_POOL_MIN", "1")
                .env("PG_POOL_MAX", "6");
            if plan.redis {
                let redis = [("REDIS_URL", shared_redis::shared_url()), ("PENSTOCK_REDIS__KEY_PREFIX", prefix.clone())];
                setup = setup.envs(redis);
            }
            let short_leases = SHORT_LEASES.iter().filter(|_| plan.short_leases);
            setup.envs(short_leases.chain(plan.settings).map(|&(name, value)| (name, value.to_owned()))).start()
        };
        let nodes = join_all((0..INSTANCES).map(|_| start())).await;
        let clients = Clients::new(products(&nodes[0]).await, INSTANCES);
        for (number, node) in nodes.iter().enumerate() {
            clients.place(number, Some(node.url("")));
        }
        let tasks = clients.start();
        Self { cluster, nodes, clients, tasks, clock, _bouncer: bouncer, _blobs: blobs }
    }

    /// One more client asks an instance for something.
    pub(crate) fn ask(&mut self, instance: usize, product: usize) -> AbortHandle {
        let clients = Arc::clone(&self.clients);
        self.tasks.spawn(async move {
            clients.ask(instance, product).await;
        })
    }

    /// Has an instance begin a long stream, and waits until it is in the middle of it.
    pub(crate) async fn is_in_the_middle_of_a_stream(&mut self, instance: usize) {
        let asking = self.ask(instance, LONG);
        eventually("the instance sends the long content", async || {
            self.clients.is_sending(instance) || asking.is_finished()
        })
        .await;
    }

    /// The identity of an instance, by which usage names it.
    pub(crate) fn identity(&self, instance: usize) -> Uuid {
        let name = fs::read_to_string(self.nodes[instance].data_dir().join("node-id")).unwrap();
        name.trim().parse().expect("an id")
    }
}

/// The limits of a tier.
#[derive(Default)]
struct Limits {
    /// So many streams' bytes in a month.
    streams: Option<u64>,
    requests: Option<u64>,
    speed: Option<u32>,
}

/// One is limited in bytes, one in requests, and one in both. The last one takes a second to send.
async fn products(node: &TestNode) -> [Product; LONG + 1] {
    let both = Limits { streams: Some(60), requests: Some(10_000), speed: Some(40) };
    [
        product(node, "bytes", 50_000, Limits { streams: Some(400), ..Limits::default() }).await,
        product(node, "requests", 1000, Limits { requests: Some(400), ..Limits::default() }).await,
        product(node, "both", 4_000_000, both).await,
    ]
}

async fn product(node: &TestNode, tier: &str, size: u64, limits: Limits) -> Product {
    let Limits { streams, requests, speed } = limits;
    // And half a stream, which no client may have.
    let bytes = streams.map(|streams| streams * size + size / 2);
    let policy = json!({ "bytesPerMonth": bytes, "requestsPerMonth": requests, "maxBandwidthMbps": speed });
    node.tier(tier, policy).await;
    let content = sample(size, size as usize);
    let paid = node.paid(&content, tier).await;
    Product { paid, content, bytes, requests, used_up: false.into() }
}
