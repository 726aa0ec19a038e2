//! A PostgreSQL database of one's own: made with a random name, dropped when its test ends.

#![allow(dead_code, reason = "shared by test binaries that each use a part of it")]

use std::{path::Path, process::Command, sync::Arc, thread, time::Duration};

use penstock::{
    adapters::postgres::{PostgresSettings, PostgresStore, ReplicaSettings, migrate},
    config::{StatementMode, TlsSettings},
    telemetry::Metrics,
};
use tokio::runtime::{Builder, Handle};
use tokio_postgres::{Client, Config, NoTls};
use uuid::Uuid;

/// Where the test command has put its server: the URL of a superuser.
const SERVER: &str = "PENSTOCK_TEST_POSTGRES";

/// A database for one test.
pub(crate) struct TestDatabase {
    server: Config,
    name: String,
}

impl TestDatabase {
    /// An empty database.
    ///
    /// # Panics
    /// When there is no server to test against.
    pub(crate) async fn empty() -> Self {
        Self::made_with("").await
    }

    /// An empty database that is made with these options of `CREATE DATABASE`.
    pub(crate) async fn made_with(options: &str) -> Self {
        let url = std::env::var(SERVER).unwrap_or_else(|_| panic!("{SERVER} is not set: run ./test"));
        let server: Config = url.parse().expect("a URL of PostgreSQL");
        let name = format!("penstock_test_{}", Uuid::new_v4().simple());
        let admin = client(&server).await;
        admin.batch_execute(&format!("CREATE DATABASE {name} {options}")).await.expect("created");
        Self { server, name }
    }

    /// A database with all migrations.
    pub(crate) async fn migrated() -> Self {
        let database = Self::empty().await;
        migrate(&database.settings()).await.expect("migrated");
        database
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = self.server.clone();
        config.dbname(&self.name);
        config
    }

    /// A dump of it, by the server's own tool.
    pub(crate) fn dump(&self, program: &Path, file: &Path) {
        let url = self.url();
        run(Command::new(program).args(["-Fc", "-d", &url, "-f"]).arg(file));
    }

    /// Makes the database anew, whoever uses it, from a dump.
    pub(crate) async fn restore(&self, program: &Path, file: &Path) {
        self.make_anew().await;
        run(Command::new(program).args(["--exit-on-error", "-d", &self.url()]).arg(file));
    }

    /// Drops the database, whoever uses it, and makes an empty one in its place.
    pub(crate) async fn make_anew(&self) {
        let admin = client(&self.server).await;
        admin.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await.expect("dropped");
        admin.batch_execute(&format!("CREATE DATABASE {}", self.name)).await.expect("created");
    }

    /// The URL under which a node finds the database.
    pub(crate) fn url(&self) -> String {
        let server = std::env::var(SERVER).expect("the server was found before");
        let (base, _) = server.rsplit_once('/').expect("a URL with a database");
        format!("{base}/{}", self.name)
    }

    /// Settings that are generous where a test is about something else.
    pub(crate) fn settings(&self) -> PostgresSettings {
        generous(self.config())
    }

    /// A connection beside the store, as an operator would have one.
    pub(crate) async fn client(&self) -> Client {
        client(&self.config()).await
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A destructor cannot wait on the test's own runtime.
        let dropping = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let admin = client(&server).await;
                admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.expect("dropped");
            });
        });
        if dropping.join().is_err() {
            eprintln!("the database {} could not be dropped", self.name);
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("the server's tools are installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Settings that are generous where a test is about something else.
pub(crate) fn generous(config: Config) -> PostgresSettings {
    PostgresSettings {
        config,
        tls: TlsSettings::default(),
        pool_min: 1,
        pool_max: 8,
        max_waiting: 1000,
        wait_timeout: Duration::from_secs(60),
        create_timeout: Duration::from_secs(60),
        recycle_timeout: Duration::from_secs(60),
        statement_timeout: Duration::from_secs(60),
        statement_mode: StatementMode::default(),
        replicas: ReplicaSettings::default(),
    }
}

async fn client(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// A store on this runtime, with metrics of its own.
pub(crate) async fn store(settings: PostgresSettings) -> (PostgresStore, Metrics) {
    let metrics = Metrics::new().expect("metrics");
    let store = PostgresStore::connect(settings, Arc::clone(&metrics.db), Handle::current()).await.expect("a store");
    (store, metrics)
}

/// Round trips that a store has counted.
pub(crate) fn round_trips(metrics: &Metrics) -> u64 {
    let families = metrics.registry().gather();
    let queries = families.iter().filter(|family| family.name() == "penstock_db_queries_total");
    let counts = queries.flat_map(|family| family.get_metric()).map(|metric| metric.get_counter().get_value());
    // Counts come as floating-point numbers; these are far below where those stop being exact.
    counts.map(|count| count as u64).sum()
}
