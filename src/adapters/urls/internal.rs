//! The values of `X-Accel-Redirect` for nginx: URIs of its internal locations, which clients cannot request.
//!
//! `PREFIX/files/PATH` is a file below the folder of the blobs, `PREFIX/s3/HOST/PATH?QUERY` an object under a signed
//! URL; the location of that host knows its scheme. `config/nginx-accel.conf` has both.

use std::sync::Arc;

use async_trait::async_trait;
use penstock_actors::ports::{PortError, PortResult, SignedUrl, UrlRequest, UrlSigner};

use super::Origin;

/// Files that nginx reads itself.
pub struct InternalFiles {
    prefix: String,
    origin: Arc<dyn Origin>,
}

impl InternalFiles {
    /// `prefix`: the start of the URIs of the internal locations.
    pub fn new(prefix: &str, origin: Arc<dyn Origin>) -> Self {
        Self { prefix: format!("{prefix}/files/"), origin }
    }
}

#[async_trait]
impl UrlSigner for InternalFiles {
    async fn sign(&self, wanted: &UrlRequest<'_>) -> PortResult<Option<SignedUrl>> {
        let Some(path) = self.origin.path(wanted.content_hash).await? else { return Ok(None) };
        // nginx follows it at once: nothing can expire.
        Ok(Some(SignedUrl { url: format!("{}{path}", self.prefix), expires_at: wanted.until }))
    }
}

/// Objects that nginx fetches under signed URLs.
pub struct InternalProxy {
    prefix: String,
    storage: Arc<dyn UrlSigner>,
}

impl InternalProxy {
    /// `prefix`: the start of the URIs of the internal locations; `storage` signs the URLs.
    pub fn new(prefix: &str, storage: Arc<dyn UrlSigner>) -> Self {
        Self { prefix: format!("{prefix}/s3/"), storage }
    }
}

#[async_trait]
impl UrlSigner for InternalProxy {
    async fn sign(&self, wanted: &UrlRequest<'_>) -> PortResult<Option<SignedUrl>> {
        let Some(signed) = self.storage.sign(wanted).await? else { return Ok(None) };
        let Some((_, address)) = signed.url.split_once("://") else {
            return Err(PortError::rejected("the URL signer", "its answer is not a URL"));
        };
        Ok(Some(SignedUrl { url: format!("{}{address}", self.prefix), ..signed }))
    }
}
