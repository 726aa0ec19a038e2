//! What happens when something goes wrong: clients that leave, disks that rot or fill, databases that go away, nodes that
//! are killed. Each test shows what the client is told, and that nothing was lost and nothing was left behind.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/faketime.rs"]
mod faketime;
#[path = "../support/kernel.rs"]
mod kernel;
#[path = "../support/node.rs"]
#[macro_use]
mod node;
#[path = "../support/patience.rs"]
mod patience;
#[path = "../support/pgbouncer.rs"]
mod pgbouncer;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/redis.rs"]
mod redis_server;
#[path = "../support/s3.rs"]
mod s3;
#[path = "../support/s3_proxy.rs"]
mod s3_proxy;
#[path = "../support/shipped.rs"]
mod shipped;
#[path = "../support/signing.rs"]
mod signing;
#[path = "../support/small_disk.rs"]
mod small_disk;
#[path = "../support/still.rs"]
mod still;

mod backups;
mod clients;
mod clocks;
mod crashes;
mod database;
mod disk;
mod drain;
mod failing_s3;
mod identity;
mod kills;
mod limits;
mod memory;
mod moves;
mod overload;
mod replaced;
mod restores;
mod revocation;
mod s3_storage;
mod secrets;
mod server;
mod shared_state;
mod shutdown;
mod signed;
mod storage;
mod strangers;
mod strays;
mod two_nodes;
mod unread;
mod upgrade;
mod uploads;
mod wire;
