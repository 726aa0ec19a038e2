//! Headers of blocks: what a header must fulfil ([`HeaderRules`]), where headers come from ([`HeaderSource`]), and where the node keeps
//! them ([`HeaderStore`]).
//!
//! **Caller:** the keeper of the chain. **Bound:** [`HEADERS_A_CALL`] headers a call.

use async_trait::async_trait;

use super::PortResult;
use crate::model::{ChainHeader, CheckedHeader, RawHeader};

/// The most headers that one call takes or gives: those of two weeks.
pub const HEADERS_A_CALL: usize = 2_016;

/// Why a header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    #[error("its hash is above its target, or its target is above the network's limit")]
    Work,
    #[error("its target is not the one that the chain before it requires")]
    Target,
    #[error("its time is not after the median of the eleven blocks before it")]
    Time,
    #[error("it is not the block that the network has at this height")]
    Checkpoint,
}

/// The rules of the network. Pure functions, without a store.
pub trait HeaderRules: Send + Sync + 'static {
    /// Looks at a header alone: its proof of work.
    ///
    /// # Errors
    /// The fault.
    fn check(&self, raw: &RawHeader) -> Result<CheckedHeader, HeaderFault>;

    /// Looks at a header on its parent: target, time, and at some heights which block it is. `before` are the headers before it, the
    /// parent last: as many as [`context`](Self::context) says, or all there are. The first block has none before it.
    ///
    /// # Errors
    /// The fault.
    fn follow(&self, header: &CheckedHeader, before: &[ChainHeader]) -> Result<ChainHeader, HeaderFault>;

    /// How many headers before a header `follow` needs.
    fn context(&self) -> usize;
}

/// A server or a file that has headers.
#[async_trait]
pub trait HeaderSource: Send + Sync + 'static {
    /// For logs and metrics.
    fn name(&self) -> &'static str;

    /// The height of its best chain.
    ///
    /// # Errors
    /// The source does not answer, or answers nonsense.
    async fn tip(&self) -> PortResult<u32>;

    /// Headers of its best chain from this height on, at most `count` and at most [`HEADERS_A_CALL`]; fewer at the tip.
    ///
    /// # Errors
    /// The source does not answer, or answers nonsense.
    async fn headers(&self, from: u32, count: usize) -> PortResult<Vec<RawHeader>>;
}

/// The headers that the node has, of all branches. All instances share it. A header is added after its parent, so that whatever a
/// reader finds connects.
#[async_trait]
pub trait HeaderStore: Send + Sync + 'static {
    /// Keeps headers. Those it has already are skipped, so every instance may add the same ones.
    ///
    /// # Errors
    /// When the store does not answer. Some of the headers may have been kept, each with its parent.
    async fn add_headers(&self, headers: &[ChainHeader]) -> PortResult<()>;

    /// The header with the most work; among equals any one.
    async fn best_header(&self) -> PortResult<Option<ChainHeader>>;

    /// The headers of this height and the `heights - 1` above it, of all branches, by height.
    async fn headers_from(&self, height: u32, heights: u32) -> PortResult<Vec<ChainHeader>>;
}
