//! How to reach Redis, and what a call may cost.

use std::time::Duration;

use redis::{Client, ConnectionAddr, ConnectionInfo, RedisResult, TlsCertificates};

use crate::config::RedisServers;

/// How to reach Redis, and what a call may cost.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    pub servers: RedisServers,
    /// Trusted authorities and the client certificate, for addresses that ask for encryption. `None`: the system's
    /// authorities, and no client certificate.
    pub tls: Option<TlsCertificates>,
    /// The prefix of every key and channel.
    pub key_prefix: String,
    /// The longest wait for a new connection, including its first answer.
    pub connect_timeout: Duration,
    /// The longest wait for an answer.
    pub response_timeout: Duration,
    /// How long the breaker stays open after a time-out.
    pub breaker_period: Duration,
    /// Calls that may wait or be under way, per node.
    pub queue: usize,
    /// How long background updates are gathered.
    pub gather: Duration,
}

impl RedisSettings {
    /// A client that opens connections to a server.
    pub(super) fn client(&self, info: ConnectionInfo) -> RedisResult<Client> {
        match (&self.tls, info.addr()) {
            (Some(certificates), ConnectionAddr::TcpTls { .. }) => Client::build_with_tls(info, certificates.clone()),
            _ => Client::open(info),
        }
    }
}

/// The address of a server.
pub(super) fn address_of(host: String, port: u16, encrypted: bool) -> ConnectionAddr {
    if encrypted {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}
