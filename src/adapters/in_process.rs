//! Shared state in this process.
