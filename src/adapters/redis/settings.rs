//! How to reach Redis, and what a call may cost.

use std::time::Duration;

use redis::{Client, ConnectionAddr, ConnectionInfo, RedisResult, TlsCertificates};

/// Where the state is.
#[derive(Debug, Clone)]
pub enum Servers {
    /// One server has every key.
    Single(Box<ConnectionInfo>),
    /// A cluster, of which these are some nodes.
    Cluster(Vec<ConnectionInfo>),
}

/// How to reach Redis, and what a call may cost.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    pub servers: Servers,
    /// Whom to trust, and what to show, where the addresses say that the connection is encrypted. `None`: the authorities that
    /// the system trusts, and nothing.
    pub tls: Option<TlsCertificates>,
    /// What every key and channel begins with.
    pub key_prefix: String,
    /// Longest wait for a new connection, with its first answer.
    pub connect_timeout: Duration,
    /// Longest wait for an answer.
    pub response_timeout: Duration,
    /// How long a server that did not answer is left alone.
    pub breaker_period: Duration,
    /// Calls that may wait or be under way, per node.
    pub queue: usize,
    /// How long what nobody waits for is gathered.
    pub gather: Duration,
}

impl RedisSettings {
    /// What opens connections to a server.
    pub(super) fn client(&self, info: ConnectionInfo) -> RedisResult<Client> {
        match (&self.tls, info.addr()) {
            (Some(certificates), ConnectionAddr::TcpTls { .. }) => Client::build_with_tls(info, certificates.clone()),
            _ => Client::open(info),
        }
    }
}

/// Where a server is.
pub fn address_of(host: String, port: u16, encrypted: bool) -> ConnectionAddr {
    if encrypted {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}
