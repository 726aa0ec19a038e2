//! `config/production.toml` is a configuration that a node takes.

use penstock::config::{Config, DatabaseBackend, Sources, StorageBackend};

#[test]
fn the_production_configuration_is_whole() {
    let env = [
        ("PENSTOCK_ADMIN_KEY", "a-long-random-text"),
        ("PG_PASSWORD", "pw"),
        ("S3_ACCESS_KEY", "a"),
        ("S3_SECRET_KEY", "s"),
    ];
    let sources = Sources {
        file: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/config/production.toml").into()),
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..Sources::default()
    };
    let config = Config::load(&sources).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.database.backend, DatabaseBackend::Postgres);
    assert!(!config.database.migrate_at_start, "PgBouncer is in between");
    assert_eq!(config.storage.backend, StorageBackend::S3);
    assert!(!config.redis.cluster_nodes.is_empty());
}
