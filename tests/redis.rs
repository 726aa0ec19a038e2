//! The Redis adapter against real servers: one that tests share, some of their own, and a cluster.

#[path = "support/authority.rs"]
mod authority;
#[path = "redis/cache.rs"]
mod cache;
#[path = "redis/cluster.rs"]
mod cluster;
#[path = "redis/link.rs"]
mod link;
#[path = "support/node.rs"]
#[macro_use]
mod node;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "redis/rate_limits.rs"]
mod rate_limits;
#[path = "support/refuser.rs"]
mod refuser;
#[path = "redis/state.rs"]
mod state;
#[path = "support/redis.rs"]
mod support;
#[path = "redis/tls.rs"]
mod tls;
#[path = "redis/warming.rs"]
mod warming;
