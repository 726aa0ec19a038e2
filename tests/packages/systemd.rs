//! The node as a service of systemd: what it tells its supervisor, and the unit.

use std::{
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
    process::{Command, Output},
};

use crate::{
    dockerfile::ROOT,
    node::{On, Setup},
    patience::PATIENCE,
};

/// The socket of a supervisor.
struct Told(UnixDatagram);

impl Told {
    fn at(address: &SocketAddr) -> Self {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// The first line of the next message.
    fn next(&self) -> String {
        let mut message = [0; 256];
        let length = self.0.recv(&mut message).expect("a message in time");
        String::from_utf8_lossy(&message[..length]).lines().next().unwrap_or_default().to_owned()
    }

    fn is_all(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        self.0.recv(&mut [0; 256]).is_err()
    }
}

async fn a_node_tells(address: SocketAddr, name: String) {
    let told = Told::at(&address);
    let mut node = Setup::new(On::Sqlite).env("NOTIFY_SOCKET", name).start().await;
    assert_eq!(told.next(), "READY=1");
    assert_eq!(node.get("/health/ready").send().await.unwrap().status(), 200);
    assert!(node.terminate().await.success());
    assert_eq!(told.next(), "STOPPING=1");
    assert!(told.is_all());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_is_told_when_the_node_serves_and_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    a_node_tells(SocketAddr::from_pathname(&path).unwrap(), path.to_str().unwrap().to_owned()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_may_listen_under_a_name_without_a_file() {
    let name = format!("penstock-test-{}", uuid::Uuid::new_v4());
    a_node_tells(SocketAddr::from_abstract_name(&name).unwrap(), format!("@{name}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_that_is_gone_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("notify").to_str().unwrap().to_owned();
    let mut node = Setup::new(On::Sqlite).env("NOTIFY_SOCKET", nowhere).start().await;
    assert_eq!(node.get("/health/ready").send().await.unwrap().status(), 200);
    node.finish().await;
}

/// Runs `systemd-analyze` on the unit, in which the binary is the one of the tests.
fn analyze(arguments: &[&str]) -> Output {
    let text = std::fs::read_to_string(Path::new(ROOT).join("deploy/systemd/penstock.service")).unwrap();
    let installed = "/usr/local/bin/penstock serve";
    assert!(text.contains(&format!("\nExecStart={installed}")));
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("penstock.service");
    std::fs::write(&unit, text.replace(installed, &format!("{} serve", env!("CARGO_BIN_EXE_penstock")))).unwrap();
    let run = Command::new("systemd-analyze").args(arguments).arg(&unit).output();
    run.expect("systemd-analyze is installed by ./test (on Debian: apt-get install systemd)")
}

#[test]
fn systemd_takes_the_unit() {
    let run = analyze(&["verify", "--man=no", "--recursive-errors=no"]);
    let told = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && told.is_empty(), "{told}");
}

#[test]
fn the_unit_leaves_the_node_little_that_it_could_harm() {
    // The exposure that systemd sees is from 0 to 100; services without hardening have more than 90.
    let run = analyze(&["security", "--offline=true", "--threshold=20", "--no-pager"]);
    assert!(run.status.success(), "{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
}

#[test]
fn the_unit_gives_a_stop_the_time_that_it_takes() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("deploy/systemd/penstock.service")).unwrap();
    let given = text.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
    let server = penstock::config::Config::load(&penstock::config::Sources::default()).unwrap().server;
    let stop = server.drain_notice + server.drain_grace + server.drain_settle;
    assert!(stop.as_secs() < given.parse().unwrap(), "{stop:?} of {given} s");
}
