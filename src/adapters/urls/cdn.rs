//! URLs of a CDN, signed so that its edge can verify them without a request to the node.
//!
//! ```text
//! BASE/PATH?expires=SECONDS&key=ID&type=MEDIA_TYPE&disposition=DISPOSITION&signature=HEX
//! ```
//! The signature is HMAC-SHA256, in lower-case hexadecimal, over the URL from the slash that begins the path up to
//! `&signature=`, exclusive: byte for byte, without decoding or sorting. `expires` is in seconds of Unix time, and is
//! the first second in which the URL is no longer valid; `key` names the key and is omitted if the key has no name.
//! `type` and `disposition` are headers of the answer, percent-encoded; they are signed too, because otherwise anyone
//! could have the CDN serve a content as a page of its own. `config/cdn-edge.js` verifies all this in nginx.

use std::sync::Arc;

use async_trait::async_trait;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use penstock_actors::ports::{PortResult, SignedUrl, UrlRequest, UrlSigner};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

use super::Origin;

/// All characters except the unreserved ones of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The key that signs URLs.
#[derive(Clone)]
pub struct CdnKey {
    mac: Hmac<Sha256>,
    id: String,
}

impl CdnKey {
    /// The bytes of `secret` are the key. An empty `id` is omitted from URLs.
    pub fn new(secret: &str, id: &str) -> Self {
        let mac = Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
        Self { mac, id: id.to_owned() }
    }

    /// The URL of a path, which begins with a slash, at a site.
    fn sign(&self, site: &str, path: &str, expires_at: Timestamp, wanted: &UrlRequest<'_>) -> String {
        let expires = expires_at.as_second();
        let key = if self.id.is_empty() { String::new() } else { format!("&key={}", self.id) };
        let media_type = utf8_percent_encode(wanted.media_type, RESERVED);
        let disposition = utf8_percent_encode(wanted.disposition, RESERVED);
        let signed = format!("{path}?expires={expires}{key}&type={media_type}&disposition={disposition}");
        let mut mac = self.mac.clone();
        mac.update(signed.as_bytes());
        let signature: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{site}{signed}&signature={signature}")
    }
}

/// Signs URLs of a CDN whose origin is the node's store.
pub struct CdnSigner {
    /// Scheme, host and port.
    site: String,
    /// The path of the contents at the CDN, without a slash at its end.
    root: String,
    key: CdnKey,
    origin: Arc<dyn Origin>,
}

impl CdnSigner {
    /// `base_url` is `https://HOST/PATH`, without a query.
    pub fn new(base_url: &str, key: CdnKey, origin: Arc<dyn Origin>) -> Self {
        let base = base_url.trim_end_matches('/');
        let host = base.find("://").map_or(0, |scheme| scheme + 3);
        let path = base[host..].find('/').map_or(base.len(), |slash| host + slash);
        Self { site: base[..path].to_owned(), root: base[path..].to_owned(), key, origin }
    }
}

#[async_trait]
impl UrlSigner for CdnSigner {
    async fn sign(&self, wanted: &UrlRequest<'_>) -> PortResult<Option<SignedUrl>> {
        let Some(path) = self.origin.path(wanted.content_hash).await? else { return Ok(None) };
        // A partial last second does not count.
        let expires_at = Timestamp::from_second(wanted.until.as_second()).unwrap_or(wanted.until);
        let url = self.key.sign(&self.site, &format!("{}/{path}", self.root), expires_at, wanted);
        Ok(Some(SignedUrl { url, expires_at }))
    }
}

#[cfg(test)]
mod tests {
    use penstock_actors::{
        ids::ContentHash,
        ports::{Missing, PortError},
    };

    use super::*;

    const SECRET: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    struct Flat;

    #[async_trait]
    impl Origin for Flat {
        async fn path(&self, hash: ContentHash) -> PortResult<Option<String>> {
            match hash.as_bytes()[0] {
                0 => Err(PortError::NotFound(Missing::Blob)),
                1 => Ok(None),
                _ => Ok(Some(format!("{:.4}", hash.to_string()))),
            }
        }
    }

    async fn sign(base: &str, key: CdnKey, first_byte: u8, until: &str) -> PortResult<Option<SignedUrl>> {
        let wanted = UrlRequest {
            content_hash: ContentHash::from_bytes([first_byte; 32]),
            until: until.parse().expect("a time"),
            media_type: "text/plain; charset=utf-8",
            disposition: "inline; filename=\"a b.txt\"",
        };
        CdnSigner::new(base, key, Arc::new(Flat)).sign(&wanted).await
    }

    /// Each signature is the output of this command for the URL up to `&signature=`, without the site:
    /// `printf '%s' "$SIGNED" | openssl dgst -sha256 -hmac "$SECRET"`
    #[tokio::test]
    async fn a_signature_is_the_one_that_openssl_makes() {
        const SAID: &str = "type=text%2Fplain%3B%20charset%3Dutf-8&disposition=inline%3B%20filename%3D%22a%20b.txt%22";
        for (base, key, expected) in [
            (
                "https://cdn.example.com",
                CdnKey::new(SECRET, ""),
                format!(
                    "https://cdn.example.com/abab?expires=1790000000&{SAID}&signature=5fc113eb87ffef77c5790d40005a8ed6bc83c36f36797f18d9153c5fed519190"
                ),
            ),
            (
                "http://127.0.0.1:8080/some/where/",
                CdnKey::new(SECRET, "2026-10"),
                format!(
                    "http://127.0.0.1:8080/some/where/abab?expires=1790000000&key=2026-10&{SAID}&signature=a9fcc65e487e5677afec4d46a952d18ef0778d95feea74ceb18a645432168399"
                ),
            ),
            (
                "https://cdn.example.com",
                CdnKey::new(&SECRET.repeat(3), ""),
                format!(
                    "https://cdn.example.com/abab?expires=1790000000&{SAID}&signature=cf95125d131542c44cc669f01609ccd7a8a0ebdc54fb369fe525d534dd76e2ca"
                ),
            ),
        ] {
            // 1790000000 and not quite a second.
            let signed = sign(base, key, 0xab, "2026-09-21T14:13:20.999Z").await.expect("stored").expect("delivered");
            assert_eq!(signed.url, expected);
            assert_eq!(signed.expires_at, "2026-09-21T14:13:20Z".parse().expect("a time"));
        }
    }

    #[tokio::test]
    async fn what_is_elsewhere_or_nowhere_has_no_url() {
        let key = CdnKey::new(SECRET, "");
        let absent = sign("https://cdn.example.com", key.clone(), 0, "2026-09-21T14:13:20Z").await;
        assert!(matches!(absent, Err(PortError::NotFound(_))));
        assert_eq!(sign("https://cdn.example.com", key, 1, "2026-09-21T14:13:20Z").await.expect("stored"), None);
    }
}
