//! The Penstock server: HTTP, the adapters behind the actors' ports, configuration, metrics and the command line.
//!
//! # Layers
//!
//! A folder uses folders on lower floors only; `.ci/run` reads this list, and fails when a folder uses one that is not below it, or
//! when modules form a circle. [`wiring`] alone knows the whole configuration, the adapters and HTTP at once: an adapter takes its
//! own settings. Metrics know no adapter: adapters report to them, or [`wiring`] tells them how to read.
//!
//! 1. [`cli`], `fuzzing`: the commands, and the client that some of them are; the targets of the fuzzer.
//! 2. [`serve`]: start and stop, signals, the small server of a node that starts, this process's identity in the ledger.
//! 3. [`wiring`]: configuration in, ports and actors put together, the dependencies of each module of routes.
//! 4. [`http`], [`cache_warmer`]: middleware, routes and problem documents; what is loaded before a client asks.
//! 5. [`adapters`], [`http_server`]: the ports on each technology; one file a section; sockets, and one request at a time.
//! 6. [`config`]: the settings, as plain types that adapters take too.
//! 7. [`telemetry`], [`keys`], [`signatures`], [`receipt_tokens`], [`payment_keys`], [`openlineage`]: logs and metrics; who asks, and with
//!    which receipt; the keys that are paid; lineage events against the published schema.
//! 8. [`route_class`], [`popularity`], [`content_sizes`], [`client_marks`], [`data_dir`], `folders`: classes of routes; what is asked for
//!    most, and the sizes kept of it; marks for the addresses of clients; the folder of one instance, and its lock.
//! 9. `words`, `key_derivation`: texts of faults; keys that two parties derive.

pub mod adapters;
pub mod cache_warmer;
pub mod cli;
pub mod client_marks;
pub mod config;
pub mod content_sizes;
pub mod data_dir;
mod folders;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod http;
pub mod http_server;
mod key_derivation;
pub mod keys;
pub mod openlineage;
pub mod payment_keys;
pub mod popularity;
pub mod receipt_tokens;
pub mod route_class;
pub mod serve;
pub mod signatures;
pub mod telemetry;
pub mod wiring;
mod words;
