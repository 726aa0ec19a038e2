//! `[redis]`: the server or the cluster for the shared state, and limits on calls to it.

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

/// The port of a node without one.
const DEFAULT_PORT: u16 = 6379;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// One server, password included.
    pub url: Secret,
    /// Some nodes of a cluster, separated by commas; they name the others.
    pub cluster_nodes: String,
    /// Empty: the URL's, or none.
    pub username: String,
    /// Empty: the URL's, or none.
    pub password: Secret,
    pub tls: Tls,
    /// Certificates of the trusted authorities; empty: the system's.
    pub ca_file: PathBuf,
    /// The certificate that this node presents when the server asks for one; empty: none.
    pub client_certificate: PathBuf,
    /// The private key of the certificate.
    pub client_key: PathBuf,
    /// The prefix of every key.
    pub key_prefix: String,
    /// The longest wait for a new connection.
    #[serde(deserialize_with = "value::duration")]
    pub connect_timeout: Duration,
    /// The longest wait for an answer.
    #[serde(deserialize_with = "value::duration")]
    pub response_timeout: Duration,
    /// How long the breaker stays open after a time-out.
    #[serde(deserialize_with = "value::duration")]
    pub breaker_period: Duration,
    /// Commands that may wait or be under way, per node.
    #[serde(deserialize_with = "value::count")]
    pub queue: usize,
    /// How long background updates are gathered.
    #[serde(deserialize_with = "value::duration")]
    pub gather: Duration,
}

/// Whether connections are encrypted. The server's certificate is always verified, because encryption to an unknown
/// server gives no protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// As in the URL: `rediss://` or not. Nodes of a cluster: not encrypted.
    #[serde(rename = "")]
    AsInUrl,
    Off,
    Verify,
}

/// Which servers hold the state.
#[derive(Debug, Clone)]
pub enum RedisServers {
    /// One server has every key.
    Single(Box<ConnectionInfo>),
    /// A cluster; these are some of its nodes.
    Cluster(Vec<ConnectionInfo>),
}

impl Redis {
    /// Whether Redis is configured.
    pub fn is_given(&self) -> bool {
        !self.url.is_empty() || !self.cluster_nodes.is_empty()
    }

    /// The servers to connect to; `None` if none is configured.
    ///
    /// # Errors
    /// The fault of the URL or the list; a validated configuration has none.
    pub fn servers(&self) -> Result<Option<RedisServers>, String> {
        if !self.cluster_nodes.is_empty() {
            let nodes = self.cluster_nodes.split(',').map(|node| self.node(node.trim())).collect::<Result<_, _>>()?;
            return Ok(Some(RedisServers::Cluster(nodes)));
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
        Ok(Some(RedisServers::Single(Box::new(info.set_redis_settings(identity)))))
    }

    /// The contents of the certificate files; `None` if none is configured.
    ///
    /// # Errors
    /// When a file cannot be read.
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
            "have no braces, which on a cluster decide which keys are kept together",
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

fn address_of(host: String, port: u16, encrypted: bool) -> ConnectionAddr {
    if encrypted {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}
