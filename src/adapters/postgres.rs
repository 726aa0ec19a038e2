//! The ledger and the catalogue on PostgreSQL.
