//! A balancer of one's own: the real program with the file from `config/`, in front of two nodes.

use std::{
    fs,
    net::TcpListener,
    process::Stdio,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use crate::shipped::shipped;

/// How long a balancer may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    HaProxy,
}

/// A running balancer.
pub(crate) struct Front {
    address: String,
    folder: TempDir,
    _process: Child,
}

impl Front {
    /// In front of nodes at these addresses.
    pub(crate) async fn before(kind: Kind, nodes: [&str; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Somebody may take the port between here and the balancer: then another one is tried.
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
            let log = fs::File::create(folder.path().join("log")).unwrap();
            let mut command = match kind {
                Kind::Nginx => nginx(&folder, &address, nodes),
                Kind::HaProxy => haproxy(&folder, &address, nodes),
            };
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).kill_on_drop(true);
            let mut process = command.spawn().unwrap_or_else(|error| panic!("./test installs {kind:?}: {error}"));
            while process.try_wait().unwrap().is_none() {
                if TcpStream::connect(&address).await.is_ok() {
                    return Self { address, folder, _process: process };
                }
                assert!(Instant::now() < deadline, "{kind:?} does not listen");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let said = fs::read_to_string(folder.path().join("log")).unwrap();
            assert!(said.contains("in use"), "{kind:?} does not start: {said}");
        }
    }

    /// What the balancer has said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn nginx(folder: &TempDir, address: &str, nodes: [&str; 2]) -> Command {
    let own = folder.path().display();
    let text = shipped(
        "nginx.conf",
        &[
            ("worker_processes auto;", "worker_processes 1;\ndaemon off;\nmaster_process off;"),
            // More than an unprivileged user may have.
            ("worker_rlimit_nofile 65536;\n", ""),
            ("worker_connections 16384;", "worker_connections 512;"),
            ("/dev/stderr", "stderr"),
            ("/dev/stdout", &format!("{own}/access")),
            ("/run/nginx.pid", &format!("{own}/pid")),
            (
                "http {\n",
                &format!(
                    "http {{\n    client_body_temp_path {own}/body;\n    proxy_temp_path {own}/proxy;\n    fastcgi_temp_path {own}/fastcgi;\n    uwsgi_temp_path {own}/uwsgi;\n    scgi_temp_path {own}/scgi;\n"
                ),
            ),
            ("listen 80;", &format!("listen {address};")),
            ("penstock-1:8080", nodes[0]),
            ("penstock-2:8080", nodes[1]),
            ("        server penstock-3:8080 max_fails=2 fail_timeout=5s;\n", ""),
        ],
    );
    let file = folder.path().join("nginx.conf");
    fs::write(&file, text).unwrap();
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-e").arg(folder.path().join("error")).arg("-c").arg(file);
    command
}

fn haproxy(folder: &TempDir, address: &str, nodes: [&str; 2]) -> Command {
    let text = shipped(
        "haproxy.cfg",
        &[
            // More than an unprivileged user may have.
            ("maxconn 20000", "maxconn 500"),
            ("bind :80\n", &format!("bind {address}\n")),
            ("penstock-1:8080", nodes[0]),
            ("penstock-2:8080", nodes[1]),
            ("    server penstock-3 penstock-3:8080\n", ""),
        ],
    );
    let file = folder.path().join("haproxy.cfg");
    fs::write(&file, text).unwrap();
    let mut command = Command::new("/usr/sbin/haproxy");
    // In the foreground, without a master.
    command.arg("-db").arg("-f").arg(file);
    command
}
