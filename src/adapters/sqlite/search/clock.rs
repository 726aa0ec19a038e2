//! The time limit of a search, which occupies a reader.

use std::{
    ffi::c_int,
    time::{Duration, Instant},
};

use rusqlite::{Connection, Error, ErrorCode};

/// Instructions of SQLite's virtual machine between two looks at the clock: some hundred rows, or pages of FTS5's
/// index.
const INSTRUCTIONS: c_int = 1000;

/// While this exists, statements of its connection end when the time is over.
pub(super) struct Clock<'a>(&'a Connection);

impl<'a> Clock<'a> {
    pub(super) fn start(conn: &'a Connection, time: Duration) -> rusqlite::Result<Self> {
        let began = Instant::now();
        conn.progress_handler(INSTRUCTIONS, Some(move || began.elapsed() >= time))?;
        Ok(Self(conn))
    }
}

impl Drop for Clock<'_> {
    fn drop(&mut self) {
        // It fails only for connections that another owner has opened.
        let _ = self.0.progress_handler(0, None::<fn() -> bool>);
    }
}

/// Whether the time limit ended a statement.
pub(super) fn is_over(error: &Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}
