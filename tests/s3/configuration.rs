//! `[s3]` as an operator meets it.

use std::time::Duration;

use penstock::config::{Config, ConfigError, S3Client, Sources, StorageBackend};

fn load(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let env = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::load(&Sources { env, ..Sources::default() })
}

#[test]
fn the_names_that_operators_know_set_the_storage() {
    let config = load(&[
        ("STORAGE_BACKEND", "s3"),
        ("S3_CLIENT", "object_store"),
        ("S3_ENDPOINT", "http://storage:9000"),
        ("S3_REGION", "eu-central-1"),
        ("S3_BUCKET_HOT", "hot"),
        ("S3_BUCKET_WARM", "warm"),
        ("S3_BUCKET_COLD", "cold"),
        ("S3_ACCESS_KEY", "key-id"),
        ("S3_SECRET_KEY", "hunter2"),
        ("PENSTOCK_S3__PART_SIZE", "16MiB"),
    ])
    .unwrap();
    assert_eq!((config.storage.backend, config.s3.client), (StorageBackend::S3, S3Client::ObjectStore));
    assert_eq!((config.s3.endpoint.as_str(), config.s3.region.as_str()), ("http://storage:9000", "eu-central-1"));
    assert_eq!((&*config.s3.bucket_hot, &*config.s3.bucket_warm, &*config.s3.bucket_cold), ("hot", "warm", "cold"));
    assert_eq!((config.s3.access_key.expose(), config.s3.secret_key.expose()), ("key-id", "hunter2"));
    assert_eq!((config.s3.part_size, config.s3.parts_in_flight), (16 << 20, 2));
    assert_eq!(config.s3.retry_time, Duration::from_secs(20));
    for shown in [config.masked(), format!("{config:?}")] {
        assert!(!shown.contains("hunter2") && !shown.contains("key-id"), "{shown}");
    }
}

#[test]
fn naming_a_bucket_chooses_s3_unless_the_storage_is_chosen() {
    assert_eq!(load(&[("S3_BUCKET_HOT", "hot")]).unwrap().storage.backend, StorageBackend::S3);
    let chosen = load(&[("S3_BUCKET_HOT", "hot"), ("STORAGE_BACKEND", "fs")]).unwrap();
    assert_eq!(chosen.storage.backend, StorageBackend::Fs);
}

#[test]
fn what_cannot_work_is_reported() {
    for (variables, complaint) in [
        (vec![("STORAGE_BACKEND", "s3")], "s3.bucket_hot = \"\" (from default): must name a bucket"),
        (vec![("S3_ENDPOINT", "storage:9000")], "must be of the form https://host or http://host:port"),
        (vec![("S3_ENDPOINT", "http://key:secret@storage")], "must be of the form https://host or http://host:port"),
        (vec![("S3_REGION", ""), ("PENSTOCK_S3__PREFIX", "a b")], "must have only letters"),
        (vec![("PENSTOCK_S3__PREFIX", "a/../b")], "must have only letters"),
        (vec![("S3_ACCESS_KEY", "id")], "must be given together with s3.secret_key"),
        (vec![("S3_SECRET_KEY", "secret")], "must be given together with s3.secret_key"),
        (vec![("S3_BUCKET_HOT", "a"), ("S3_BUCKET_WARM", "a")], "must be another bucket than s3.bucket_hot"),
        (
            vec![("S3_BUCKET_WARM", "b"), ("S3_BUCKET_COLD", "b")],
            "must be another bucket than s3.bucket_hot and s3.bucket_warm",
        ),
        (vec![("PENSTOCK_S3__PART_SIZE", "4MiB")], "must be 5MiB to 1GiB"),
        (vec![("PENSTOCK_S3__PARTS_IN_FLIGHT", "0")], "must be at least 1"),
        (vec![("PENSTOCK_S3__RETRY_TIME", "40s")], "must be at least s3.idle_timeout and at most 25s"),
        (vec![("PENSTOCK_S3__IDLE_TIMEOUT", "30s")], "must be at least s3.idle_timeout and at most 25s"),
        (
            vec![("S3_BUCKET_HOT", "hot"), ("PENSTOCK_UPLOADS__MAX_BYTES", "100GiB")],
            "s3.part_size = \"8MiB\" (from default): must be at least uploads.max_bytes / 10000",
        ),
        (
            vec![("S3_BUCKET_HOT", "hot"), ("PENSTOCK_S3__PART_TIMEOUT", "20min")],
            "must be longer than six times s3.part_timeout, 2h",
        ),
    ] {
        let told = load(&variables).unwrap_err().to_string();
        assert!(told.contains(complaint), "{variables:?}: {told}");
    }
    // Nobody uses the parts of a storage that was not chosen.
    assert!(load(&[("PENSTOCK_UPLOADS__MAX_BYTES", "100GiB")]).is_ok());
}

#[cfg(not(feature = "rusoto"))]
#[test]
fn a_client_that_is_not_built_in_is_reported() {
    let told = load(&[("S3_CLIENT", "rusoto")]).unwrap_err().to_string();
    assert!(told.contains("s3.client = \"rusoto\" (from S3_CLIENT)"), "{told}");
    assert!(told.contains("was built without the feature `rusoto`"), "{told}");
}
