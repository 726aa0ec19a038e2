//! TLS on the node's own listener: real clients, certificates that change, clients that keep the node waiting, and charges
//! that stay exact.

use std::{path::Path, process::Output, sync::Arc};

use reqwest::{Certificate, Client, StatusCode};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    process::Command,
};

use crate::{
    authority::Authority,
    kernel::at_a_standstill,
    node::{ADMIN_KEY, On, Paid, Setup, TestNode, expect, sample},
    patience::{PATIENCE, eventually},
    raw_requests::problem,
};

const HOST: &str = "127.0.0.1";

/// The most plaintext in a record.
const RECORD: u64 = 16 << 10;

/// At most one segment is on its way to a client whose buffer is full.
const SEGMENT: u64 = 64 << 10;

/// The files of a listener.
struct Files(TempDir);

impl Files {
    fn of(authority: &Authority) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.renew(authority.issue(HOST, "node"));
        files
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        // As tools do it: no reader sees half a file.
        std::fs::write(self.path("new"), text).unwrap();
        std::fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn renew(&self, (certificate, key): (String, String)) {
        self.write("cert.pem", &certificate);
        self.write("key.pem", &key);
    }

    fn setup(&self) -> Setup {
        Setup::new(On::Sqlite)
            .env("PENSTOCK_TLS__CERTIFICATE", self.path("cert.pem"))
            .env("PENSTOCK_TLS__KEY", self.path("key.pem"))
    }
}

fn trusting(authority: &Authority) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let root = Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    Client::builder().no_proxy().https_only(true).tls_certs_only([root]).build().unwrap()
}

async fn started(setup: Setup, authority: &Authority) -> TestNode {
    let mut node = setup.start().await;
    assert!(node.url("").starts_with("https://"), "{}", node.url(""));
    node.client = trusting(authority);
    node
}

/// Whether a new connection gets a certificate of this authority.
async fn is_served_by(node: &TestNode, authority: &Authority) -> bool {
    trusting(authority).get(node.url("/health/live")).send().await.is_ok_and(|answer| answer.status() == 200)
}

async fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(std::process::Stdio::null()).env_remove("http_proxy").env_remove("https_proxy");
    tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_both_versions_upload_and_stream_and_browsers_are_told_to_stay_with_https() {
    let authority = Authority::new("ours");
    let files = Files::of(&authority);
    files.write("ca.pem", &authority.pem());
    let mut node = started(files.setup(), &authority).await;
    let bytes = sample(1, 3_000_001);
    let paid = node.paid(&bytes, "unlimited").await;

    let answer = node.stream(&paid).send().await.unwrap();
    assert_eq!(answer.headers()["strict-transport-security"], "max-age=2592000");
    assert!(answer.bytes().await.unwrap() == bytes);
    let part = node.stream(&paid).header("range", "bytes=1000000-1099999").send().await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert!(part.bytes().await.unwrap() == bytes[1_000_000..1_100_000]);

    // Two requests of one call use one connection. A client that offers HTTP/2 gets HTTP/1.1.
    let (url, ca, copy) = (
        node.url(&format!("/v1/streaming/data/{}?receiptId={}", paid.hash, paid.receipt)),
        files.path("ca.pem"),
        files.path("copy"),
    );
    for version in ["1.2", "1.3"] {
        let format = "%{num_connects} %{http_version} %{response_code}\n";
        let arguments = [
            "-sS",
            "--noproxy",
            "*",
            "--cacert",
            &ca,
            "--tls-max",
            version,
            "--http2",
            "-w",
            format,
            "-o",
            &copy,
            &url,
            "-o",
            &copy,
            &url,
        ];
        let output = run("curl", &arguments).await;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(told, "1 1.1 200\n0 1.1 200\n", "{}", String::from_utf8_lossy(&output.stderr));
        assert!(std::fs::read(&copy).unwrap() == bytes);
    }
    let at = node.address().to_owned();
    let modern = run("openssl", &["s_client", "-connect", &at, "-CAfile", &ca, "-verify_return_error", "-brief"]).await;
    assert!(modern.status.success(), "{}", String::from_utf8_lossy(&modern.stderr));
    let old = ["s_client", "-connect", &at, "-CAfile", &ca, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];
    assert!(!run("openssl", &old).await.status.success(), "TLS 1.1 is not spoken");
    assert_eq!(node.charged(&paid.receipt).await, (5 * bytes.len() as u64 + 100_000, 6));
    assert!(node.metric("penstock_tls_handshakes_total", "completed").await >= 3.0);
    assert!(node.metric("penstock_tls_handshakes_total", "failed").await >= 1.0);
    assert!(node.metric("penstock_tls_certificate_expiry_timestamp_seconds", "").await > 4e9);

    let check = node.run(&["check"]).await;
    let told = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(told.contains("TLS certificate: ok"), "{told}");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_used_without_a_restart_and_a_bad_one_is_refused() {
    let [first, second, third] = ["first", "second", "third"].map(Authority::new);
    let files = Files::of(&first);
    // Long, so that only the signal makes the node look.
    let mut node = started(files.setup().env("PENSTOCK_TLS__RELOAD_INTERVAL", "1h"), &first).await;
    node.tier("slow", json!({ "maxBandwidthMbps": 16, "bytesPerHour": 1_u64 << 40 })).await;
    let bytes = sample(2, 6 << 20);
    let paid = node.paid(&bytes, "slow").await;
    let mut stream = node.stream(&paid).send().await.unwrap();
    let mut got = stream.chunk().await.unwrap().unwrap().to_vec();

    let refused = async |node: &TestNode, so_far: f64| {
        node.signal(libc::SIGHUP);
        eventually("the pair is refused", async || {
            let page = trusting(&first).get(node.url("/metrics")).send().await.unwrap().text().await.unwrap();
            page.contains(&format!("penstock_tls_certificate_reloads_total{{outcome=\"refused\"}} {so_far}\n"))
        })
        .await;
        assert!(is_served_by(node, &first).await, "the old pair stays");
    };
    let (certificate, key) = second.issue(HOST, "node");
    files.write("cert.pem", &certificate);
    refused(&node, 1.0).await;
    files.write("key.pem", "no key at all");
    refused(&node, 2.0).await;
    std::fs::remove_file(files.path("key.pem")).unwrap();
    refused(&node, 3.0).await;
    files.renew(second.issue_expired(HOST));
    refused(&node, 4.0).await;

    files.renew((certificate, key));
    node.signal(libc::SIGHUP);
    eventually("new connections get the new certificate", async || is_served_by(&node, &second).await).await;
    assert!(!is_served_by(&node, &first).await);
    while let Some(piece) = stream.chunk().await.unwrap() {
        got.extend_from_slice(&piece);
    }
    assert!(got == bytes, "the stream that ran meanwhile is whole");

    // Without a signal, after a while.
    node.client = trusting(&second);
    assert_eq!(node.metric("penstock_tls_certificate_reloads_total", "loaded").await, 1.0);
    assert!(node.terminate().await.success());
    node.set_env("PENSTOCK_TLS__RELOAD_INTERVAL", "100ms");
    node.boot().await;
    files.renew(third.issue(HOST, "node"));
    eventually("the interval is enough", async || is_served_by(&node, &third).await).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_that_cannot_be_used_stops_the_start_and_is_named() {
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let files = Files::of(&authority);
    files.write("key.pem", &other.issue(HOST, "node").1);
    let told = async |command: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_penstock"))
            .arg(command)
            .env_clear()
            .env("PENSTOCK_DATA_DIR", files.path("data"))
            .env("PENSTOCK_BIND", "127.0.0.1:0")
            .env("PENSTOCK_TLS__CERTIFICATE", files.path("cert.pem"))
            .env("PENSTOCK_TLS__KEY", files.path("key.pem"))
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    for command in ["serve", "check"] {
        let told = told(command).await;
        assert!(told.contains("key.pem cannot be used: the certificate in"), "{told}");
        assert!(told.contains("belongs to another key"), "{told}");
    }
    assert!(!Path::new(&files.path("data")).exists(), "nothing was made");
    files.renew(authority.issue_expired(HOST));
    assert!(told("check").await.contains("TLS certificate: the certificate, or one in its chain, expired at 2020-"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_finish_their_handshake_hold_a_connection_for_a_bounded_time() {
    let authority = Authority::new("ours");
    let files = Files::of(&authority);
    // One address may take all places.
    let few = [
        ("PENSTOCK_SERVER__WORKERS", "1"),
        ("PENSTOCK_SERVER__MAX_CONNECTIONS", "4"),
        ("PENSTOCK_SERVER__TRUSTED_PROXIES", "127.0.0.1"),
    ];
    let setup = few.iter().fold(files.setup(), |setup, (name, value)| setup.env(name, *value));
    let mut node = started(setup.env("PENSTOCK_TLS__HANDSHAKE_TIMEOUT", "2s"), &authority).await;
    let mut silent = Vec::new();
    for number in 0..4 {
        let mut client = TcpStream::connect(node.address()).await.unwrap();
        if number % 2 == 0 {
            // The beginning of a handshake.
            client.write_all(&[22, 3, 1, 2]).await.unwrap();
        }
        silent.push(client);
    }
    // A client beyond the bound is let go at once, without a handshake, until one of them has lost its place.
    eventually("a place is free", async || node.get("/health/ready").send().await.is_ok()).await;
    for mut client in silent {
        let end = tokio::time::timeout(PATIENCE, client.read(&mut [0; 10])).await.expect("it is closed");
        assert!(end.is_err() || end.is_ok_and(|count| count == 0));
    }
    node.metric_becomes("penstock_tls_handshakes_total", "timed-out", 4.0).await;
    assert!(node.metric("penstock_http_connections_refused_total", "").await >= 1.0);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_tls_is_told_to_use_it() {
    let authority = Authority::new("ours");
    let files = Files::of(&authority);
    let mut node = started(files.setup(), &authority).await;
    let url = format!("http://{}/health/live", node.address());
    let told = run("curl", &["-sS", "--noproxy", "*", "-w", "\n%{response_code} %{content_type}", &url]).await;
    let told = String::from_utf8(told.stdout).unwrap();
    let (document, rest) = told.split_once('\n').unwrap();
    assert_eq!(rest, "400 application/problem+json");
    let document: serde_json::Value = serde_json::from_str(document).unwrap();
    assert_eq!(document["type"], "urn:penstock:problem:malformed-request");
    assert!(document["detail"].as_str().unwrap().contains("use https://"), "{document}");
    // One that trusts somebody else learns it by an alert, and the node goes on.
    assert!(!is_served_by(&node, &Authority::new("theirs")).await);
    assert!(is_served_by(&node, &authority).await);
    node.metric_becomes("penstock_tls_handshakes_total", "not-tls", 1.0).await;
    node.finish().await;
}

/// A client of TLS that trusts this authority.
fn client_of(authority: &Authority) -> rustls::ClientConnection {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    rustls::ClientConnection::new(Arc::new(config), ServerName::try_from(HOST).unwrap()).unwrap()
}

/// Sends the text and takes all that comes until the node says that nothing follows.
async fn exchange(node: &TestNode, authority: &Authority, request: String) -> String {
    let (tls, address) = (client_of(authority), node.address().to_owned());
    let exchanged = tokio::task::spawn_blocking(move || {
        let tcp = std::net::TcpStream::connect(address).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = rustls::StreamOwned::new(tls, tcp);
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).expect("an end that was announced");
        answer
    });
    exchanged.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_proper_request_is_refused_in_words_under_tls_too() {
    let authority = Authority::new("ours");
    let files = Files::of(&authority);
    let mut node = started(files.setup(), &authority).await;
    let refused = async |request: String, status: u16, name: &str| {
        let shown = request[..request.len().min(200)].to_owned();
        let answer = exchange(&node, &authority, request).await;
        let (told, document) = problem(&answer);
        assert_eq!(
            (told, document["type"].as_str()),
            (status, Some(&*format!("urn:penstock:problem:{name}"))),
            "{shown:?}"
        );
    };
    let next = "GET /health/live HTTP/1.1\r\nhost: node\r\n\r\n";
    for chunks in ["5\nhello\r\n0\r\n\r\n", "zz\r\nhello\r\n0\r\n\r\n", "5\r\nhelloXX0\r\n\r\n"] {
        let request = format!(
            "POST /v1/content HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {ADMIN_KEY}\r\ncontent-type: video/mp4\r\n\
             transfer-encoding: chunked\r\n\r\n{chunks}{next}"
        );
        refused(request, 400, "upload-incomplete").await;
    }
    for size in [40 << 10, 140 << 10] {
        refused(format!("GET /{} HTTP/1.1\r\nhost: node\r\n\r\n", "a".repeat(size)), 431, "headers-too-large").await;
    }
    for head in ["hello\r\n\r\n", "GET / HTTP/1.1\nhost: node\n\n"] {
        refused(head.to_owned(), 400, "malformed-request").await;
    }
    // The rest of the body never comes.
    let unfinished = "POST /v1/assets HTTP/1.1\r\nhost: node\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhe";
    refused(unfinished.to_owned(), 401, "unauthorized").await;

    // Also after a request that was answered.
    let answers = exchange(&node, &authority, format!("{next}hello\r\n\r\n")).await;
    let (first, rest) = answers.split_once("{\"status\":\"ok\"}").unwrap_or_else(|| panic!("{answers}"));
    assert!(first.starts_with("HTTP/1.1 200 "), "{answers}");
    assert_eq!(problem(rest).0, 400);
    node.metric_becomes("penstock_uploads_active", "", 0.0).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_offers_http_2_gets_http_1_or_an_alert() {
    let authority = Authority::new("ours");
    let files = Files::of(&authority);
    files.write("ca.pem", &authority.pem());
    let mut node = started(files.setup(), &authority).await;
    let (at, ca) = (node.address().to_owned(), files.path("ca.pem"));
    let offer = async |protocols: &str| {
        let output = run("openssl", &["s_client", "-connect", &at, "-CAfile", &ca, "-alpn", protocols]).await;
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let both = offer("h2,http/1.1").await;
    assert!(both.contains("ALPN protocol: http/1.1"), "{both}");
    let alone = offer("h2").await;
    assert!(alone.contains("no application protocol"), "{alone}");
    node.finish().await;
}

/// A client that counts what it decrypts, and reads when it wants to.
struct Reader {
    stream: TcpStream,
    tls: rustls::ClientConnection,
    plaintext: u64,
}

impl Reader {
    async fn asking(node: &TestNode, authority: &Authority, paid: &Paid) -> Self {
        let tls = client_of(authority);
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        let stream = socket.connect(node.address().parse().unwrap()).await.unwrap();
        let mut reader = Self { stream, tls, plaintext: 0 };
        let request =
            format!("GET /v1/streaming/data/{}?receiptId={} HTTP/1.1\r\nhost: node\r\n\r\n", paid.hash, paid.receipt);
        std::io::Write::write_all(&mut reader.tls.writer(), request.as_bytes()).unwrap();
        reader
    }

    /// Reads until so much was decrypted, or the connection ends; false at its end.
    async fn read_on(&mut self, at_least: u64) -> bool {
        while self.plaintext < at_least {
            let mut due = Vec::new();
            while self.tls.wants_write() {
                self.tls.write_tls(&mut due).unwrap();
            }
            let mut some = [0; 8 << 10];
            if self.stream.write_all(&due).await.is_err() {
                return false;
            }
            let count = match tokio::time::timeout(PATIENCE, self.stream.read(&mut some)).await.expect("in time") {
                Ok(0) | Err(_) => return false,
                Ok(count) => count,
            };
            let mut rest = &some[..count];
            while !rest.is_empty() {
                self.tls.read_tls(&mut rest).unwrap();
                let readable = self.tls.process_new_packets().unwrap().plaintext_bytes_to_read();
                let mut plain = vec![0; readable];
                std::io::Read::read_exact(&mut self.tls.reader(), &mut plain).unwrap();
                if self.plaintext == 0
                    && let Some(end) = plain.windows(4).position(|window| window == b"\r\n\r\n")
                {
                    assert!(plain.starts_with(b"HTTP/1.1 200"));
                    self.plaintext += (readable - end - 4) as u64;
                } else {
                    self.plaintext += readable as u64;
                }
            }
        }
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_cut_under_tls_is_charged_for_what_left_the_node() {
    let authority = Authority::new("ours");
    let files = Files::of(&authority);
    let mut node = started(files.setup().env("PENSTOCK_USAGE__BATCH_AGE", "20ms"), &authority).await;
    let bytes = sample(3, 20 << 20);
    let charged = async |node: &TestNode, paid: &Paid| {
        node.metric_becomes("penstock_streams_active", "", 0.0).await;
        node.metric_becomes("penstock_admission_in_use", "", 0.0).await;
        eventually("its usage is written", async || node.charged(&paid.receipt).await.1 == 1).await;
        node.charged(&paid.receipt).await.0
    };

    // Cut by the node: the client reads all that left it.
    let paid = node.paid(&bytes, "unlimited").await;
    let mut reader = Reader::asking(&node, &authority, &paid).await;
    assert!(reader.read_on(1 << 20).await);
    expect(node.set_status(&paid.receipt, "refunded").await, &[200]).await;
    assert!(!reader.read_on(u64::MAX).await, "the stream is cut");
    let got = reader.plaintext;
    assert!(got < 20 << 20, "{got}");
    let charge = charged(&node, &paid).await;
    // A record that was cut, and what the client's system dropped.
    assert!((got..got + RECORD + SEGMENT).contains(&charge), "{charge} for {got}");

    // A client that stops reading and leaves: what its kernel took, and nothing that stayed in the node.
    let paid = node.paid(&bytes, "unlimited").await;
    let mut reader = Reader::asking(&node, &authority, &paid).await;
    assert!(reader.read_on(1 << 20).await);
    let unread = at_a_standstill(reader.stream.local_addr().unwrap()).await.unread;
    let got = reader.plaintext;
    drop(reader);
    let charge = charged(&node, &paid).await;
    assert!(
        (got..got + unread + RECORD + SEGMENT).contains(&charge),
        "{charge} for {got} and {unread} that were not read"
    );

    // The last bytes of a whole stream are not cut off by the end of the connection.
    let paid = node.paid(&bytes[..1_000_001], "unlimited").await;
    assert!(
        node.stream(&paid).header("connection", "close").send().await.unwrap().bytes().await.unwrap()
            == bytes[..1_000_001]
    );
    assert_eq!(charged(&node, &paid).await, 1_000_001);
    node.finish().await;
}
