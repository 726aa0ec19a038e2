//! nginx before the instances, as `config/nginx.conf` sets it up.

use std::fmt::Write;

use rustix::process::Signal;

use super::{
    process::{Ready, Server, Spec, folder, free_port, program, put},
    shipped::changed,
};
use crate::address::Address;

const SHIPPED: &str = include_str!("../../../config/nginx.conf");

/// Starts it before the instances at these addresses.
pub(crate) async fn start(instances: &[Address]) -> anyhow::Result<Server> {
    let folder = folder("balancer")?;
    let own = folder.path().display().to_string();
    let port = free_port()?;
    let mut servers = String::new();
    for instance in instances {
        writeln!(servers, "        server {} max_fails=2 fail_timeout=5s;", instance.authority())?;
    }
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|path| format!("    {path}_temp_path {own}/{path};\n"))
        .collect();
    let text = changed(
        SHIPPED,
        &[
            ("worker_processes auto;", "worker_processes auto;\ndaemon off;"),
            ("/dev/stderr", "stderr"),
            ("/dev/stdout", &format!("{own}/access")),
            ("/run/nginx.pid", &format!("{own}/pid")),
            ("http {\n", &format!("http {{\n{paths}")),
            ("listen 80;", &format!("listen 127.0.0.1:{port};")),
            ("        server penstock-1:8080 max_fails=2 fail_timeout=5s;\n", &servers),
            ("        server penstock-2:8080 max_fails=2 fail_timeout=5s;\n", ""),
            ("        server penstock-3:8080 max_fails=2 fail_timeout=5s;\n", ""),
        ],
    )?;
    let config = put(folder.path(), "nginx.conf", &text)?;
    let spec = Spec {
        name: "nginx",
        program: program("nginx", "nginx-light")?,
        args: ["-c", &config.display().to_string(), "-e", &format!("{own}/error")].map(str::to_owned).to_vec(),
        port,
        ready: Ready::Listens,
        end: Signal::TERM,
        as_owner: false,
    };
    Server::start(folder, spec).await
}
