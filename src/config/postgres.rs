//! `[postgres]`: the server, and the pool of connections to it.

mod encryption;
mod url;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use tokio_postgres::config::{Host, TargetSessionAttrs};

pub use self::encryption::{TlsIdentity, TlsMode, TlsSettings};
use self::url::{InvalidUrl, TlsOfUrl};
use super::{Secret, problem::Rules, value};

/// The default name of the database and of the user.
const DEFAULT_NAME: &str = "penstock";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// All in one, password included; empty: the keys that follow.
    pub url: Secret,
    /// A name, an address, or the folder of a Unix socket. Ignored with a URL.
    pub host: String,
    /// Ignored with a URL.
    #[serde(deserialize_with = "value::count")]
    pub port: u16,
    /// Empty: the URL's, or `penstock`.
    pub database: String,
    /// Empty: the URL's, or `penstock`.
    pub user: String,
    /// Empty: the URL's, or none.
    pub password: Secret,
    /// Unset: the URL's, or not encrypted.
    pub tls: Tls,
    /// Empty: the URL's, or the authorities that the system trusts.
    pub ca_file: PathBuf,
    /// Empty: the URL's, or no certificate.
    pub client_certificate: PathBuf,
    /// The private key of the certificate.
    pub client_key: PathBuf,
    /// Connections kept open when idle.
    #[serde(deserialize_with = "value::count")]
    pub pool_min: usize,
    /// The most connections.
    #[serde(deserialize_with = "value::count")]
    pub pool_max: usize,
    /// Calls that may wait for a free connection.
    #[serde(deserialize_with = "value::count")]
    pub max_waiting: usize,
    /// The longest wait for a free connection.
    #[serde(deserialize_with = "value::duration")]
    pub wait_timeout: Duration,
    /// The longest wait for a new connection.
    #[serde(deserialize_with = "value::duration")]
    pub create_timeout: Duration,
    /// The longest wait for the check of an idle connection.
    #[serde(deserialize_with = "value::duration")]
    pub recycle_timeout: Duration,
    /// The longest time of a statement.
    #[serde(deserialize_with = "value::duration")]
    pub statement_timeout: Duration,
    pub statement_mode: StatementMode,
    /// Servers for reads that may lag, as URLs separated by commas; empty: none.
    pub replica_urls: Secret,
    /// A replica that lags more than this serves no reads.
    #[serde(deserialize_with = "value::duration")]
    pub replica_max_lag: Duration,
}

/// A smaller lag cannot be distinguished from the time between two measurements.
const LEAST_LAG: Duration = Duration::from_millis(500);

/// How connections are encrypted, unless the URL says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    #[serde(rename = "")]
    Unset,
    Off,
    Require,
    Verify,
}

/// How statements reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatementMode {
    /// Prepared once per connection, under a name: the least work for the server. PgBouncer in transaction mode
    /// supports this since version 1.21.
    Named,
    /// Parsed, bound and run in one round trip without a name: works behind any PgBouncer.
    #[default]
    Unnamed,
}

impl Postgres {
    /// How to connect: the URL, if there is one, combined with the other keys.
    ///
    /// # Errors
    /// When the URL is invalid; a validated configuration has no invalid URL.
    pub fn connection(&self) -> Result<(tokio_postgres::Config, TlsSettings), InvalidUrl> {
        let (mut connection, tls) = if self.url.is_empty() {
            let mut connection = tokio_postgres::Config::new();
            connection.host(&self.host).port(self.port);
            (connection, TlsOfUrl::default())
        } else {
            url::parse(self.url.expose())?
        };
        if !self.database.is_empty() || connection.get_dbname().is_none() {
            connection.dbname(or_default(&self.database));
        }
        if !self.user.is_empty() || connection.get_user().is_none() {
            connection.user(or_default(&self.user));
        }
        if !self.password.is_empty() {
            connection.password(self.password.expose());
        }
        Ok((connection, self.tls_over(tls)))
    }

    /// How to connect to the replicas. Parts that a replica's URL omits are the primary's.
    ///
    /// # Errors
    /// When one of the URLs is invalid.
    pub fn replicas(&self) -> Result<Vec<(tokio_postgres::Config, TlsSettings)>, InvalidUrl> {
        let (primary, primary_tls) = self.connection()?;
        let urls = self.replica_urls.expose().split(',').map(str::trim).filter(|url| !url.is_empty());
        urls.map(|url| {
            let (mut connection, tls) = url::parse(url)?;
            if let (None, Some(database)) = (connection.get_dbname(), primary.get_dbname()) {
                connection.dbname(database);
            }
            if let (None, Some(user)) = (connection.get_user(), primary.get_user()) {
                connection.user(user);
            }
            if let (None, Some(password)) = (connection.get_password(), primary.get_password()) {
                connection.password(password);
            }
            let tls = if tls == TlsOfUrl::default() { primary_tls.clone() } else { self.tls_over(tls) };
            Ok((connection, tls))
        })
        .collect()
    }

    /// The TLS settings of a URL, combined with the other keys.
    fn tls_over(&self, url: TlsOfUrl) -> TlsSettings {
        let mode = match self.tls {
            Tls::Unset => url.mode.unwrap_or_default(),
            Tls::Off => TlsMode::Off,
            Tls::Require => TlsMode::Require,
            Tls::Verify => TlsMode::Verify,
        };
        let certificate_file = given(&self.client_certificate).or(url.certificate_file);
        let key_file = given(&self.client_key).or(url.key_file);
        TlsSettings {
            mode,
            ca_file: given(&self.ca_file).or(url.ca_file),
            identity: certificate_file
                .zip(key_file)
                .map(|(certificate_file, key_file)| TlsIdentity { certificate_file, key_file }),
        }
    }

    pub(super) fn check(&self, rules: &mut Rules) {
        match self.connection() {
            Ok((connection, tls)) => {
                let named = !connection.get_hosts().is_empty();
                rules.require(self.url.is_empty() || named, &["postgres.url"], "name a host");
                rules.require(
                    connection.get_target_session_attrs() != TargetSessionAttrs::ReadOnly,
                    &["postgres.url"],
                    "not have target_session_attrs=read-only: the node writes; servers to read from are postgres.replica_urls",
                );
                check_tls(rules, &connection, &tls);
                self.check_replicas(rules);
            }
            Err(error) => rules.require(false, &["postgres.url"], error),
        }
        rules.require(
            self.client_certificate.as_os_str().is_empty() == self.client_key.as_os_str().is_empty(),
            &["postgres.client_certificate", "postgres.client_key"],
            "be given together with postgres.client_key",
        );
        rules.require(!self.host.is_empty(), &["postgres.host"], "name a host");
        rules.at_least_one(self.port, &["postgres.port"]);
        rules.at_least_one(self.pool_max, &["postgres.pool_max"]);
        rules.require(
            self.pool_min <= self.pool_max,
            &["postgres.pool_min", "postgres.pool_max"],
            format_args!("be at most postgres.pool_max, which is {}", self.pool_max),
        );
        rules.at_least_one(self.max_waiting, &["postgres.max_waiting"]);
        rules.some_time(self.wait_timeout, &["postgres.wait_timeout"]);
        rules.some_time(self.create_timeout, &["postgres.create_timeout"]);
        rules.some_time(self.recycle_timeout, &["postgres.recycle_timeout"]);
        rules.some_time(self.statement_timeout, &["postgres.statement_timeout"]);
    }
}

const fn or_default(name: &str) -> &str {
    if name.is_empty() { DEFAULT_NAME } else { name }
}

impl Postgres {
    fn check_replicas(&self, rules: &mut Rules) {
        match self.replicas() {
            Ok(replicas) => {
                let named = replicas.iter().all(|(connection, _)| !connection.get_hosts().is_empty());
                rules.require(named, &["postgres.replica_urls"], "name a host in each URL");
                replicas.iter().for_each(|(connection, tls)| check_tls(rules, connection, tls));
            }
            Err(error) => rules.require(false, &["postgres.replica_urls"], error),
        }
        rules.require(
            self.replica_max_lag >= LEAST_LAG,
            &["postgres.replica_max_lag"],
            format_args!("be at least {}", humantime::format_duration(LEAST_LAG)),
        );
    }
}

/// A key without effect is a mistake, and here one that looks like security.
fn check_tls(rules: &mut Rules, connection: &tokio_postgres::Config, tls: &TlsSettings) {
    rules.require(
        tls.ca_file.is_none() || tls.mode == TlsMode::Verify,
        &["postgres.ca_file", "postgres.tls"],
        "be left out unless postgres.tls is \"verify\" (sslmode=verify-full): nothing is verified otherwise",
    );
    rules.require(
        tls.identity.is_none() || tls.mode != TlsMode::Off,
        &["postgres.client_certificate", "postgres.tls"],
        "be left out unless postgres.tls is \"verify\" or \"require\"",
    );
    let by_socket = connection.get_hosts().iter().any(|host| matches!(host, Host::Unix(_)));
    rules.require(
        tls.mode == TlsMode::Off || !by_socket,
        &["postgres.tls"],
        "be \"off\" for a Unix socket, on which PostgreSQL has no TLS",
    );
}

fn given(path: &Path) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then(|| path.to_owned())
}
