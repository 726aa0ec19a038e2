//! Why a call brought no answer, and what that means to a caller of a port.

use std::time::Duration;

use penstock_actors::ports::PortError;
use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::telemetry::metrics::RedisOutcome;

pub(super) const REDIS: &str = "redis";

/// Codes without a kind of their own that say that the server cannot serve now: no memory, no disk, no replicas, a script
/// that runs for too long.
const UNABLE: [&str; 5] = ["OOM", "MISCONF", "NOREPLICAS", "BUSY", "UNBLOCKED"];

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("it does not answer, and is left alone until it does")]
    Open,
    #[error("too many calls wait for it")]
    QueueFull,
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("{0}")]
    Answered(RedisError),
}

impl Failure {
    pub(super) const fn outcome(&self) -> RedisOutcome {
        match self {
            Self::Open | Self::QueueFull => RedisOutcome::Refused,
            Self::Timeout(_) => RedisOutcome::Timeout,
            Self::Broken(_) => RedisOutcome::Broken,
            Self::Answered(_) => RedisOutcome::Error,
        }
    }
}

impl Failure {
    /// Whether it is known that the command was not made. Of every other failure it may or may not have been.
    pub(super) const fn is_unsent(&self) -> bool {
        matches!(self, Self::Open | Self::QueueFull)
    }

    /// Whether this is about the server's state, not about the command.
    pub(super) fn is_unavailability(&self) -> bool {
        !matches!(self, Self::Answered(error) if !is_unable(error))
    }
}

impl From<Failure> for PortError {
    fn from(failure: Failure) -> Self {
        match failure {
            failure if failure.is_unavailability() => Self::unavailable(REDIS, failure),
            failure => Self::rejected(REDIS, failure),
        }
    }
}

/// Whether an answer is about the server's state, not about the command.
pub(super) fn is_unable(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, BusyLoading, ClusterDown, MasterDown, Moved, ReadOnly, TryAgain};
    match error.kind() {
        ErrorKind::Server(kind) => {
            matches!(kind, BusyLoading | ClusterDown | MasterDown | ReadOnly | TryAgain | Moved | Ask)
        }
        ErrorKind::Extension => error.code().is_some_and(|code| UNABLE.contains(&code)),
        _ => false,
    }
}
