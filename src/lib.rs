//! The Penstock server: HTTP, the adapters behind the actors' ports, configuration, metrics and the command line.
//!
//! [`wiring`] is the only place that names all parts; [`serve`] starts and stops them in order.

pub mod adapters;
pub mod antechamber;
pub mod cli;
pub mod client_socket;
pub mod config;
pub mod content_sizes;
pub mod data_dir;
pub mod door;
mod folders;
pub mod http;
pub mod http_server;
pub mod identity;
pub mod keys;
pub mod lineage;
pub mod popularity;
pub mod serve;
pub mod signals;
pub mod signatures;
pub mod telemetry;
pub mod warming;
pub mod wiring;
mod words;
