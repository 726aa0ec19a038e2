//! One server that a run has started: a tree of processes, which can be stopped, paused and started again at the same address.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use rustix::{
    param::clock_ticks_per_second,
    process::{Pid, Signal, kill_process},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A server that does not answer by then is stuck. A small machine under load needs some seconds.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A server that has not ended by then after its signal is killed.
const END_WITHIN: Duration = Duration::from_secs(10);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The end of a log that is shown when a server fails.
const LOG_TAIL_BYTES: usize = 4096;

/// How a server shows that it serves.
#[derive(Debug, Clone)]
pub(crate) enum Ready {
    /// It accepts connections.
    Listens,
    /// It answers this with something that begins so.
    Answers(&'static [u8], &'static [u8]),
    /// PostgreSQL accepts connections before it serves them.
    Postgres(String),
}

/// What is started.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) port: u16,
    pub(crate) ready: Ready,
    /// Ends it at once, with all of its processes.
    pub(crate) end: Signal,
    /// Whether it refuses to run as root.
    pub(crate) as_owner: bool,
}

/// A server. Dropped, it ends.
pub(crate) struct Server {
    spec: Spec,
    folder: TempDir,
    child: Option<Child>,
}

impl Server {
    pub(crate) async fn start(folder: TempDir, spec: Spec) -> anyhow::Result<Self> {
        let mut server = Self { spec, folder, child: None };
        server.boot().await?;
        Ok(server)
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.spec.port).into()
    }

    /// Starts it, again at the same address, and waits until it serves.
    pub(crate) async fn boot(&mut self) -> anyhow::Result<()> {
        let Spec { name, program, args, as_owner, .. } = &self.spec;
        let log = fs::File::options().create(true).append(true).open(self.log()).context("cannot write a log")?;
        let mut command = Command::new(program);
        if let Some(owner) = owner().filter(|_| *as_owner) {
            command.uid(owner.user).gid(owner.group);
        }
        // The folder that the run was started in may be closed to another user.
        command.args(args).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().with_context(|| format!("cannot start {name} ({})", program.display()))?);
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let serves = tokio::time::timeout(Duration::from_secs(2), self.serves()).await.unwrap_or(false);
            // Another process may have taken the port: then this one has ended.
            if self.child.as_mut().is_none_or(|child| child.try_wait().is_ok_and(|ended| ended.is_some())) {
                bail!("{} ended: {}", self.spec.name, self.told());
            }
            if serves {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{} does not serve: {}", self.spec.name, self.told());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn serves(&self) -> bool {
        match &self.spec.ready {
            Ready::Listens => TcpStream::connect(self.address()).await.is_ok(),
            Ready::Answers(question, answer) => {
                let ask = async {
                    let mut stream = TcpStream::connect(self.address()).await?;
                    stream.write_all(question).await?;
                    let mut found = vec![0; answer.len()];
                    stream.read_exact(&mut found).await?;
                    Ok::<_, std::io::Error>(found == *answer)
                };
                ask.await.unwrap_or(false)
            }
            Ready::Postgres(url) => match tokio_postgres::connect(url, tokio_postgres::NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    client.simple_query("SELECT 1").await.is_ok()
                }
                Err(_) => false,
            },
        }
    }

    /// Ends all of its processes at once, as a crash does: connections break, and new ones are refused.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let tree = tree(child.id());
        // A process that stands still takes no signal but SIGKILL.
        tree.iter().for_each(|pid| signal(*pid, Signal::CONT));
        signal(child.id(), self.spec.end);
        let deadline = Instant::now() + END_WITHIN;
        while child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if Instant::now() > deadline {
                tree.iter().for_each(|pid| signal(*pid, Signal::KILL));
                let _ = child.wait();
                break;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// All of its processes stand still: connections stay, and nothing answers.
    pub(crate) fn pause(&self) {
        self.signal_all(Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        self.signal_all(Signal::CONT);
    }

    fn signal_all(&self, to_all: Signal) {
        // The first before the others: while it stands still, it starts no more of them.
        if let Some(pid) = self.pid() {
            signal(pid, to_all);
            tree(pid).into_iter().skip(1).for_each(|pid| signal(pid, to_all));
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn told(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A folder for a server, which its user can use.
pub(crate) fn folder(name: &str) -> anyhow::Result<TempDir> {
    // Not below TMPDIR, which may be a folder that only root can enter.
    let folder = tempfile::Builder::new().prefix(&format!("penstock-{name}.")).tempdir_in("/tmp");
    let folder = folder.context("cannot make a folder below /tmp")?;
    give(folder.path())?;
    Ok(folder)
}

/// Gives a file or folder to the user of servers that refuse to run as root.
pub(crate) fn give(path: &Path) -> anyhow::Result<()> {
    if let Some(owner) = owner() {
        chown(path, Some(owner.user), Some(owner.group))
            .with_context(|| format!("cannot give {} away", path.display()))?;
    }
    Ok(())
}

/// Writes a file of a server.
pub(crate) fn put(folder: &Path, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    give(&path)?;
    Ok(path)
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("there is no free port")?;
    Ok(listener.local_addr().context("there is no free port")?.port())
}

/// Where a program lies.
///
/// # Errors
/// Say which package of Debian brings it.
pub(crate) fn program(name: &str, package: &str) -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.with_context(|| format!("{name} is missing: install it (on Debian: apt-get install {package})"))
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// Who runs what refuses to run as root: the user of PostgreSQL's package. `None` when this is not root, who alone may change users.
pub(crate) fn owner() -> Option<Owner> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    owner_in(&fs::read_to_string("/etc/passwd").ok()?)
}

fn owner_in(users: &str) -> Option<Owner> {
    let mut fields = users.lines().find_map(|line| line.strip_prefix("postgres:"))?.split(':').skip(1);
    Some(Owner { user: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
}

fn signal(pid: u32, signal: Signal) {
    // A process that has just ended needs no signal.
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// What `/proc/PID/stat` tells: the parent, and the ticks of processor time of the process itself.
fn stat(text: &str) -> Option<(u32, u64)> {
    // The name before it is in parentheses and may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((fields.get(1)?.parse().ok()?, ticks(11)? + ticks(12)?))
}

fn processes() -> BTreeMap<u32, (u32, u64)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))).collect()
}

/// A process and all that it has started, the first before the others.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let processes = processes();
    let mut found = vec![root];
    let mut known = BTreeSet::from([root]);
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        let children = processes.iter().filter(|(_, (of, _))| *of == parent).map(|(pid, _)| *pid);
        found.extend(children.filter(|child| known.insert(*child)));
        at += 1;
    }
    found
}

/// Processor time that these trees of processes have taken so far.
pub(crate) fn processor_time(roots: &[u32]) -> Duration {
    let processes = processes();
    let all: BTreeSet<u32> = roots.iter().flat_map(|root| tree(*root)).collect();
    let ticks: u64 = all.iter().filter_map(|pid| processes.get(pid)).map(|(_, ticks)| ticks).sum();
    Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_of_a_process_is_read() {
        let line = "42 (a) name) S 7 42 42 0 -1 4194304 100 0 0 0 250 50 3 4 20 0 1 0 5 6 7";
        assert_eq!(stat(line), Some((7, 300)));
        assert_eq!(stat("42 (cut"), None);
    }

    #[test]
    fn the_user_of_servers_is_found_by_name() {
        let users = "root:x:0:0:root:/root:/bin/sh\npostgres:x:106:111::/var/lib/postgresql:/bin/bash\n";
        let owner = owner_in(users).unwrap();
        assert_eq!((owner.user, owner.group), (106, 111));
        assert!(owner_in("root:x:0:0:root:/root:/bin/sh\n").is_none());
    }

    #[test]
    fn a_tree_of_processes_has_its_children_and_its_processor_time() {
        let mut shell = Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let deadline = Instant::now() + READY_WITHIN;
        while tree(shell.id()).len() < 2 {
            assert!(Instant::now() < deadline, "the shell starts a child");
            std::thread::sleep(LOOK_EVERY);
        }
        let tree = tree(shell.id());
        assert_eq!(tree[0], shell.id());
        assert!(processor_time(&[shell.id()]) < Duration::from_secs(60));
        tree.iter().for_each(|pid| signal(*pid, Signal::KILL));
        shell.wait().unwrap();
    }

    #[test]
    fn a_program_that_is_missing_is_named_with_its_package() {
        let error = program("penstock-no-such-program", "some-package").unwrap_err().to_string();
        assert!(error.contains("apt-get install some-package"), "{error}");
    }
}
