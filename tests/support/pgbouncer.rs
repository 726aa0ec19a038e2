//! A PgBouncer of one's own, as `config/pgbouncer.ini` sets it up, in front of a test's database.

#![allow(dead_code, reason = "shared by test binaries that each use a part of it")]

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, config::Host};

use crate::{
    cluster::{ANSWER, as_owner, free_port, give},
    shipped::shipped,
};

/// How long it may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running PgBouncer.
pub(crate) struct PgBouncer {
    config: Config,
    process: Process,
    _folder: TempDir,
}

/// Ends when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl PgBouncer {
    /// In front of the database that `to` leads to, with `settings` beside those of the file.
    pub(crate) async fn before(to: &Config, settings: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("penstock-pgbouncer.").tempdir_in("/tmp").expect("a folder");
        give(folder.path());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (config, mut process) = spawn(folder.path(), to, settings);
            while process.0.try_wait().expect("a child").is_none() {
                // Whoever took the port may let a connection wait for ever.
                if let Ok(Ok(_answered)) = timeout(ANSWER, config.connect(NoTls)).await {
                    return Self { config, process, _folder: folder };
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                assert!(Instant::now() < deadline, "{}", told(folder.path()));
            }
            // Somebody took the port.
            assert!(Instant::now() < deadline, "{}", told(folder.path()));
        }
    }

    /// The same database, by way of PgBouncer.
    pub(crate) fn config(&self) -> Config {
        self.config.clone()
    }

    pub(crate) fn url(&self) -> String {
        let (user, database) = (self.config.get_user().expect("a user"), self.config.get_dbname().expect("a database"));
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.config.get_ports()[0])
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// A row of what its console shows, as numbers by column.
    pub(crate) async fn pool(&self) -> impl Fn(&str) -> u64 {
        let mut console = self.config();
        let database = console.get_dbname().expect("a database").to_owned();
        let client = connected(console.dbname("pgbouncer")).await;
        let rows = client.simple_query("SHOW POOLS").await.expect("an answer");
        let pool = rows.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) if row.get("database") == Some(&database) => Some(row),
            _ => None,
        });
        let pool = pool.expect("the pool of the database");
        move |column| pool.get(column).expect("a column").parse().expect("a number")
    }
}

async fn connected(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

fn spawn(folder: &Path, to: &Config, settings: &str) -> (Config, Process) {
    let (Some(Host::Tcp(host)), Some(server_port)) = (to.get_hosts().first(), to.get_ports().first()) else {
        panic!("the test server listens on a port");
    };
    let (user, database) = (to.get_user().expect("a user"), to.get_dbname().expect("a database"));
    let password = to.get_password().map(String::from_utf8_lossy).unwrap_or_default();
    let port = free_port();
    let users = put(folder, "userlist.txt", &format!("\"{user}\" \"{password}\"\n"));
    let text = shipped(
        "pgbouncer.ini",
        &[
            (
                "penstock = host=postgres port=5432 dbname=penstock ",
                &format!("{database} = host={host} port={server_port} dbname={database} "),
            ),
            ("listen_addr = 0.0.0.0", "listen_addr = 127.0.0.1"),
            ("listen_port = 6432", &format!("listen_port = {port}")),
            ("auth_type = scram-sha-256", &format!("auth_type = trust\nadmin_users = {user}")),
            ("/etc/pgbouncer/userlist.txt", &users),
        ],
    );
    let ini = put(folder, "pgbouncer.ini", &format!("{text}\n{settings}\n"));
    let log = fs::File::create(folder.join("log")).expect("a log");
    let mut command = as_owner(Path::new("/usr/sbin/pgbouncer"));
    command.arg(ini).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let process = command.spawn().expect("pgbouncer runs: ./test installs it");
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user(user).dbname(database);
    (config, Process(process))
}

fn put(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).expect("written");
    give(&path);
    path.to_str().expect("text").to_owned()
}

fn told(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}
