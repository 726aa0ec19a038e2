//! URLs under which somebody else delivers a content: the storage itself, a CDN, or the proxy in front of the node.
//!
//! Whoever holds such a URL has the whole content, as often as they like, until it expires: the one who delivers asks nobody
//! again. So a URL is charged for when it is given, and its time is short.

use async_trait::async_trait;
use jiff::Timestamp;

use super::PortResult;
use crate::ids::ContentHash;

/// What a URL is wanted for.
#[derive(Debug, Clone, Copy)]
pub struct UrlRequest<'a> {
    pub content_hash: ContentHash,
    /// When it must have ended, at least a second from now.
    pub until: Timestamp,
    /// What its answer is to say as `Content-Type` and as `Content-Disposition`, where whoever delivers can be told. Both
    /// are values of header fields: without line ends.
    pub media_type: &'a str,
    pub disposition: &'a str,
}

/// A URL that was made for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedUrl {
    /// Visible ASCII.
    pub url: String,
    /// The moment from which it is refused, as whoever delivers reckons it: never after what was asked for, and less than
    /// two seconds before it.
    pub expires_at: Timestamp,
}

/// Makes URLs of contents.
#[async_trait]
pub trait UrlSigner: Send + Sync + 'static {
    /// A URL for GET of the whole content. `None` when it is stored where no URLs are given for, such as in another tier
    /// than the one that is delivered from: the node then streams it itself.
    ///
    /// # Errors
    /// `NotFound` when the store does not have the content: nobody is charged for a URL that leads nowhere.
    async fn sign(&self, wanted: &UrlRequest<'_>) -> PortResult<Option<SignedUrl>>;
}
