//! `LeaseKeeper`: keeps this node alive in the ledger, and so its leases.
//!
//! One statement renews the node's epoch, however many leases it holds. When the ledger says that the epoch is gone (it was
//! silent for too long and another node reclaimed it), all leases in memory are forfeit and the node starts a new epoch.
//! The validity of leases is counted from before the heartbeat was sent, so this node stops spending before the ledger
//! takes back.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, Addr, ArbiterHandle, AsyncContext, Context, WrapFuture};
use tokio::sync::Notify;

use crate::{
    clock::Clock,
    node_life::NodeLife,
    ports::{Ledger, PortError, PortResult},
    quota_cache::QuotaHandle,
};

/// What the keeper depends on.
#[derive(Clone)]
pub struct KeeperDeps {
    pub ledger: Arc<dyn Ledger>,
    pub clock: Arc<dyn Clock>,
    pub life: Arc<NodeLife>,
    pub quota: QuotaHandle,
    /// Told by the quota shards when a refill was fenced.
    pub fenced: Arc<Notify>,
    /// Leases live so long without a heartbeat.
    pub ttl: Duration,
    /// From one heartbeat to the next: several may be lost before the leases are.
    pub heartbeat: Duration,
}

/// Sends one heartbeat; after a fence, starts a new epoch and sends another.
///
/// # Errors
/// When the ledger cannot be reached: leases then stay valid until their time is over.
pub async fn beat(deps: &KeeperDeps) -> PortResult<()> {
    // How far ahead of the last epoch the next one is at least. It doubles with each fence in a row: the ledger may know an
    // epoch far ahead, of a life whose clock was wrong, and counting up to it one by one would take for ever.
    let mut step = 1;
    loop {
        let sent = deps.clock.monotonic();
        match deps.ledger.heartbeat(deps.life.current(), deps.ttl).await {
            Ok(()) => {
                deps.life.renew(sent, deps.ttl);
                return Ok(());
            }
            Err(PortError::Fenced) => {
                // Microseconds grow, and stay ahead of an epoch that a clock set back would repeat.
                let epoch = deps.clock.now().as_microsecond().max(deps.life.current().epoch.saturating_add(step));
                step = step.saturating_mul(2);
                tracing::warn!(epoch, "this node's leases were reclaimed; it goes on under a new epoch");
                deps.life.restart(epoch);
                deps.quota.forfeit();
            }
            Err(error) => return Err(error),
        }
    }
}

/// Learns how many instances share the ledger. What was last seen stands while it does not answer.
pub async fn count_instances(deps: &KeeperDeps) {
    match deps.ledger.nodes_alive().await {
        Ok(alive) => deps.life.saw_instances(alive),
        Err(error) => tracing::debug!(%error, "the instances were not counted"),
    }
}

/// The actor behind the heartbeat.
pub struct LeaseKeeper {
    deps: KeeperDeps,
}

impl LeaseKeeper {
    pub fn start(deps: KeeperDeps, arbiter: &ArbiterHandle) -> Addr<Self> {
        Self::start_in_arbiter(arbiter, |_| Self { deps })
    }

    /// Waits for the next time, or for a fence; beats; and does it again.
    fn wait_and_beat(&mut self, ctx: &mut Context<Self>) {
        let deps = self.deps.clone();
        let round = async move {
            let _ = tokio::time::timeout(deps.heartbeat, deps.fenced.notified()).await;
            match beat(&deps).await {
                Ok(()) => count_instances(&deps).await,
                Err(error) => tracing::warn!(%error, "the ledger did not answer the heartbeat"),
            }
        };
        ctx.spawn(round.into_actor(self).map(|(), keeper, ctx| keeper.wait_and_beat(ctx)));
    }
}

impl Actor for LeaseKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.wait_and_beat(ctx);
    }
}
