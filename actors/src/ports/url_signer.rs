//! URLs under which another server delivers a content: the storage itself, a CDN, or the proxy in front of the node.
//!
//! A holder of such a URL can fetch the whole content, any number of times, until it expires: the delivering server
//! does not ask the node. So a URL is charged when it is issued, and its time is short.

use async_trait::async_trait;
use jiff::Timestamp;

use super::PortResult;
use crate::ids::ContentHash;

/// A request for a URL.
#[derive(Debug, Clone, Copy)]
pub struct UrlRequest<'a> {
    pub content_hash: ContentHash,
    /// The latest time at which it may expire, at least a second from now.
    pub until: Timestamp,
    /// The `Content-Type` and the `Content-Disposition` of the answer, where the delivering server can be told. Both
    /// are values of header fields: without line ends.
    pub media_type: &'a str,
    pub disposition: &'a str,
}

/// A URL with an expiry time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedUrl {
    /// Visible ASCII.
    pub url: String,
    /// The moment from which the delivering server refuses it: never after the requested time, and less than two
    /// seconds before it.
    pub expires_at: Timestamp,
}

/// Signs URLs of contents.
#[async_trait]
pub trait UrlSigner: Send + Sync + 'static {
    /// A URL for GET of the whole content. `None` when its place has no URLs, such as another tier than the one that is
    /// delivered from: the node then streams it itself.
    ///
    /// # Errors
    /// `NotFound` when the store does not have the content: a URL that leads nowhere is never charged.
    async fn sign(&self, wanted: &UrlRequest<'_>) -> PortResult<Option<SignedUrl>>;
}
