//! `[postgres]`: the server, and the pool of connections to it.

use std::time::Duration;

use serde::Deserialize;

use super::{Secret, problem::Rules, value};
use crate::adapters::postgres::StatementMode;

/// The name of the database and of the user where none is given.
const DEFAULT_NAME: &str = "penstock";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// All in one, password included; empty means the keys that follow.
    pub url: Secret,
    /// A name, an address, or the folder of a Unix socket. Unused with a URL.
    pub host: String,
    /// Unused with a URL.
    #[serde(deserialize_with = "value::count")]
    pub port: u16,
    /// Empty means what the URL says, or `penstock`.
    pub database: String,
    /// Empty means what the URL says, or `penstock`.
    pub user: String,
    /// Empty means what the URL says, or none.
    pub password: Secret,
    /// Connections kept open when idle.
    #[serde(deserialize_with = "value::count")]
    pub pool_min: usize,
    /// Connections at most.
    #[serde(deserialize_with = "value::count")]
    pub pool_max: usize,
    /// Longest wait for a free connection.
    #[serde(deserialize_with = "value::duration")]
    pub wait_timeout: Duration,
    /// Longest wait for a new connection.
    #[serde(deserialize_with = "value::duration")]
    pub create_timeout: Duration,
    /// Longest wait for a kept connection to prove itself.
    #[serde(deserialize_with = "value::duration")]
    pub recycle_timeout: Duration,
    /// Longest that a statement may run.
    #[serde(deserialize_with = "value::duration")]
    pub statement_timeout: Duration,
    pub statement_mode: StatementMode,
}

impl Postgres {
    /// How to connect: the URL, if there is one, with what is given beside it.
    ///
    /// # Errors
    /// When the URL is not one; a checked configuration has none such.
    pub fn connection(&self) -> Result<tokio_postgres::Config, tokio_postgres::Error> {
        let mut connection = if self.url.is_empty() {
            let mut connection = tokio_postgres::Config::new();
            connection.host(&self.host).port(self.port);
            connection
        } else {
            self.url.expose().parse()?
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
        Ok(connection)
    }

    pub(super) fn check(&self, rules: &mut Rules) {
        let is_url = ["postgres://", "postgresql://"].iter().any(|scheme| self.url.expose().starts_with(scheme));
        rules.require(
            self.url.is_empty() || is_url && self.connection().is_ok_and(|url| !url.get_hosts().is_empty()),
            &["postgres.url"],
            "be of the form postgres://user:password@host:5432/database",
        );
        rules.require(!self.host.is_empty(), &["postgres.host"], "name a host");
        rules.at_least_one(self.port, &["postgres.port"]);
        rules.at_least_one(self.pool_max, &["postgres.pool_max"]);
        rules.require(
            self.pool_min <= self.pool_max,
            &["postgres.pool_min", "postgres.pool_max"],
            format_args!("be at most postgres.pool_max, which is {}", self.pool_max),
        );
        rules.some_time(self.wait_timeout, &["postgres.wait_timeout"]);
        rules.some_time(self.create_timeout, &["postgres.create_timeout"]);
        rules.some_time(self.recycle_timeout, &["postgres.recycle_timeout"]);
        rules.some_time(self.statement_timeout, &["postgres.statement_timeout"]);
    }
}

const fn or_default(name: &str) -> &str {
    if name.is_empty() { DEFAULT_NAME } else { name }
}
