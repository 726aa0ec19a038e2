//! A Redis of the run's own, which keeps nothing on disk.

use rustix::process::Signal;

use super::process::{Ready, Server, Spec, folder, free_port, program};

/// Starts it.
pub(crate) async fn start() -> anyhow::Result<Server> {
    let folder = folder("redis")?;
    let port = free_port()?;
    let directory = folder.path().display().to_string();
    let port_text = port.to_string();
    let args = ["--bind", "127.0.0.1", "--port", &port_text, "--dir", &directory].into_iter().chain([
        "--save",
        "",
        "--appendonly",
        "no",
        "--daemonize",
        "no",
        "--loglevel",
        "warning",
    ]);
    let spec = Spec {
        name: "Redis",
        program: program("redis-server", "redis-server")?,
        args: args.map(str::to_owned).collect(),
        port,
        ready: Ready::Answers(b"PING\r\n", b"+PONG"),
        end: Signal::KILL,
        as_owner: false,
    };
    Server::start(folder, spec).await
}
