//! What operators mount: two nodes behind a real nginx and a real HAProxy, each with the file from `config/`; the production
//! configuration; the compose file.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/node.rs"]
#[macro_use]
mod node;
#[path = "../support/patience.rs"]
mod patience;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/shipped.rs"]
mod shipped;

mod compose;
mod front;
mod hanging;
mod leaving;
mod mounts;
mod pair;
mod passing;
mod production;
