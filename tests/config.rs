//! Configuration as an operator meets it: what a file, the environment and flags come to, and what a mistake is told.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::{fs, net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use penstock::config::{
    Config, ConfigError, DatabaseBackend, DeliveryMode, DeliveryTier, Override, RateLimitBackend, Sources,
    StorageBackend,
};
use penstock::{
    adapters::{
        postgres::{StatementMode, TlsIdentity, TlsMode, TlsSettings},
        redis::Servers,
    },
    http::routing::RouteClass,
    telemetry::LogFormat,
};
use penstock_actors::content_store::Verify;
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
    assert!(matches!(config.redis.servers(), Ok(Some(Servers::Cluster(nodes))) if nodes.len() == 2));
    assert_eq!(config.blob_root(), PathBuf::from("/blobs"));
    assert_eq!(config.streams.max_range_bytes, 16 << 20);
    assert_eq!(config.server.admin_key.expose(), "key");
    assert_eq!(config.server.bind.port(), 80);
}

#[test]
fn a_delivery_mode_has_all_that_it_needs_or_does_not_start() {
    let key = "delivery.signing_key = \"***\" (from ";
    let mode = |mode| ("DATA_DELIVERY_MODE", mode);
    assert_eq!(
        complaints("", &[mode("presigned")]),
        [
            "delivery.mode = \"presigned\" (from DATA_DELIVERY_MODE): must not be \"presigned\" where storage.backend is \
          \"fs\": only object storage takes signed URLs"
        ]
    );
    assert_eq!(
        complaints("", &[mode("accel")]),
        [
            "server.trusted_proxies = \"\" (from default): must name the nginx in front where delivery.mode is \"accel\": \
          nobody else understands the answer"
        ]
    );
    assert_eq!(
        complaints("", &[mode("direct")]),
        [
            "delivery.base_url = \"\" (from default): must be given where delivery.mode is \"direct\": \
             it is where the CDN has the contents",
            "delivery.signing_key = \"\" (from default): must be given where delivery.mode is \"direct\": \
             without it, anybody could make URLs",
        ]
    );
    let told = complaints("[delivery]\nsigning_key = \"hunter2\"", &[]);
    assert_eq!(told, [format!("{key}FILE): must have at least 32 bytes, such as `openssl rand -hex 32` makes")]);
    for url in
        ["cdn.example.com", "ftp://cdn/x", "https://cdn/x?y", "https://me@cdn/", "https://cdn/a b", "https://cdn/../x"]
    {
        assert!(complaints("", &[("PENSTOCK_DELIVERY__BASE_URL", url)])[0].contains("must be of the form"), "{url}");
    }
    let hot = ("S3_BUCKET_HOT", "hot");
    assert!(load("", &[mode("presigned"), hot]).is_ok());
    assert_eq!(
        complaints("", &[mode("presigned"), hot, ("DATA_DELIVERY_TIER", "cold")]),
        ["delivery.tier = \"cold\" (from DATA_DELIVERY_TIER): must be a tier that has a bucket"]
    );
    assert_eq!(
        complaints("", &[("DATA_DELIVERY_TIER", "warm")]),
        [
            "delivery.tier = \"warm\" (from DATA_DELIVERY_TIER): must be \"any\" or \"hot\" where storage.backend is \"fs\": \
          files have one tier"
        ]
    );
    let cdn = "[delivery]\nbase_url = \"https://cdn.example.com\"\nsigning_key = \"0123456789abcdef0123456789abcdef\"";
    assert!(load(cdn, &[mode("direct"), hot]).is_ok());
    assert_eq!(
        complaints(cdn, &[mode("direct"), hot, ("S3_BUCKET_WARM", "warm")]),
        [
            "delivery.tier = \"any\" (from default): must name one tier where delivery.mode is \"direct\" and there are several \
          buckets: a CDN has one of them behind it"
        ]
    );
    for prefix in ["", "/", "_penstock", "/a/", "/a b"] {
        let told = load(&format!("[delivery]\ninternal_prefix = {prefix:?}"), &[]);
        assert!(told.is_err(), "{prefix}");
    }
    let config = load(
        "[server]\ntrusted_proxies = \"10.0.0.0/8\"\n[delivery]\nbase_url = \"https://cdn.example.com/content/\"",
        &[
            mode("direct"),
            ("DATA_DELIVERY_TIER", "hot"),
            ("PRESIGN_TTL_SEC", "90"),
            ("PENSTOCK_DELIVERY__SIGNING_KEY", "hunter2 hunter2 hunter2 hunter2 "),
        ],
    )
    .unwrap();
    assert_eq!((config.delivery.mode, config.delivery.tier), (DeliveryMode::Direct, DeliveryTier::Hot));
    assert_eq!(config.delivery.url_ttl, Duration::from_secs(90));
    assert!(!config.masked().contains("hunter") && !format!("{config:?}").contains("hunter"));
}

#[test]
fn how_long_a_url_is_good_is_told_in_seconds_or_with_a_unit_and_is_bounded() {
    let ttl = |text| Config::load(&env(&[("PRESIGN_TTL_SEC", text)])).map(|config| config.delivery.url_ttl.as_secs());
    for (text, seconds) in [("1", 1), ("300", 300), ("5min", 300), (" 7 ", 7), ("43200", 43_200), ("12h", 43_200)] {
        assert_eq!(ttl(text).ok(), Some(seconds), "{text}");
    }
    for text in ["0", "43201", "-1", "soon", "1.5", "500ms", "99999999999999999999"] {
        assert!(ttl(text).is_err(), "{text}");
    }
    assert_eq!(load("[delivery]\nurl_ttl = 60", &[]).unwrap().delivery.url_ttl.as_secs(), 60);
    assert_eq!(
        complaints("", &[("PRESIGN_TTL_SEC", "soon")]),
        ["delivery.url_ttl = \"soon\" (from PRESIGN_TTL_SEC): must be a time such as \"45s\" or \"2h\", \
          or a whole number of seconds"]
    );
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
    let Some(Servers::Single(info)) = Config::load(&env(&given)).unwrap().redis.servers().unwrap() else {
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
        let Ok(Some(Servers::Single(info))) = Config::load(&env(variables)).unwrap().redis.servers() else {
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
fn limits_by_class_come_from_one_variable_and_classes_that_are_not_named_take_the_default() {
    let of = |text: &str, variables: &[(&str, &str)]| {
        let limits = load(text, variables).unwrap().rate_limits;
        RouteClass::ALL.map(|class| limits.per_minute(class).map_or(0, NonZeroU32::get))
    };
    assert_eq!(of("", &[]), [60_000, 60_000, 60_000, 60_000, 60_000, 60_000, 0, 60_000]);
    let json = ("RATE_LIMITS_JSON", r#"{"streaming":600,"admin":0,"default":30}"#);
    assert_eq!(of("", &[json]), [30, 600, 30, 30, 30, 0, 0, 30]);
    let file = "[rate_limits]\ncontent = 7\nstreaming = 8\nreceipts = \"default\"";
    assert_eq!(of(file, &[json]), [7, 600, 30, 30, 30, 0, 0, 30]);
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
fn a_url_takes_what_is_given_beside_it() {
    let url = ("DATABASE_URL", "postgresql://me:old@db:6432/x?connect_timeout=3");
    let (connection, tls) = load("", &[url, ("PG_PASSWORD", "new")]).unwrap().postgres.connection().unwrap();
    assert_eq!(tls, TlsSettings::default());
    assert_eq!(connection.get_hosts(), [Host::Tcp("db".into())]);
    assert_eq!(connection.get_ports(), [6432]);
    assert_eq!((connection.get_user(), connection.get_dbname()), (Some("me"), Some("x")));
    assert_eq!(connection.get_password(), Some(&b"new"[..]));
    let (bare, _) = load("", &[("DATABASE_URL", "postgres://db")]).unwrap().postgres.connection().unwrap();
    assert_eq!((bare.get_user(), bare.get_dbname()), (Some("penstock"), Some("penstock")));
}

#[test]
fn encryption_is_what_the_url_says_unless_a_key_says_it() {
    let tls = |url, variables: &[_]| {
        let url = [("DATABASE_URL", url)];
        load("", &[&url, variables].concat()).unwrap().postgres.connection().unwrap().1
    };
    let verify = TlsSettings { mode: TlsMode::Verify, ..TlsSettings::default() };
    assert_eq!(tls("postgres://db/x?sslmode=verify-full", &[]), verify);
    assert_eq!(tls("postgres://db/x?sslmode=disable", &[("PG_TLS", "verify")]), verify);
    assert_eq!(
        tls("postgres://db/x?sslmode=verify-full&sslrootcert=/a.pem", &[("PG_CA_FILE", "/b.pem")]),
        TlsSettings { ca_file: Some("/b.pem".into()), ..verify }
    );
    assert_eq!(
        tls("postgres://db/x?sslcert=/c.pem&sslkey=/k.pem", &[("PG_TLS", "require")]),
        TlsSettings {
            mode: TlsMode::Require,
            ca_file: None,
            identity: Some(TlsIdentity { certificate_file: "/c.pem".into(), key_file: "/k.pem".into() }),
        }
    );
}

#[test]
fn what_looks_like_encryption_and_is_none_is_refused() {
    for (url, complaint) in [
        (
            "postgres://db/x?sslmode=prefer",
            "postgres.url = \"postgres://db/x?sslmode=prefer\" (from DATABASE_URL): must have sslmode=verify-full, require or \
             disable: prefer lets whoever is in between choose, or leaves the server's name unchecked",
        ),
        (
            "postgres://db/x?sslmode=require&sslrootcert=/ca.pem",
            "postgres.ca_file = \"\" (from default): must be left out unless postgres.tls is \"verify\" \
             (sslmode=verify-full): nothing is verified otherwise",
        ),
        (
            "postgres://db/x?sslcert=/c.pem&sslkey=/k.pem",
            "postgres.client_certificate = \"\" (from default): must be left out unless postgres.tls is \"verify\" or \
             \"require\"",
        ),
        (
            "postgres://%2Frun%2Fpostgresql/x?sslmode=require",
            "postgres.tls = \"\" (from default): must be \"off\" for a Unix socket, on which PostgreSQL has no TLS",
        ),
    ] {
        assert_eq!(complaints("", &[("DATABASE_URL", url)]), [complaint]);
    }
    let alone = complaints("[postgres]\ntls = \"verify\"\nclient_key = \"/k.pem\"", &[]);
    let why = "must be given together with postgres.client_key";
    assert_eq!(alone, [format!("postgres.client_certificate = \"\" (from default): {why}")]);
}

#[test]
fn of_a_url_and_a_host_the_later_layer_wins_and_within_one_it_is_a_mistake() {
    let hosts =
        |text, variables: &[_]| load(text, variables).unwrap().postgres.connection().unwrap().0.get_hosts().to_vec();
    let (url, host) = ("[postgres]\nurl = \"postgres://url/x\"", "[postgres]\nhost = \"host\"\nport = 1");
    assert_eq!(hosts(host, &[("DATABASE_URL", "postgres://url/x")]), [Host::Tcp("url".into())]);
    assert_eq!(hosts(url, &[("PG_HOST", "host")]), [Host::Tcp("host".into())]);
    assert_eq!(
        complaints("", &[("DATABASE_URL", "postgres://u:pw@url/x"), ("PG_HOST", "host"), ("PG_PORT", "1")]),
        [
            "postgres.host = \"host\" (from PG_HOST): must not be given beside postgres.url (from DATABASE_URL)",
            "postgres.port = 1 (from PG_PORT): must not be given beside postgres.url (from DATABASE_URL)",
        ]
    );
}

#[test]
fn a_wrong_value_is_told_with_its_key_its_origin_and_what_is_allowed() {
    let told = |text: &str, variables: &[_], expected: &str| assert_eq!(complaints(text, variables), [expected]);
    told(
        "",
        &[("PENSTOCK_BIND", "localhost")],
        "server.bind = \"localhost\" (from PENSTOCK_BIND): must be an IP address and a port, such as \"0.0.0.0:8080\"",
    );
    told(
        "[server]\nkeep_alive = 75",
        &[],
        "server.keep_alive = 75 (from FILE): invalid type: integer `75`, \
         expected a time with its unit, such as \"500ms\", \"45s\" or \"2h\"",
    );
    told(
        "",
        &[("PENSTOCK_QUOTA__ENTRY_TTL", "45")],
        "quota.entry_ttl = \"45\" (from PENSTOCK_QUOTA__ENTRY_TTL): \
         must be a time with its unit, such as \"500ms\", \"45s\" or \"2h\"",
    );
    told(
        "",
        &[("MAX_RANGE_BYTES", "lots")],
        "streams.max_range_bytes = \"lots\" (from MAX_RANGE_BYTES): must be a size such as 1048576 or \"64MiB\"",
    );
    told(
        "",
        &[("PG_POOL_MAX", "many")],
        "postgres.pool_max = \"many\" (from PG_POOL_MAX): invalid type: string \"many\", \
         expected a whole number, not negative and not too large",
    );
    told(
        "[postgres]\nport = 70000",
        &[],
        "postgres.port = 70000 (from FILE): must be a whole number, not negative and not too large",
    );
    told(
        "",
        &[("STORAGE_BACKEND", "tape")],
        "storage.backend = \"tape\" (from STORAGE_BACKEND): unknown variant `tape`, expected `fs` or `s3`",
    );
    told(
        "[storage]\nverify = \"sometimes\"",
        &[],
        "storage.verify = \"sometimes\" (from FILE): \
         unknown variant `sometimes`, expected one of `always`, `cold`, `never`",
    );
}

#[test]
fn a_broken_rule_is_told_with_the_keys_it_is_about() {
    let told = |text: &str, expected: &str| assert_eq!(complaints(text, &[]), [expected]);
    told(
        "[postgres]\npool_min = 20",
        "postgres.pool_min = 20 (from FILE): must be at most postgres.pool_max, which is 15",
    );
    told(
        "[quota]\nheartbeat = \"20s\"",
        "quota.lease_ttl = \"60s\" (from default): must be longer than 3 times quota.heartbeat, which is 20s",
    );
    told(
        "[lifecycle]\nwarm_after = \"30days\"",
        "lifecycle.warm_after = \"30days\" (from FILE): must be 0s without a warm tier (storage.warm_root or s3.bucket_warm)",
    );
    told(
        "[storage]\ncold_root = \"/cold\"\n[lifecycle]\ncold_after = \"1h\"",
        "lifecycle.cold_after = \"1h\" (from FILE): must be 0s or at least 1day, because uses are known to the day",
    );
    told(
        "[storage]\ncold_root = \"/cold\"\n[lifecycle]\ngrace = \"2h\"",
        "lifecycle.grace = \"2h\" (from FILE): must be shorter than janitor.temporary_age, or a sweep brings back what a move \
         has left",
    );
    told("[uploads]\nconcurrent = 0", "uploads.concurrent = 0 (from FILE): must be at least 1");
    told("[usage]\nbatch_age = \"0s\"", "usage.batch_age = \"0s\" (from FILE): must be longer than no time");
    told(
        "[usage]\nqueue_rows = 10",
        "usage.queue_rows = 10 (from FILE): must be at least usage.batch_rows, which is 1000",
    );
    told(
        "[janitor]\ntemporary_age = \"10s\"",
        "janitor.temporary_age = \"10s\" (from FILE): must be longer than uploads.idle_timeout, \
         or a sweep takes the file of an upload that only paused",
    );
    told(
        "[janitor]\nwindow_retention = \"1day\"",
        "janitor.window_retention = \"1day\" (from FILE): \
         must be at least 32days, because the month that is under way must stay",
    );
    told(
        "[log]\nlevel = \"info,=,\"",
        "log.level = \"info,=,\" (from FILE): \
         must be error, warn, info, debug, trace, or directives such as info,penstock::http=debug",
    );
    told(
        "[postgres]\nurl = \"mysql://u:pw@db/x\"",
        "postgres.url = \"mysql://u:***@db/x\" (from FILE): \
         must be of the form postgres://user:password@host:5432/database",
    );
    told(
        "[streams]\nread_ahead = \"64KiB\"",
        "streams.read_ahead = \"64KiB\" (from FILE): must be at least 1MiB, because nothing smaller can be verified",
    );
}

#[test]
fn an_unknown_key_is_told_with_the_one_that_was_probably_meant() {
    let text = "workers = 3\n[server]\nbnd = 1\n[sever]\nbind = 1\n[zoo]\nape = 1\n[server.tls]\ncert = 1";
    assert_eq!(
        complaints(text, &[("PENSTOCK_QUOTA__SHARD", "4")]),
        [
            "workers (from FILE): there is no such key; did you mean server.workers?",
            "server.bnd (from FILE): there is no such key; did you mean server.bind?",
            "server.tls (from FILE): there is no such key",
            "sever.bind (from FILE): there is no such key; did you mean server.bind?",
            "zoo.ape (from FILE): there is no such key",
            "quota.shard (from PENSTOCK_QUOTA__SHARD): there is no such key; did you mean quota.shards?",
        ]
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once_and_nothing_that_only_follows_from_it() {
    let text = "[server]\nworkers = -1\n[postgres]\npool_max = \"x\"\npool_min = 20\n[sessions]\nentries = 0";
    let keys: Vec<_> = complaints(text, &[("PENSTOCK_BIND", "here")])
        .iter()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(keys, ["server.workers", "postgres.pool_max", "server.bind", "sessions.entries"]);
}

#[test]
fn a_file_that_cannot_be_read_or_parsed_is_named_with_the_line_but_not_its_text() {
    let missing = Sources { file: Some("/nowhere/penstock.toml".into()), ..Sources::default() };
    let error = Config::load(&missing).unwrap_err().to_string();
    assert!(error.contains("/nowhere/penstock.toml: cannot be read: "), "{error}");
    let told = complaints("[server]\nadmin_key = \"hunter2\n", &[]);
    assert!(told[0].starts_with("FILE: line 2: ") && told.len() == 1, "{told:?}");
    assert!(!told[0].contains("hunter2"), "{told:?}");
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
