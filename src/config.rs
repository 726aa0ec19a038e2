//! Configuration: the compiled-in defaults, then the operator's file, then the environment, then the command line.
//!
//! `config/default.toml` lists all keys, each with its unit, its default, and the reason for it; each of its sections
//! is a struct here. Any error stops the start, with all errors in one message: see [`ConfigError`].

mod cache;
mod catalogue;
mod clock;
mod console;
mod cors;
mod data;
mod database;
mod delivery;
mod effective;
mod governance;
mod janitor;
mod lineage;
mod log;
mod payments;
mod postgres;
mod problem;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;
mod quota;
mod rate_limits;
mod receipts;
mod redis;
mod s3;
mod schema;
mod secret;
mod server;
mod sessions;
mod signatures;
mod sources;
mod sqlite;
mod storage;
mod streams;
mod tls;
mod tracing;
mod ttls;
mod uploads;
mod usage;
mod value;
mod value_source;
mod verification;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Table;

pub use self::redis::{Redis, RedisServers};
pub use self::tracing::Tracing;
pub use cache::Cache;
pub use catalogue::Catalogue;
pub use clock::Clock;
pub use console::Console;
pub use cors::Cors;
pub(crate) use cors::EVERY_ORIGIN;
pub use data::Data;
pub use database::{Database, DatabaseBackend};
pub use delivery::{Delivery, DeliveryMode, DeliveryTier};
pub use governance::Governance;
pub use janitor::Janitor;
pub use lineage::Lineage;
pub use log::Log;
pub use payments::{HeadersSource, PaymentNetwork, Payments, WithoutBroadcaster};
pub use postgres::{Postgres, StatementMode, TlsIdentity, TlsMode, TlsSettings};
pub use problem::{ConfigError, ConfigProblem};
pub use quota::Quota;
pub use rate_limits::{Rate, RateLimitBackend, RateLimits};
pub use receipts::{Receipts, TokenMode};
pub(crate) use s3::{MOST_PARTS, SENDING_ATTEMPTS};
pub use s3::{S3, S3Client};
pub use schema::schema;
pub use secret::Secret;
pub use server::Server;
pub use sessions::Sessions;
pub use signatures::Signatures;
pub use sources::{Override, Sources};
pub use sqlite::Sqlite;
pub use storage::{Storage, StorageBackend};
pub use streams::Streams;
pub use tls::Tls;
pub use uploads::Uploads;
pub use usage::Usage;
pub use value_source::ValueSource;
pub use verification::{Lifecycle, Verification};

use effective::Effective;
use problem::Rules;
use sources::{FILE_VARIABLE, settings_in};

use crate::words;

/// The defaults, and the only list of the keys.
const DEFAULTS: &str = include_str!("../config/default.toml");

/// A validated configuration: one field per section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub tls: Tls,
    pub cors: Cors,
    pub data: Data,
    pub database: Database,
    pub sqlite: Sqlite,
    pub postgres: Postgres,
    pub redis: Redis,
    pub storage: Storage,
    pub s3: S3,
    pub streams: Streams,
    pub delivery: Delivery,
    pub quota: Quota,
    pub usage: Usage,
    pub uploads: Uploads,
    pub sessions: Sessions,
    pub console: Console,
    pub signatures: Signatures,
    pub receipts: Receipts,
    pub rate_limits: RateLimits,
    pub cache: Cache,
    pub catalogue: Catalogue,
    pub clock: Clock,
    pub janitor: Janitor,
    pub lineage: Lineage,
    pub governance: Governance,
    pub payments: Payments,
    pub verification: Verification,
    pub lifecycle: Lifecycle,
    pub log: Log,
    pub tracing: Tracing,
    /// Whether the node serves the page that plays the sample: `penstock demo` says so, and no source of settings does.
    #[serde(skip)]
    pub has_player: bool,
    /// The same values in their given form, to show them with their origins.
    #[serde(skip)]
    effective: Effective,
}

impl Config {
    /// Merges the sources over the defaults and validates the result.
    ///
    /// # Errors
    /// All errors: unreadable files, unknown keys, impossible values, values that contradict each other.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let defaults =
            parse(DEFAULTS, Path::new("config/default.toml")).map_err(|problem| ConfigError(vec![problem]))?;
        let mut effective = Effective::of_defaults(defaults);
        let mut problems = Vec::new();
        if let Some(path) = sources.file() {
            match read(&path) {
                Ok(file) => effective.lay_file(file, &ValueSource::File(path), &mut problems),
                Err(problem) => problems.push(problem),
            }
        }
        ttls::lay(&sources.env, &mut effective, &mut problems);
        for (name, key, text) in settings_in(&sources.env, &mut problems) {
            effective.lay_text(&key, &text, &ValueSource::Variable(name.to_owned()), &mut problems);
        }
        for Override { flag, key, value } in &sources.overrides {
            effective.lay_text(key, value, &ValueSource::Flag(flag), &mut problems);
        }
        settle_server(&mut effective);
        settle_rate_limits(&mut effective);
        settle_storage(&mut effective);
        match Self::deserialize(effective.table()) {
            Ok(config) => Self { effective, ..config }.checked(problems),
            Err(error) => {
                // Every value was tried alone, and no section depends on another: only the defaults themselves can be
                // wrong.
                let why = error.message().to_owned();
                problems.push(ConfigProblem::File { path: "config/default.toml".into(), why });
                Err(ConfigError(problems))
            }
        }
    }

    /// Checks the values, alone and together, beyond their form.
    ///
    /// # Errors
    /// Every broken rule, by key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let problems = self.broken_rules(&[]);
        if problems.is_empty() { Ok(()) } else { Err(ConfigError(problems)) }
    }

    /// The effective values as TOML, secrets masked, each with its origin.
    pub fn masked(&self) -> String {
        self.effective.to_string()
    }

    /// The folder of the blobs.
    pub fn blob_root(&self) -> PathBuf {
        if self.storage.root.as_os_str().is_empty() { self.data.dir.join("blobs") } else { self.storage.root.clone() }
    }

    fn checked(self, mut problems: Vec<ConfigProblem>) -> Result<Self, ConfigError> {
        let broken = self.broken_rules(&problems);
        problems.extend(broken);
        if problems.is_empty() { Ok(self) } else { Err(ConfigError(problems)) }
    }

    /// The broken rules, without those about a key that is known to be wrong: it has its default here, so a rule about
    /// it might give a false message.
    fn broken_rules(&self, known: &[ConfigProblem]) -> Vec<ConfigProblem> {
        let mut rules = Rules::default();
        self.server.check(&mut rules);
        self.tls.check(&mut rules);
        self.cors.check(&mut rules);
        self.data.check(&mut rules);
        self.database.check(&mut rules);
        self.sqlite.check(&mut rules);
        self.postgres.check(&mut rules);
        self.redis.check(&mut rules);
        self.s3.check(&mut rules);
        self.streams.check(&mut rules);
        self.delivery.check(&mut rules);
        self.quota.check(&mut rules);
        self.usage.check(&mut rules);
        self.uploads.check(&mut rules);
        self.sessions.check(&mut rules);
        self.console.check(&mut rules);
        self.signatures.check(&mut rules);
        self.receipts.check(&mut rules);
        self.rate_limits.check(&mut rules);
        self.cache.check(&mut rules);
        self.catalogue.check(&mut rules);
        self.clock.check(&mut rules);
        self.janitor.check(&mut rules);
        self.lineage.check(&mut rules);
        self.governance.check(&mut rules);
        self.payments.check(&mut rules);
        self.verification.check(&mut rules);
        self.lifecycle.check(&mut rules);
        self.log.check(&mut rules);
        self.tracing.check(&mut rules);
        self.check_sections_together(&mut rules);
        rules
            .broken()
            .into_iter()
            .filter(|rule| !known.iter().filter_map(ConfigProblem::key).any(|key| rule.keys.contains(&key)))
            .map(|rule| ConfigProblem::Value {
                key: rule.keys[0].to_owned(),
                value: self.effective.shown(rule.keys[0]),
                origin: self.effective.origin(rule.keys[0]).clone(),
                why: rule.why,
            })
            .collect()
    }

    fn check_sections_together(&self, rules: &mut Rules) {
        rules.require(
            self.janitor.temporary_age > self.uploads.idle_timeout,
            &["janitor.temporary_age", "uploads.idle_timeout"],
            "be longer than uploads.idle_timeout, or a sweep removes the file of an upload that only paused",
        );
        if self.storage.backend == StorageBackend::Fs {
            self.storage.check_with(&self.blob_root(), rules);
        }
        self.lifecycle.check_with(&self.storage, &self.s3, self.janitor.temporary_age, rules);
        self.delivery.check_with(&self.server, &self.storage, &self.s3, rules);
        rules.require(
            self.rate_limits.backend == RateLimitBackend::Memory || self.redis.is_given(),
            &["rate_limits.backend", "redis.url", "redis.cluster_nodes"],
            "be \"memory\" without redis.url or redis.cluster_nodes",
        );
        if self.storage.backend == StorageBackend::S3 {
            self.check_s3_with_others(rules);
        }
        for key in [&["postgres.host", "postgres.url"], &["postgres.port", "postgres.url"]] {
            rules.require(
                !self.effective.is_given(key[1]) || self.effective.layer(key[0]) < self.effective.layer(key[1]),
                key,
                format_args!("not be given beside postgres.url (from {})", self.effective.origin(key[1])),
            );
        }
    }

    fn check_s3_with_others(&self, rules: &mut Rules) {
        rules.require(!self.s3.bucket_hot.is_empty(), &["s3.bucket_hot", "storage.backend"], "name a bucket");
        rules.require(
            self.uploads.max_bytes <= self.s3.largest_content(),
            &["s3.part_size", "uploads.max_bytes"],
            "be at least uploads.max_bytes / 10000: S3 does not accept more parts than that",
        );
        let age = self.s3.sending_times_two();
        rules.require(
            self.janitor.temporary_age > age,
            &["janitor.temporary_age", "s3.part_timeout"],
            format_args!(
                "be longer than six times s3.part_timeout, {}, or a sweep removes what an upload is about to complete",
                humantime::format_duration(age)
            ),
        );
    }
}

impl Sources {
    /// The operator's file, if there is one.
    fn file(&self) -> Option<PathBuf> {
        let variable = || self.env.iter().find(|(name, value)| name == FILE_VARIABLE && !value.is_empty());
        self.file.clone().or_else(|| variable().map(|(_, path)| path.into()))
    }
}

/// Decides which PostgreSQL server is used, if any: a host from a later layer than the URL's replaces the URL. If the
/// database backend is not set, naming a server selects PostgreSQL.
fn settle_server(effective: &mut Effective) {
    if effective.is_given("postgres.url") && effective.layer("postgres.host") > effective.layer("postgres.url") {
        effective.imply("postgres.url", "", "postgres.host");
    }
    let server = ["postgres.url", "postgres.host"].into_iter().find(|key| effective.is_given(key));
    if let Some(key) = server.filter(|_| !effective.is_given("database.backend")) {
        effective.imply("database.backend", "postgres", key);
    }
}

/// If the rate-limit backend is not set, naming a Redis selects it: then instances count together.
fn settle_rate_limits(effective: &mut Effective) {
    let server = ["redis.url", "redis.cluster_nodes"].into_iter().find(|key| effective.is_given(key));
    if let Some(key) = server.filter(|_| !effective.is_given("rate_limits.backend")) {
        effective.imply("rate_limits.backend", "redis", key);
    }
}

/// If the storage backend is not set, naming a bucket selects S3.
fn settle_storage(effective: &mut Effective) {
    if effective.is_given("s3.bucket_hot") && !effective.is_given("storage.backend") {
        effective.imply("storage.backend", "s3", "s3.bucket_hot");
    }
}

fn read(path: &Path) -> Result<Table, ConfigProblem> {
    let text = words::text_of(path)
        .map_err(|error| ConfigProblem::File { path: path.to_owned(), why: format!("cannot be read: {error}") })?;
    parse(&text, path)
}

fn parse(text: &str, path: &Path) -> Result<Table, ConfigProblem> {
    text.parse::<Table>()
        .map_err(|error| ConfigProblem::File { path: path.to_owned(), why: words::of_toml(&error, text) })
}
