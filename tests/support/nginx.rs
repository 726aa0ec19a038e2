//! An nginx of one's own: the real one, on a free port, with a throw-away folder, gone when its test ends.

#![allow(dead_code, reason = "shared by test binaries that each use a part of it")]

use std::{net::TcpListener, path::Path, process::Stdio, time::Duration};

use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

/// How long nginx may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running nginx.
pub(crate) struct Nginx {
    port: u16,
    folder: TempDir,
    _process: Child,
}

impl Nginx {
    /// Starts with this in its `http` block, where `LISTEN` stands for the address to listen on. `modules` are loaded first.
    pub(crate) async fn start(modules: &[&str], http: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for _ in 0..8 {
            // Somebody may take the port between here and nginx: then another one is tried.
            let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = free.local_addr().expect("an address").port();
            drop(free);
            let config = folder.path().join("nginx.conf");
            std::fs::write(&config, text(folder.path(), port, modules, http)).expect("written");
            let mut process = Command::new("nginx")
                .arg("-c")
                .arg(&config)
                .arg("-e")
                .arg(folder.path().join("error.log"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .unwrap_or_else(|error| panic!("nginx is needed (./test installs it): {error}"));
            let listening = async {
                while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::select! {
                _ = process.wait() => {
                    let said = std::fs::read_to_string(folder.path().join("error.log")).unwrap_or_default();
                    assert!(said.contains("Address already in use"), "nginx does not start: {said}");
                }
                listens = tokio::time::timeout(PATIENCE, listening) => {
                    listens.expect("nginx listens in time");
                    return Self { port, folder, _process: process };
                }
            }
        }
        panic!("no port is free for nginx");
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What it has complained about so far.
    pub(crate) fn complaints(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }
}

/// One process, so that nothing outlives it, writing nowhere else than in its folder.
fn text(folder: &Path, port: u16, modules: &[&str], http: &str) -> String {
    let folder = folder.display();
    let modules: String = modules.iter().map(|module| format!("load_module {module};\n")).collect();
    let http = http.replace("LISTEN", &format!("127.0.0.1:{port}"));
    format!(
        "{modules}daemon off;
master_process off;
pid {folder}/pid;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{http}
}}
"
    )
}
