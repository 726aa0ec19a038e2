//! Many instances behind no balancer at all: requests come in anywhere, at random. One quota holds to the byte and to the request,
//! is used to its end, and survives what is killed.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/faketime.rs"]
mod faketime;
#[path = "../support/node.rs"]
#[macro_use]
mod node;
#[path = "../support/patience.rs"]
mod patience;
#[path = "../support/pgbouncer.rs"]
mod pgbouncer;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/s3.rs"]
mod s3;
#[path = "../support/redis.rs"]
mod shared_redis;
#[path = "../support/shipped.rs"]
mod shipped;

mod accounts;
mod clients;
mod crashes;
mod fleet;
mod holds;
mod quotas;
mod rates;
mod skew;
mod stage;
