//! The failures of a job, and what they mean to a caller.

use penstock_actors::ports::PortError;
use rusqlite::ErrorCode;

/// The name of this dependency in errors.
pub(super) const DEPENDENCY: &str = "sqlite";

/// Why a job failed.
#[derive(Debug)]
pub(super) enum JobFailure {
    Sql(rusqlite::Error),
    Port(PortError),
}

impl From<rusqlite::Error> for JobFailure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<PortError> for JobFailure {
    fn from(error: PortError) -> Self {
        Self::Port(error)
    }
}

impl From<JobFailure> for PortError {
    fn from(failure: JobFailure) -> Self {
        match failure {
            JobFailure::Sql(error) => port_error(error),
            JobFailure::Port(error) => error,
        }
    }
}

/// Only an error that would occur again in the same way is `Rejected`. Every unknown error is `Unavailable`: usage is
/// then kept and tried again, never dropped.
pub(super) fn port_error(error: rusqlite::Error) -> PortError {
    match &error {
        rusqlite::Error::ToSqlConversionFailure(_) => return PortError::rejected(DEPENDENCY, error),
        rusqlite::Error::FromSqlConversionFailure(..) => return PortError::Corrupt(error.to_string()),
        _ => {}
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => PortError::Full("the database"),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) => {
            PortError::rejected(DEPENDENCY, error)
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => PortError::Corrupt(error.to_string()),
        _ => PortError::unavailable(DEPENDENCY, error),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn from_code(code: i32) -> PortError {
        port_error(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
    }

    #[test]
    fn a_caller_can_tell_later_from_never() {
        assert!(matches!(from_code(ffi::SQLITE_BUSY), PortError::Unavailable { .. }));
        assert!(matches!(from_code(ffi::SQLITE_IOERR), PortError::Unavailable { .. }));
        assert!(matches!(from_code(ffi::SQLITE_FULL), PortError::Full(_)));
        assert!(matches!(from_code(ffi::SQLITE_CONSTRAINT_FOREIGNKEY), PortError::Rejected { .. }));
        assert!(matches!(from_code(ffi::SQLITE_CORRUPT), PortError::Corrupt(_)));
    }
}
