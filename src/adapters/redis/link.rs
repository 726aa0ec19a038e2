//! The link: finds the lane of each call, and bounds the wait for its answer.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::future::join_all;
use penstock_actors::ports::{PortError, PortResult};
use redis::{Client, FromRedisValue, Value};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    time::{timeout, timeout_at},
};

use super::{
    cluster::Cluster,
    context::LinkContext,
    error::{REDIS, RedisFailure},
    lane::{QueuedCall, RedisLane},
    reconnector::ManagedLane,
    script::Call,
    settings::RedisSettings,
};
use crate::{
    config::RedisServers,
    telemetry::metrics::{RedisMetrics, RedisOutcome},
};

/// State that all clones of a link share.
struct LinkShared {
    context: Arc<LinkContext>,
    route: Route,
}

enum Route {
    Single(ManagedLane),
    Cluster(Arc<Cluster>),
}

impl LinkShared {
    fn lane(&self, slot: Option<u16>) -> Option<Arc<RedisLane>> {
        match &self.route {
            Route::Single(kept) => Some(Arc::clone(&kept.lane)),
            Route::Cluster(cluster) => match slot {
                Some(slot) => cluster.lane(slot),
                None => cluster.masters()?.into_iter().find(|lane| !lane.is_open()),
            },
        }
    }

    /// The lanes of every server.
    fn lanes(&self) -> Vec<Arc<RedisLane>> {
        match &self.route {
            Route::Single(kept) => vec![Arc::clone(&kept.lane)],
            Route::Cluster(cluster) => cluster.lanes(),
        }
    }

    /// The lanes of every server that has keys; `None` while the server of some keys is unknown.
    fn masters(&self) -> Option<Vec<Arc<RedisLane>>> {
        match &self.route {
            Route::Single(kept) => Some(vec![Arc::clone(&kept.lane)]),
            Route::Cluster(cluster) => cluster.masters(),
        }
    }
}

/// The link to Redis. Clones share its connections.
#[derive(Clone)]
pub struct RedisLink {
    shared: Arc<LinkShared>,
}

/// A handle that does not keep the connections alive.
pub(super) struct WeakLink(Weak<LinkShared>);

impl WeakLink {
    pub(super) fn upgrade(&self) -> Option<RedisLink> {
        self.0.upgrade().map(|shared| RedisLink { shared })
    }
}

/// The servers of a link, as gauges show them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RedisStatus {
    pub nodes: usize,
    /// Servers whose breaker is open.
    pub open: usize,
}

/// One of the servers that have keys.
#[derive(Clone)]
pub struct RedisNode {
    lane: Arc<RedisLane>,
}

/// Whether a caller waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Haste {
    Now,
    /// No caller waits: the call is gathered with others for a few milliseconds.
    Later,
}

/// A call under way.
struct PendingCall {
    name: &'static str,
    began: Instant,
    answer: oneshot::Receiver<Result<Value, RedisFailure>>,
}

impl RedisLink {
    /// Begins to connect, and waits for the connection as long as one attempt may take. A server that is down is no
    /// error: calls fail until it is up.
    pub async fn open(settings: RedisSettings, metrics: Arc<RedisMetrics>, io: Handle) -> Self {
        let context = Arc::new(LinkContext::new(settings, metrics, io));
        let patience = context.settings.connect_timeout;
        let route = match &context.settings.servers {
            RedisServers::Single(info) => Route::Single(ManagedLane::new(info.as_ref().clone(), &context, None)),
            RedisServers::Cluster(seeds) => Route::Cluster(Cluster::start(seeds.clone(), Arc::clone(&context))),
        };
        let link = Self { shared: Arc::new(LinkShared { context, route }) };
        let mut ups = link.recoveries();
        let up = async { while !link.is_up() && ups.changed().await.is_ok() {} };
        let _ = timeout(patience, up).await;
        link
    }

    /// The key of a thing: keys of the same `id` are in one hash slot, whatever their kind, so that one script may use them
    /// together. `link.key("slots", receipt)` is `penstock:slots:{67e55044-..}`.
    pub fn key(&self, kind: &str, id: impl std::fmt::Display) -> String {
        format!("{}{kind}:{{{id}}}", self.shared.context.settings.key_prefix)
    }

    /// The prefix of every key and channel.
    pub fn prefix(&self) -> &str {
        &self.shared.context.settings.key_prefix
    }

    /// Makes a call and waits for its answer, for `response_timeout` at most.
    ///
    /// # Errors
    /// `Unavailable` when there is no answer, or Redis cannot serve; `Rejected` when it refuses the command.
    pub async fn ask<T: FromRedisValue>(&self, call: Call) -> PortResult<T> {
        typed(self.first(vec![call], Haste::Now).await?)
    }

    /// Makes calls in one round trip (on a cluster, in one per server). Returns the answers in the order of the calls.
    pub async fn ask_all(&self, calls: Vec<Call>) -> Vec<PortResult<Value>> {
        self.try_all(calls, Haste::Now).await.into_iter().map(|answer| Ok(answer?)).collect()
    }

    /// Makes a call that may wait for a few milliseconds to share the round trip of others. The call is queued when
    /// this function returns, so it is made even if the caller drops the future.
    pub fn ask_later<T: FromRedisValue>(&self, call: Call) -> impl Future<Output = PortResult<T>> + use<T> {
        let answer = self.first(vec![call], Haste::Later);
        async move { typed(answer.await?) }
    }

    /// As [`Self::ask_all`] or [`Self::ask_later`], for callers that must know whether a failed call took effect. The
    /// calls are queued when this function returns.
    pub(super) fn try_all(
        &self,
        calls: Vec<Call>,
        haste: Haste,
    ) -> impl Future<Output = Vec<Result<Value, RedisFailure>>> + use<> {
        let extra = if haste == Haste::Later { self.shared.context.settings.gather } else { Duration::ZERO };
        let asked = self.send(calls, haste);
        let link = self.clone();
        async move { join_all(asked.into_iter().map(|asked| link.answer(asked, extra))).await }
    }

    fn first(&self, calls: Vec<Call>, haste: Haste) -> impl Future<Output = Result<Value, RedisFailure>> + use<> {
        let answers = self.try_all(calls, haste);
        async move { answers.await.pop().unwrap_or(Err(RedisFailure::Open)) }
    }

    /// The runtime that drives the connections.
    pub(super) fn io(&self) -> &Handle {
        &self.shared.context.io
    }

    pub(super) fn gather(&self) -> Duration {
        self.shared.context.settings.gather
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.shared.context.settings.connect_timeout
    }

    /// A client for one of the servers that serve, for a connection that commands cannot share.
    pub(super) fn a_server(&self) -> Option<Client> {
        let lane = self.shared.lanes().into_iter().find(|lane| !lane.is_open())?;
        // The same settings have opened a connection before.
        self.shared.context.settings.client(lane.info.clone()).ok()
    }

    pub(super) fn downgrade(&self) -> WeakLink {
        WeakLink(Arc::downgrade(&self.shared))
    }

    /// The servers that have keys, for commands that must run on each of them, such as `SCAN`.
    ///
    /// # Errors
    /// `Unavailable` while the server of some keys is unknown.
    pub fn nodes(&self) -> PortResult<Vec<RedisNode>> {
        let masters = self.shared.masters().ok_or(RedisFailure::Open)?;
        Ok(masters.into_iter().map(|lane| RedisNode { lane }).collect())
    }

    /// Makes a call on one server.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_node<T: FromRedisValue>(&self, node: &RedisNode, call: Call) -> PortResult<T> {
        let (job, asked) = job(call, Haste::Now);
        node.lane.submit(vec![job]);
        typed(self.answer(asked, Duration::ZERO).await?)
    }

    /// Pings every server that has keys.
    ///
    /// # Errors
    /// `Unavailable` when one of them does not answer.
    pub async fn ping(&self) -> PortResult<()> {
        let nodes = self.nodes()?;
        let pings = nodes.iter().map(|node| self.ask_node::<()>(node, Call::command("ping", "PING")));
        join_all(pings).await.into_iter().collect()
    }

    /// Waits until every queued call has been sent or has failed. For shutdown.
    pub async fn flush(&self) {
        // Each lane keeps the order of its calls, so all calls before a ping are done when the ping is answered.
        if let Err(error) = self.ping().await {
            tracing::debug!(%error, "Redis did not answer the last ping; queued background updates may be lost");
        }
    }

    /// Whether every server that has keys serves, as far as this instance knows. Makes no call.
    pub fn is_up(&self) -> bool {
        self.shared.masters().is_some_and(|masters| masters.iter().all(|lane| !lane.is_open()))
    }

    /// How to send background updates to every server that has keys; `None` while that would fail. A server on trial
    /// takes only calls that are not urgent.
    pub(super) fn haste_to_tell(&self) -> Option<Haste> {
        let masters = self.shared.masters()?;
        if masters.iter().any(|lane| lane.is_shut()) {
            return None;
        }
        Some(if masters.iter().any(|lane| lane.is_open()) { Haste::Later } else { Haste::Now })
    }

    /// Whether a server came back so recently that other instances may not have noticed yet.
    pub(super) fn is_just_back(&self) -> bool {
        self.shared.context.is_just_back()
    }

    /// The servers as gauges show them.
    pub fn status(&self) -> RedisStatus {
        let lanes = self.shared.lanes();
        RedisStatus { nodes: lanes.len(), open: lanes.iter().filter(|lane| lane.is_open()).count() }
    }

    /// Changes each time a server begins to serve, for the first time or after a fault, or begins a trial.
    pub fn recoveries(&self) -> watch::Receiver<u64> {
        self.shared.context.ups.subscribe()
    }

    /// Queues calls on their lanes, those of one lane together.
    fn send(&self, calls: Vec<Call>, haste: Haste) -> Vec<PendingCall> {
        let mut lanes: Vec<(Arc<RedisLane>, Vec<QueuedCall>)> = Vec::new();
        let mut all = Vec::with_capacity(calls.len());
        for call in calls {
            let lane = self.shared.lane(call.slot);
            let (job, asked) = job(call, haste);
            all.push(asked);
            match lane {
                None => job.fail(RedisFailure::Open),
                Some(lane) => match lanes.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &lane)) {
                    Some((_, jobs)) => jobs.push(job),
                    None => lanes.push((lane, vec![job])),
                },
            }
        }
        for (lane, jobs) in lanes {
            lane.submit(jobs);
        }
        all
    }

    async fn answer(&self, asked: PendingCall, extra: Duration) -> Result<Value, RedisFailure> {
        let PendingCall { name, began, answer } = asked;
        let patience = self.shared.context.settings.response_timeout;
        let answer = match timeout_at((began + patience + extra).into(), answer).await {
            Ok(Ok(answer)) => answer,
            // The lane has ended, and so has the link.
            Ok(Err(_)) => Err(RedisFailure::Open),
            Err(_) => Err(RedisFailure::Timeout(patience)),
        };
        let outcome = answer.as_ref().map_or_else(RedisFailure::outcome, |_| RedisOutcome::Ok);
        self.shared.context.metrics.call_ended(name, outcome, began.elapsed());
        answer
    }
}

fn job(call: Call, haste: Haste) -> (QueuedCall, PendingCall) {
    let (reply, answer) = oneshot::channel();
    let asked = PendingCall { name: call.name, began: Instant::now(), answer };
    (QueuedCall::new(call, haste == Haste::Now, reply), asked)
}

/// Converts an answer to the type that the caller expects.
pub(super) fn typed<T: FromRedisValue>(value: Value) -> PortResult<T> {
    T::from_redis_value(value).map_err(|error| PortError::rejected(REDIS, error))
}
