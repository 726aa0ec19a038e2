//! The Penstock server: HTTP, the adapters behind the actors' ports, configuration, metrics and the command line.
//!
//! [`wiring`] is the only place that names all parts; [`serve`] starts and stops them in order.

pub mod adapters;
pub mod cache_warmer;
pub mod cli;
pub mod config;
pub mod content_sizes;
pub mod data_dir;
mod folders;
pub mod http;
pub mod http_server;
pub mod keys;
pub mod openlineage;
pub mod popularity;
pub mod serve;
pub mod signatures;
pub mod telemetry;
pub mod wiring;
mod words;
