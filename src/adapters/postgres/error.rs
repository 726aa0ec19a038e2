//! What PostgreSQL's errors mean to a caller.

use std::{error::Error as _, io};

use deadpool_postgres::PoolError;
use penstock_actors::ports::PortError;
use tokio_postgres::Error;

pub(super) const POSTGRES: &str = "postgresql";

/// Raised by `penstock_take_leases` for an epoch that is not alive.
const FENCED: &str = "PS001";

/// Classes that say something of the server or of the moment, not of the statement: connection, transaction rollback (a
/// deadlock), resources, object state (a lock), operator intervention (a shutdown, a time-out), system error.
const TRANSIENT_CLASSES: [&str; 6] = ["08", "40", "53", "55", "57", "58"];

/// A write reached a server that only reads, as during a failover.
const READ_ONLY: &str = "25006";

/// A statement failed.
pub(super) fn from_statement(error: Error) -> PortError {
    let Some(code) = error.code().map(|state| state.code()) else {
        let broken = error.is_closed() || error.source().is_some_and(|source| source.is::<io::Error>());
        return if broken { PortError::unavailable(POSTGRES, error) } else { PortError::rejected(POSTGRES, error) };
    };
    match code {
        FENCED => PortError::Fenced,
        READ_ONLY => PortError::unavailable(POSTGRES, error),
        code if TRANSIENT_CLASSES.iter().any(|class| code.starts_with(class)) => {
            PortError::unavailable(POSTGRES, error)
        }
        _ => PortError::rejected(POSTGRES, error),
    }
}

/// No connection could be had: whatever the reason, another attempt may find one.
pub(super) fn from_pool(error: PoolError) -> PortError {
    PortError::unavailable(POSTGRES, error)
}
