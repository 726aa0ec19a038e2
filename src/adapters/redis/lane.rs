//! The lane to one server: a queue, one connection, and at most one round trip at a time.
//!
//! Calls that arrive while a round trip is under way are sent together in the next one, in the order in which they
//! came; so the higher the load, the more one round trip carries. Background updates, which no caller waits for, stay
//! in the queue for a few milliseconds, unless an urgent call takes them along. **Bound:** the queue; a call that finds
//! it full is refused at once, and so is every call while the breaker is open. A server on trial is sent background
//! updates, and all other calls are refused. **When the server hangs,** the round trip under way times out, and
//! everything in the queue fails with it. The lane never retries: after a command without an answer it is unknown
//! whether the command took effect.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use redis::{
    Cmd, ConnectionInfo, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value,
    aio::{ConnectionLike as _, MultiplexedConnection},
};
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use super::{
    breaker::{Breaker, BreakerChange, OpenReason},
    context::LinkContext,
    error::{RedisFailure, is_fault},
    script::Call,
};

/// Commands in one round trip, so that the commands behind them do not wait for long.
const TRIP: usize = 256;

/// How often a call is sent again because another node of the cluster serves its slot, or because its script was not
/// loaded.
const DETOURS: u8 = 4;

pub(super) type Reply = oneshot::Sender<Result<Value, RedisFailure>>;

/// A queued call.
pub(super) struct QueuedCall {
    pub(super) call: Call,
    pub(super) reply: Reply,
    /// Whether a caller waits for it.
    pub(super) urgent: bool,
    /// Whether its slot is moving, so that `ASKING` must be sent first.
    pub(super) asking: bool,
    /// Whether its script is sent along.
    load: bool,
    detours: u8,
}

impl QueuedCall {
    pub(super) const fn new(call: Call, urgent: bool, reply: Reply) -> Self {
        Self { call, reply, urgent, asking: false, load: false, detours: 0 }
    }

    pub(super) fn fail(self, failure: RedisFailure) {
        // The caller may have gone.
        let _ = self.reply.send(Err(failure));
    }
}

/// Where a lane hands on the calls that its server sends to another one.
pub(super) trait Redirect: Send + Sync {
    /// Sends a call to the server that the error names. `asked` is the address of the server that refused it.
    fn redirect(&self, job: QueuedCall, error: &RedisError, asked: &str);
}

struct LaneState {
    breaker: Breaker<MultiplexedConnection>,
    queue: VecDeque<QueuedCall>,
    /// How many calls in the queue are urgent.
    urgent: usize,
    /// Whether background updates have waited long enough.
    due: bool,
    /// Whether a timer is running that will set `due`.
    timer: bool,
    travelling: bool,
}

pub(super) struct RedisLane {
    /// The address as logs show it.
    pub(super) address: String,
    pub(super) info: ConnectionInfo,
    context: Arc<LinkContext>,
    /// The other servers; `None` when this server is alone.
    others: Option<Weak<dyn Redirect>>,
    state: Mutex<LaneState>,
    /// Notified when the breaker opens.
    pub(super) opened: Notify,
}

/// A round trip, ready to be sent.
struct LaneTrip {
    connection: MultiplexedConnection,
    generation: u64,
    jobs: Vec<QueuedCall>,
}

impl RedisLane {
    pub(super) fn new(info: ConnectionInfo, context: Arc<LinkContext>, others: Option<Weak<dyn Redirect>>) -> Self {
        Self {
            address: info.addr().to_string(),
            info,
            context,
            others,
            state: Mutex::new(LaneState {
                breaker: Breaker::open(Instant::now()),
                queue: VecDeque::new(),
                urgent: 0,
                due: false,
                timer: false,
                travelling: false,
            }),
            opened: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, LaneState> {
        // Every change under the lock is complete before any code can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_open(&self) -> bool {
        self.state().breaker.is_open()
    }

    /// Whether even background updates cannot be sent.
    pub(super) fn is_shut(&self) -> bool {
        self.state().breaker.is_shut()
    }

    /// How long callers must not wait for the server.
    pub(super) fn rest(&self, period: Duration) -> Duration {
        self.state().breaker.rest(period)
    }

    pub(super) fn connection(&self) -> Option<(MultiplexedConnection, u64)> {
        self.state().breaker.connection()
    }

    /// A probe succeeded on a new connection.
    pub(super) fn try_out(&self, connection: MultiplexedConnection) {
        self.state().breaker.try_out(connection, Instant::now());
    }

    /// Ends the trial. Returns for how long callers have not waited for the server; `None` when it failed the trial.
    pub(super) fn close(&self) -> Option<Duration> {
        self.state().breaker.close(Instant::now())
    }

    /// Puts jobs into the queue together, or refuses them at once.
    pub(super) fn submit(self: &Arc<Self>, jobs: Vec<QueuedCall>) {
        let mut refused = Vec::new();
        let (trip, arm) = {
            let mut state = self.state();
            let (open, shut) = (state.breaker.is_open(), state.breaker.is_shut());
            let mut patient = false;
            for job in jobs {
                if shut || (open && job.urgent) {
                    refused.push((job, RedisFailure::Open));
                } else if state.queue.len() >= self.context.settings.queue {
                    refused.push((job, RedisFailure::QueueFull));
                } else {
                    patient |= !job.urgent;
                    state.urgent += usize::from(job.urgent);
                    state.queue.push_back(job);
                }
            }
            let arm = patient && !state.timer && !state.due;
            state.timer |= arm;
            (state.next_trip(), arm)
        };
        refused.into_iter().for_each(|(job, failure)| job.fail(failure));
        if arm {
            let lane = Arc::clone(self);
            self.context.io.spawn(async move {
                tokio::time::sleep(lane.context.settings.gather).await;
                let trip = {
                    let mut state = lane.state();
                    state.timer = false;
                    state.due = !state.queue.is_empty();
                    state.next_trip()
                };
                lane.send_trip(trip);
            });
        }
        self.send_trip(trip);
    }

    fn send_trip(self: &Arc<Self>, trip: Option<LaneTrip>) {
        if let Some(trip) = trip {
            self.context.io.spawn(Arc::clone(self).travel(trip));
        }
    }

    /// Makes round trips until the queue is empty.
    async fn travel(self: Arc<Self>, first: LaneTrip) {
        let mut next = Some(first);
        while let Some(trip) = next {
            self.carry(trip).await;
            let mut state = self.state();
            state.travelling = false;
            next = state.next_trip();
        }
    }

    async fn carry(self: &Arc<Self>, trip: LaneTrip) {
        let LaneTrip { mut connection, generation, mut jobs } = trip;
        // The callers of some urgent jobs have gone. Those jobs are not sent, so it is certain that they have no
        // effect.
        jobs.retain(|job| !job.urgent || !job.reply.is_closed());
        if jobs.is_empty() {
            return;
        }
        let (pipeline, places) = pack(&mut jobs);
        self.context.metrics.round_trip();
        let patience = self.context.settings.response_timeout;
        let answer = connection.req_packed_commands(&pipeline, 0, pipeline.len());
        match timeout(patience, answer).await {
            Ok(Ok(values)) => self.answered(generation, jobs, values, &places, &pipeline),
            Ok(Err(error)) => {
                let why = error.to_string();
                self.fault(generation, OpenReason::Broken, &why);
                jobs.into_iter().for_each(|job| job.fail(RedisFailure::Broken(why.clone())));
            }
            Err(_) => {
                self.fault(generation, OpenReason::Timeout, "no answer in time");
                jobs.into_iter().for_each(|job| job.fail(RedisFailure::Timeout(patience)));
            }
        }
    }

    /// Hands the answers out. Commands for another node, and commands whose script is not loaded, are sent again.
    fn answered(
        self: &Arc<Self>,
        generation: u64,
        jobs: Vec<QueuedCall>,
        mut values: Vec<Value>,
        places: &[usize],
        pipeline: &Pipeline,
    ) {
        let mut served = false;
        for (mut job, place) in jobs.into_iter().zip(places) {
            let value = values.get_mut(*place).map_or(Value::Nil, std::mem::take);
            let error = match value {
                Value::ServerError(error) => RedisError::from(error),
                value => {
                    served = true;
                    // The caller may have gone.
                    let _ = job.reply.send(Ok(value));
                    continue;
                }
            };
            let again = job.detours < DETOURS;
            job.detours += 1;
            job.call.cmd = pipeline.cmd_iter().nth(*place).cloned().unwrap_or_default();
            match error.kind() {
                ErrorKind::Server(ServerErrorKind::NoScript) if again && job.call.script.is_some() => {
                    job.load = true;
                    self.submit(vec![job]);
                }
                ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) if again => {
                    match self.others.as_ref().and_then(Weak::upgrade) {
                        Some(others) => others.redirect(job, &error, &self.address),
                        // The link ends, or a node of a cluster is configured as if it were alone.
                        None => job.fail(RedisFailure::Answered(error)),
                    }
                }
                _ => {
                    if is_fault(&error) {
                        self.fault(generation, OpenReason::Unable, &error.to_string());
                    } else {
                        served = true;
                    }
                    job.fail(RedisFailure::Answered(error));
                }
            }
        }
        if served {
            self.state().breaker.served(generation);
        }
    }

    /// Notes a fault of a connection. If it opens the breaker, everything in the queue fails.
    pub(super) fn fault(&self, generation: u64, fault: OpenReason, why: &str) {
        let (verdict, waiting) = {
            let mut state = self.state();
            let verdict = state.breaker.failed(generation, fault, Instant::now());
            if verdict == BreakerChange::AsBefore {
                return;
            }
            state.urgent = 0;
            state.due = false;
            (verdict, std::mem::take(&mut state.queue))
        };
        // Logged once per change.
        if verdict == BreakerChange::Opened {
            tracing::warn!(
                server = self.address,
                why,
                "Redis does not serve; this instance goes on with its own state"
            );
        }
        self.opened.notify_one();
        waiting.into_iter().for_each(|job| job.fail(RedisFailure::Open));
    }
}

impl LaneState {
    /// The jobs of the next round trip, if there are any.
    fn next_trip(&mut self) -> Option<LaneTrip> {
        if self.travelling || (self.urgent == 0 && !self.due) {
            return None;
        }
        let (connection, generation) = self.breaker.connection()?;
        let jobs: Vec<QueuedCall> = self.queue.drain(..self.queue.len().min(TRIP)).collect();
        self.urgent -= jobs.iter().filter(|job| job.urgent).count();
        self.due &= !self.queue.is_empty();
        if jobs.is_empty() {
            return None;
        }
        self.travelling = true;
        Some(LaneTrip { connection, generation, jobs })
    }
}

/// The commands of a round trip, and for each job the position of its answer among the answers.
fn pack(jobs: &mut [QueuedCall]) -> (Pipeline, Vec<usize>) {
    let mut pipeline = Pipeline::with_capacity(jobs.len());
    let mut places = Vec::with_capacity(jobs.len());
    for job in jobs {
        if let Some(script) = job.call.script.filter(|_| std::mem::take(&mut job.load)) {
            pipeline.add_command(script.load());
        }
        if std::mem::take(&mut job.asking) {
            pipeline.add_command(Cmd::new().arg("ASKING").take());
        }
        places.push(pipeline.len());
        pipeline.add_command(std::mem::take(&mut job.call.cmd));
    }
    (pipeline, places)
}
