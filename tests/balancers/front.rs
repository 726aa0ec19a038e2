//! One suite for both balancers.

use std::{net::TcpListener, process::Stdio, time::Duration};

use reqwest::{Client, Method};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use crate::{
    node::{ADMIN_KEY, Setup, TestNode, expect, hex_sha256, sample},
    postgres::TestDatabase,
    shipped::shipped,
};

/// How long a balancer may take to listen on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nginx,
    Haproxy,
}

/// Two instances behind a balancer.
struct Site {
    nodes: [TestNode; 2],
    url: String,
    client: Client,
    _balancer: Child,
    _folder: TempDir,
    _blobs: TempDir,
    _database: TestDatabase,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn nginx(folder: &TempDir, port: u16, nodes: [&str; 2]) -> Command {
    let path = folder.path().display();
    let servers = nodes.map(|node| format!("server {node} max_fails=2 fail_timeout=5s;")).join("\n");
    let text = shipped(
        "nginx.conf",
        &[
            (
                "worker_processes auto;",
                &format!("worker_processes 1;\ndaemon off;\nmaster_process off;\npid {path}/pid;"),
            ),
            ("worker_rlimit_nofile 65536;", ""),
            ("worker_connections 16384;", "worker_connections 512;"),
            ("server penstock-1:8080 max_fails=2 fail_timeout=5s;", &servers),
            ("server penstock-2:8080 max_fails=2 fail_timeout=5s;", ""),
            ("server penstock-3:8080 max_fails=2 fail_timeout=5s;", ""),
            ("/var/log/nginx/penstock.log", &format!("{path}/access.log")),
            (
                "listen 80;",
                &format!(
                    "listen 127.0.0.1:{port};\n        client_body_temp_path {path}/body;\n        proxy_temp_path {path}/proxy;"
                ),
            ),
        ],
    );
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-c").arg(file).arg("-e").arg(folder.path().join("error.log"));
    command
}

fn haproxy(folder: &TempDir, port: u16, nodes: [&str; 2]) -> Command {
    let text = shipped(
        "haproxy.cfg",
        &[
            ("maxconn 20000", "maxconn 500"),
            ("bind :80", &format!("bind 127.0.0.1:{port}")),
            ("penstock-1:8080", nodes[0]),
            ("penstock-2:8080", nodes[1]),
            ("    server penstock-3 penstock-3:8080\n", ""),
        ],
    );
    let file = folder.path().join("haproxy.cfg");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(file);
    command
}

impl Site {
    async fn start(kind: Kind) -> Self {
        let database = TestDatabase::empty().await;
        let blobs = tempfile::tempdir().unwrap();
        let setup = || {
            Setup::on_database_of(&database.url())
                .env("DATA_ROOT", blobs.path().to_str().unwrap())
                .env("PENSTOCK_SERVER__TRUSTED_PROXIES", "127.0.0.0/8")
                // Each client may make two calls a minute to this class, so that it shows who counts as whom.
                .env("RATE_LIMITS_JSON", r#"{"catalogue":2}"#)
                .start()
        };
        let first = setup().await;
        let nodes = [first, setup().await];
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let addresses = [nodes[0].address(), nodes[1].address()];
        let mut command = match kind {
            Kind::Nginx => nginx(&folder, port, addresses),
            Kind::Haproxy => haproxy(&folder, port, addresses),
        };
        let balancer = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn();
        let balancer = balancer.expect("nginx and haproxy are installed by ./test");
        tokio::time::timeout(PATIENCE, async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .expect("the balancer listens");
        let client = nodes[0].client.clone();
        let url = format!("http://127.0.0.1:{port}");
        Self { nodes, url, client, _balancer: balancer, _folder: folder, _blobs: blobs, _database: database }
    }

    /// What both instances count together.
    async fn metric(&self, name: &str, labels: &str) -> f64 {
        self.nodes[0].metric(name, labels).await + self.nodes[1].metric(name, labels).await
    }

    async fn finish(mut self) {
        for node in &mut self.nodes {
            if node.is_running() {
                assert!(node.terminate().await.success());
            }
        }
        self.nodes[1].finish().await;
    }
}

async fn serves_as_one(kind: Kind) {
    let mut site = Site::start(kind).await;
    // Content in, through the balancer.
    let bytes = sample(50, 12_000_000);
    let upload = site.client.request(Method::POST, format!("{}/v1/content", site.url)).bearer_auth(ADMIN_KEY);
    let answer = expect(upload.body(bytes.clone()).send().await.unwrap(), &[201]).await;
    assert_eq!(answer["contentHash"], hex_sha256(&bytes));
    let version = site.nodes[0].publish(&hex_sha256(&bytes), "film").await;
    let receipt = site.nodes[1].receipt(&version, json!({ "quotaTier": "unlimited" })).await;

    // Content out: whole and in part, and both instances have their share.
    let url = format!("{}/v1/streaming/data/{}", site.url, hex_sha256(&bytes));
    for turn in 0..8 {
        let request =
            site.client.get(&url).header("x-receipt-id", &receipt).header("x-request-id", format!("turn-{turn}"));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["x-request-id"], format!("turn-{turn}"), "the id goes both ways");
        assert_eq!(answer.bytes().await.unwrap(), bytes);
    }
    let part = site.client.get(&url).header("x-receipt-id", &receipt).header("range", "bytes=5000000-5000099");
    let part = part.send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await.unwrap(), bytes[5_000_000..5_000_100]);

    // A client that leaves ends its stream at the instance, charged by what was sent and not by what the balancer could hold.
    let tier = json!({ "maxBandwidthMbps": 8 });
    site.nodes[0].tier("slow", tier).await;
    let slow = site.nodes[0].receipt(&version, json!({ "quotaTier": "slow" })).await;
    let mut running = site.client.get(&url).header("x-receipt-id", &slow).send().await.unwrap();
    running.chunk().await.unwrap().expect("it runs");
    assert_eq!(site.metric("penstock_streams_active", "").await, 1.0);
    drop(running);
    for node in &site.nodes {
        node.metric_becomes("penstock_streams_active", "", 0.0).await;
    }
    let (charged, _) = site.nodes[0].charged(&slow).await;
    assert!(charged < bytes.len() as u64 / 2, "{charged} of {}", bytes.len());

    // The client's own address counts, not the balancer's.
    let asset = format!("{}/v1/assets/{version}", site.url);
    let mut refused = 0;
    for _ in 0..6 {
        refused += u32::from(site.client.get(&asset).send().await.unwrap().status() == 429);
    }
    assert!(refused >= 2, "each instance lets two calls of a client through");
    let other = site.client.get(&asset).header("x-forwarded-for", "203.0.113.7").send().await.unwrap();
    assert_eq!(other.status(), 200, "another client, who came through a balancer before this one");

    // An instance that is told to stop loses nothing: the other one serves.
    assert!(site.nodes[0].terminate().await.success());
    for _ in 0..6 {
        let answer = site.client.get(&url).header("x-receipt-id", &receipt).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.bytes().await.unwrap().len(), bytes.len());
    }
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_behind_nginx_serve_as_one() {
    serves_as_one(Kind::Nginx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_behind_haproxy_serve_as_one() {
    serves_as_one(Kind::Haproxy).await;
}
