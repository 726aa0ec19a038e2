//! What a fault costs: each part is killed, paused, cut off and slowed down under load, alone and together with another one, and
//! then mended. Nothing may be lost: what clients received is in the usage rows, the rows are in the windows, what was
//! acknowledged is there. How long it took is written down and never asserted: `docs/reliability.md` is the table of a run.

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
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/redis.rs"]
mod redis_server;
#[path = "../support/s3.rs"]
mod s3;
#[path = "../support/s3_server.rs"]
mod s3_server;
#[path = "../support/small_disk.rs"]
mod small_disk;
#[path = "../support/still.rs"]
mod still;

mod accounts;
mod lines;
mod load;
mod producer;
#[macro_use]
mod scenario;
mod scene;
mod table;

mod instances;
mod limits;
mod pairs;
mod services;
