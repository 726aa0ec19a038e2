//! A node of one's own: the real binary on a free port, with throw-away data, on SQLite or on PostgreSQL.

#![allow(dead_code, reason = "shared by test binaries that each use a part of it")]

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStderr, Command},
};

use crate::postgres::TestDatabase;

/// The admin key of every test node.
pub(crate) const ADMIN_KEY: &str = "test-admin-key";

/// How long a node may take to start or stop on a busy machine before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which database a node keeps its ledger in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Sqlite,
    Postgres,
}

/// Runs a test on both databases: `on_both!(name, async |node| { .. })`, where `node` is a fresh [`TestNode`].
#[macro_export]
macro_rules! on_both {
    ($name:ident, $test:expr) => {
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                let test: fn(&mut $crate::node::TestNode) -> futures::future::LocalBoxFuture<'_, ()> =
                    |node| Box::pin(async move { ($test)(node).await });
                let mut node = $crate::node::TestNode::start($crate::node::On::Sqlite).await;
                test(&mut node).await;
                node.finish().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                let test: fn(&mut $crate::node::TestNode) -> futures::future::LocalBoxFuture<'_, ()> =
                    |node| Box::pin(async move { ($test)(node).await });
                let mut node = $crate::node::TestNode::start($crate::node::On::Postgres).await;
                test(&mut node).await;
                node.finish().await;
            }
        }
    };
}

/// Runs a test on SQLite alone, where the database cannot matter.
#[macro_export]
macro_rules! on_sqlite {
    ($name:ident, $test:expr) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let test: fn(&mut $crate::node::TestNode) -> futures::future::LocalBoxFuture<'_, ()> =
                |node| Box::pin(async move { ($test)(node).await });
            let mut node = $crate::node::TestNode::start($crate::node::On::Sqlite).await;
            test(&mut node).await;
            node.finish().await;
        }
    };
}

/// A node before it is started.
pub(crate) struct Setup {
    on: On,
    env: Vec<(String, String)>,
    data: Option<PathBuf>,
    binary: PathBuf,
}

impl Setup {
    pub(crate) fn new(on: On) -> Self {
        Self { on, env: Vec::new(), data: None, binary: PathBuf::from(env!("CARGO_BIN_EXE_penstock")) }
    }

    /// With another build of the binary.
    pub(crate) fn binary(mut self, binary: PathBuf) -> Self {
        self.binary = binary;
        self
    }

    /// On a PostgreSQL that belongs to somebody else: of another node, or behind a proxy.
    pub(crate) fn on_database_of(url: &str) -> Self {
        Self::new(On::Sqlite).env("DATABASE_URL", url)
    }

    /// Another instance beside a node on PostgreSQL: on its database and its folder of blobs.
    pub(crate) fn beside(node: &TestNode) -> Self {
        let url = node.database.as_ref().expect("a node on PostgreSQL").url();
        Self::on_database_of(&url).env("DATA_ROOT", node.data_dir().join("blobs").to_str().expect("a path of text"))
    }

    /// A setting by its variable, as `PENSTOCK_QUOTA__LEASE_TTL`.
    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// With a copy of another node's data folder.
    pub(crate) fn with_copy_of(mut self, data: PathBuf) -> Self {
        self.data = Some(data);
        self
    }

    /// Settings by their variables.
    pub(crate) fn envs(mut self, variables: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        self.env.extend(variables.into_iter().map(|(name, value)| (name.to_owned(), value)));
        self
    }

    pub(crate) async fn start(self) -> TestNode {
        let folder = tempfile::tempdir().expect("a folder");
        let database = match self.on {
            On::Sqlite => None,
            On::Postgres => Some(TestDatabase::empty().await),
        };
        let mut env = self.env;
        if let Some(database) = &database {
            env.push(("DATABASE_URL".to_owned(), database.url()));
        }
        // Every request of a test is logged where the test's output is, unless it says otherwise.
        env.insert(0, ("PENSTOCK_LOG__LEVEL".to_owned(), "info,penstock=debug".to_owned()));
        if let Some(data) = &self.data {
            copy_folder(data, &folder.path().join("data"));
        }
        let binary = self.binary;
        let mut node = TestNode { folder, database, env, binary, process: None, base: String::new(), client: client() };
        node.boot().await;
        node
    }
}

/// A running node.
pub(crate) struct TestNode {
    pub(crate) folder: TempDir,
    pub(crate) database: Option<TestDatabase>,
    env: Vec<(String, String)>,
    binary: PathBuf,
    process: Option<Child>,
    base: String,
    pub(crate) client: Client,
}

impl TestNode {
    pub(crate) async fn start(on: On) -> Self {
        Setup::new(on).start().await
    }

    /// The binary with this node's environment.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        // What the machine's own environment says must not reach the node.
        for (name, _) in std::env::vars() {
            if name.starts_with("PENSTOCK_")
                || name.starts_with("PG")
                || name.starts_with("REDIS_")
                || name.starts_with("S3_")
                || name.starts_with("AWS_")
                || name == "STORAGE_BACKEND"
                || name == "DATABASE_URL"
            {
                command.env_remove(name);
            }
        }
        command
            .env("PENSTOCK_ADMIN_KEY", ADMIN_KEY)
            .env("PENSTOCK_DATA_DIR", self.data_dir())
            .env("PENSTOCK_BIND", "127.0.0.1:0")
            .envs(self.env.iter().cloned())
            .kill_on_drop(true);
        command
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Changes a setting for the next start.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Starts the process and waits until it listens.
    pub(crate) async fn boot(&mut self) {
        let process = self.command().arg("serve").stdout(Stdio::piped()).spawn().expect("the binary starts");
        self.listening(process).await;
    }

    /// As [`boot`](Self::boot); what the node logs goes to the caller.
    pub(crate) async fn boot_with_stderr(&mut self) -> ChildStderr {
        let mut command = self.command();
        let started = command.arg("serve").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut process = started.expect("the binary starts");
        let stderr = process.stderr.take().expect("piped");
        self.listening(process).await;
        stderr
    }

    /// As [`boot`](Self::boot); what the node logs goes to a file, so that a node that logs much waits for no reader.
    pub(crate) async fn boot_logging_to(&mut self, log: std::fs::File) {
        let started = self.command().arg("serve").stdout(Stdio::piped()).stderr(log).spawn();
        self.listening(started.expect("the binary starts")).await;
    }

    async fn listening(&mut self, mut process: Child) {
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let listening = async {
            while let Some(line) = lines.next_line().await.expect("text") {
                if let Some(base) = line.strip_prefix("listening on ") {
                    return Some(base.to_owned());
                }
            }
            None
        };
        let base = tokio::time::timeout(PATIENCE, listening).await.expect("the node starts in time");
        self.base = base.expect("the node listens before it ends");
        self.process = Some(process);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().and_then(Child::id).expect("a running node")
    }

    /// Whether the process was started, has not been stopped here, and has not ended by itself.
    pub(crate) fn is_running(&self) -> bool {
        self.process.as_ref().and_then(Child::id).is_some_and(|pid| {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // What follows the name in parentheses; a zombie has ended.
            state.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with(['Z', 'X']) && !rest.is_empty())
        })
    }

    /// SIGKILL: nothing is flushed.
    pub(crate) async fn kill(&mut self) {
        self.process.take().expect("a running node").kill().await.expect("killed");
    }

    pub(crate) fn signal(&self, signal: i32) {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(self.pid()).expect("a pid")),
            nix::sys::signal::Signal::try_from(signal).expect("a signal"),
        )
        .expect("the node is there");
    }

    /// SIGTERM, and how the process ended.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.signal(libc::SIGTERM);
        self.ended().await
    }

    /// Waits until the process has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("a running node");
        tokio::time::timeout(PATIENCE, process.wait()).await.expect("the node stops in time").expect("a status")
    }

    /// Stops the node and checks what every test must leave: a clean exit, and an audit without a difference.
    pub(crate) async fn finish(&mut self) {
        if self.process.is_some() {
            assert!(self.terminate().await.success(), "the node drains and exits with 0");
        }
        let audit = self.run(&["audit"]).await;
        assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
    }

    /// Runs another command of the binary on this node's data.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().await.expect("the binary runs")
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Where the node listens, as `127.0.0.1:8080`.
    pub(crate) fn address(&self) -> &str {
        self.base.split_once("://").map_or(&*self.base, |(_, address)| address)
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path))
    }

    /// A request with the admin key.
    pub(crate) fn admin(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path)).bearer_auth(ADMIN_KEY)
    }

    /// Uploads bytes; their hash.
    pub(crate) async fn put(&self, bytes: &[u8], media_type: &str) -> String {
        let upload = self.admin(Method::POST, "/v1/content").header("content-type", media_type).body(bytes.to_vec());
        let answer = expect(upload.send().await.expect("an answer"), &[201, 200]).await;
        assert_eq!(answer["contentHash"], hex_sha256(bytes));
        hex_sha256(bytes)
    }

    /// Makes an asset; its version id.
    pub(crate) async fn publish(&self, hash: &str, name: &str) -> String {
        let asset = self.admin(Method::POST, "/v1/assets").json(&json!({ "contentHash": hash, "name": name }));
        let answer = expect(asset.send().await.expect("an answer"), &[201]).await;
        text(&answer, "versionId")
    }

    /// Makes a receipt with these members beside the asset; its id.
    pub(crate) async fn receipt(&self, version: &str, mut members: Value) -> String {
        members["versionId"] = version.into();
        let receipt = self.admin(Method::POST, "/v1/receipts").json(&members);
        let answer = expect(receipt.send().await.expect("an answer"), &[201]).await;
        text(&answer, "receiptId")
    }

    /// Makes a tier with these limits.
    pub(crate) async fn tier(&self, name: &str, limits: Value) {
        let policy = self.admin(Method::PUT, &format!("/v1/streaming/policies/{name}")).json(&limits);
        expect(policy.send().await.expect("an answer"), &[200, 201]).await;
    }

    /// Bytes stored, published and paid for.
    pub(crate) async fn paid(&self, bytes: &[u8], tier: &str) -> Paid {
        let hash = self.put(bytes, "application/octet-stream").await;
        let version = self.publish(&hash, "content.bin").await;
        let receipt = self.receipt(&version, json!({ "quotaTier": tier })).await;
        Paid { hash, version, receipt }
    }

    /// A request to stream.
    pub(crate) fn stream(&self, paid: &Paid) -> RequestBuilder {
        self.get(&format!("/v1/streaming/data/{}", paid.hash)).header("x-receipt-id", &paid.receipt)
    }

    /// As [`stream`](Self::stream), in a session of its own, so that it ends no other stream.
    pub(crate) fn stream_apart(&self, paid: &Paid) -> RequestBuilder {
        self.stream(paid).header("x-session-id", uuid::Uuid::new_v4().to_string())
    }

    pub(crate) async fn set_status(&self, receipt: &str, status: &str) -> Response {
        let change = self.admin(Method::PATCH, &format!("/v1/receipts/{receipt}")).json(&json!({ "status": status }));
        change.send().await.expect("an answer")
    }

    pub(crate) async fn quota(&self, receipt: &str) -> Value {
        expect(self.get(&format!("/v1/streaming/quotas/{receipt}")).send().await.expect("an answer"), &[200]).await
    }

    /// Bytes and requests that the month of a receipt has been charged.
    pub(crate) async fn charged(&self, receipt: &str) -> (u64, u64) {
        let month = self.quota(receipt).await["windows"]["month"].clone();
        (month["bytesUsed"].as_u64().expect("a number"), month["requestsUsed"].as_u64().expect("a number"))
    }

    /// The sum of a metric over its series whose labels contain `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        let page = self.get("/metrics").send().await.expect("an answer").text().await.expect("text");
        page.lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter(|line| line.contains(labels))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Waits until a metric has a value; for what follows soon after an answer.
    pub(crate) async fn metric_becomes(&self, name: &str, labels: &str, expected: f64) {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let value = self.metric(name, labels).await;
            if value == expected {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{name} stays at {value} instead of {expected}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Resident memory of the process, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, line_of: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a running node");
        let line = status.lines().find_map(|line| line.strip_prefix(line_of)).expect("Linux says it");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
    }

    /// The most memory that the process has had resident since its peak was last forgotten, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Memory that the process has reserved, in bytes, whether it is used or not.
    pub(crate) fn address_space(&self) -> u64 {
        self.memory("VmSize:")
    }

    /// Starts to look for a peak anew; the resident memory now.
    pub(crate) fn forget_peak_memory(&self) -> u64 {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").expect("a running node of this user");
        self.resident_bytes()
    }

    /// Open files of the process.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("a running node").count()
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// A client without a proxy. Nothing here is encrypted, but the client wants a provider all the same.
pub(crate) fn client() -> Client {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().build().expect("a client")
}

/// Content that somebody holds a receipt for.
#[derive(Debug, Clone)]
pub(crate) struct Paid {
    pub(crate) hash: String,
    pub(crate) version: String,
    pub(crate) receipt: String,
}

/// The JSON of an answer that must have one of these statuses.
pub(crate) async fn expect(answer: Response, statuses: &[u16]) -> Value {
    let status = answer.status();
    let body = answer.text().await.expect("text");
    assert!(statuses.contains(&status.as_u16()), "{status}: {body}");
    serde_json::from_str(&body).unwrap_or(Value::Null)
}

/// A problem document of this status and type.
pub(crate) async fn expect_problem(answer: Response, status: u16, name: &str) -> Value {
    let headers = answer.headers().clone();
    let problem = expect(answer, &[status]).await;
    assert_eq!(headers["content-type"], "application/problem+json");
    assert_eq!(problem["type"], format!("urn:penstock:problem:{name}"), "{problem}");
    assert_eq!(problem["status"], status);
    if matches!(StatusCode::from_u16(status), Ok(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)) {
        assert!(headers.contains_key("retry-after"), "{problem}");
    }
    problem
}

pub(crate) fn text(answer: &Value, member: &str) -> String {
    answer[member].as_str().unwrap_or_else(|| panic!("{member} in {answer}")).to_owned()
}

pub(crate) fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that look random and are the same for the same seed.
pub(crate) fn sample(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
