//! `[server]`: the listener, and the bounds on a single client.

use std::{net::SocketAddr, time::Duration};

use ipnet::IpNet;
use serde::Deserialize;

use super::{Secret, problem::Rules, value};

/// Smallest head that leaves room for a request line with a receipt, and a browser's headers.
const HEADER_FLOOR: u64 = 4 << 10;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Where to listen. Port 0 takes a free one.
    #[serde(deserialize_with = "value::address")]
    pub bind: SocketAddr,
    /// Threads that serve HTTP; 0 means one for each core.
    #[serde(deserialize_with = "value::count")]
    pub workers: usize,
    /// Connections open at a time, over all workers.
    #[serde(deserialize_with = "value::count")]
    pub max_connections: usize,
    /// Longest a client may take to send the head of a request.
    #[serde(deserialize_with = "value::duration")]
    pub header_timeout: Duration,
    /// How long an idle connection stays open.
    #[serde(deserialize_with = "value::duration")]
    pub keep_alive: Duration,
    /// A stream whose client takes nothing for so long is cut.
    #[serde(deserialize_with = "value::duration")]
    pub stall_timeout: Duration,
    /// How long the node serves on after SIGTERM while it says that it leaves.
    #[serde(deserialize_with = "value::duration")]
    pub drain_notice: Duration,
    /// How long running streams may go on after that. Zero cuts them at once.
    #[serde(deserialize_with = "value::duration")]
    pub drain_grace: Duration,
    /// Bytes of the largest head of a request.
    #[serde(deserialize_with = "value::size")]
    pub header_limit: u64,
    /// Proxies that are believed when they say whom a request is from.
    #[serde(deserialize_with = "value::networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// The administrator's key; empty means one is made and kept.
    pub admin_key: Secret,
}

impl Server {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.at_least_one(self.max_connections, &["server.max_connections"]);
        rules.some_time(self.header_timeout, &["server.header_timeout"]);
        rules.some_time(self.keep_alive, &["server.keep_alive"]);
        rules.some_time(self.stall_timeout, &["server.stall_timeout"]);
        rules.require(self.header_limit >= HEADER_FLOOR, &["server.header_limit"], "be at least 4KiB");
        rules.require(
            self.admin_key.expose().bytes().all(|byte| byte.is_ascii_graphic()),
            &["server.admin_key"],
            "hold only letters, digits and signs of ASCII, because it is sent in a header",
        );
    }
}
