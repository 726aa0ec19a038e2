//! A PostgreSQL server of one test's own, to be encrypted, killed, paused and copied: what the server that all tests share
//! cannot be.

#![allow(dead_code, reason = "shared by test binaries that each use a part of it")]

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid, User},
};
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls};

/// How long a server may take to start on a busy machine before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long whoever listens at its port may take to answer, before that is taken for no answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);

/// Small, quick to start, and nothing of it outlives the test.
const OPTIONS: &[&str] =
    &["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "shared_buffers=16MB"];

/// A server.
pub(crate) struct Cluster {
    folder: TempDir,
    port: u16,
    options: Vec<String>,
    env: Vec<(&'static str, String)>,
    process: Option<Child>,
}

impl Cluster {
    /// A new server with these settings, as `("name=value")`.
    pub(crate) async fn start(options: &[&str]) -> Self {
        let mut cluster = Self::made(options);
        cluster.boot().await;
        cluster
    }

    /// The same before it is started, so that files can be put into its data folder.
    pub(crate) fn made(options: &[&str]) -> Self {
        let cluster = Self::unmade(options);
        let data = cluster.data();
        let made = as_owner(&program("initdb"))
            .arg("-D")
            .arg(&data)
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"])
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        cluster
    }

    fn unmade(options: &[&str]) -> Self {
        // Not below TMPDIR, which may be a folder that only root can enter.
        let folder = tempfile::Builder::new().prefix("penstock-cluster.").tempdir_in("/tmp").expect("a folder");
        give(folder.path());
        let options = OPTIONS.iter().chain(options).map(|option| (*option).to_owned()).collect();
        Self { folder, port: 0, options, env: Vec::new(), process: None }
    }

    /// A streaming replica of this server.
    pub(crate) async fn replica(&self) -> Self {
        let mut replica = Self::unmade(&[]);
        let copied = as_owner(&program("pg_basebackup"))
            .args(["-h", "127.0.0.1", "-U", "postgres", "-R", "-X", "stream", "-c", "fast", "--no-sync"])
            .args(["-p", &self.port.to_string()])
            .arg("-D")
            .arg(replica.data())
            .output()
            .expect("pg_basebackup runs");
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        replica.boot().await;
        replica
    }

    /// Variables of its processes from the next start on, such as those that set its clock.
    pub(crate) fn set_env(&mut self, env: impl IntoIterator<Item = (&'static str, String)>) {
        self.env.extend(env);
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where a file that is [`put`](Self::put) is found.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.data().join(name)
    }

    /// Puts a file of the server's own into its data folder, which it can name without a path.
    pub(crate) fn put(&self, name: &str, content: &str) {
        let path = self.data().join(name);
        fs::write(&path, content).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("closed to others");
        give(&path);
    }

    /// Starts the process, at the same port if it had one, and waits until it answers.
    pub(crate) async fn boot(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let port = self.port;
        loop {
            if port == 0 {
                self.port = free_port();
            }
            let log = fs::File::options().create(true).append(true).open(self.log()).expect("a log");
            let mut command = as_owner(&program("postgres"));
            command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
            command.envs(self.env.iter().cloned());
            for option in &self.options {
                command.args(["-c", option]);
            }
            let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
            self.process = Some(process.expect("postgres runs"));
            while self.is_running() {
                if timeout(ANSWER, self.is_ours()).await == Ok(true) {
                    return;
                }
                assert!(Instant::now() < deadline, "{}", self.told());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // Somebody took the port, or what is left of a killed server is not gone yet.
            assert!(Instant::now() < deadline, "{}", self.told());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Whoever took the port before us may be another test's server, or let a connection wait for ever.
    async fn is_ours(&self) -> bool {
        let Ok((client, connection)) = self.config().connect(NoTls).await else { return false };
        tokio::spawn(connection);
        let folder = client.query_one("SHOW data_directory", &[]).await.map(|row| row.get::<_, String>(0));
        folder.is_ok_and(|folder| Path::new(&folder) == self.data())
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn told(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.try_wait().expect("a child").is_none())
    }

    /// SIGKILL to the server and all of its processes.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.process.take().expect("a running server").wait().expect("an end");
    }

    /// All of its processes stop where they are: connections stay open and nobody answers.
    pub(crate) fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let server = self.process.as_ref().expect("a running server").id();
        // The server first: while it stands still, it starts no more processes.
        for pid in std::iter::once(server).chain(children(server)) {
            // A process that has just ended needs no signal.
            let _ = kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), signal);
        }
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// As its superuser, in the database that every server has.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user("postgres").dbname("postgres");
        config
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// A connection as an operator would have one.
    pub(crate) async fn client(&self) -> Client {
        let (client, connection) = self.config().connect(NoTls).await.expect("a connection");
        tokio::spawn(connection);
        client
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.is_running() {
            self.resume();
            // An immediate shutdown, which takes its shared memory with it.
            self.signal(Signal::SIGQUIT);
            if let Some(mut process) = self.process.take() {
                let _ = process.wait();
            }
        }
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// A program of PostgreSQL's, of the newest version that Debian keeps, or as the shell finds it.
pub(crate) fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions
        .map(|entry| entry.path())
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(|path| version(path));
    newest.map_or_else(|| name.into(), |path| path.join("bin").join(name))
}

/// A command that runs as a user who may run a server: PostgreSQL and PgBouncer refuse to run as root.
pub(crate) fn as_owner(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some(owner) = owner() {
        command.uid(owner.uid.as_raw()).gid(owner.gid.as_raw());
    }
    // The folder that the test runs in may be closed to that user.
    command.current_dir("/");
    command
}

/// Gives a file or folder to the user of [`as_owner`].
pub(crate) fn give(path: &Path) {
    if let Some(owner) = owner() {
        std::os::unix::fs::chown(path, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).expect("given");
    }
}

fn owner() -> Option<User> {
    Uid::current().is_root().then(|| User::from_name("postgres").expect("users").expect("./test makes this user"))
}

fn children(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name before it is in parentheses and may hold anything.
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok()) == Some(parent)
    };
    let processes = fs::read_dir("/proc").expect("Linux has it").filter_map(Result::ok);
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_child).collect()
}
