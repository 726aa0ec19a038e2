//! Why a call brought no answer, and what that means to a caller of a port.

use std::time::Duration;

use penstock_actors::ports::PortError;
use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::telemetry::metrics::RedisOutcome;

pub(super) const REDIS: &str = "redis";

/// Error codes without a kind of their own by which a server says that it cannot serve now: no memory, no disk, no
/// replicas, a script that runs for too long.
const FAULTS: [&str; 4] = ["OOM", "MISCONF", "NOREPLICAS", "BUSY"];

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum RedisFailure {
    #[error("its circuit breaker is open, because it did not answer or could not serve")]
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

impl RedisFailure {
    pub(super) const fn outcome(&self) -> RedisOutcome {
        match self {
            Self::Open | Self::QueueFull => RedisOutcome::Refused,
            Self::Timeout(_) => RedisOutcome::Timeout,
            Self::Broken(_) => RedisOutcome::Broken,
            Self::Answered(_) => RedisOutcome::Error,
        }
    }
}

impl RedisFailure {
    /// Whether the command certainly did not take effect. After every other failure it may or may not have.
    pub(super) const fn is_unsent(&self) -> bool {
        matches!(self, Self::Open | Self::QueueFull)
    }

    /// Whether the failure concerns the state of the server and not the command.
    pub(super) fn is_unavailability(&self) -> bool {
        !matches!(self, Self::Answered(error) if !is_unable(error))
    }
}

impl From<RedisFailure> for PortError {
    fn from(failure: RedisFailure) -> Self {
        match failure {
            failure if failure.is_unavailability() => Self::unavailable(REDIS, failure),
            failure => Self::rejected(REDIS, failure),
        }
    }
}

/// Whether an answer concerns the moment and not the command: the same command may succeed later.
pub(super) fn is_unable(error: &RedisError) -> bool {
    is_fault(error) || error.is_cluster_error()
}

/// Whether a server that gives this answer cannot serve any command. An answer about slots that move does not count.
pub(super) fn is_fault(error: &RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, ReadOnly};
    match error.kind() {
        ErrorKind::Server(kind) => matches!(kind, BusyLoading | ClusterDown | MasterDown | ReadOnly),
        ErrorKind::Extension => error.code().is_some_and(|code| FAULTS.contains(&code)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    fn answered(line: &str) -> RedisError {
        match redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("an answer") {
            Value::ServerError(error) => error.into(),
            value => panic!("{value:?} is no error"),
        }
    }

    #[test]
    fn an_answer_says_whether_it_is_about_the_server_the_moment_or_the_command() {
        for fault in ["LOADING loading", "CLUSTERDOWN down", "READONLY a replica", "OOM no memory", "MISCONF no disk"] {
            let error = answered(fault);
            assert!(is_fault(&error) && is_unable(&error), "{fault}");
        }
        for moment in ["MOVED 1 127.0.0.1:1", "ASK 1 127.0.0.1:1", "TRYAGAIN keys are on the move"] {
            let error = answered(moment);
            assert!(!is_fault(&error) && is_unable(&error), "{moment}");
        }
        for command in ["ERR wrong", "WRONGTYPE not a list", "NOPERM not yours", "NOSCRIPT what", "CROSSSLOT two"] {
            let error = answered(command);
            assert!(!is_fault(&error), "{command}");
            assert!(matches!(PortError::from(RedisFailure::Answered(error)), PortError::Rejected { .. }), "{command}");
        }
    }
}
