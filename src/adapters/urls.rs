//! URLs for those who deliver without being asked by the node: a CDN at its edge, and the nginx in front.
//!
//! Both fetch from where the node stores, so both must be told where that is: an [`Origin`] says it. Object storage signs its
//! URLs by itself, and needs neither.

mod cdn;
mod internal;

use async_trait::async_trait;
use penstock_actors::{ids::ContentHash, ports::PortResult};

pub use cdn::{CdnKey, CdnSigner};
pub use internal::{InternalFiles, InternalProxy};

/// Where a store keeps the bytes of its contents.
#[async_trait]
pub trait Origin: Send + Sync + 'static {
    /// The path of a content, exactly its bytes, below the root that is delivered from: unreserved characters and slashes
    /// (RFC 3986), none of them at the beginning. `None` when it is stored elsewhere, such as in another tier.
    ///
    /// # Errors
    /// `NotFound` when it is not stored.
    async fn path(&self, hash: ContentHash) -> PortResult<Option<String>>;
}
