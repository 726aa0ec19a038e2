//! A PostgreSQL of the run's own.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use rustix::process::Signal;

use super::process::{Ready, Server, Spec, folder, free_port, owner, program};

/// The name of the user and of the database.
const NAME: &str = "postgres";

/// A running server.
pub(crate) struct Postgres {
    pub(crate) server: Server,
    pub(crate) url: String,
}

impl Postgres {
    /// With these settings (`name=value`) beside the defaults that an operator has.
    pub(crate) async fn start(settings: &[&str]) -> anyhow::Result<Self> {
        let folder = folder("postgres")?;
        let data = folder.path().join("data");
        make(&data)?;
        let port = free_port()?;
        let url = format!("postgres://{NAME}@127.0.0.1:{port}/{NAME}");
        let mut args = vec!["-D".to_owned(), data.display().to_string(), "-p".to_owned(), port.to_string()];
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories="].iter().chain(settings) {
            args.extend(["-c".to_owned(), (*setting).to_owned()]);
        }
        let spec = Spec {
            name: "PostgreSQL",
            program: postgres_program("postgres")?,
            args,
            port,
            ready: Ready::Postgres(url.clone()),
            // An immediate shutdown: it ends its processes and their shared memory, and recovers at the next start.
            end: Signal::QUIT,
            as_owner: true,
        };
        Ok(Self { server: Server::start(folder, spec).await?, url })
    }
}

fn make(data: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(postgres_program("initdb")?);
    if let Some(owner) = owner() {
        command.uid(owner.user).gid(owner.group);
    }
    let made = command
        .arg("-D")
        .arg(data)
        .args(["-U", NAME, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"])
        .current_dir("/")
        .output()
        .context("cannot run initdb")?;
    ensure!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

/// A program of the newest version that Debian keeps, or as the shell finds it.
fn postgres_program(name: &str) -> anyhow::Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let kept = versions.map(|entry| entry.path()).filter(|path| path.join("bin").join(name).is_file());
    match kept.max_by_key(|path| version(path)) {
        Some(newest) => Ok(newest.join("bin").join(name)),
        None => program(name, "postgresql"),
    }
}
