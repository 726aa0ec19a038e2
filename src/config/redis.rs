//! `[redis]`: the server or the cluster behind the shared state, and what a call to it may cost.

use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo};
use serde::Deserialize;

use super::{Secret, problem::Rules, value};
use crate::adapters::redis::Servers;

/// The port of a node that is given without one.
const DEFAULT_PORT: u16 = 6379;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// One server, password included.
    pub url: Secret,
    /// Some nodes of a cluster, by comma; the others are found by asking them.
    pub cluster_nodes: String,
    /// Empty means what the URL says, or none.
    pub username: String,
    /// Empty means what the URL says, or none.
    pub password: Secret,
    /// What every key begins with.
    pub key_prefix: String,
    /// Longest wait for a new connection.
    #[serde(deserialize_with = "value::duration")]
    pub connect_timeout: Duration,
    /// Longest wait for an answer.
    #[serde(deserialize_with = "value::duration")]
    pub response_timeout: Duration,
    /// How long a server that did not answer is left alone.
    #[serde(deserialize_with = "value::duration")]
    pub breaker_period: Duration,
    /// Commands that may wait or be under way, per node.
    #[serde(deserialize_with = "value::count")]
    pub queue: usize,
    /// How long what nobody waits for is gathered.
    #[serde(deserialize_with = "value::duration")]
    pub gather: Duration,
}

impl Redis {
    /// Whether Redis is to be used.
    pub fn is_given(&self) -> bool {
        !self.url.is_empty() || !self.cluster_nodes.is_empty()
    }

    /// The servers to connect to; `None` without any.
    ///
    /// # Errors
    /// What is wrong with the URL or the list; a checked configuration has neither.
    pub fn servers(&self) -> Result<Option<Servers>, String> {
        if !self.cluster_nodes.is_empty() {
            let nodes = self.cluster_nodes.split(',').map(|node| self.node(node.trim())).collect::<Result<_, _>>()?;
            return Ok(Some(Servers::Cluster(nodes)));
        }
        if self.url.is_empty() {
            return Ok(None);
        }
        let info = self.url.expose().into_connection_info().map_err(|error| error.to_string())?;
        let identity = self.identity(info.redis_settings().clone());
        Ok(Some(Servers::Single(info.set_redis_settings(identity))))
    }

    fn node(&self, node: &str) -> Result<ConnectionInfo, String> {
        let (host, port) = match node.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| format!("{port:?} is not a port"))?),
            None => (node, DEFAULT_PORT),
        };
        if host.is_empty() || host.contains(['/', '@']) {
            return Err(format!("{host:?} is not a host"));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let info = ConnectionAddr::Tcp(host, port).into_connection_info().map_err(|error| error.to_string())?;
        Ok(info.set_redis_settings(self.identity(RedisConnectionInfo::default())))
    }

    fn identity(&self, mut identity: RedisConnectionInfo) -> RedisConnectionInfo {
        if !self.username.is_empty() {
            identity = identity.set_username(&self.username);
        }
        if !self.password.is_empty() {
            identity = identity.set_password(self.password.expose());
        }
        identity
    }

    pub(super) fn check(&self, rules: &mut Rules) {
        let alone = Self { cluster_nodes: String::new(), ..self.clone() };
        rules.require(
            self.url.is_empty() || alone.servers().is_ok(),
            &["redis.url"],
            "be of the form redis://user:password@host:6379/0",
        );
        rules.require(
            self.cluster_nodes.is_empty() || self.servers().is_ok(),
            &["redis.cluster_nodes"],
            "be of the form host:6379,host:6379",
        );
        rules.require(
            self.url.is_empty() || self.cluster_nodes.is_empty(),
            &["redis.cluster_nodes", "redis.url"],
            "not be given beside redis.url: a cluster has many servers, not one",
        );
        rules.require(
            !self.key_prefix.contains(['{', '}']),
            &["redis.key_prefix"],
            "have no braces, which say on a cluster which keys belong together",
        );
        rules.some_time(self.connect_timeout, &["redis.connect_timeout"]);
        rules.some_time(self.response_timeout, &["redis.response_timeout"]);
        rules.some_time(self.breaker_period, &["redis.breaker_period"]);
        rules.at_least_one(self.queue, &["redis.queue"]);
    }
}
