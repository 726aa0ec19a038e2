//! Servers that a run starts beside the node: PostgreSQL, Redis, nginx and others, each on a free port of 127.0.0.1, in a folder that goes
//! with the run.

pub(crate) mod balancer;
pub(crate) mod nginx;
pub(crate) mod pgbouncer;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod s3;
mod shipped;
