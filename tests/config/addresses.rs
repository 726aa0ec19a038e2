//! Where servers are and how they are spoken to: URLs, what is given beside them, and encryption.

use penstock::config::{DatabaseBackend, TlsIdentity, TlsMode, TlsSettings};
use tokio_postgres::config::Host;

use crate::{complaints, load};

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
             disable: prefer lets a server in between choose, or leaves the server's name unchecked",
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
fn variables_of_an_orchestrators_services_are_no_settings() {
    let told =
        [("PG_PORT", "tcp://10.0.0.1:5432"), ("PG_PORT_5432_TCP_ADDR", "10.0.0.1"), ("PG_SERVICE_HOST", "10.0.0.1")];
    let config = load("", &told).unwrap();
    assert_eq!(config.database.backend, DatabaseBackend::Sqlite);
    assert_eq!(config.postgres.port, 5432);
    assert_eq!(load("", &[("PG_HOST", "db"), ("PG_PORT", "6432")]).unwrap().postgres.port, 6432);
    assert!(complaints("", &[("PG_PORT", "six")])[0].contains("PG_PORT"), "what may be meant is not passed over");
}

#[test]
fn several_servers_can_be_named_as_long_as_the_node_may_write() {
    let several = ("DATABASE_URL", "postgres://one,two:6432/x?target_session_attrs=read-write");
    let (connection, _) = load("", &[several]).unwrap().postgres.connection().unwrap();
    assert_eq!((connection.get_hosts().len(), connection.get_ports()), (2, &[5432, 6432][..]));
    let reader = ("DATABASE_URL", "postgres://one,two/x?target_session_attrs=read-only");
    let said = complaints("", &[reader]).join(" ");
    assert!(said.contains("target_session_attrs=read-only") && said.contains("postgres.replica_urls"), "{said}");
}
