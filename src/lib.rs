//! The Penstock server: HTTP, the adapters behind the actors' ports, configuration, metrics and the command line.
//!
//! [`wiring`] is the only place that names everything; [`serve`] starts and stops it in order.
//!
//! | folder | concern |
//! |---|---|
//! | [`cli`] | the commands, and the client that some of them are |
//! | [`serve`] | start and stop, signals, the small server of a node that starts, this process's identity in the ledger |
//! | [`wiring`] | configuration in, ports and actors put together |
//! | [`http_server`] | sockets, connections, and one request at a time |
//! | [`http`] | middleware, routes, problem documents |
//! | [`openlineage`] | lineage events against the published schema |
//! | [`signatures`], [`keys`] | who asks: signed requests and API keys |
//! | [`cache_warmer`], [`popularity`], [`content_sizes`] | what is asked for most, and what is kept of it in memory |
//! | [`adapters`] | the ports on each technology |
//! | [`config`] | one file a section |
//! | [`telemetry`] | logs and metrics |
//! | [`data_dir`] | the folder of one instance, and its lock |

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
