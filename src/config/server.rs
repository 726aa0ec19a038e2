//! `[server]`: the listener, and limits on a single client.

use std::{net::SocketAddr, time::Duration};

use ipnet::IpNet;
use serde::Deserialize;

use super::{Secret, problem::Rules, value};

/// The smallest head with room for a request line with a receipt, and a browser's headers.
const HEADER_FLOOR: u64 = 4 << 10;

/// The least time for a transaction on a busy database, and for the end of the process.
const SETTLE_FLOOR: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The address to listen on. Port 0: a free port.
    #[serde(deserialize_with = "value::address")]
    pub bind: SocketAddr,
    /// Threads that serve HTTP; 0: one per core.
    #[serde(deserialize_with = "value::count")]
    pub workers: usize,
    /// Concurrent connections, over all workers; further ones are refused.
    #[serde(deserialize_with = "value::count")]
    pub max_connections: usize,
    /// The longest time that a client may take to send the head of a request.
    #[serde(deserialize_with = "value::duration")]
    pub header_timeout: Duration,
    /// How long an idle connection stays open.
    #[serde(deserialize_with = "value::duration")]
    pub keep_alive: Duration,
    /// A stream is cut off when its client takes no bytes for this long.
    #[serde(deserialize_with = "value::duration")]
    pub stall_timeout: Duration,
    /// How long the node still serves after SIGTERM while it reports that it leaves.
    #[serde(deserialize_with = "value::duration")]
    pub drain_notice: Duration,
    /// How long running streams may continue after that, in whole seconds, at least one.
    #[serde(deserialize_with = "value::duration")]
    pub drain_grace: Duration,
    /// How long settlement may take after that: the process ends then, whatever is left.
    #[serde(deserialize_with = "value::duration")]
    pub drain_settle: Duration,
    /// Bytes of the largest head of a request.
    #[serde(deserialize_with = "value::size")]
    pub header_limit: u64,
    /// Proxies whose statement about the client of a request is trusted.
    #[serde(deserialize_with = "value::networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// The administrator's key; empty: the node generates one and keeps it.
    pub admin_key: Secret,
}

impl Server {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.at_least_one(self.max_connections, &["server.max_connections"]);
        rules.some_time(self.header_timeout, &["server.header_timeout"]);
        rules.some_time(self.keep_alive, &["server.keep_alive"]);
        rules.some_time(self.stall_timeout, &["server.stall_timeout"]);
        rules.require(self.drain_settle >= SETTLE_FLOOR, &["server.drain_settle"], "be at least 1s");
        rules.require(self.header_limit >= HEADER_FLOOR, &["server.header_limit"], "be at least 4KiB");
        rules.require(
            self.admin_key.expose().bytes().all(|byte| byte.is_ascii_graphic()),
            &["server.admin_key"],
            "hold only ASCII letters, digits and signs, because it is sent in a header",
        );
    }
}
