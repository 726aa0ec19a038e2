//! Instances with the services that they share, and a line that can be broken between any two of them.

use std::{collections::HashMap, fs, net::SocketAddr, path::PathBuf, time::Duration};

use futures::future::join_all;
use penstock::config::S3Client;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    cluster::Cluster,
    faketime::by_file,
    load::Product,
    node::{On, Setup, TestNode, expect, sample},
    patience::eventually,
    proxy::{Fault, Proxy},
    redis_server::RedisServer,
    s3::TestBuckets,
    s3_server::S3Server,
    small_disk::SmallDisk,
};

/// What a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Postgres,
    Redis,
    S3,
    /// An instance, as its clients reach it.
    Instance,
}

/// What a scenario needs.
pub(crate) struct Plan {
    /// Two instances on PostgreSQL, Redis and S3, or one by itself, with all that it keeps on its disk.
    pub(crate) on: On,
    /// How long the fault lasts.
    pub(crate) lasts: Duration,
    /// An S3 server that can be killed and paused.
    pub(crate) own_s3: bool,
    /// The disk of an instance by itself.
    pub(crate) disk: Option<&'static str>,
    /// Whose clock can be set: the first instance's, or PostgreSQL's.
    pub(crate) clock: Option<Part>,
    pub(crate) settings: &'static [(&'static str, &'static str)],
}

impl Plan {
    /// Longer than it takes to give up a silent service: 5 s for S3, 2 s for PostgreSQL.
    pub(crate) const SHARED: Self =
        Self { on: On::Postgres, lasts: Duration::from_secs(6), own_s3: false, disk: None, clock: None, settings: &[] };

    pub(crate) const ALONE: Self = Self { on: On::Sqlite, ..Self::SHARED };
}

pub(crate) struct Scene {
    pub(crate) postgres: Option<Cluster>,
    pub(crate) redis: Option<RedisServer>,
    pub(crate) s3: Option<S3Server>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) disk: Option<SmallDisk>,
    /// Of the file that says how far the clock is ahead.
    clock: TempDir,
}

pub(crate) struct Instance {
    pub(crate) node: TestNode,
    lines: HashMap<Part, Proxy>,
    /// Whether it ended without having settled all that it had sent.
    pub(crate) was_killed: bool,
}

impl Scene {
    pub(crate) async fn set_up(plan: &Plan) -> Self {
        let clock = tempfile::Builder::new().prefix("penstock-clock.").tempdir_in("/tmp").unwrap();
        // PostgreSQL runs as another user.
        fs::set_permissions(clock.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let disk = plan.disk.map(SmallDisk::mounted);
        let mut scene = Self { postgres: None, redis: None, s3: None, instances: Vec::new(), disk, clock };
        scene.set_clock("+0");
        let mut setups = Vec::new();
        if plan.on == On::Sqlite {
            let disk = scene.disk.as_ref().map(|disk| disk.path().display().to_string());
            setups.push((Setup::new(On::Sqlite).envs(disk.map(|path| ("PENSTOCK_DATA_DIR", path))), HashMap::new()));
        } else {
            setups = scene.with_services(plan).await;
        }
        let clock = scene.clock_file();
        let starts = setups.into_iter().enumerate().map(|(number, (mut setup, mut lines))| {
            // The content comes from storage each time.
            setup = setup.env("PENSTOCK_STREAMS__MEMORY_CACHE", "0").env("PENSTOCK_LOG__LEVEL", "info");
            if plan.clock == Some(Part::Instance) && number == 0 {
                setup = setup.envs(by_file(&clock));
            }
            let setup = setup.envs(plan.settings.iter().map(|&(name, value)| (name, value.to_owned())));
            async move {
                let node = setup.start().await;
                lines.insert(Part::Instance, Proxy::started(listens_at(&node)).await);
                Instance { node, lines, was_killed: false }
            }
        });
        scene.instances = join_all(starts).await;
        scene
    }

    async fn with_services(&mut self, plan: &Plan) -> Vec<(Setup, HashMap<Part, Proxy>)> {
        let mut postgres = Cluster::made(&[]);
        if plan.clock == Some(Part::Postgres) {
            postgres.set_env(by_file(&self.clock_file()));
        }
        postgres.boot().await;
        let redis = RedisServer::start();
        let mut buckets = TestBuckets::new(S3Client::ObjectStore);
        self.s3 = plan.own_s3.then(S3Server::start);
        let s3_at = match &self.s3 {
            Some(server) => server.address(),
            None => buckets.endpoint.trim_start_matches("http://").parse().expect("an address"),
        };
        let mut setups = Vec::new();
        for _ in 0..2 {
            let to_postgres = Proxy::started(([127, 0, 0, 1], postgres.port()).into()).await;
            let to_redis = Proxy::started(([127, 0, 0, 1], redis.port()).into()).await;
            let to_s3 = Proxy::started(s3_at).await;
            buckets.endpoint = to_s3.url();
            let setup = Setup::on_database_of(&format!("postgres://postgres@{}/postgres", to_postgres.address()))
                .env("REDIS_URL", format!("redis://{}", to_redis.address()))
                .envs(buckets.env());
            let lines = [(Part::Postgres, to_postgres), (Part::Redis, to_redis), (Part::S3, to_s3)];
            setups.push((setup, HashMap::from(lines)));
        }
        (self.postgres, self.redis) = (Some(postgres), Some(redis));
        setups
    }

    /// Where clients find the instances, whatever happens to them.
    pub(crate) fn places(&self) -> Vec<SocketAddr> {
        self.instances.iter().map(|instance| instance.line(Part::Instance).address()).collect()
    }

    /// Contents, small and large, under receipts without and with limits.
    pub(crate) async fn products(&self) -> Vec<Product> {
        let node = &self.instances[0].node;
        let limits = json!({
            "bytesPerHour": 1_u64 << 40, "bytesPerDay": 1_u64 << 41, "bytesPerMonth": 1_u64 << 42,
            "requestsPerHour": 1 << 24, "requestsPerDay": 1 << 25, "requestsPerMonth": 1 << 26,
            "maxConcurrentStreams": 1000,
        });
        // Slow enough that a fault finds streams in the middle.
        let slow = json!({ "maxBandwidthMbps": 60, "maxConcurrentStreams": 1000 });
        node.tier("limited", limits).await;
        node.tier("slow", slow).await;
        let mut products = Vec::new();
        let of_tiers = [(20_000, "unlimited"), (20_000, "limited"), (3_000_000, "slow"), (3_000_000, "limited")];
        for (number, (size, tier)) in of_tiers.into_iter().enumerate() {
            let content = sample(number as u64, size);
            let paid = node.paid(&content, tier).await;
            products.push(Product { paid, content, is_large: size > 1_000_000, is_limited: tier == "limited" });
        }
        products
    }

    /// The lines of all instances to a service, or of all clients to instances, have this fault.
    pub(crate) fn break_lines(&self, to: Part, fault: Fault) {
        self.instances.iter().for_each(|instance| instance.line(to).set(fault));
    }

    pub(crate) fn heal_lines(&self, to: Part) {
        self.instances.iter().for_each(|instance| instance.line(to).heal());
    }

    pub(crate) fn postgres(&mut self) -> &mut Cluster {
        self.postgres.as_mut().expect("on PostgreSQL")
    }

    pub(crate) fn redis(&mut self) -> &mut RedisServer {
        self.redis.as_mut().expect("on Redis")
    }

    pub(crate) fn s3(&mut self) -> &mut S3Server {
        self.s3.as_mut().expect("an S3 server of its own")
    }

    /// Where an instance by itself keeps all that it has.
    pub(crate) fn data_dir(&self) -> PathBuf {
        match &self.disk {
            Some(disk) => disk.path().to_owned(),
            None => self.instances[0].node.data_dir(),
        }
    }

    fn clock_file(&self) -> PathBuf {
        self.clock.path().join("ahead")
    }

    /// How far the clock that can be set is ahead, such as "+7200" or "-7200".
    pub(crate) fn set_clock(&self, by: &str) {
        let new = self.clock.path().join("new");
        fs::write(&new, by).unwrap();
        // In one step, for it is read all the time.
        fs::rename(new, self.clock_file()).unwrap();
    }

    /// Waits until each instance says that all is well.
    pub(crate) async fn is_ready(&self) {
        for Instance { node, .. } in &self.instances {
            eventually("the instance is ready", async || {
                let ready = node.get("/health/ready").send().await;
                let Ok(answer) = ready else { return false };
                answer.status() == 200 && expect(answer, &[200]).await["status"] == "ok"
            })
            .await;
        }
    }
}

impl Instance {
    pub(crate) fn line(&self, to: Part) -> &Proxy {
        &self.lines[&to]
    }

    /// Cut off from all services, while clients reach it.
    pub(crate) fn break_lines_to_services(&self, fault: Fault) {
        let to_services = self.lines.iter().filter(|(part, _)| **part != Part::Instance);
        to_services.for_each(|(_, line)| line.set(fault));
    }

    pub(crate) fn heal_lines_to_services(&self) {
        self.lines.values().for_each(Proxy::heal);
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) {
        self.was_killed = true;
        self.node.kill().await;
    }

    /// For an instance that has ended by itself.
    pub(crate) async fn has_ended(&mut self) {
        self.was_killed = true;
        self.node.ended().await;
    }

    /// Starts it again in the same data folder, where clients find it.
    pub(crate) async fn restart(&mut self) {
        self.node.boot().await;
        self.line(Part::Instance).lead_to(listens_at(&self.node));
    }

    /// SIGSTOP.
    pub(crate) fn pause(&self) {
        self.node.signal(libc::SIGSTOP);
    }

    pub(crate) fn resume(&self) {
        self.node.signal(libc::SIGCONT);
    }
}

fn listens_at(node: &TestNode) -> SocketAddr {
    node.address().parse().expect("an address")
}
