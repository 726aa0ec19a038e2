//! URLs for servers that deliver content without asking the node: a CDN at its edge, and an nginx in front of the node.
//!
//! Both fetch content from the node's storage, so both need its path there: an [`Origin`] gives it. Object storage
//! signs its own URLs and needs neither.

mod cdn;
mod internal;

use async_trait::async_trait;
use penstock_actors::{ids::ContentHash, ports::PortResult};

pub use cdn::{CdnKey, CdnSigner};
pub use internal::{InternalFiles, InternalProxy};

/// The paths under which a store keeps its contents.
#[async_trait]
pub trait Origin: Send + Sync + 'static {
    /// The path of a content's exact bytes, relative to the delivery root: unreserved characters and slashes (RFC
    /// 3986), without a leading slash. `None` when the content is stored elsewhere, such as in another tier.
    ///
    /// # Errors
    /// `NotFound` when the content is not stored.
    async fn path(&self, hash: ContentHash) -> PortResult<Option<String>>;
}
