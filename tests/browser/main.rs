//! Content in a real browser: what strangers upload never acts on the node's origin, and plays and shows all the same.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/node.rs"]
#[macro_use]
mod node;
#[path = "../support/patience.rs"]
mod patience;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/redis.rs"]
mod redis_server;

mod chromium;
mod console;
mod dashboard;
mod docs;
mod documents;
mod media;
mod origins;
mod player;
mod screenshots;
mod site;
