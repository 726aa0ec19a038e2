//! The Penstock server: HTTP, the adapters behind the actors' ports, configuration, metrics and the command line.

pub mod adapters;
pub mod cli;
pub mod config;
pub mod http;
pub mod keys;
pub mod telemetry;
