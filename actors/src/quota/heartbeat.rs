//! `Heartbeat`: keeps this node, and so its leases, alive in the ledger.
//!
//! One statement renews the node's epoch, however many leases it holds. When the ledger answers that the epoch is gone
//! (the node was silent for too long and another node reclaimed it), all leases in memory are forfeit and the node
//! starts a new epoch. A later epoch that is alive, and that this process did not start, belongs to another process
//! with the same identity: one data folder is a copy of the other. Then this node takes no more leases and stops, so
//! that the two do not take each other's. A lease's validity is counted from before the heartbeat was sent, so this
//! node stops spending before the ledger takes the lease back. After each heartbeat the node measures the database's
//! clock, by which it chooses windows, and reads the heartbeats of all nodes, so that it knows how many there are,
//! and its own clock can tell which of them are silent. A node that stops closes its epoch itself ([`close`]): the rest of its leases is released,
//! not charged. An epoch that was fenced while this node lived is ended in the same way ([`end_fenced`]), once its streams have
//! ended and their usage is settled: what is left of the charge for its lost leases is taken back. An epoch of an earlier process of
//! this node is ended likewise, if the usage spool knows all of its usage. So only a crash that the spool does not explain is charged.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use actix::{Actor, ActorFutureExt, ArbiterHandle, AsyncContext, Context, WrapFuture};
use tokio::sync::Notify;

use crate::{
    clock::{Clock, watch::ClockWatch},
    model::{Credit, NodeEpoch},
    ports::{EpochStanding, Ledger, PortError, PortResult, Pulse, Timelines, UsageSpool},
    quota::{
        cache::QuotaHandle,
        node_epoch::{EpochRecord, NodeEpochState},
    },
    supervision::Supervised,
};

/// Called with an epoch before each of its heartbeats is sent, and for each that the ledger has acknowledged.
pub type EpochListener = Arc<dyn Fn(&EpochRecord) + Send + Sync>;

/// The reason recorded for a timeline's end when a node has seen commits that the database lacks.
const BEHIND: &str = "the database is behind what a node knows to be committed";

/// Dependencies of the heartbeat.
#[derive(Clone)]
pub struct HeartbeatDeps {
    pub ledger: Arc<dyn Ledger>,
    pub timelines: Arc<dyn Timelines>,
    pub clock: Arc<dyn Clock>,
    pub epoch_state: Arc<NodeEpochState>,
    pub quota: QuotaHandle,
    pub spool: Arc<dyn UsageSpool>,
    /// Notified by the quota shards when a refill was fenced.
    pub fenced: Arc<Notify>,
    pub epochs: EpochListener,
    /// How long leases live without a heartbeat.
    pub ttl: Duration,
    /// The time between two heartbeats: several may fail before the leases are lost.
    pub heartbeat: Duration,
}

/// Sends one heartbeat; after a fence, starts a new epoch and sends another.
///
/// # Errors
/// When the ledger cannot be reached: leases then stay valid until their time is over. `Fenced` when another process
/// runs with this node's identity.
pub async fn send_heartbeat(deps: &HeartbeatDeps) -> PortResult<()> {
    let epoch_state = &deps.epoch_state;
    if epoch_state.is_displaced() {
        begin_epoch(deps).await?;
    }
    loop {
        if deps.epoch_state.ends() {
            return Ok(());
        }
        epoch_state.send();
        (deps.epochs)(&epoch_state.record());
        let sent = deps.clock.monotonic();
        match deps.ledger.heartbeat(epoch_state.current(), deps.ttl).await {
            Ok(()) => {
                epoch_state.renew(sent, deps.ttl);
                (deps.epochs)(&epoch_state.record());
                return Ok(());
            }
            Err(PortError::Fenced) if epoch_state.ends() => return Ok(()),
            Err(PortError::Fenced) => begin_epoch(deps).await?,
            Err(error) => return Err(error),
        }
    }
}

/// Starts a new epoch, unless another process has this identity.
async fn begin_epoch(deps: &HeartbeatDeps) -> PortResult<()> {
    let current = deps.epoch_state.current();
    let known = deps.ledger.standing(current.node).await?;
    if let Some(later) = known.filter(|known| known.alive && known.epoch > current.epoch) {
        if !deps.epoch_state.has_namesake() {
            tracing::error!(
                node = %current.node,
                epoch = later.epoch,
                "another process runs with this node's identity: one data folder is a copy of the other; this node takes no \
                 more leases and stops. Start it again: it then takes an identity of its own"
            );
        }
        deps.epoch_state.meet_namesake();
        return Err(PortError::Fenced);
    }
    // Microseconds grow, and `last + 1` exceeds an epoch that a clock set back would repeat.
    let last = known.map_or(current.epoch, |known| known.epoch.max(current.epoch));
    let epoch = deps.clock.now().as_microsecond().max(last.saturating_add(1));
    // The end of a timeline ends all its epochs and releases their leases: no receipt is charged for that.
    let timeline = deps.timelines.timeline().await?.timeline_id;
    tracing::warn!(epoch, "another node reclaimed this node's leases; this node goes on under a new epoch");
    let fenced = !deps.epoch_state.is_displaced() && deps.epoch_state.is_of(timeline);
    deps.epoch_state.restart(epoch, fenced);
    if !fenced {
        deps.spool.epoch_ended(current.epoch);
    }
    deps.spool.epoch_began(epoch);
    (deps.epochs)(&deps.epoch_state.record());
    deps.quota.forfeit(fenced);
    Ok(())
}

/// Whether the ledger has lost heartbeats that it acknowledged. Then the database was set back, and this node begins a
/// new timeline. All instances follow it.
///
/// # Errors
/// When the ledger cannot be reached.
pub async fn is_behind(deps: &HeartbeatDeps) -> PortResult<bool> {
    let (epoch_state, heartbeats) = (deps.epoch_state.current(), deps.epoch_state.heartbeats());
    if heartbeats == 0
        || deps.epoch_state.is_displaced()
        || !EpochStanding::is_behind(deps.ledger.standing(epoch_state.node).await?, epoch_state.epoch, heartbeats)
    {
        return Ok(false);
    }
    let timeline = deps.timelines.timeline().await?;
    tracing::error!(
        heartbeats,
        reason = BEHIND,
        "a new timeline begins: the database was set back, and lacks heartbeats that it acknowledged"
    );
    deps.timelines.begin_timeline(timeline.timeline_id, BEHIND).await?;
    deps.epoch_state.forget_beats();
    Ok(true)
}

/// Reads the heartbeats of all nodes: counts the instances, and measures how long each of the others has been silent. After a
/// read that fails, the last count stays and nothing is measured.
pub async fn watch_nodes(deps: &HeartbeatDeps) {
    let sent = deps.clock.monotonic();
    match deps.ledger.pulses().await {
        Ok(pulses) => {
            deps.epoch_state.set_instances(Pulse::count_alive(&pulses));
            deps.epoch_state.others().saw(&pulses, deps.ttl, sent, deps.clock.monotonic());
        }
        Err(error) => {
            tracing::debug!(
                %error,
                "the heartbeats of the nodes were not read; the last count of instances stays, and the next heartbeat tries again"
            );
        }
    }
}

/// Measures the database's clock. While the ledger does not answer, the last measurement stays.
async fn measure_clock(watch: &ClockWatch) {
    if let Err(error) = watch.measure().await {
        tracing::debug!(%error, "the database's clock was not measured; the last measurement stays");
    }
}

/// Leases released in one step, which is one short transaction.
const CLOSE_STEP: u32 = 500;

/// Between two attempts to reach the ledger.
const CLOSE_RETRY: Duration = Duration::from_millis(200);

/// Closes the epochs of a node after all of its usage was settled. Returns how much of the last one's leases the ledger still
/// had, although the node had given back all leases that it knew of. No heartbeat follows. `None` when the ledger did not
/// answer within `patience`.
pub async fn close(endings: Endings<'_>, patience: Duration) -> Option<Credit> {
    endings.epoch_state.end();
    let closing = async {
        loop {
            let closed = async {
                endings.end_done().await?;
                endings.end_epoch(endings.epoch_state.current()).await
            };
            match closed.await {
                Ok(released) => return released,
                Err(error) => {
                    tracing::warn!(%error, "the ledger did not close this node's epoch; this node asks again");
                    tokio::time::sleep(CLOSE_RETRY).await;
                }
            }
        }
    };
    tokio::time::timeout(patience, closing).await.ok()
}

/// Ends the fenced epochs of which everything is settled. What the ledger does not answer is asked again at the next heartbeat.
pub async fn end_fenced(deps: &HeartbeatDeps) {
    if !deps.epoch_state.works().has_fenced() || !deps.quota.has_caught_up() {
        return;
    }
    let endings = Endings { ledger: &*deps.ledger, epoch_state: &deps.epoch_state, spool: &*deps.spool };
    if let Err(error) = endings.end_done().await {
        tracing::warn!(%error, "the ledger did not take back the charge for this node's lost leases; this node asks again");
    }
}

/// What takes part in the end of an epoch.
#[derive(Clone, Copy)]
pub struct Endings<'a> {
    pub ledger: &'a dyn Ledger,
    pub epoch_state: &'a NodeEpochState,
    pub spool: &'a dyn UsageSpool,
}

impl Endings<'_> {
    async fn end_done(self) -> PortResult<()> {
        for epoch in self.epoch_state.works().done() {
            self.end_epoch(NodeEpoch { epoch, ..self.epoch_state.current() }).await?;
            self.epoch_state.works().ended(epoch);
        }
        Ok(())
    }

    /// Ends one epoch; returns the credit of its live leases, which were released.
    async fn end_epoch(self, node: NodeEpoch) -> PortResult<Credit> {
        let mut released = Credit::ZERO;
        loop {
            let step = self.ledger.close(node, CLOSE_STEP).await?;
            released += step.credit;
            if step.uncharged_leases > 0 {
                self.epoch_state.count_uncharged(step.uncharged_leases, step.uncharged);
                let (leases, Credit { bytes, requests }) = (step.uncharged_leases, step.uncharged);
                tracing::warn!(
                    epoch = node.epoch,
                    leases,
                    bytes,
                    requests,
                    "this node was silent for too long, and its leases were charged as lost; the part that no client received is taken back"
                );
            }
            if !step.more {
                self.spool.epoch_ended(node.epoch);
                return Ok(released);
            }
        }
    }
}

/// Compares the leases that the ledger counts for this node with those the node knows of, if no statement ran meanwhile.
pub async fn compare(deps: &HeartbeatDeps) {
    let held = deps.epoch_state.held();
    let unanswered = || deps.quota.counters().unanswered.load(Relaxed);
    let Some(before) = held.at_rest().filter(|_| unanswered() == 0) else { return };
    match deps.ledger.leased(deps.epoch_state.current()).await {
        Ok(leased) if held.at_rest() == Some(before) && unanswered() == 0 => {
            let unknown = leased - before.held.min(leased);
            deps.epoch_state.compared(unknown);
            if !unknown.is_zero() {
                let Credit { bytes, requests } = unknown;
                tracing::error!(
                    bytes,
                    requests,
                    "the ledger counts leases for this node that the node does not hold; they stay reserved until this node stops"
                );
            }
            if let Err(error) = deps.ledger.note_unknown(deps.epoch_state.current(), unknown).await {
                tracing::debug!(%error, "what was compared was not noted for an audit");
            }
        }
        Ok(_) => {}
        Err(error) => {
            tracing::debug!(%error, "the leases were not compared with the ledger; the next comparison tries again");
        }
    }
}

/// The actor that sends heartbeats.
pub struct Heartbeat {
    deps: HeartbeatDeps,
    watch: Arc<ClockWatch>,
}

impl Heartbeat {
    pub fn start(deps: HeartbeatDeps, watch: Arc<ClockWatch>, arbiter: &ArbiterHandle) -> Supervised<Self> {
        Supervised::start("heartbeat", arbiter, move |_| Self { deps: deps.clone(), watch: Arc::clone(&watch) })
    }

    /// Waits for the interval or a fence, sends a heartbeat, and repeats.
    fn heartbeat_loop(&mut self, ctx: &mut Context<Self>) {
        let (deps, watch) = (self.deps.clone(), Arc::clone(&self.watch));
        let round = async move {
            tokio::select! {
                // In this order, so that a simulated run can be repeated.
                biased;
                () = deps.fenced.notified() => {}
                () = deps.epoch_state.works().some_is_done() => {}
                () = tokio::time::sleep(deps.heartbeat) => {}
            }
            if deps.epoch_state.ends() {
                return;
            }
            let beaten = match is_behind(&deps).await {
                // The change follower sees the new timeline, and asks for a new epoch.
                Ok(true) => return,
                Ok(false) => send_heartbeat(&deps).await,
                Err(error) => Err(error),
            };
            match beaten {
                Ok(()) => {
                    end_fenced(&deps).await;
                    watch_nodes(&deps).await;
                    measure_clock(&watch).await;
                    compare(&deps).await;
                }
                // Logged when it was found.
                Err(_) if deps.epoch_state.has_namesake() => {}
                Err(error) => {
                    tracing::warn!(%error, "the ledger did not answer the heartbeat; leases stay valid until their time is over");
                }
            }
        };
        ctx.spawn(round.into_actor(self).map(|(), heartbeat, ctx| heartbeat.heartbeat_loop(ctx)));
    }
}

impl Actor for Heartbeat {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.heartbeat_loop(ctx);
    }
}
