//! What operators point at a node: a real Prometheus scrapes one that has every dependency, loads the rules, and answers each
//! query of the alerts and of the dashboards.

use std::{collections::BTreeSet, fs, path::Path, process::Output};

use futures::StreamExt as _;
use penstock::config::S3Client;
use reqwest::Method;
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::{
    node::{On, Setup, TestNode, expect, sample},
    patience::eventually,
    s3::TestBuckets,
};

/// Metrics that have no series until something goes wrong, or that need a replica or TLS.
const ABSENT_WHEN_ALL_IS_WELL: [&str; 4] = [
    "penstock_db_pool_refusals_total",
    "penstock_db_replica_lag_seconds",
    "penstock_db_reads_total",
    "penstock_tls_certificate_expiry_timestamp_seconds",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

async fn promtool(arguments: &[&str]) -> Output {
    Command::new("promtool").args(arguments).current_dir(root()).output().await.expect("promtool runs")
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text)).concat()
}

/// Dashboard and query, with the variables filled in.
fn queries() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join("config/grafana/dashboards")).unwrap() {
        let board: Value = serde_json::from_str(&fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
        let title = board["title"].as_str().unwrap();
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let query = target["expr"].as_str().unwrap();
                let query = query.replace("$instance", ".+").replace("$__rate_interval", "1m");
                found.push((format!("{title}, {}", panel["title"]), query));
            }
        }
    }
    found
}

/// The metrics that a query or a rule names.
fn metrics(text: &str) -> BTreeSet<&str> {
    let names = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c)));
    names.filter(|name| name.starts_with("penstock_") || name.starts_with("process_")).collect()
}

/// A Prometheus server of one's own.
struct Prometheus {
    _process: Child,
    _folder: tempfile::TempDir,
    base: String,
    client: reqwest::Client,
}

impl Prometheus {
    async fn scraping(node: &TestNode) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rules = root().join("config/prometheus/penstock.rules.yml");
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{}]\nscrape_configs:\n  \
             - job_name: penstock\n    static_configs: [{{ targets: [\"{}\"] }}]\n",
            rules.display(),
            node.address(),
        );
        fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=error")
            .kill_on_drop(true)
            .spawn()
            .expect("prometheus starts");
        let prometheus = Self {
            _process: process,
            _folder: folder,
            base: format!("http://127.0.0.1:{port}"),
            client: crate::node::client(),
        };
        // Rates need two scrapes.
        eventually("Prometheus scrapes the node", async || {
            prometheus.value("count_over_time(up{job=\"penstock\"}[1m])").await.is_some_and(|scrapes| scrapes >= 3.0)
        })
        .await;
        prometheus
    }

    async fn ask(&self, query: &str) -> Option<Value> {
        let query = percent_encoding::utf8_percent_encode(query, percent_encoding::NON_ALPHANUMERIC);
        let asked = self.client.get(format!("{}/api/v1/query?query={query}", self.base));
        asked.send().await.ok()?.json().await.ok()
    }

    /// The value of the first series of an answer.
    async fn value(&self, query: &str) -> Option<f64> {
        self.ask(query).await?["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

/// A node with PostgreSQL, Redis and S3 that has done some of everything.
async fn node_with_everything(buckets: &TestBuckets) -> TestNode {
    let prefix = format!("test-{}:", uuid::Uuid::new_v4().simple());
    let redis = std::env::var("PENSTOCK_TEST_REDIS").expect("PENSTOCK_TEST_REDIS is not set: run ./test");
    let setup = Setup::new(On::Postgres).envs(buckets.env()).env("REDIS_URL", redis);
    let node = setup.env("PENSTOCK_REDIS__KEY_PREFIX", prefix).start().await;
    let paid = node.paid(&sample(1, 300_000), "standard").await;
    for _ in 0..3 {
        assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap().len(), 300_000);
    }
    expect(node.get("/v1/catalog?q=content").send().await.unwrap(), &[200]).await;
    assert_eq!(node.admin(Method::GET, "/v1/nothing").send().await.unwrap().status(), 404);
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_alerts_and_dashboards_is_answered_from_what_a_node_exposes() {
    let buckets = TestBuckets::new(S3Client::ObjectStore);
    let mut node = node_with_everything(&buckets).await;
    let page = node.get("/metrics").send().await.unwrap().text().await.unwrap();

    let mut lint = Command::new("sh");
    lint.arg("-c").arg("promtool check metrics < \"$0\"");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &page).unwrap();
    let lint = lint.arg(file.path()).output().await.unwrap();
    assert!(lint.status.success(), "{}", said(&lint));

    let manual = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let exposed = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let unexplained: Vec<&str> =
        exposed.filter(|name| name.starts_with("penstock_") && !manual.contains(name)).collect();
    assert!(unexplained.is_empty(), "docs/operations.md does not explain {unexplained:?}");

    let prometheus = Prometheus::scraping(&node).await;
    let rules = fs::read_to_string(root().join("config/prometheus/penstock.rules.yml")).unwrap();
    let queries = queries();
    assert!(queries.len() > 80, "only {} queries were found", queries.len());

    let mut names: BTreeSet<&str> = queries.iter().flat_map(|(_, query)| metrics(query)).collect();
    names.extend(rules.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(metrics));
    for name in names {
        let known = prometheus.value(&format!("count({name})")).await.is_some();
        assert!(known || ABSENT_WHEN_ALL_IS_WELL.contains(&name), "the node does not expose {name}");
    }
    for (panel, query) in &queries {
        let answer = prometheus.ask(query).await.expect("Prometheus answers");
        assert_eq!(answer["status"], "success", "{panel}: {query}: {answer}");
        let absent = metrics(query).iter().any(|name| ABSENT_WHEN_ALL_IS_WELL.contains(name));
        // A comparison selects nothing while all is well.
        let empty = answer["data"]["result"].as_array().is_none_or(Vec::is_empty);
        assert!(!empty || absent || query.contains('!'), "{panel} shows nothing: {query}");
    }

    // The rules are loaded, each of them can be evaluated, and a healthy node raises no alarm.
    let rules = prometheus.client.get(format!("{}/api/v1/rules", prometheus.base));
    let mut loaded = Value::Null;
    eventually("each rule was evaluated", async || {
        loaded = rules.try_clone().unwrap().send().await.unwrap().json().await.unwrap();
        all_rules(&loaded).all(|rule| rule["health"] != "unknown")
    })
    .await;
    assert!(all_rules(&loaded).count() > 40);
    for rule in all_rules(&loaded) {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert_ne!(rule["state"], "firing", "{rule}");
    }
    node.finish().await;
}

fn all_rules(loaded: &Value) -> impl Iterator<Item = &Value> {
    let groups = loaded["data"]["groups"].as_array().into_iter().flatten();
    groups.flat_map(|group| group["rules"].as_array().into_iter().flatten())
}

#[tokio::test]
async fn alerts_fire_when_a_promise_breaks() {
    let tested = promtool(&["test", "rules", "config/prometheus/penstock.rules.test.yml"]).await;
    assert!(tested.status.success(), "{}", said(&tested));
    let example = promtool(&["check", "config", "config/prometheus/prometheus.yml"]).await;
    assert!(example.status.success(), "{}", said(&example));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_have_as_many_series_after_many_receipts_and_paths_as_after_few() {
    let mut node = TestNode::start(On::Sqlite).await;
    let paid = node.paid(&sample(2, 1000), "unlimited").await;
    let series = async || {
        let page = node.get("/metrics").send().await.unwrap().text().await.unwrap();
        page.lines().filter(|line| !line.starts_with('#')).count()
    };
    node.stream(&paid).send().await.unwrap().bytes().await.unwrap();
    // A receipt for the content, a path that is no route, and a content and a run that nothing has.
    let guess = async |number: u32| {
        let made_up = uuid::Uuid::new_v4().to_string();
        let path = match number % 4 {
            0 => format!("/{made_up}/{number}"),
            1 => format!("/v1/streaming/data/{number:064x}"),
            2 => format!("/v1/openlineage/runs/{made_up}"),
            _ => format!("/v1/streaming/data/{}?receipt={number}&q={number}", paid.hash),
        };
        let asked = node.get(&path).header("x-receipt-id", &made_up).header("user-agent", &made_up);
        assert!(asked.send().await.unwrap().status().is_client_error(), "{path}");
    };
    for number in 0..4 {
        guess(number).await;
    }
    let few = series().await;
    futures::stream::iter(4..10_000).for_each_concurrent(32, guess).await;
    for _ in 0..20 {
        let receipt = node.receipt(&paid.version, serde_json::json!({ "quotaTier": "unlimited" })).await;
        let other = crate::node::Paid { receipt, ..paid.clone() };
        node.stream(&other).send().await.unwrap().bytes().await.unwrap();
    }
    // A statement or an outcome that is seen for the first time has a few series of its own.
    let many = series().await;
    assert!(many < few + 100, "{few} series became {many}");
    node.finish().await;
}

on_sqlite!(a_stream_and_an_upload_show_in_the_times_of_stores_actors_and_first_bytes, async |node: &mut TestNode| {
    let first_bytes = "penstock_http_first_byte_seconds_count";
    let paid = node.paid(&sample(1, 300_000), "unlimited").await;
    let before = node.metric(first_bytes, "class=\"streaming\"").await;
    for _ in 0..3 {
        assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap().len(), 300_000);
    }
    assert_eq!(node.metric(first_bytes, "class=\"streaming\"").await, before + 3.0);

    // Files are a tier like any other store.
    let operations = "penstock_storage_operation_seconds_count";
    for operation in ["open", "read", "write", "commit"] {
        let counted = node.metric(operations, &format!("tier=\"hot\",operation=\"{operation}\"")).await;
        assert!(counted > 0.0, "{operation}");
    }
    assert_eq!(node.metric("penstock_storage_operation_failures_total", "").await, 0.0);

    eventually("usage is settled", async || node.metric("penstock_usage_flush_seconds_count", "").await > 0.0).await;
    assert!(node.metric("penstock_usage_batch_age_seconds_count", "").await > 0.0);
    for actor in ["quota shard", "usage batcher"] {
        let counted = node.metric("penstock_mailbox_wait_seconds_count", &format!("actor=\"{actor}\"")).await;
        assert!(counted > 0.0, "{actor}");
    }
    eventually("no message waits", async || node.metric("penstock_mailbox_messages", "").await == 0.0).await;

    assert_eq!(node.metric("penstock_build_info", concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"")).await, 1.0);
    let (allocated, resident) = ("state=\"allocated\"", "state=\"resident\"");
    let allocated = node.metric("penstock_allocator_bytes", allocated).await;
    assert!(allocated > 0.0 && node.metric("penstock_allocator_bytes", resident).await > allocated);
});

on_sqlite!(the_terminal_shows_a_node_that_is_busy, async |node: &mut TestNode| {
    let paid = node.paid(&sample(1, 300_000), "unlimited").await;
    let look = async |arguments: &[&str]| {
        let mut command = node.command();
        let command = command.env("PENSTOCK_SERVER", node.url("")).args(["top", "--interval", "1s"]).args(arguments);
        let output = command.output();
        let busy = async {
            for _ in 0..5 {
                node.stream(&paid).send().await.unwrap().bytes().await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        };
        let (output, ()) = tokio::join!(output, busy);
        let output = output.unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    // Several looks, because a busy machine may start the command late.
    let lines = look(&["--json", "--count", "2"]).await;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["health"]["status"], "ok");
    for figure in ["residentBytes", "openFiles", "requestsPerSecond"] {
        assert!(
            lines.iter().any(|line| line["figures"][figure].as_f64().is_some_and(|value| value > 0.0)),
            "{lines:?}"
        );
    }
    let screen = look(&["--count", "1"]).await;
    assert!(screen.starts_with(&format!("{}/: ok\n", node.url(""))), "{screen}");
    assert!(screen.contains("streams") && !screen.contains('\x1b'), "{screen}");
});
