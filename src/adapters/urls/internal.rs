//! What nginx is told in `X-Accel-Redirect`: a URI of one of its internal locations, which no client can ask for.
//!
//! `PREFIX/files/PATH` is a file below the folder of the blobs, `PREFIX/s3/HOST/PATH?QUERY` an object under a signed URL, the
//! scheme left to the location of that host. `config/nginx-accel.conf` has both.

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
    /// `prefix` is what the internal locations begin with.
    pub fn new(prefix: &str, origin: Arc<dyn Origin>) -> Self {
        Self { prefix: format!("{prefix}/files/"), origin }
    }
}

#[async_trait]
impl UrlSigner for InternalFiles {
    async fn sign(&self, wanted: &UrlRequest<'_>) -> PortResult<Option<SignedUrl>> {
        let Some(path) = self.origin.path(wanted.content_hash).await? else { return Ok(None) };
        // It is followed at once, by nginx alone: there is nothing that could expire.
        Ok(Some(SignedUrl { url: format!("{}{path}", self.prefix), expires_at: wanted.until }))
    }
}

/// Objects that nginx fetches under signed URLs.
pub struct InternalProxy {
    prefix: String,
    storage: Arc<dyn UrlSigner>,
}

impl InternalProxy {
    /// `prefix` is what the internal locations begin with; `storage` signs the URLs.
    pub fn new(prefix: &str, storage: Arc<dyn UrlSigner>) -> Self {
        Self { prefix: format!("{prefix}/s3/"), storage }
    }
}

#[async_trait]
impl UrlSigner for InternalProxy {
    async fn sign(&self, wanted: &UrlRequest<'_>) -> PortResult<Option<SignedUrl>> {
        let Some(signed) = self.storage.sign(wanted).await? else { return Ok(None) };
        let Some((_, address)) = signed.url.split_once("://") else {
            return Err(PortError::rejected("the URL signer", "what it gave is no URL"));
        };
        Ok(Some(SignedUrl { url: format!("{}{address}", self.prefix), ..signed }))
    }
}
