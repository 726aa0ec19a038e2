//! `LeaseKeeper`: keeps this node alive in the ledger, and so its leases.
//!
//! One statement renews the node's epoch, however many leases it holds. When the ledger says that the epoch is gone (it was
//! silent for too long and another node reclaimed it), all leases in memory are forfeit and the node starts a new epoch.
//! A later epoch that is alive, and that this process did not make, is another process with the same identity: a copy of the
//! data folder. Then this node takes no more leases and ends, rather than that the two take each other's.
//! The validity of leases is counted from before the heartbeat was sent, so this node stops spending before the ledger
//! takes back. With each heartbeat the database's clock is measured, by which this instance chooses windows. A node that stops
//! closes its epoch itself ([`close`]): what is left of its leases is released, not charged.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use actix::{Actor, ActorFutureExt, Addr, ArbiterHandle, AsyncContext, Context, WrapFuture};
use tokio::sync::Notify;

use crate::{
    clock::Clock,
    clock_watch::ClockWatch,
    model::Credit,
    node_life::{LifeRecord, NodeLife},
    ports::{Ledger, PortError, PortResult, Standing, Timelines},
    quota_cache::QuotaHandle,
};

/// Told of an epoch before its first heartbeat is sent, and with each heartbeat that the ledger has acknowledged.
pub type LifeListener = Arc<dyn Fn(&LifeRecord) + Send + Sync>;

/// Why a history ends, where a node knows of more than the database has.
const BEHIND: &str = "the database is behind what a node knows to be committed";

/// What the keeper depends on.
#[derive(Clone)]
pub struct KeeperDeps {
    pub ledger: Arc<dyn Ledger>,
    pub timelines: Arc<dyn Timelines>,
    pub clock: Arc<dyn Clock>,
    pub life: Arc<NodeLife>,
    pub quota: QuotaHandle,
    /// Told by the quota shards when a refill was fenced.
    pub fenced: Arc<Notify>,
    pub lives: LifeListener,
    /// Leases live so long without a heartbeat.
    pub ttl: Duration,
    /// From one heartbeat to the next: several may be lost before the leases are.
    pub heartbeat: Duration,
}

/// Sends one heartbeat; after a fence, starts a new epoch and sends another.
///
/// # Errors
/// When the ledger cannot be reached: leases then stay valid until their time is over. `Fenced` when another process lives under
/// this node's identity.
pub async fn beat(deps: &KeeperDeps) -> PortResult<()> {
    let life = &deps.life;
    if life.is_displaced() {
        begin_epoch(deps).await?;
    }
    loop {
        if deps.life.ends() {
            return Ok(());
        }
        let sent = deps.clock.monotonic();
        match deps.ledger.heartbeat(life.current(), deps.ttl).await {
            Ok(()) => {
                life.renew(sent, deps.ttl);
                (deps.lives)(&life.record());
                return Ok(());
            }
            Err(PortError::Fenced) if life.ends() => return Ok(()),
            Err(PortError::Fenced) => begin_epoch(deps).await?,
            Err(error) => return Err(error),
        }
    }
}

/// Goes on under a new epoch, unless another process has this identity.
async fn begin_epoch(deps: &KeeperDeps) -> PortResult<()> {
    let current = deps.life.current();
    let known = deps.ledger.standing(current.node).await?;
    if let Some(later) = known.filter(|known| known.alive && known.epoch > current.epoch) {
        if !deps.life.has_namesake() {
            tracing::error!(
                node = %current.node,
                epoch = later.epoch,
                "another process lives under this node's identity: one data folder is a copy of the other; this node takes no \
                 more leases and stops, and takes an identity of its own when it is started again"
            );
        }
        deps.life.meet_namesake();
        return Err(PortError::Fenced);
    }
    // Microseconds grow, and stay ahead of an epoch that a clock set back would repeat.
    let last = known.map_or(current.epoch, |known| known.epoch.max(current.epoch));
    let epoch = deps.clock.now().as_microsecond().max(last.saturating_add(1));
    tracing::warn!(epoch, "this node's leases were reclaimed; it goes on under a new epoch");
    deps.life.restart(epoch);
    (deps.lives)(&deps.life.record());
    deps.quota.forfeit();
    Ok(())
}

/// Whether the ledger has forgotten what it acknowledged: then it is in the past, and a new history is begun. Everything else
/// follows from that, on all instances.
///
/// # Errors
/// When the ledger cannot be reached.
pub async fn is_behind(deps: &KeeperDeps) -> PortResult<bool> {
    let (life, beats) = (deps.life.current(), deps.life.beats());
    if beats == 0
        || deps.life.is_displaced()
        || !Standing::is_behind(deps.ledger.standing(life.node).await?, life.epoch, beats)
    {
        return Ok(false);
    }
    let timeline = deps.timelines.timeline().await?;
    tracing::error!(beats, reason = BEHIND, "the database was set back; a new timeline begins");
    deps.timelines.begin_timeline(timeline.timeline_id, BEHIND).await?;
    deps.life.forget_beats();
    Ok(true)
}

/// Learns how many instances share the ledger. What was last seen stands while it does not answer.
pub async fn count_instances(deps: &KeeperDeps) {
    match deps.ledger.nodes_alive().await {
        Ok(alive) => deps.life.saw_instances(alive),
        Err(error) => tracing::debug!(%error, "the instances were not counted"),
    }
}

/// Learns how the database's clock stands. It goes on as it was known while the ledger does not answer.
async fn measure_clock(watch: &ClockWatch) {
    if let Err(error) = watch.measure().await {
        tracing::debug!(%error, "the database's clock was not measured");
    }
}

/// Leases released in one step, which is one short transaction.
const CLOSE_STEP: u32 = 500;

/// Between two attempts to reach the ledger.
const CLOSE_RETRY: Duration = Duration::from_millis(200);

/// Closes the epoch of a node whose usage has all been settled, and says what was left of its leases: it had given back all
/// that it knew of. No heartbeat follows. `None` when the ledger has not answered within `patience`.
pub async fn close(ledger: &dyn Ledger, life: &NodeLife, patience: Duration) -> Option<Credit> {
    life.end();
    let closing = async {
        let mut released = Credit::ZERO;
        loop {
            match ledger.close(life.current(), CLOSE_STEP).await {
                Ok(step) => {
                    released += step.credit;
                    if !step.more {
                        return released;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the ledger did not close this node's epoch; it is asked again");
                    tokio::time::sleep(CLOSE_RETRY).await;
                }
            }
        }
    };
    tokio::time::timeout(patience, closing).await.ok()
}

/// Compares what the ledger has leased to this node with what the node knows of, if nothing is under way between them meanwhile.
pub async fn compare(deps: &KeeperDeps) {
    let held = deps.life.held();
    let unanswered = || deps.quota.counters().unanswered.load(Relaxed);
    let Some(before) = held.at_rest().filter(|_| unanswered() == 0) else { return };
    match deps.ledger.leased(deps.life.current()).await {
        Ok(leased) if held.at_rest() == Some(before) && unanswered() == 0 => {
            let unknown = leased - before.held.min(leased);
            deps.life.compared(unknown);
            if !unknown.is_zero() {
                let Credit { bytes, requests } = unknown;
                tracing::error!(bytes, requests, "the ledger has leases of this node that it does not know of");
            }
        }
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "the leases were not compared"),
    }
}

/// The actor behind the heartbeat.
pub struct LeaseKeeper {
    deps: KeeperDeps,
    watch: Arc<ClockWatch>,
}

impl LeaseKeeper {
    pub fn start(deps: KeeperDeps, watch: Arc<ClockWatch>, arbiter: &ArbiterHandle) -> Addr<Self> {
        Self::start_in_arbiter(arbiter, |_| Self { deps, watch })
    }

    /// Waits for the next time, or for a fence; beats; and does it again.
    fn wait_and_beat(&mut self, ctx: &mut Context<Self>) {
        let (deps, watch) = (self.deps.clone(), Arc::clone(&self.watch));
        let round = async move {
            let _ = tokio::time::timeout(deps.heartbeat, deps.fenced.notified()).await;
            if deps.life.ends() {
                return;
            }
            let beaten = match is_behind(&deps).await {
                // The follower of changes sees the new timeline, and asks for a new epoch.
                Ok(true) => return,
                Ok(false) => beat(&deps).await,
                Err(error) => Err(error),
            };
            match beaten {
                Ok(()) => {
                    count_instances(&deps).await;
                    measure_clock(&watch).await;
                    compare(&deps).await;
                }
                // Said when it was found.
                Err(_) if deps.life.has_namesake() => {}
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
