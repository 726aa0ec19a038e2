//! An nginx of the run's own.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use super::process::{Ready, Server, Spec, free_port, program, put};

/// Modules of Debian's packages.
const MODULES: &str = "/usr/lib/nginx/modules";

/// Starts it in this folder, with one worker for each processor, with the modules loaded, and `http` in its `http` block, where `LISTEN` stands
/// for the address.
pub(crate) async fn start(folder: TempDir, modules: &[(&str, &str)], http: &str) -> anyhow::Result<Server> {
    // Its workers run as another user.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).context("cannot open a folder to nginx")?;
    let port = free_port()?;
    let mut files = Vec::new();
    for (file, package) in modules {
        let file = Path::new(MODULES).join(file);
        ensure!(file.is_file(), "{} is missing: on Debian, apt-get install {package}", file.display());
        files.push(file);
    }
    let text = text(folder.path(), &files, &http.replace("LISTEN", &format!("127.0.0.1:{port}")));
    let config = put(folder.path(), "nginx.conf", &text)?;
    let log = folder.path().join("error.log");
    let spec = Spec {
        name: "nginx",
        program: program("nginx", "nginx-light")?,
        args: vec!["-c".into(), config.display().to_string(), "-e".into(), log.display().to_string()],
        port,
        ready: Ready::Listens,
        end: Signal::TERM,
        as_owner: false,
    };
    Server::start(folder, spec).await
}

/// It writes nowhere else than in its folder.
fn text(folder: &Path, modules: &[PathBuf], http: &str) -> String {
    let modules: String = modules.iter().map(|module| format!("load_module {};\n", module.display())).collect();
    let folder = folder.display();
    format!(
        "{modules}daemon off;
worker_processes auto;
worker_rlimit_nofile 65536;
pid {folder}/pid;
events {{ worker_connections 8192; }}
http {{
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
