//! Tells systemd how far the node is (`sd_notify(3)`): `READY=1` once requests are answered, `STOPPING=1` when a stop begins.
//!
//! The protocol is one datagram for each message, to the socket that `NOTIFY_SOCKET` names. Without that variable nothing is sent.
//!
//! There is no `WATCHDOG=1`. A thread that sends it shows only that the thread runs. The node ends by itself when an actor dies
//! ([`watches`](super::watches)), and a stop ends by its [`deadline`](super::deadline).

use std::{
    env,
    ffi::OsString,
    io,
    os::unix::{
        ffi::OsStrExt as _,
        net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

/// systemd reads at once. A supervisor that does not read holds up neither the start nor the stop.
const PATIENCE: Duration = Duration::from_secs(1);

/// The supervisor that started this process, if it wants to be told.
#[derive(Debug)]
pub(super) struct Supervisor {
    socket: Option<OsString>,
}

impl Supervisor {
    pub(super) fn from_env() -> Self {
        Self { socket: env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) }
    }

    /// The node answers requests.
    pub(super) fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    /// A stop has begun.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining");
    }

    fn tell(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = send(socket, message) {
            tracing::warn!(%error, ?socket, message, "the supervisor cannot be notified (NOTIFY_SOCKET); the node continues");
        }
    }
}

fn send(socket: &OsString, message: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => abstract_address(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_write_timeout(Some(PATIENCE))?;
    sender.send_to_addr(message.as_bytes(), &address).map(drop)
}

/// The address of a socket that has a name and no file.
#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}
