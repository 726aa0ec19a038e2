//! How to reach Redis, and what a call may cost.

use std::time::Duration;

use redis::ConnectionInfo;

/// Where the state is.
#[derive(Debug, Clone)]
pub enum Servers {
    /// One server has every key.
    Single(ConnectionInfo),
    /// A cluster, of which these are some nodes.
    Cluster(Vec<ConnectionInfo>),
}

/// How to reach Redis, and what a call may cost.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    pub servers: Servers,
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
