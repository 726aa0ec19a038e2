//! Redis for tests: the server that the test command started, behind a key prefix of one's own; processes of one's own, to kill,
//! pause, restart and flush; and a cluster of them.

#![allow(dead_code, reason = "shared by test binaries that each use a part of it")]

use std::{
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use penstock::{
    adapters::redis::{RedisLink, RedisSettings},
    config::RedisServers,
    telemetry::Metrics,
};
use redis::{Client, Commands as _, ConnectionLike as _, IntoConnectionInfo as _};
use tempfile::TempDir;
use tokio::runtime::Handle;
use uuid::Uuid;

/// Where the test command has put its server.
const SERVER: &str = "PENSTOCK_TEST_REDIS";

/// How long a server may take to start, to stop, or to be seen in a new state, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The URL of the server that tests share. Every test has a key prefix of its own there, and flushes nothing.
///
/// # Panics
/// When there is no server to test against.
pub(crate) fn shared_url() -> String {
    std::env::var(SERVER).unwrap_or_else(|_| panic!("{SERVER} is not set: run ./test"))
}

/// A key prefix that nobody else has.
pub(crate) fn prefix() -> String {
    format!("test-{}:", Uuid::new_v4().simple())
}

/// Settings that are generous where a test is about something else, with a prefix of their own.
pub(crate) fn settings(servers: RedisServers) -> RedisSettings {
    RedisSettings {
        servers,
        tls: None,
        key_prefix: prefix(),
        connect_timeout: Duration::from_secs(30),
        response_timeout: Duration::from_secs(30),
        breaker_period: Duration::from_millis(200),
        queue: 4096,
        gather: Duration::from_millis(5),
    }
}

/// One server by its URL.
pub(crate) fn single(url: &str) -> RedisServers {
    RedisServers::Single(Box::new(url.into_connection_info().expect("a URL of Redis")))
}

/// A link on this runtime, with metrics of its own.
pub(crate) async fn link(settings: RedisSettings) -> (RedisLink, Metrics) {
    let metrics = Metrics::new().expect("metrics");
    let link = RedisLink::open(settings, Arc::clone(&metrics.redis), Handle::current()).await;
    penstock::wiring::observe_redis(&metrics, link.clone());
    (link, metrics)
}

/// A link to the server that tests share.
pub(crate) async fn shared_link() -> (RedisLink, Metrics) {
    let (link, metrics) = link(settings(single(&shared_url()))).await;
    assert!(link.is_up(), "the test server answers");
    (link, metrics)
}

/// Waits until something is true.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A Redis process that belongs to one test. Ends with it.
pub(crate) struct RedisServer {
    folder: TempDir,
    port: u16,
    options: Vec<String>,
    process: Option<std::process::Child>,
}

impl RedisServer {
    /// Keeps nothing on disk.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With options of `redis-server`, such as `["--appendonly", "yes"]`.
    pub(crate) fn with(options: &[&str]) -> Self {
        // Somebody may take a port between finding it free and using it, so a free one is found by using it.
        for _ in 0..20 {
            let folder = tempfile::tempdir().expect("a folder");
            let options = options.iter().map(|option| (*option).to_owned()).collect();
            let mut server = Self { folder, port: some_port(), options, process: None };
            if server.boot() {
                return server;
            }
        }
        panic!("Redis did not start");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn servers(&self) -> RedisServers {
        single(&self.url())
    }

    /// SIGKILL: connections break, new ones are refused, what is in memory is lost.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("a running server");
        process.kill().expect("killed");
        process.wait().expect("ended");
    }

    /// Starts it again at the same address.
    pub(crate) fn restart(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.boot() {
            assert!(Instant::now() < deadline, "Redis did not start again");
        }
    }

    /// SIGSTOP: connections stay, and nothing answers.
    pub(crate) fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("a running server");
        kill(Pid::from_raw(i32::try_from(process.id()).expect("a pid")), signal).expect("signalled");
    }

    /// A connection beside the node, as an operator would have one. It blocks.
    pub(crate) fn client(&self) -> redis::Connection {
        Client::open(self.url()).expect("a client").get_connection().expect("a connection")
    }

    /// Bytes that it has taken for what it keeps.
    pub(crate) fn used_memory(&self) -> u64 {
        let info: String = redis::cmd("INFO").arg("memory").query(&mut self.client()).expect("told");
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("Redis says it");
        used.trim().parse().expect("a number")
    }

    pub(crate) fn flush(&self) {
        self.client().flushall::<()>().expect("flushed");
    }

    /// Starts the process and waits until it answers; false when the port is taken.
    fn boot(&mut self) -> bool {
        let mut process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"])
            .args(["--dir", self.folder.path().to_str().expect("a path of text")])
            .args(&self.options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed: run ./test");
        let client = Client::open(self.url()).expect("a client");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if process.try_wait().expect("a status").is_some() {
                return false;
            }
            if client.get_connection().is_ok_and(|mut connection| connection.check_connection()) {
                self.process = Some(process);
                return true;
            }
            assert!(Instant::now() < deadline, "Redis does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // A paused process dies of SIGKILL too.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

pub(crate) fn some_port() -> u16 {
    // Below the ports that the kernel hands out, and such that the bus of a cluster fits in above it.
    let random = Uuid::new_v4().as_u128() % 10_000;
    20_000 + u16::try_from(random).expect("below 10,000")
}

/// A cluster of a test's own: three masters with a replica each.
pub(crate) struct RedisCluster {
    pub(crate) nodes: Vec<RedisServer>,
}

impl RedisCluster {
    pub(crate) fn start() -> Self {
        let options =
            ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0"];
        let nodes: Vec<_> = (0..6).map(|_| RedisServer::with(&options)).collect();
        let addresses: Vec<_> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        let created = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(&addresses)
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .output()
            .expect("redis-cli is installed: run ./test");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        let cluster = Self { nodes };
        cluster.wait_until_whole();
        cluster
    }

    /// Some of the nodes, as an operator would name them.
    pub(crate) fn servers(&self) -> RedisServers {
        let infos = self.nodes.iter().take(3).map(|node| node.url().into_connection_info().expect("a URL"));
        RedisServers::Cluster(infos.collect())
    }

    /// As `REDIS_CLUSTER_NODES` has it.
    pub(crate) fn node_list(&self) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        nodes.join(",")
    }

    /// Waits until every node knows who has which slots, and their replicas.
    fn wait_until_whole(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let whole = self.nodes.iter().all(|node| {
                let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut node.client()).expect("told");
                let ranges = slot_ranges(node);
                info.contains("cluster_state:ok") && ranges.len() == 3 && ranges.iter().all(|range| range.len() == 4)
            });
            if whole {
                return;
            }
            assert!(Instant::now() < deadline, "the cluster is not whole");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The node that is the master of a slot.
    pub(crate) fn master_of(&mut self, slot: u16) -> &mut RedisServer {
        let running = self.nodes.iter().find(|node| node.process.is_some()).expect("a running node");
        let port = slot_ranges(running).iter().find_map(|range| {
            let [redis::Value::Int(first), redis::Value::Int(last), redis::Value::Array(master), ..] = range.as_slice()
            else {
                return None;
            };
            let redis::Value::Int(port) = master[1] else { return None };
            (*first..=*last).contains(&i64::from(slot)).then_some(port)
        });
        let port = port.expect("somebody has the slot");
        self.nodes.iter_mut().find(|node| i64::from(node.port()) == port).expect("one of these")
    }
}

/// What a node answers to `CLUSTER SLOTS`: for each range the first slot, the last, the master, the replicas.
fn slot_ranges(node: &RedisServer) -> Vec<Vec<redis::Value>> {
    redis::cmd("CLUSTER").arg("SLOTS").query(&mut node.client()).expect("told")
}
