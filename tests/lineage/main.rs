//! Lineage, from outside: the real binary, over HTTP, on both databases, with the official client among its callers.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/node.rs"]
#[macro_use]
mod node;
#[path = "../support/patience.rs"]
mod patience;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/proxy.rs"]
mod proxy;

mod events;
mod graph;
mod hostile;
mod instances;
mod official_client;
mod own;
mod pruning;
mod scene;
