//! An S3 server of one test's own, to be killed and paused: SeaweedFS.

use std::{
    env, fs,
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::s3::{BUCKETS, told};

/// Where the test command has put the program.
const PROGRAM: &str = "PENSTOCK_TEST_WEED";

/// How long a server may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends with the test.
pub(crate) struct S3Server {
    folder: TempDir,
    port: u16,
    process: Option<Child>,
}

impl S3Server {
    /// With the buckets of the test command, all of them empty.
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("penstock-s3.").tempdir_in("/tmp").expect("a folder");
        fs::create_dir(folder.path().join("data")).expect("a folder");
        let credentials = serde_json::json!([{ "accessKey": told("ACCESS_KEY"), "secretKey": told("SECRET_KEY") }]);
        let actions = ["Admin", "Read", "Write", "List", "Tagging"];
        let identity = serde_json::json!({ "name": "test", "credentials": credentials, "actions": actions });
        let identities = serde_json::json!({ "identities": [identity] });
        fs::write(folder.path().join("s3.json"), identities.to_string()).expect("written");
        let mut server = Self { folder, port: 0, process: None };
        // Another process may take a port between finding it free and using it, so free ones are found by using them.
        let deadline = Instant::now() + PATIENCE;
        loop {
            server.port = 20_000 + u16::try_from(Uuid::new_v4().as_u128() % 25_000).expect("below 25,000");
            if server.boot() {
                server.make_buckets();
                return server;
            }
            assert!(Instant::now() < deadline, "SeaweedFS did not start: {}", server.log());
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port + 3).into()
    }

    /// SIGKILL: connections break, and new ones are refused.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("a running server");
        process.kill().expect("killed");
        process.wait().expect("ended");
    }

    /// Starts it again at the same address.
    pub(crate) fn restart(&mut self) {
        assert!(self.boot(), "SeaweedFS did not start again: {}", self.log());
    }

    /// SIGSTOP: connections stay, and nothing answers.
    pub(crate) fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("a running server");
        kill(Pid::from_raw(i32::try_from(process.id()).expect("a pid")), signal).expect("signalled");
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Starts the process and waits until it listens; false when it has ended instead.
    fn boot(&mut self) -> bool {
        let (folder, port) = (self.folder.path(), self.port);
        let log = fs::File::create(folder.join("log")).expect("a log");
        let path = |name: &str| folder.join(name).display().to_string();
        let mut process = Command::new(program())
            .args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-master.telemetry=false"])
            .args(["-master.volumeSizeLimitMB=64", "-volume.max=40", "-s3.port.iceberg=0", "-s3.port.lance=0"])
            .arg(format!("-dir={}", path("data")))
            .args([format!("-master.port={port}"), format!("-volume.port={}", port + 1)])
            .args([format!("-filer.port={}", port + 2), format!("-s3.port={}", port + 3)])
            .arg(format!("-filer.localSocket={}", path("filer.sock")))
            .args([format!("-s3.config={}", path("s3.json")), format!("-s3.localSocket={}", path("s3.sock"))])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("SeaweedFS runs");
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address()).is_err() {
            if process.try_wait().expect("a child").is_some() {
                return false;
            }
            assert!(Instant::now() < deadline, "SeaweedFS does not listen: {}", self.log());
            sleep(Duration::from_millis(50));
        }
        self.process = Some(process);
        true
    }

    fn make_buckets(&self) {
        let made = BUCKETS.map(|bucket| format!("s3.bucket.create -name {bucket}\n")).concat();
        let script = self.folder.path().join("buckets");
        fs::write(&script, made).expect("written");
        let shell = Command::new(program())
            .args(["shell", &format!("-master=127.0.0.1:{}", self.port)])
            .stdin(fs::File::open(script).expect("written before"))
            .output()
            .expect("SeaweedFS runs");
        assert!(shell.status.success(), "{}", String::from_utf8_lossy(&shell.stderr));
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // A paused process dies of SIGKILL too.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn program() -> String {
    env::var(PROGRAM).unwrap_or_else(|_| panic!("{PROGRAM} is not set: run ./test"))
}
