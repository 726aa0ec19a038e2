//! A node of the run's own: the release binary beside this one, on a free port, with a data folder that goes with the run.

use std::{
    env, fs,
    io::Read,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
};

use crate::address::Address;

/// The kernel chooses a free one.
const ANY_PORT: &str = "127.0.0.1:0";

/// What the node prints before its address when it is ready.
const READY: &str = "listening on ";

/// A node that is not ready by then is stuck: an empty one is ready within a second.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A node that has not drained by then is stuck: nothing streams when it is told to stop.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// The end of the node's log that is shown when it fails.
const LOG_TAIL_BYTES: usize = 4096;

/// Rates are the scenario's to set, not the node's to refuse: 0 is no limit.
const NO_RATE_LIMITS: &str =
    r#"{"content":0,"streaming":0,"catalogue":0,"receipts":0,"lineage":0,"admin":0,"default":0}"#;

/// A node that ends with the run. Dropped without being stopped, it is killed.
pub(crate) struct OwnServer {
    child: Child,
    folder: TempDir,
    binary: PathBuf,
    settings: Vec<(String, String)>,
    pub(crate) pid: u32,
    pub(crate) address: Address,
    pub(crate) key: String,
}

impl OwnServer {
    /// With these environment variables, where the environment does not have them already.
    pub(crate) async fn start(mut settings: Vec<(String, String)>) -> anyhow::Result<Self> {
        settings.retain(|(name, _)| env::var_os(name).is_none());
        Self::start_as(new_key()?, settings).await
    }

    /// With these environment variables, whatever the environment has.
    pub(crate) async fn start_as(key: String, settings: Vec<(String, String)>) -> anyhow::Result<Self> {
        Self::start_binary(&binary()?, key, settings).await
    }

    async fn start_binary(binary: &Path, key: String, settings: Vec<(String, String)>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a data folder")?;
        let (child, address) = spawn(binary, &key, &settings, &folder, ANY_PORT).await?;
        let pid = child.id().context("the node ended at once")?;
        Ok(Self { child, folder, binary: binary.to_owned(), settings, pid, address, key })
    }

    /// Kills the process, as a crash does.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("cannot kill the node")
    }

    /// Starts it again after it was killed, on its data folder and at its address.
    pub(crate) async fn start_again(&mut self) -> anyhow::Result<()> {
        let address = self.address.authority();
        let (child, _) = spawn(&self.binary, &self.key, &self.settings, &self.folder, address).await?;
        self.pid = child.id().context("the node ended at once")?;
        self.child = child;
        Ok(())
    }

    /// All of the process stands still: connections stay, and nothing answers.
    pub(crate) fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    pub(crate) fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("the node has no process id")?;
        kill_process(pid, signal).context("the node ended before it was told to")
    }

    /// Asks it to stop, waits until it has, and checks that it ended well.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        match tokio::time::timeout(STOP_WITHIN, self.child.wait()).await {
            Ok(status) => {
                let status = status.context("cannot wait for the node")?;
                ensure!(
                    status.success(),
                    "the node ended with {status}; its log ends with:\n{}",
                    log_tail(&self.folder)
                );
                Ok(())
            }
            Err(_elapsed) => bail!(
                "the node did not stop in {} s; its log ends with:\n{}",
                STOP_WITHIN.as_secs(),
                log_tail(&self.folder)
            ),
        }
    }
}

/// Starts the process and waits until it is ready.
async fn spawn(
    binary: &Path,
    key: &str,
    settings: &[(String, String)],
    folder: &TempDir,
    bind: &str,
) -> anyhow::Result<(Child, Address)> {
    let log = fs::File::options().create(true).append(true).open(log_path(folder));
    let mut child = Command::new(binary)
        .args(["serve", "--bind", bind, "--data-dir"])
        .arg(folder.path().join("data"))
        .env("PENSTOCK_ADMIN_KEY", key)
        .env("RATE_LIMITS_JSON", NO_RATE_LIMITS)
        .envs(settings.iter().cloned())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.context("cannot write the node's log")?)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    let stdout = child.stdout.take().context("the node has no standard output")?;
    match tokio::time::timeout(READY_WITHIN, ready(stdout)).await {
        Ok(Ok(address)) => Ok((child, address)),
        Ok(Err(error)) => bail!("{error:#}; its log ends with:\n{}", log_tail(folder)),
        Err(_elapsed) => {
            bail!("the node was not ready in {} s; its log ends with:\n{}", READY_WITHIN.as_secs(), log_tail(folder))
        }
    }
}

/// Brings the schema of a database up to date, which a pooler cannot.
pub(crate) async fn migrate(database: &str) -> anyhow::Result<()> {
    let mut command = Command::new(binary()?);
    command.arg("migrate").env("DATABASE_URL", database).stdin(Stdio::null()).kill_on_drop(true);
    let said = command.output().await.context("cannot run `penstock migrate`")?;
    ensure!(said.status.success(), "`penstock migrate` failed: {}", String::from_utf8_lossy(&said.stderr));
    Ok(())
}

/// The node's binary: the one that `PENSTOCK` names; otherwise, built by the same profile as this one, it lies in the same folder.
fn binary() -> anyhow::Result<PathBuf> {
    let binary = match env::var_os("PENSTOCK") {
        Some(binary) => binary.into(),
        None => env::current_exe().context("cannot find this program's own file")?.with_file_name("penstock"),
    };
    ensure!(
        binary.is_file(),
        "there is no {}: build it with `cargo build --release --bin penstock`, or name another one in PENSTOCK",
        binary.display()
    );
    Ok(binary)
}

/// A key that nobody else on this machine can guess while the node runs.
pub(crate) fn new_key() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    let mut source = fs::File::open("/dev/urandom").context("cannot make a key")?;
    source.read_exact(&mut bytes).context("cannot make a key")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Waits for the line that says where the node listens, and keeps reading, so that the node never waits for this process.
async fn ready(stdout: ChildStdout) -> anyhow::Result<Address> {
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await.context("cannot read what the node prints")? {
        if let Some(address) = line.strip_prefix(READY) {
            let address = address.trim().parse().with_context(|| format!("the node said `{line}`"))?;
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(address);
        }
    }
    bail!("the node ended before it was ready")
}

fn log_path(folder: &TempDir) -> PathBuf {
    folder.path().join("server.log")
}

fn log_tail(folder: &TempDir) -> String {
    let log = fs::read(log_path(folder)).unwrap_or_default();
    String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A stand-in for the node: a shell script.
    fn script(text: &str) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("penstock");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        (folder, path)
    }

    #[tokio::test]
    async fn a_node_is_ready_when_it_says_so_and_stops_when_told() {
        let (_folder, node) =
            script("trap 'kill $!; exit 0' TERM; echo hello; sleep 60 & echo listening on http://127.0.0.1:9; wait");
        let server = OwnServer::start_binary(&node, "key".to_owned(), Vec::new()).await.unwrap();
        assert_eq!(server.address.to_string(), "http://127.0.0.1:9");
        server.stop().await.unwrap();
    }

    #[tokio::test]
    async fn a_node_that_was_killed_is_started_again_at_its_address() {
        let (_folder, node) =
            script("case $3 in *:0 | *:9) echo listening on http://127.0.0.1:9; exec sleep 60 ;; esac");
        let mut server = OwnServer::start_binary(&node, "key".to_owned(), Vec::new()).await.unwrap();
        let before = server.pid;
        server.kill().await.unwrap();
        server.start_again().await.unwrap();
        assert_ne!(server.pid, before);
    }

    #[tokio::test]
    async fn a_node_that_fails_to_start_shows_its_log() {
        let (_folder, node) = script("echo 'the disk is full' >&2; exit 1");
        let error = OwnServer::start_binary(&node, "key".to_owned(), Vec::new()).await.err().unwrap();
        assert!(error.to_string().contains("the disk is full"), "{error}");
    }

    #[tokio::test]
    async fn a_node_that_ends_badly_fails_the_run() {
        let (_folder, node) =
            script("trap 'kill $!; exit 3' TERM; sleep 60 & echo listening on http://127.0.0.1:9; wait");
        let server = OwnServer::start_binary(&node, "key".to_owned(), Vec::new()).await.unwrap();
        assert!(server.stop().await.is_err());
    }
}
