//! What PostgreSQL's errors mean to a caller.

use std::{error::Error as _, fmt, io, time::Duration};

use deadpool::managed::PoolError;
use penstock_actors::ports::PortError;
use tokio_postgres::Error;

use super::gate::GateRefusal;

pub(super) const POSTGRES: &str = "postgresql";

/// Raised by `penstock_refill` for an epoch that is not alive.
const FENCED: &str = "PS001";

/// Error classes that concern the server or the moment, not the statement: connection, transaction rollback (a
/// deadlock), resources, object state (a lock), operator intervention (a shutdown, a time-out), system error.
const TRANSIENT_CLASSES: [&str; 6] = ["08", "40", "53", "55", "57", "58"];

/// Those that say that the server cannot be reached: connection errors, and a server that starts or stops. (A cancelled
/// statement is in the same class, but does not concern the server.)
const ENDING: [&str; 4] = ["08", "57P01", "57P02", "57P03"];

/// Error classes that say that a database object is missing or differs from what this program created: tables while a
/// dump is being restored, a revoked privilege. The rows to write are not at fault, so they must be kept until the
/// schema is repaired.
const SCHEMA_CLASSES: [&str; 2] = ["42", "3F"];

/// Raised by `penstock_ingest_lineage` when pruning has passed events of a batch while the batch was written.
const PASSED: &str = "PS002";

/// A row violates a check. If the error names no constraint, the row fits no partition.
const CHECK: &str = "23514";

/// A write reached a read-only server, as after a switchover.
const READ_ONLY: &str = "25006";

/// Errors that concern the server, whatever the statement: it is read-only, it stops, it crashed, it accepts no
/// connections, the database was dropped.
const OF_THE_SERVER: [&str; 5] = [READ_ONLY, "57P01", "57P02", "57P03", "57P04"];

/// Errors that concern one connection: it broke, or was idle for too long.
const OF_THE_CONNECTION: [&str; 2] = ["08", "57P05"];

/// When to retry after the queue for a connection was full. The queue drains within the time that one call may wait in
/// it.
const QUEUE_RETRY: Duration = Duration::from_secs(1);

/// What a failed statement says about its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultScope {
    /// The server is not usable any more, and neither are the other connections to it.
    Server,
    /// The connection is not usable any more.
    Connection,
    /// Nothing. The driver itself knows whether the connection is closed.
    Statement,
}

impl FaultScope {
    pub(super) fn of(error: &Error) -> Self {
        let is_of =
            |codes: &[&str]| error.code().is_some_and(|code| codes.iter().any(|of| code.code().starts_with(of)));
        if is_of(&OF_THE_SERVER) {
            Self::Server
        } else if is_of(&OF_THE_CONNECTION) {
            Self::Connection
        } else {
            Self::Statement
        }
    }
}

/// What an [`Unavailable`](PortError::Unavailable) says about the server, for callers that can ask another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServerFault {
    /// The server cannot be reached, or is shutting down.
    Gone,
    /// The server has not answered in time.
    Late,
    /// Nothing: the moment or the statement is the reason.
    NotItsOwn,
}

/// The source of an error that concerns the server.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct ServerFaultSource {
    fault: ServerFault,
    text: String,
}

impl ServerFault {
    pub(super) fn of(error: &PortError) -> Self {
        let PortError::Unavailable { source, .. } = error else { return Self::NotItsOwn };
        source.downcast_ref::<ServerFaultSource>().map_or(Self::NotItsOwn, |faulty| faulty.fault)
    }

    fn with_text(self, text: String) -> PortError {
        PortError::unavailable(POSTGRES, ServerFaultSource { fault: self, text })
    }
}

/// Why a batch of rows was not written, and can be written after all: the source of an
/// [`Unavailable`](PortError::Unavailable).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BatchFault {
    /// The caller can create the partition.
    #[error("a row has no partition")]
    NoPartition,
    /// The next attempt reads the window anew.
    #[error("the lineage window has moved since the batch read it")]
    WindowMoved,
}

impl BatchFault {
    pub(super) fn of(error: &PortError) -> Option<Self> {
        let PortError::Unavailable { source, .. } = error else { return None };
        source.downcast_ref::<Self>().copied()
    }
}

/// A server did not answer in time.
pub(super) fn late(statement: &str, timeout: Duration) -> PortError {
    ServerFault::Late.with_text(format!("{statement} took longer than {timeout:?}"))
}

/// A server accepts no writes.
pub(super) fn only_reads() -> PortError {
    ServerFault::Gone
        .with_text("the server is read-only: it is a standby, or default_transaction_read_only is on".to_owned())
}

/// A statement failed.
pub(super) fn from_statement(error: &Error) -> PortError {
    let Some(code) = error.code().map(|state| state.code()) else {
        let broken = error.is_closed() || error.source().is_some_and(|source| source.is::<io::Error>());
        let text = error_text(error);
        return if broken { ServerFault::Gone.with_text(text) } else { PortError::rejected(POSTGRES, text) };
    };
    let text = error_text(error);
    match code {
        FENCED => PortError::Fenced,
        PASSED => PortError::unavailable(POSTGRES, BatchFault::WindowMoved),
        CHECK if error.as_db_error().is_some_and(|error| error.constraint().is_none()) => {
            PortError::unavailable(POSTGRES, BatchFault::NoPartition)
        }
        READ_ONLY => ServerFault::Gone.with_text(text),
        code if ENDING.iter().any(|ending| code.starts_with(ending)) => ServerFault::Gone.with_text(text),
        code if TRANSIENT_CLASSES.iter().chain(&SCHEMA_CLASSES).any(|class| code.starts_with(class)) => {
            PortError::unavailable(POSTGRES, text)
        }
        _ => PortError::rejected(POSTGRES, text),
    }
}

/// Whether the server or the moment is the reason, and not the statement or the schema.
pub(super) fn is_passing(error: &Error) -> bool {
    let of_schema =
        error.code().is_some_and(|state| SCHEMA_CLASSES.iter().any(|class| state.code().starts_with(class)));
    let failure = from_statement(error);
    !of_schema && BatchFault::of(&failure).is_none() && matches!(failure, PortError::Unavailable { .. })
}

/// No connection could be opened: whatever the reason, another attempt may succeed.
pub(super) fn from_pool(error: PoolError<impl fmt::Display>) -> PortError {
    match error {
        PoolError::Backend(unreached) => ServerFault::Gone.with_text(format!("cannot connect: {unreached}")),
        error => ServerFault::Gone.with_text(error.to_string()),
    }
}

/// All connections are in use.
pub(super) fn turned(why: GateRefusal) -> PortError {
    match why {
        GateRefusal::Away => PortError::Unavailable {
            dependency: POSTGRES,
            retry_after: Some(QUEUE_RETRY),
            source: "too many calls already wait for a connection".into(),
        },
        GateRefusal::TooLong => PortError::unavailable(POSTGRES, "no connection became free in time"),
    }
}

/// An error with its causes: the driver's own text is only "db error".
pub(super) fn error_text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.replace('\n', "; ")
}
