//! Encrypted connections: to whom they are made, and to whom not.

use std::{path::Path, sync::Arc, time::Duration};

use penstock::adapters::redis::{Call, RedisLink, RedisSettings, RedisState};
use penstock_actors::{
    clock::SystemClock,
    ports::{InvalidationBus as _, Tag},
};
use redis::{ClientTlsConfig, TlsCertificates};
use tempfile::TempDir;

use crate::{
    authority::Authority,
    support::{RedisServer, link, settings, single, some_port, until},
};

/// A server that speaks TLS on a port of its own, and asks clients who they are.
struct Encrypted {
    _server: RedisServer,
    authority: Authority,
    port: u16,
    _folder: TempDir,
}

impl Encrypted {
    fn start() -> Self {
        let (authority, folder) = (Authority::new("ours"), tempfile::tempdir().expect("a folder"));
        let (certificate, key) = authority.issue("localhost", "localhost");
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("written");
            path.to_str().expect("a path of text").to_owned()
        };
        let files = [file("cert.pem", &certificate), file("key.pem", &key), file("ca.pem", &authority.pem())];
        let [certificate, key, ca] = &files;
        let port = some_port();
        let options = ["--tls-port", &port.to_string(), "--tls-auth-clients", "yes"];
        let files = ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", ca];
        let server = RedisServer::with(&[&options[..], &files[..]].concat());
        Self { _server: server, authority, port, _folder: folder }
    }

    /// What somebody with a certificate from this authority trusts and shows.
    fn certificates(&self, shown_from: &Authority) -> TlsCertificates {
        let (client_cert, client_key) = shown_from.issue("node", "node");
        let client_tls = ClientTlsConfig { client_cert: client_cert.into(), client_key: client_key.into() };
        TlsCertificates { client_tls: Some(client_tls), root_cert: Some(self.authority.pem().into()) }
    }

    fn settings(&self, host: &str, tls: TlsCertificates) -> RedisSettings {
        let servers = single(&format!("rediss://{host}:{}", self.port));
        RedisSettings { tls: Some(tls), ..settings(servers) }
    }
}

async fn link_in_vain(settings: RedisSettings) -> RedisLink {
    link(RedisSettings { connect_timeout: Duration::from_secs(2), ..settings }).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_server_that_proves_its_identity_is_used() {
    let server = Encrypted::start();
    let ours = server.certificates(&server.authority);
    let settings = server.settings("localhost", ours.clone());
    let (trusting, _metrics) = link(settings.clone()).await;
    assert!(trusting.is_up());
    let set = Call::command("set", "SET").key(&trusting.key("thing", 1)).arg("x");
    trusting.ask::<()>(set).await.expect("done");

    // Word of changes goes over a connection of its own.
    let (one, other) = (trusting, link(settings).await.0);
    let [one, other] = [one, other].map(|link| RedisState::start(link, Arc::new(SystemClock), 10));
    let mut listener = other.invalidations();
    until("word of a change arrives", async || {
        one.invalidate(&[Tag::QuotaPolicy("gold".into())]).await.expect("told");
        listener.try_recv().is_ok()
    })
    .await;

    let stranger = Authority::new("theirs");
    let trusts_a_stranger = TlsCertificates { root_cert: Some(stranger.pem().into()), ..ours.clone() };
    assert!(!link_in_vain(server.settings("localhost", trusts_a_stranger)).await.is_up());
    assert!(!link_in_vain(server.settings("127.0.0.1", ours.clone())).await.is_up(), "the certificate is for a name");
    assert!(!link_in_vain(server.settings("localhost", server.certificates(&stranger))).await.is_up());
    let shows_nothing = TlsCertificates { client_tls: None, ..ours };
    assert!(!link_in_vain(server.settings("localhost", shows_nothing)).await.is_up());
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let env = [("REDIS_URL", "rediss://cache"), ("PENSTOCK_REDIS__CA_FILE", "/nowhere/ca.pem")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let sources = penstock::config::Sources { env, ..Default::default() };
    let config = penstock::config::Config::load(&sources).expect("well formed");
    let error = config.redis.certificates().expect_err("there is no such file").to_string();
    assert!(error.contains(Path::new("/nowhere/ca.pem").to_str().expect("text")), "{error}");
}
