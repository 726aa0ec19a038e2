//! Black-box tests: the real binary, over HTTP, on both databases.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/node.rs"]
#[macro_use]
mod node;
#[path = "../support/postgres.rs"]
mod postgres;

mod api;
mod exactness;
mod main_job;
mod real_clients;
mod refusals;
mod shell;
mod streams;
mod uploads;
mod wire;
