//! Secrets in files, and what is shown of them.

use std::fs;

use crate::{complaints, file, load};

#[test]
fn every_secret_may_be_in_a_file_that_its_variable_names() {
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        &*path.to_str().unwrap().to_owned().leak()
    };
    let url = written("url", "postgres://me:secret-1@db/x\n");
    let replicas = written("replicas", "postgres://me:secret-2@replica/x");
    let (admin, redis) = (written("admin", "secret-3\r\n"), written("redis", "secret-4\n"));
    let (id, secret, signing) =
        (written("id", "secret-5"), written("secret", "secret-6"), written("signing", "ab".repeat(32).as_str()));
    let tokens = written("tokens", "one:secret-7-with-at-least-32-characters\n");
    let config = load(
        "",
        &[
            ("DATABASE_URL_FILE", url),
            ("PG_REPLICA_URLS_FILE", replicas),
            ("PENSTOCK_ADMIN_KEY_FILE", admin),
            ("REDIS_URL", "redis://cache"),
            ("PENSTOCK_REDIS__PASSWORD_FILE", redis),
            ("S3_ACCESS_KEY_FILE", id),
            ("PENSTOCK_S3__SECRET_KEY_FILE", secret),
            ("PENSTOCK_DELIVERY__SIGNING_KEY_FILE", signing),
            ("PENSTOCK_RECEIPTS__TOKENS", "optional"),
            ("PENSTOCK_RECEIPTS__TOKEN_KEYS_FILE", tokens),
        ],
    )
    .unwrap();
    assert_eq!(config.server.admin_key.expose(), "secret-3");
    assert_eq!(config.redis.password.expose(), "secret-4");
    assert_eq!(config.s3.access_key.expose(), "secret-5");
    assert_eq!(config.s3.secret_key.expose(), "secret-6");
    assert!(config.receipts.tokens().signs());
    assert_eq!(config.postgres.connection().unwrap().0.get_password(), Some(&b"secret-1"[..]));
    let shown = format!("{}{config:?}", config.masked());
    assert!(!shown.contains("secret-") && !shown.contains("abab"), "{shown}");
    assert!(config.masked().contains("# PENSTOCK_REDIS__PASSWORD_FILE"), "the origin is the variable with the file");
}

#[test]
fn a_file_that_holds_no_secret_is_a_mistake() {
    let (empty, full) = (file("\n"), file("secret"));
    let (empty, full) = (empty.path().to_str().unwrap(), full.path().to_str().unwrap());
    assert_eq!(complaints("", &[("PG_PASSWORD_FILE", empty)]), [format!("PG_PASSWORD_FILE: {empty} is empty")]);
    let told = complaints("", &[("PENSTOCK_ADMIN_KEY_FILE", "/nowhere/key")]);
    assert!(told[0].starts_with("PENSTOCK_ADMIN_KEY_FILE: /nowhere/key cannot be read: "), "{told:?}");
    assert_eq!(
        complaints("", &[("PG_PASSWORD_FILE", full), ("PG_PASSWORD", "secret")]),
        ["PG_PASSWORD_FILE: must not be given beside PG_PASSWORD"]
    );
    // An unset variable counts as none, and names of other files are keys as before.
    load("", &[("PG_PASSWORD_FILE", full), ("PG_PASSWORD", ""), ("PG_TLS", "verify"), ("PG_CA_FILE", "/ca.pem")])
        .unwrap();
}
