//! What the kernel says of a connection on this machine.

#![allow(dead_code, reason = "shared by test binaries that each use a part of it")]

use std::{fs, net::SocketAddr, time::Duration};

/// One end of a connection over IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// Sent, or to be sent, and not acknowledged by the other end.
    pub(crate) outgoing: u64,
    /// Received and not read.
    pub(crate) unread: u64,
}

/// The end of a connection that has this address; none when the kernel has let it go, as it does with one that was reset.
pub(crate) fn end_at(address: SocketAddr) -> Option<End> {
    let port = format!(":{:04X}", address.port());
    let hex = |text: &str| u64::from_str_radix(text, 16).expect("hexadecimal");
    fs::read_to_string("/proc/net/tcp").expect("Linux tells").lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, _peer, state, queues) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        const LISTENING: &str = "0A";
        let (outgoing, unread) = queues.split_once(':')?;
        (local.ends_with(&port) && state != LISTENING).then(|| End { outgoing: hex(outgoing), unread: hex(unread) })
    })
}

/// Waits until nothing moves between two ends any more, as when the client does not read; the client's end.
pub(crate) async fn at_a_standstill(client: SocketAddr) -> End {
    let (mut last, mut same) = (None, 0);
    // Longer than an acknowledgement is put off, and than a small segment waits for a window.
    while same < 20 {
        tokio::time::sleep(Duration::from_millis(25)).await;
        let now = end_at(client);
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last.expect("the connection is there")
}
