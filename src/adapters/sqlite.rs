//! The ledger and the catalogue on SQLite.
