//! What operators mount, run for real: nginx and HAProxy with the files from `config/` in front of two instances.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/node.rs"]
#[macro_use]
mod node;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/shipped.rs"]
mod shipped;

mod compose;
mod front;
mod production;
