//! `[database]`: which database to use, and how long to wait for it at the start.

use std::time::Duration;

use serde::Deserialize;

use super::{problem::Rules, value};

/// The database behind the ledger and the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseBackend {
    /// One file in the data folder, one instance.
    Sqlite,
    /// Any number of instances.
    Postgres,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// If it is not set, a given PostgreSQL server selects PostgreSQL.
    pub backend: DatabaseBackend,
    /// How long to try, at the start, to reach a database that does not answer.
    #[serde(deserialize_with = "value::duration")]
    pub start_timeout: Duration,
    /// Whether `serve` migrates the schema by itself.
    pub migrate_at_start: bool,
}

impl Database {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.some_time(self.start_timeout, &["database.start_timeout"]);
    }
}
