//! `[delivery]`: which server delivers content under `/v1/data`, and how long the node's URLs are valid.

use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;

use super::{S3, Secret, Server, Storage, StorageBackend, problem::Rules, value};

/// As hard to guess as the hash that uses the key.
const KEY_BYTES: usize = 32;

/// Credentials of an instance role live no longer, and a URL expires with the credentials that signed it.
const LONGEST_TTL: Duration = Duration::from_secs(12 * 3600);

/// The server that delivers content requested at `/v1/data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryMode {
    /// The node itself.
    Stream,
    /// The object storage, under a URL that the node signs.
    Presigned,
    /// A CDN, under a URL that the node signs.
    Direct,
    /// The nginx in front of the node, by `X-Accel-Redirect`.
    Accel,
}

/// The storage tier for which URLs are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryTier {
    /// Any tier.
    Any,
    Hot,
    Warm,
    Cold,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    pub mode: DeliveryMode,
    pub tier: DeliveryTier,
    /// The longest validity of a URL.
    #[serde(deserialize_with = "value::duration_or_seconds")]
    pub url_ttl: Duration,
    /// The address of the contents at a CDN; empty if there is none.
    pub base_url: String,
    /// The key that signs URLs of a CDN; empty if there is none.
    pub signing_key: Secret,
    /// The name of the signing key in its URLs; empty omits it.
    pub signing_key_id: String,
    /// The prefix of nginx's internal locations.
    pub internal_prefix: String,
    /// An origin under which clients reach content and nothing else that they trust; empty if there is none.
    pub content_origin: String,
}

impl Delivery {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.require(
            (Duration::from_secs(1)..=LONGEST_TTL).contains(&self.url_ttl),
            &["delivery.url_ttl"],
            "be from 1s to 12h: a URL cannot be revoked",
        );
        rules.require(
            self.base_url.is_empty() || is_base(&self.base_url),
            &["delivery.base_url"],
            "be of the form https://cdn.example.com/content, without a query",
        );
        rules.require(
            self.signing_key.is_empty() || self.signing_key.expose().len() >= KEY_BYTES,
            &["delivery.signing_key"],
            "have at least 32 bytes, such as `openssl rand -hex 32` makes",
        );
        rules.require(
            self.signing_key_id.bytes().all(is_unreserved),
            &["delivery.signing_key_id"],
            "hold only letters, digits, `-`, `.`, `_` and `~`, because it stands in URLs",
        );
        rules.require(
            self.internal_prefix.starts_with('/')
                && !self.internal_prefix.ends_with('/')
                && self.internal_prefix.bytes().all(|byte| byte == b'/' || is_unreserved(byte)),
            &["delivery.internal_prefix"],
            "be a path such as /_penstock, without a slash at its end",
        );
        rules.require(
            self.content_origin.is_empty() || host_of(&self.content_origin).is_some(),
            &["delivery.content_origin"],
            "be of the form https://content.example.com, without a path",
        );
        if self.mode == DeliveryMode::Direct {
            rules.require(
                !self.base_url.is_empty(),
                &["delivery.base_url", "delivery.mode"],
                "be given when delivery.mode is \"direct\": it is the address of the contents at the CDN",
            );
            rules.require(
                !self.signing_key.is_empty(),
                &["delivery.signing_key", "delivery.mode"],
                "be given when delivery.mode is \"direct\": without it, anyone could make URLs",
            );
        }
    }
}

impl Delivery {
    /// The `Host` of requests to the content's own origin; empty if there is none.
    pub(crate) fn content_host(&self) -> String {
        host_of(&self.content_origin).unwrap_or_default()
    }

    /// Rules of a mode about other sections.
    pub(super) fn check_with(&self, server: &Server, storage: &Storage, s3: &S3, rules: &mut Rules) {
        let files = storage.backend == StorageBackend::Fs;
        rules.require(
            self.mode != DeliveryMode::Presigned || !files,
            &["delivery.mode", "storage.backend"],
            "not be \"presigned\" when storage.backend is \"fs\": only object storage accepts signed URLs",
        );
        rules.require(
            self.mode != DeliveryMode::Accel || !server.trusted_proxies.is_empty(),
            &["server.trusted_proxies", "delivery.mode"],
            "name the nginx in front when delivery.mode is \"accel\": only it understands the answer",
        );
        rules.require(
            !files || matches!(self.tier, DeliveryTier::Any | DeliveryTier::Hot),
            &["delivery.tier", "storage.backend"],
            "be \"any\" or \"hot\" when storage.backend is \"fs\": for files, there are URLs for the hot tier alone",
        );
        let bucket_is_missing = match self.tier {
            DeliveryTier::Any | DeliveryTier::Hot => false,
            DeliveryTier::Warm => s3.bucket_warm.is_empty(),
            DeliveryTier::Cold => s3.bucket_cold.is_empty(),
        };
        rules.require(
            files || !bucket_is_missing,
            &["delivery.tier", "s3.bucket_warm", "s3.bucket_cold"],
            "be a tier that has a bucket",
        );
        let buckets = [&s3.bucket_warm, &s3.bucket_cold].into_iter().filter(|bucket| !bucket.is_empty()).count();
        rules.require(
            self.mode != DeliveryMode::Direct || self.tier != DeliveryTier::Any || files || buckets == 0,
            &["delivery.tier", "delivery.mode", "s3.bucket_warm", "s3.bucket_cold"],
            "name one tier when delivery.mode is \"direct\" and there are several buckets: a CDN has one of them as its origin",
        );
    }
}

/// The host of an origin, with its port unless that is the scheme's default.
fn host_of(origin: &str) -> Option<String> {
    let url = Url::parse(origin).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let is_origin = origin.trim_end_matches('/').eq_ignore_ascii_case(&url.origin().ascii_serialization());
    let host = url.host_str().filter(|_| is_origin)?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// Whether a path and a signature may be appended to a URL.
fn is_base(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
            // The signature covers the path as written here, so it must be the path that arrives.
            && url.as_str().trim_end_matches('/') == text.trim_end_matches('/')
            && url.path().bytes().all(|byte| byte == b'/' || is_unreserved(byte))
    })
}

/// Unreserved characters of RFC 3986, section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}
