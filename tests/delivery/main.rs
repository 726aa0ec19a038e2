//! Content that others deliver: the real binary with a real nginx, a CDN of one's own, and a real S3 server.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/nginx.rs"]
mod nginx;
#[path = "../support/node.rs"]
#[macro_use]
mod node;
#[path = "../support/patience.rs"]
mod patience;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/s3.rs"]
#[macro_use]
mod s3;
#[path = "../support/shipped.rs"]
mod shipped;

mod accel;
mod direct;
mod given;
mod presigned;
mod refusals;
