//! Configuration as an operator meets it: what a file, the environment and flags come to, and what a mistake is told.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "config/addresses.rs"]
mod addresses;
#[path = "config/delivery.rs"]
mod delivery;
#[path = "config/mistakes.rs"]
mod mistakes;
#[path = "config/packages.rs"]
mod packages;
#[path = "config/secrets.rs"]
mod secrets;
#[path = "config/tls.rs"]
mod tls;
#[path = "support/words.rs"]
mod words;

use std::{fs, net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use penstock::config::{
    Config, ConfigError, DatabaseBackend, DeliveryMode, DeliveryTier, Override, RateLimitBackend, RedisServers,
    Sources, StatementMode, StorageBackend,
};
use penstock::{route_class::RouteClass, telemetry::LogFormat};
use penstock_actors::content::reader::Verify;
use penstock_actors::model::LostLease;
use proptest::prelude::*;
use tempfile::NamedTempFile;
use tokio_postgres::config::Host;
use toml::Table;

/// Sources made of variables alone.
fn env(variables: &[(&str, &str)]) -> Sources {
    let env = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { env, ..Sources::default() }
}

fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

/// Loads a file and variables.
fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let file = file(text);
    Config::load(&Sources { file: Some(file.path().to_owned()), ..env(variables) })
}

/// The lines that a mistake is told in, the file's path shortened.
fn complaints(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let file = file(text);
    let sources = Sources { file: Some(file.path().to_owned()), ..env(variables) };
    let error = Config::load(&sources).unwrap_err().to_string();
    let error = error.replace(&file.path().display().to_string(), "FILE");
    error.lines().skip(1).map(|line| line.trim_start().to_owned()).collect()
}

#[test]
fn the_defaults_are_valid_and_every_key_is_known() {
    let config = Config::load(&Sources::default()).unwrap();
    config.validate().unwrap();
    assert_eq!(config.server.bind, "127.0.0.1:8080".parse::<SocketAddr>().unwrap());
    assert_eq!(config.server.workers, 0);
    assert!(config.server.admin_key.is_empty());
    assert_eq!(config.data.dir, PathBuf::from("./data"));
    assert_eq!(config.blob_root(), PathBuf::from("./data/blobs"));
    assert_eq!(config.database.backend, DatabaseBackend::Sqlite);
    assert_eq!((config.postgres.pool_min, config.postgres.pool_max), (5, 15));
    assert_eq!(config.postgres.wait_timeout, Duration::from_secs(2));
    assert_eq!(config.postgres.statement_mode, StatementMode::Unnamed);
    assert_eq!((config.storage.backend, config.storage.verify), (StorageBackend::Fs, Verify::Cold));
    assert_eq!(config.streams.memory_cache, 32 << 20);
    assert_eq!((config.delivery.mode, config.delivery.tier), (DeliveryMode::Stream, DeliveryTier::Any));
    assert_eq!(config.delivery.url_ttl, Duration::from_secs(300));
    assert_eq!(config.quota.lease_ttl, Duration::from_secs(60));
    assert_eq!(config.quota.lease_max_bytes, 256 << 20);
    assert_eq!(config.quota.lost_lease, LostLease::Charge);
    assert_eq!(config.usage.batch_age, Duration::from_millis(500));
    assert_eq!(config.uploads.max_bytes, 64 << 30);
    assert_eq!(config.sessions.ttl, Duration::from_secs(1800));
    assert_eq!(config.janitor.window_retention, Duration::from_hours(400 * 24));
    assert_eq!(config.log.format, LogFormat::Text);
}

#[test]
fn every_default_has_a_comment_above_it_and_every_variable_it_names_works() {
    let text = include_str!("../config/default.toml");
    let mut section = "";
    let mut before = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((key, default)) = line.split_once(" = ") {
            assert!(before.starts_with("# "), "{section}.{key} is not explained");
            let variable = format!("PENSTOCK_{}__{}", section.to_uppercase(), key.to_uppercase());
            let config = Config::load(&env(&[(&variable, default.trim_matches('"'))])).unwrap();
            if default != "\"\"" {
                assert!(config.masked().contains(&format!(" # {variable}\n")), "{variable} sets nothing");
            }
        }
        before = line;
    }
}

#[test]
fn the_file_overrides_the_defaults_the_environment_the_file_and_flags_everything() {
    let text = "[server]\nbind = \"10.0.0.1:1\"\nkeep_alive = \"1s\"\nworkers = 1\n[data]\ndir = \"/file\"";
    let file = file(text);
    let config = Config::load(&Sources {
        file: Some(file.path().to_owned()),
        overrides: vec![Override { flag: "--bind", key: "server.bind", value: "10.0.0.3:3".into() }],
        ..env(&[("PENSTOCK_BIND", "10.0.0.2:2"), ("PENSTOCK_SERVER__WORKERS", "2")])
    })
    .unwrap();
    assert_eq!(config.server.bind.port(), 3);
    assert_eq!(config.server.workers, 2);
    assert_eq!(config.server.keep_alive, Duration::from_secs(1));
    assert_eq!(config.blob_root(), PathBuf::from("/file/blobs"));
    assert_eq!(config.server.header_timeout, Duration::from_secs(10));
}

#[test]
fn the_file_may_be_named_by_the_environment_and_a_flag_goes_before() {
    let (named, flagged) = (file("[server]\nworkers = 1"), file("[server]\nworkers = 2"));
    let sources = env(&[("PENSTOCK_CONFIG", named.path().to_str().unwrap())]);
    assert_eq!(Config::load(&sources).unwrap().server.workers, 1);
    let sources = Sources { file: Some(flagged.path().to_owned()), ..sources };
    assert_eq!(Config::load(&sources).unwrap().server.workers, 2);
}

#[test]
fn the_names_that_operators_know_set_their_keys() {
    let config = Config::load(&env(&[
        ("PG_HOST", "db"),
        ("PG_PORT", "6432"),
        ("PG_DATABASE", "content"),
        ("PG_USER", "node"),
        ("PG_PASSWORD", "123456"),
        ("PG_POOL_MIN", "1"),
        ("PG_POOL_MAX", "2"),
        ("REDIS_CLUSTER_NODES", "one:7000, two"),
        ("STORAGE_BACKEND", "fs"),
        ("DATA_ROOT", "/blobs"),
        ("MAX_RANGE_BYTES", "16MiB"),
        ("PENSTOCK_ADMIN_KEY", "key"),
        ("PENSTOCK_BIND", "[::]:80"),
        ("PENSTOCK_DATA_DIR", "/data"),
    ]))
    .unwrap();
    assert_eq!(config.database.backend, DatabaseBackend::Postgres);
    let (connection, _) = config.postgres.connection().unwrap();
    assert_eq!(connection.get_hosts(), [Host::Tcp("db".into())]);
    assert_eq!(connection.get_ports(), [6432]);
    assert_eq!(connection.get_dbname(), Some("content"));
    assert_eq!(connection.get_user(), Some("node"));
    assert_eq!(connection.get_password(), Some(&b"123456"[..]));
    assert_eq!((config.postgres.pool_min, config.postgres.pool_max), (1, 2));
    assert!(matches!(config.redis.servers(), Ok(Some(RedisServers::Cluster(nodes))) if nodes.len() == 2));
    assert_eq!(config.blob_root(), PathBuf::from("/blobs"));
    assert_eq!(config.streams.max_range_bytes, 16 << 20);
    assert_eq!(config.server.admin_key.expose(), "key");
    assert_eq!(config.server.bind.port(), 80);
}

#[test]
fn the_general_name_goes_before_the_short_one_and_empty_variables_are_none() {
    let sources = env(&[("PENSTOCK_SERVER__WORKERS", ""), ("PENSTOCK_POSTGRES__HOST", "long"), ("PG_HOST", "short")]);
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.server.workers, 0);
    assert_eq!(config.postgres.host, "long");
}

#[test]
fn redis_is_used_when_it_is_named_and_takes_what_is_given_beside_its_url() {
    assert!(Config::load(&Sources::default()).unwrap().redis.servers().unwrap().is_none());
    let given = [("REDIS_URL", "redis://me:pw@cache:7000/2"), ("PENSTOCK_REDIS__PASSWORD", "other")];
    let Some(RedisServers::Single(info)) = Config::load(&env(&given)).unwrap().redis.servers().unwrap() else {
        panic!("one server was named");
    };
    assert_eq!(info.addr().to_string(), "cache:7000");
    let identity = info.redis_settings();
    assert_eq!((identity.username(), identity.password(), identity.db()), (Some("me"), Some("other"), 2));
    for nodes in ["one:port", "redis://one:7000", "one:7000,,two:7000", "me@one:7000", ":7000"] {
        let told = complaints("", &[("REDIS_CLUSTER_NODES", nodes)]);
        assert!(told[0].contains("must be of the form host:6379,host:6379"), "{told:?}");
    }
    let encrypted = |variables: &[(&str, &str)]| {
        let Ok(Some(RedisServers::Single(info))) = Config::load(&env(variables)).unwrap().redis.servers() else {
            panic!("one server was named");
        };
        matches!(info.addr(), redis::ConnectionAddr::TcpTls { insecure: false, .. })
    };
    assert!(encrypted(&[("REDIS_URL", "rediss://cache")]));
    assert!(encrypted(&[("REDIS_URL", "redis://cache"), ("PENSTOCK_REDIS__TLS", "verify")]));
    assert!(!encrypted(&[("REDIS_URL", "rediss://cache"), ("PENSTOCK_REDIS__TLS", "off")]));
    let told = complaints("", &[("REDIS_URL", "rediss://cache/#insecure")]);
    assert!(told[0].contains("redis://user:password@host"), "{told:?}");
    let told = complaints("", &[("REDIS_URL", "http://cache"), ("PENSTOCK_REDIS__KEY_PREFIX", "{a}")]);
    assert!(told[0].contains("redis://user:password@host:6379/0") && told[1].contains("no braces"), "{told:?}");
    let told = complaints("", &[("REDIS_URL", "redis://cache"), ("REDIS_CLUSTER_NODES", "one:7000")]);
    assert!(told[0].contains("must not be given beside redis.url"), "{told:?}");
}

#[test]
fn naming_a_postgresql_server_chooses_it_unless_the_database_is_chosen() {
    let backend = |text, variables: &[_]| load(text, variables).unwrap().database.backend;
    assert_eq!(backend("", &[("DATABASE_URL", "postgres://db/x")]), DatabaseBackend::Postgres);
    assert_eq!(backend("[postgres]\nhost = \"db\"", &[]), DatabaseBackend::Postgres);
    assert_eq!(backend("[database]\nbackend = \"sqlite\"", &[("PG_HOST", "db")]), DatabaseBackend::Sqlite);
    assert_eq!(backend("", &[("PG_PASSWORD", "left over")]), DatabaseBackend::Sqlite);
}

#[test]
fn limits_by_class_come_from_one_variable_and_other_classes_take_the_default() {
    let of = |text: &str, variables: &[(&str, &str)]| {
        let limits = load(text, variables).unwrap().rate_limits;
        RouteClass::ALL.map(|class| limits.per_minute(class).map_or(0, NonZeroU32::get))
    };
    assert_eq!(of("", &[]), [60_000, 60_000, 60_000, 60_000, 600, 60_000, 60_000, 10, 0, 60_000]);
    let json = ("RATE_LIMITS_JSON", r#"{"streaming":600,"admin":0,"default":30}"#);
    assert_eq!(of("", &[json]), [30, 600, 30, 30, 600, 30, 0, 10, 0, 30]);
    let file = "[rate_limits]\ncontent = 7\nstreaming = 8\nreceipts = \"default\"";
    assert_eq!(of(file, &[json]), [7, 600, 30, 30, 600, 30, 0, 10, 0, 30]);
    assert_eq!(of(file, &[json, ("PENSTOCK_RATE_LIMITS__STREAMING", "9")])[1], 9);
    for text in [r#"{"streaming":-1}"#, r#"{"streaming":"many"}"#, "[600]", "600", "{"] {
        let told = complaints("", &[("RATE_LIMITS_JSON", text)]);
        assert!(
            told.len() == 1 && told[0].starts_with("RATE_LIMITS_JSON: must be a JSON object of whole numbers"),
            "{told:?}"
        );
    }
    assert_eq!(
        complaints("", &[("RATE_LIMITS_JSON", r#"{"streming":1,"default":5000000000}"#)]),
        [
            "rate_limits.default = 5000000000 (from RATE_LIMITS_JSON): must be a whole number, not negative and not too large",
            "rate_limits.streming (from RATE_LIMITS_JSON): there is no such key; did you mean rate_limits.streaming?",
        ]
    );
    assert_eq!(
        complaints("[rate_limits]\nlineage = \"none\"", &[]),
        [
            "rate_limits.lineage = \"none\" (from FILE): must be requests per minute such as 600, 0 for no limit, or \"default\""
        ]
    );
}

#[test]
fn naming_a_redis_has_requests_counted_there_unless_it_is_said_where() {
    let backend = |text, variables: &[_]| load(text, variables).unwrap().rate_limits.backend;
    assert_eq!(backend("", &[]), RateLimitBackend::Memory);
    assert_eq!(backend("", &[("REDIS_URL", "redis://cache")]), RateLimitBackend::Redis);
    assert_eq!(backend("[redis]\ncluster_nodes = \"a:1,b:2\"", &[]), RateLimitBackend::Redis);
    let both = [("REDIS_URL", "redis://cache"), ("RATE_LIMIT_BACKEND", "memory"), ("RATE_LIMIT_KEY_PREFIX", "mine:")];
    assert_eq!(backend("", &both), RateLimitBackend::Memory);
    assert_eq!(load("", &both).unwrap().rate_limits.key_prefix, "mine:");
    assert_eq!(
        complaints("", &[("RATE_LIMIT_BACKEND", "redis")]),
        ["rate_limits.backend = \"redis\" (from RATE_LIMIT_BACKEND): \
             must be \"memory\" without redis.url or redis.cluster_nodes"]
    );
}

#[test]
fn trusted_proxies_are_networks_or_single_addresses() {
    let of = |text| load("", &[("PENSTOCK_SERVER__TRUSTED_PROXIES", text)]).map(|config| config.server.trusted_proxies);
    let networks = of("10.0.0.0/8, 192.0.2.7,2001:db8::/32").unwrap();
    assert_eq!(
        networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]
    );
    assert!(Config::load(&Sources::default()).unwrap().server.trusted_proxies.is_empty());
    for wrong in ["10.0.0.0/33", "proxy.example", "10.0.0", "10.0.0.1-10.0.0.9"] {
        assert!(of(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn variables_of_others_are_left_alone() {
    let others = [("PENSTOCK_SERVICE_HOST", "10.0.0.1"), ("PENSTOCK_PORT", "tcp://10.0.0.1:80"), ("PATH", "/bin")];
    assert!(Config::load(&env(&others)).is_ok());
}

#[test]
fn the_values_in_force_are_shown_as_toml_with_their_origins_and_without_secrets() {
    let shown = load(
        "[server]\nkeep_alive = \"30s\"",
        &[
            ("PENSTOCK_ADMIN_KEY", "hunter1"),
            ("PG_PASSWORD", "hunter2"),
            ("DATABASE_URL", "postgres://me:hunter3@db/x"),
            ("REDIS_URL", "redis://me:hunter4@cache:6379/0"),
            ("PENSTOCK_REDIS__PASSWORD", "hunter5"),
        ],
    )
    .unwrap()
    .masked();
    assert!(!shown.contains("hunter"), "{shown}");
    let line = |key: &str| {
        let line = shown.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("admin_key"), "admin_key = \"***\" # PENSTOCK_ADMIN_KEY");
    assert_eq!(line("password"), "password = \"***\" # PG_PASSWORD");
    assert_eq!(line("url"), "url = \"postgres://me:***@db/x\" # DATABASE_URL");
    assert_eq!(line("backend"), "backend = \"postgres\" # implied by postgres.url");
    assert_eq!(line("header_timeout"), "header_timeout = \"10s\" # default");
    assert!(line("keep_alive").starts_with("keep_alive = \"30s\" # /"));
    let defaults: Table = include_str!("../config/default.toml").parse().unwrap();
    let parsed: Table = shown.parse().unwrap();
    assert!(parsed.keys().eq(defaults.keys()));
}

#[test]
fn neither_the_debug_form_nor_a_complaint_shows_a_secret() {
    let secrets =
        [("PENSTOCK_ADMIN_KEY", "hunter 1"), ("PG_PASSWORD", "hunter2"), ("DATABASE_URL", "postgres://a:hunter3@/")];
    let told = complaints("[postgres]\npassword = 1234567", &secrets).join("\n");
    assert!(told.contains("server.admin_key = \"***\"") && told.contains("postgres.password = \"***\""), "{told}");
    assert!(!told.contains("hunter") && !told.contains("1234567"), "{told}");
    let config = load("", &[("PENSTOCK_ADMIN_KEY", "hunter1"), secrets[1]]).unwrap();
    assert!(!format!("{config:?}").contains("hunter"));
}

proptest! {
    #[test]
    fn no_text_in_the_environment_makes_it_panic(
        name in prop::sample::select(vec![
            "PENSTOCK_BIND", "DATABASE_URL", "PG_PORT", "MAX_RANGE_BYTES", "PENSTOCK_QUOTA__LEASE_TTL",
            "PENSTOCK_LOG__LEVEL", "PENSTOCK_SERVER__PUBLIC_URL", "PENSTOCK_STORAGE__VERIFY", "PENSTOCK_DATA__DIR",
            "PENSTOCK_UPLOADS__MAX_BYTES", "PENSTOCK_ADMIN_KEY", "RATE_LIMITS_JSON", "PENSTOCK_SERVER__TRUSTED_PROXIES",
        ]),
        text in prop_oneof![
            any::<String>(),
            "[0-9.]{0,30} ?[a-zA-Z]{0,4}",
            r#"\{("[a-z]{0,8}":-?[0-9]{0,12},?){0,3}\}?"#,
            "[0-9a-f.:/, ]{0,40}",
            "postgres(ql)?://[a-z:@/?=&%\\[\\]0-9,]{0,40}",
        ],
    ) {
        if let Ok(config) = Config::load(&env(&[(name, &text)])) {
            prop_assert!(config.masked().parse::<Table>().is_ok(), "{}", config.masked());
        }
    }

    #[test]
    fn no_name_in_the_environment_makes_it_panic(name in "(PENSTOCK_)?[A-Z_.é]{0,20}(__)?[A-Z_.é]{0,20}", text: String) {
        let _ = Config::load(&env(&[(&name, &text)]));
    }
}

#[test]
fn one_variable_sets_the_times_of_the_caches() {
    let json = r#"{"assets": 10, "prices": 5, "quota": 30, "sessions": 60, "lineage": 0}"#;
    let config = load("[cache]\nlistings_ttl = \"7s\"\nassets_ttl = \"8s\"", &[("CACHE_TTLS_JSON", json)]).unwrap();
    let seconds = |time: Duration| time.as_secs();
    assert_eq!((seconds(config.cache.assets_ttl), seconds(config.cache.listings_ttl)), (10, 7));
    assert_eq!((seconds(config.cache.prices_ttl), seconds(config.cache.lineage_ttl)), (5, 0));
    assert_eq!((seconds(config.quota.entry_ttl), seconds(config.sessions.ttl)), (30, 60));
    let general = env(&[("CACHE_TTLS_JSON", json), ("PENSTOCK_CACHE__ASSETS_TTL", "1s")]);
    assert_eq!(Config::load(&general).unwrap().cache.assets_ttl, Duration::from_secs(1));
    for (json, told) in [
        ("[]", "must be an object of seconds by cache"),
        (
            r#"{"asset": 1}"#,
            "must be one of assets, listings, lineage, sessions, policies, prices, receipts, identities, quota",
        ),
        (r#"{"assets": "1m"}"#, "must be whole seconds, not negative"),
        (r#"{"assets": -1}"#, "must be whole seconds, not negative"),
        (r#"{"quota": 0}"#, "quota.entry_ttl = \"0s\" (from CACHE_TTLS_JSON): must be longer than no time"),
    ] {
        let complaints = complaints("", &[("CACHE_TTLS_JSON", json)]);
        assert!(complaints.len() == 1 && complaints[0].contains(told), "{json}: {complaints:?}");
    }
}
