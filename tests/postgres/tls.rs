//! Encrypted connections: to whom they are made, and to whom not.

use std::{path::PathBuf, sync::Arc, time::Duration};

use penstock::{
    adapters::postgres::{PostgresSettings, PostgresStore, migrate},
    config::{TlsIdentity, TlsMode, TlsSettings},
    telemetry::Metrics,
};
use penstock_actors::ports::{PortError, Receipts, Upkeep};
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::{
    authority::Authority,
    cluster::Cluster,
    support::{TestDatabase, generous, store},
};

/// A server with a certificate for `localhost` from an authority of the test's own.
struct Encrypted {
    cluster: Cluster,
    authority: Authority,
    folder: TempDir,
}

impl Encrypted {
    /// `access` is what the server asks of a connection over TCP, as a line of its `pg_hba.conf`.
    async fn new(access: &str) -> Self {
        let authority = Authority::new("ours");
        let (certificate, key) = authority.issue("localhost", "localhost");
        let mut cluster =
            Cluster::made(&["ssl=on", "ssl_cert_file=server.crt", "ssl_key_file=server.key", "ssl_ca_file=ca.crt"]);
        cluster.put("server.crt", &certificate);
        cluster.put("server.key", &key);
        cluster.put("ca.crt", &authority.pem());
        cluster.put("pg_hba.conf", &format!("{access}\nhostnossl all all 127.0.0.1/32 trust\n"));
        cluster.boot().await;
        Self { cluster, authority, folder: tempfile::tempdir().expect("a folder") }
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    }

    fn verified(&self) -> TlsSettings {
        let ca_file = Some(self.file("ca.pem", &self.authority.pem()));
        TlsSettings { mode: TlsMode::Verify, ca_file, identity: None }
    }

    fn settings(&self, host: &str, tls: TlsSettings) -> PostgresSettings {
        let mut config = tokio_postgres::Config::new();
        config.host(host).port(self.cluster.port()).user("postgres").dbname("postgres");
        PostgresSettings { tls, ..generous(config) }
    }
}

/// What a store says that cannot be opened, and what the migrations say that come before it.
async fn refusals(settings: PostgresSettings) -> [String; 2] {
    let metrics = Metrics::new().expect("metrics");
    let error = migrate(&settings).await.expect_err("refused");
    let opened = PostgresStore::connect(settings, Arc::clone(&metrics.db), Handle::current()).await;
    let Err(PortError::Unavailable { source, .. }) = opened else { panic!("refused") };
    [format!("{error:#}"), source.to_string()]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_proves_its_name_is_spoken_to_in_secret() {
    let server = Encrypted::new("hostssl all all 127.0.0.1/32 trust").await;
    for mode in [TlsMode::Verify, TlsMode::Require] {
        let tls =
            if mode == TlsMode::Verify { server.verified() } else { TlsSettings { mode, ..TlsSettings::default() } };
        let settings = server.settings("localhost", tls);
        migrate(&settings).await.expect("migrated");
        let (store, _metrics) = store(settings).await;
        store.ping().await.expect("an answer");
        const ENCRYPTED: &str = "SELECT bool_and(s.ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
            WHERE a.application_name = 'penstock'";
        let row = server.cluster.client().await.query_one(ENCRYPTED, &[]).await.expect("an answer");
        assert_eq!(row.get::<_, Option<bool>>(0), Some(true), "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_prove_its_name_is_refused_with_the_reason() {
    let server = Encrypted::new("hostssl all all 127.0.0.1/32 trust").await;
    let other = server.file("other.pem", &Authority::new("another").pem());
    let unknown = TlsSettings { ca_file: Some(other), ..server.verified() };
    for told in refusals(server.settings("localhost", unknown)).await {
        assert!(told.ends_with("invalid peer certificate: UnknownIssuer"), "{told}");
    }
    for told in refusals(server.settings("127.0.0.1", server.verified())).await {
        assert!(told.contains("certificate not valid for name \"127.0.0.1\""), "{told}");
    }
    let nobodys = TlsSettings { ca_file: None, ..server.verified() };
    for told in refusals(server.settings("localhost", nobodys)).await {
        assert!(told.contains("UnknownIssuer"), "the system does not know the authority: {told}");
    }

    // The server that the tests share has no certificate.
    let plain = TestDatabase::empty().await;
    let settings = PostgresSettings { tls: server.verified(), ..plain.settings() };
    for told in refusals(settings).await {
        assert!(told.ends_with("server does not support TLS"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").expect("written");
    let missing = folder.path().join("missing.pem");
    let identity = |file: &PathBuf| Some(TlsIdentity { certificate_file: file.clone(), key_file: file.clone() });
    for (ca_file, identity, told) in [
        (Some(missing.clone()), None, &missing),
        (Some(empty.clone()), None, &empty),
        (None, identity(&missing), &missing),
    ] {
        let tls = TlsSettings { mode: TlsMode::Verify, ca_file, identity };
        let error =
            migrate(&PostgresSettings { tls, ..generous(tokio_postgres::Config::new()) }).await.expect_err("refused");
        assert!(error.to_string().starts_with(&told.display().to_string()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_shows_its_certificate_to_a_server_that_asks() {
    let server = Encrypted::new("hostssl all all 127.0.0.1/32 cert").await;
    let told = refusals(server.settings("localhost", server.verified())).await;
    assert!(told.iter().all(|told| told.contains("connection requires a valid client certificate")), "{told:?}");
    let (certificate, key) = server.authority.issue("node", "postgres");
    let identity = TlsIdentity {
        certificate_file: server.file("node.crt", &certificate),
        key_file: server.file("node.key", &key),
    };
    let settings = server.settings("localhost", TlsSettings { identity: Some(identity), ..server.verified() });
    migrate(&settings).await.expect("migrated");
    let (store, _metrics) = store(settings).await;
    store.ping().await.expect("an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_cancelled_in_secret_too() {
    let server = Encrypted::new("hostssl all all 127.0.0.1/32 trust").await;
    let settings = server.settings("localhost", server.verified());
    migrate(&settings).await.expect("migrated");
    let (store, _metrics) = store(PostgresSettings { statement_timeout: Duration::from_millis(200), ..settings }).await;
    let (locker, watcher) = (server.cluster.client().await, server.cluster.client().await);
    locker.batch_execute("BEGIN; LOCK TABLE quota_policies IN ACCESS EXCLUSIVE MODE").await.expect("locked");
    // A cancellation that may not go unencrypted, as the connection may not, and is not encrypted does not arrive.
    assert!(matches!(store.policies().await, Err(PortError::Unavailable { .. })));
    crate::faults::until_waiting(&watcher, 0).await;
}
