//! Redis: the link that all shared state goes over.
//!
//! [`RedisLink`] is cheap to clone and usable from any runtime. Behind it each server, or each node of a cluster, has a *lane*:
//! one multiplexed connection, driven on the I/O runtime, and a queue. Calls that arrive while a round trip is under way go out
//! together as the next one, in their order.
//!
//! ```ignore
//! static TOUCH: Script = Script::new("touch", "return redis.call('PEXPIRE', KEYS[1], ARGV[1])");
//! let key = link.key("things", id);                                     // `penstock:things:{id}`
//! let touched: bool = link.ask(TOUCH.on(&[&key]).arg(5000)).await?;      // a script, by its hash
//! let bytes: Option<Vec<u8>> = link.ask(Call::command("thing_get", "GET").key(&key)).await?;
//! let answers = link.ask_all(vec![..]).await;                           // one round trip, one result each
//! let later = link.ask_later::<()>(Call::command("thing_del", "DEL").key(&key)); // shares a trip; need not be awaited
//! ```
//!
//! **Bound:** [`RedisSettings::queue`] calls per server; each call waits for at most
//! [`RedisSettings::response_timeout`]. **When a server is down or hangs:** its breaker opens at the first time-out or
//! broken connection, or after a few answers that say that it cannot serve. While the breaker is open, every call fails
//! at once with [`Unavailable`](penstock_actors::ports::PortError::Unavailable), and the caller decides how to go on
//! without Redis. A task in the background connects and probes; requests never do. **When the server comes back,**
//! nothing needs a restart: scripts are loaded again as they are called, and [`RedisLink::recoveries`] tells callers
//! when to restore their state.
//!
//! A call without an answer may have taken effect. The link does not retry, so calls should be idempotent.

mod breaker;
pub(crate) mod cache;
mod cluster;
mod context;
mod error;
mod lane;
mod link;
mod rate_limits;
mod reconnector;
mod script;
mod settings;
mod slot;
mod state;

pub use self::{
    cache::RedisCache,
    link::{RedisLink, RedisNode, RedisStatus},
    rate_limits::RedisRateLimits,
    script::{Call, Script},
    settings::RedisSettings,
    state::RedisState,
};
