//! The errors of ports, as far as a caller can act on them.

use std::{error::Error, fmt, time::Duration};

pub type PortResult<T> = Result<T, PortError>;

/// A port's failure. Messages are for logs; clients get a problem document made elsewhere.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The dependency did not answer, or not in time. It is unknown whether the operation was applied; every operation
    /// may be repeated.
    #[error("{dependency} is unavailable: {source}")]
    Unavailable {
        dependency: &'static str,
        /// When to try again, where known.
        retry_after: Option<Duration>,
        source: Box<dyn Error + Send + Sync>,
    },
    /// The dependency refused this input; repeating it gives the same answer.
    #[error("{dependency} rejected the operation: {source}")]
    Rejected { dependency: &'static str, source: Box<dyn Error + Send + Sync> },
    /// Stored bytes are not what was stored: truncated, or their hash differs.
    #[error("stored data is corrupt: {0}")]
    Corrupt(String),
    /// The object does not exist although it should.
    #[error("{0} was not found")]
    NotFound(Missing),
    /// No room: a disk or a quota of the store is full.
    #[error("{0} has no room left")]
    Full(&'static str),
    /// This node's epoch was reclaimed: its leases are gone, and it has to go on under a new epoch.
    #[error("this node's epoch was reclaimed")]
    Fenced,
}

/// What a port did not find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    Asset,
    QuotaTier,
    Producer,
    /// The content of a receipt.
    Content,
    Blob,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asset => "the asset",
            Self::QuotaTier => "the quota tier",
            Self::Producer => "the producer",
            Self::Content => "the content",
            Self::Blob => "the blob",
        })
    }
}

impl PortError {
    pub fn unavailable(dependency: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable { dependency, retry_after: None, source: source.into() }
    }

    pub fn rejected(dependency: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Rejected { dependency, source: source.into() }
    }

    /// Whether the same call may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Full(_))
    }

    /// The error for several callers of one shared operation: the parts that a caller may act on, by reference.
    pub fn shared(error: &std::sync::Arc<Self>) -> Self {
        match &**error {
            Self::Corrupt(what) => Self::Corrupt(what.clone()),
            Self::NotFound(what) => Self::NotFound(*what),
            Self::Full(what) => Self::Full(what),
            Self::Fenced => Self::Fenced,
            Self::Rejected { dependency, .. } => Self::rejected(dependency, std::sync::Arc::clone(error)),
            Self::Unavailable { dependency, retry_after, .. } => Self::Unavailable {
                dependency,
                retry_after: *retry_after,
                source: Box::new(std::sync::Arc::clone(error)),
            },
        }
    }
}
