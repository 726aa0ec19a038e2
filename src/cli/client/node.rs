//! The node that a command speaks to: its address, the credentials (a key, or the signature of an identity key), and
//! one HTTP client.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use clap::Args;
use jiff::Timestamp;
use reqwest::{
    Body, Client, Method, RequestBuilder, Response, Url,
    header::{HeaderName, HeaderValue},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{error::AttemptFailure, refusal::expect_success, silence::SilenceLimit};
use crate::{
    signatures::{Audience, Signer, Unsigned, is_signed},
    words,
};

/// The default data folder of a node.
const DEFAULT_DATA_DIR: &str = "./data";

/// The file in the data folder in which a node keeps its generated admin key.
const ADMIN_KEY_FILE: &str = "admin-key";

/// A node that cannot be connected to within this time counts as unreachable: it allows four attempts by the system,
/// TLS and a proxy's answer on a congested line.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The node to use.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// The node's address
    #[arg(
        long, env = "PENSTOCK_SERVER", default_value = "http://127.0.0.1:8080", value_name = "URL", value_parser = address
    )]
    pub server: Url,

    /// How long a connection may be silent before it counts as lost; an upload has five times as long
    // Well above the longest pause of a paced stream. The work itself may take any time.
    #[arg(long, default_value = "1m", value_name = "DURATION", value_parser = words::duration)]
    pub max_silence: Duration,
}

/// The credentials for producers' calls.
#[derive(Debug, Clone, Args)]
pub struct KeyArgs {
    /// The producer's or admin's key; without it, the admin key in the data folder of a node on this machine
    #[arg(long, env = "PENSTOCK_KEY", hide_env_values = true)]
    pub key: Option<String>,

    /// Sign with the identity key in this file instead; `penstock identity` makes one
    #[arg(long, env = "PENSTOCK_IDENTITY_KEY", value_name = "FILE", conflicts_with_all = ["key", "data_dir"])]
    pub identity_key: Option<PathBuf>,

    /// The address to sign for, if the node's clients use another address than its operator has set
    #[arg(long, env = "PENSTOCK_AUDIENCE", value_name = "ORIGIN", requires = "identity_key")]
    pub audience: Option<String>,

    /// The data folder of the node whose admin key to use [default: ./data, for a node on this machine]
    #[arg(long, env = "PENSTOCK_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// How a producer calls a node, and what is printed of the answer.
#[derive(Debug, Args)]
pub struct ProducerCallArgs {
    /// Print the whole answer as JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub node: NodeArgs,

    #[command(flatten)]
    pub key: KeyArgs,
}

/// A node, ready for requests.
pub(super) struct NodeClient {
    client: Client,
    server: Url,
    opens: RequestCredentials,
    silence: SilenceLimit,
}

/// The credentials of a request.
enum RequestCredentials {
    Nothing,
    Key(String),
    Signature(Box<Signer>, Audience),
}

impl NodeClient {
    /// A node for public calls: the receipt grants access.
    pub(super) fn open(args: &NodeArgs) -> anyhow::Result<Self> {
        let silence = SilenceLimit::of(args.max_silence);
        Ok(Self { client: client(silence)?, server: args.server.clone(), opens: RequestCredentials::Nothing, silence })
    }

    /// A node for producers' calls.
    pub(super) fn open_with_key(args: &NodeArgs, key: &KeyArgs) -> anyhow::Result<Self> {
        let opens = match &key.identity_key {
            Some(file) => {
                let signer = Signer::from_file(file).with_context(|| format!("cannot sign with {}", file.display()))?;
                let called = || args.server.origin().ascii_serialization();
                let audience = key.audience.clone().unwrap_or_else(called);
                RequestCredentials::Signature(Box::new(signer), Audience::of(&audience))
            }
            None => RequestCredentials::Key(find_key(key, is_this_machine(&args.server))?),
        };
        Ok(Self { opens, ..Self::open(args)? })
    }

    pub(super) const fn silence(&self) -> SilenceLimit {
        self.silence
    }

    /// A request for a path below the node's address, which may itself have a path.
    pub(super) fn request(&self, method: Method, path: &[&str]) -> anyhow::Result<RequestBuilder> {
        let mut url = self.server.clone();
        let Ok(mut segments) = url.path_segments_mut() else { bail!("`{}` cannot have a path", self.server) };
        segments.pop_if_empty().extend(path);
        drop(segments);
        let request = self.client.request(method, url);
        Ok(match &self.opens {
            RequestCredentials::Key(key) => request.bearer_auth(key),
            RequestCredentials::Nothing | RequestCredentials::Signature(..) => request,
        })
    }

    /// Signs a complete request, anew for each attempt, if signatures are the credentials. A streamed body must come
    /// with its digest; that of any other body is added here.
    pub(super) fn signed(&self, request: RequestBuilder) -> anyhow::Result<RequestBuilder> {
        let RequestCredentials::Signature(signer, audience) = &self.opens else { return Ok(request) };
        let (client, request) = request.build_split();
        let mut request = request?;
        if let Some(body) = request.body().and_then(Body::as_bytes).filter(|body| !body.is_empty()) {
            let digest = format!("sha-256=:{}:", BASE64.encode(Sha256::digest(body)));
            request.headers_mut().insert("content-digest", digest.parse()?);
        }
        let url = request.url();
        // The prefix before it is for the proxy in front of the node.
        let path = url.path().strip_prefix(self.server.path().trim_end_matches('/')).unwrap_or(url.path());
        let fields = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let fields = fields.filter(|(name, _)| is_signed(name)).collect();
        let unsigned = Unsigned { method: request.method().as_str(), path, query: url.query(), fields };
        let proof = signer.sign(&unsigned, *audience, Timestamp::now())?;
        for (name, value) in proof {
            request.headers_mut().insert(HeaderName::from_static(name), HeaderValue::try_from(value)?);
        }
        Ok(RequestBuilder::from_parts(client, request))
    }

    /// Makes a call without a body whose answer has no content of interest.
    pub(super) async fn call(&self, method: Method, path: &[&str]) -> anyhow::Result<()> {
        let request = self.signed(self.request(method, path)?)?;
        let response = self.silence.bound(request.send()).await?;
        expect_success(response, self.silence).await?;
        Ok(())
    }

    /// Deletes, and reads the JSON answer.
    pub(super) async fn delete(&self, path: &[&str]) -> anyhow::Result<Value> {
        let request = self.signed(self.request(Method::DELETE, path)?)?;
        let response = self.silence.bound(request.send()).await?;
        Ok(self.read_json(expect_success(response, self.silence).await?).await?)
    }

    /// A page of a list, beginning at this cursor.
    pub(super) async fn page(&self, path: &[&str], cursor: Option<&str>) -> anyhow::Result<Value> {
        let (client, request) = self.request(Method::GET, path)?.build_split();
        let mut request = request?;
        if let Some(cursor) = cursor {
            request.url_mut().query_pairs_mut().append_pair("cursor", cursor);
        }
        let request = self.signed(RequestBuilder::from_parts(client, request))?;
        let response = self.silence.bound(request.send()).await?;
        Ok(self.read_json(expect_success(response, self.silence).await?).await?)
    }

    /// A text that the node gives to everyone.
    pub(super) async fn text(&self, path: &[&str]) -> anyhow::Result<String> {
        let response = self.silence.bound(self.request(Method::GET, path)?.send()).await?;
        let response = expect_success(response, self.silence).await?;
        Ok(self.silence.bound(response.text()).await?)
    }

    /// The node's health, which it also tells when it is not well.
    pub(super) async fn health(&self) -> anyhow::Result<Value> {
        let request = self.request(Method::GET, &["health", "ready"])?;
        Ok(self.read_json(self.silence.bound(request.send()).await?).await?)
    }

    /// Posts JSON and reads the JSON answer. Never again on its own: a second asset or receipt is not the first.
    pub(super) async fn post(&self, path: &[&str], body: &Value) -> anyhow::Result<Value> {
        self.send(Method::POST, path, body).await
    }

    /// Sends JSON once and reads the JSON answer.
    pub(super) async fn send(&self, method: Method, path: &[&str], body: &Value) -> anyhow::Result<Value> {
        let request = self.signed(self.request(method, path)?.json(body))?;
        let response = self.silence.bound(request.send()).await?;
        Ok(self.read_json(expect_success(response, self.silence).await?).await?)
    }

    /// The JSON of an answer. The nodes' answers are a few hundred bytes.
    pub(super) async fn read_json(&self, response: Response) -> Result<Value, AttemptFailure> {
        let status = response.status();
        let bytes = self.silence.bound(response.bytes()).await?;
        serde_json::from_slice(&bytes).map_err(|_| {
            AttemptFailure::Final(format!("the answer ({status}) is not JSON: is this the address of a Penstock node?"))
        })
    }
}

/// The address of a node. Nothing is guessed, because a key is sent there.
fn address(text: &str) -> Result<Url, String> {
    let url = text.trim().parse().ok().filter(|url: &Url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| "the address of a node must begin with http:// or https://".to_owned())
}

fn client(silence: SilenceLimit) -> anyhow::Result<Client> {
    // The provider is per process. If another client has installed it already, that is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(concat!("penstock/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        // Bytes that the system could not send also count as silence. The system's own limit is half a minute, less
        // than a node may pause before it reads on.
        .tcp_user_timeout(silence.while_sending().longest())
        .build()
        .context("cannot set up the HTTP client")
}

/// Whether the node at this address is on this machine, so that a local data folder may be its own.
fn is_this_machine(server: &Url) -> bool {
    let Some(host) = server.host_str() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// The given key, or the admin key in the data folder.
///
/// The default folder is used only for a node on this machine: a key must not be sent to another machine just because a
/// folder happens to exist.
fn find_key(args: &KeyArgs, this_machine: bool) -> anyhow::Result<String> {
    if let Some(key) = args.key.as_deref().map(str::trim).filter(|key| !key.is_empty()) {
        return Ok(key.to_owned());
    }
    let folder = match &args.data_dir {
        Some(folder) => folder.as_path(),
        None if this_machine => Path::new(DEFAULT_DATA_DIR),
        None => bail!("a key is needed: give --key or PENSTOCK_KEY, or sign with --identity-key"),
    };
    let file = folder.join(ADMIN_KEY_FILE);
    match words::text_of(&file) {
        Ok(key) => Ok(key.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!(
                "a key is needed: give --key or PENSTOCK_KEY, or the node's data folder (there is no {})",
                file.display()
            )
        }
        Err(error) => Err(error).with_context(|| format!("cannot read the key in {}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_key_of_a_data_folder_is_used_when_none_is_given() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(ADMIN_KEY_FILE), "secret\n").unwrap();
        let mut args = KeyArgs { key: None, identity_key: None, audience: None, data_dir: Some(folder.path().into()) };
        assert_eq!(find_key(&args, false).unwrap(), "secret");
        args.key = Some(" ".into());
        assert_eq!(find_key(&args, false).unwrap(), "secret");
        args.key = Some("given".into());
        assert_eq!(find_key(&args, false).unwrap(), "given");
    }

    #[test]
    fn an_assumed_folder_is_never_read_for_another_machine() {
        let end =
            find_key(&KeyArgs { key: None, identity_key: None, audience: None, data_dir: None }, false).unwrap_err();
        assert_eq!(end.to_string(), "a key is needed: give --key or PENSTOCK_KEY, or sign with --identity-key");
    }

    #[test]
    fn this_machine_is_known_by_its_loopback_addresses() {
        for (address, expected) in [
            ("http://127.0.0.1:8080", true),
            ("http://localhost", true),
            ("http://[::1]:8080", true),
            ("https://node.example", false),
            ("http://192.168.1.7", false),
            ("http://localhost.example", false),
        ] {
            assert_eq!(is_this_machine(&address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn an_address_says_how_it_is_spoken_to() {
        for text in ["http://127.0.0.1:8080", "HTTPS://node.example/", " http://[::1]:8080\n"] {
            assert!(address(text).is_ok(), "{text}");
        }
        for text in ["127.0.0.1:8080", "localhost:8080", "node.example", "ftp://node.example", "http://", ""] {
            assert_eq!(
                address(text).unwrap_err(),
                "the address of a node must begin with http:// or https://",
                "{text}"
            );
        }
    }

    #[test]
    fn a_node_behind_a_path_keeps_its_path() {
        for server in ["http://127.0.0.1:1/edge", "http://127.0.0.1:1/edge/"] {
            let node =
                NodeClient::open(&NodeArgs { server: server.parse().unwrap(), max_silence: Duration::from_secs(60) })
                    .unwrap();
            let request = node.request(Method::GET, &["v1", "content"]).unwrap().build().unwrap();
            assert_eq!(request.url().as_str(), "http://127.0.0.1:1/edge/v1/content");
        }
    }
}
