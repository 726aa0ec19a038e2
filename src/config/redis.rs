//! `[redis]`: the server or the cluster behind the shared state, and what a call to it may cost.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use redis::{
    ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, TlsCertificates,
};
use serde::Deserialize;

use super::{Secret, problem::Rules, value};
use crate::adapters::redis::{Servers, address_of};

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
    pub tls: Tls,
    /// Certificates of the authorities to trust; empty means the system's.
    pub ca_file: PathBuf,
    /// What this node shows to a server that asks who it is; empty means nothing.
    pub client_certificate: PathBuf,
    /// The key to it.
    pub client_key: PathBuf,
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

/// Whether connections are encrypted. The server's certificate is always verified, for encryption to whoever answers protects
/// from nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// What the URL says: `rediss://` or not. Nodes of a cluster are not.
    #[serde(rename = "")]
    AsInUrl,
    Off,
    Verify,
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
        let mut info = self.url.expose().into_connection_info().map_err(|error| error.to_string())?;
        match (info.addr(), self.tls) {
            (ConnectionAddr::TcpTls { insecure: true, .. }, _) => return Err("#insecure is not supported".to_owned()),
            (ConnectionAddr::Tcp(host, port), Tls::Verify) => {
                let address = address_of(host.clone(), *port, true);
                info = info.set_addr(address);
            }
            (ConnectionAddr::TcpTls { host, port, .. }, Tls::Off) => {
                let address = address_of(host.clone(), *port, false);
                info = info.set_addr(address);
            }
            _ => {}
        }
        let identity = self.identity(info.redis_settings().clone());
        Ok(Some(Servers::Single(Box::new(info.set_redis_settings(identity)))))
    }

    /// The files for encrypted connections, read; `None` without any.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn certificates(&self) -> anyhow::Result<Option<TlsCertificates>> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let given = |path: &Path| (!path.as_os_str().is_empty()).then(|| read(path)).transpose();
        let root_cert = given(&self.ca_file)?;
        let client_tls = match (given(&self.client_certificate)?, given(&self.client_key)?) {
            (Some(client_cert), Some(client_key)) => Some(ClientTlsConfig { client_cert, client_key }),
            _ => None,
        };
        Ok((root_cert.is_some() || client_tls.is_some()).then_some(TlsCertificates { client_tls, root_cert }))
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
        let address = address_of(host, port, self.tls == Tls::Verify);
        let info = address.into_connection_info().map_err(|error| error.to_string())?;
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
        rules.require(
            self.client_certificate.as_os_str().is_empty() == self.client_key.as_os_str().is_empty(),
            &["redis.client_certificate", "redis.client_key"],
            "be given together with redis.client_key",
        );
        rules.some_time(self.connect_timeout, &["redis.connect_timeout"]);
        rules.some_time(self.response_timeout, &["redis.response_timeout"]);
        rules.some_time(self.breaker_period, &["redis.breaker_period"]);
        rules.at_least_one(self.queue, &["redis.queue"]);
    }
}
