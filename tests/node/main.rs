//! Black-box tests: the real binary, over HTTP, on both databases.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/authority.rs"]
mod authority;
#[path = "../support/chain.rs"]
mod chain_support;
#[path = "../support/kernel.rs"]
mod kernel;
#[path = "../support/node.rs"]
#[macro_use]
mod node;
#[path = "../support/market.rs"]
mod market;
#[path = "../support/patience.rs"]
mod patience;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/s3.rs"]
mod s3;
#[path = "../support/signing.rs"]
mod signing;
#[path = "../support/words.rs"]
mod words;

mod api;
mod bodies;
mod catalogue;
mod chain;
mod checks;
mod console;
mod contract;
mod exactness;
mod field;
mod governance;
mod hand_over;
mod instructions;
mod keys;
mod logs;
mod main_job;
mod noise;
mod observability;
mod on_s3;
mod possession;
mod privacy;
mod purchases;
mod raw_requests;
mod real_clients;
mod receipts;
mod refusals;
mod resumable;
mod routes;
mod shell;
mod signed;
mod slow_clients;
mod smuggling;
mod storage;
mod stores;
mod streams;
mod tls;
mod uploads;
mod wire;
mod wording;
