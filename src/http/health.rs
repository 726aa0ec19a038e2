//! `/health/live` and `/health/ready`: what a balancer asks every few seconds.
//!
//! Live means that the process answers. Ready means that a stream could be served: a node goes on from memory when one
//! dependency is down, so it says `degraded` with 200 and stays in rotation; taking every node out because the one
//! database is down would end the streams that need no database.

use std::{
    fmt::Display,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{self, Data, ServiceConfig},
};
use penstock_actors::{
    clock::Clock,
    governor::Governor,
    ports::{BlobStore, SharedState, Upkeep},
    quarantine::Quarantine,
};
use serde::Serialize;

use super::{answer, routing};

/// How long a dependency may take to answer: longer than any healthy one takes, shorter than a balancer waits.
const DEADLINE: Duration = Duration::from_secs(1);

/// A dependency that takes longer than this is degraded: a healthy one answers within a few milliseconds.
const SLOW: Duration = Duration::from_millis(250);

/// How long a node can serve without its database: receipts stay in memory for at most this long.
const MEMORY: Duration = Duration::from_secs(60);

/// As the log names them.
const DEPENDENCIES: [&str; 4] = ["database", "storage", "shared state", "governance"];

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/health/live").route(routing::read().to(live)))
        .service(web::resource("/health/ready").route(routing::read().to(ready)));
}

/// Whether this instance wants new streams, and since when its database is silent. One for the whole process.
#[derive(Debug, Default)]
pub struct Readiness {
    leaving: AtomicBool,
    draining: AtomicBool,
    database_silent_since: Mutex<Option<Instant>>,
    quarantine: Quarantine,
    /// The states as they were told last, in the order of [`DEPENDENCIES`].
    told: Mutex<[State; 4]>,
}

impl Readiness {
    /// Of a node whose readers do not get what is in this quarantine.
    pub fn of(quarantine: Quarantine) -> Self {
        Self { quarantine, ..Self::default() }
    }

    /// From now on the node is not ready, and closes each connection after its answer, but goes on to serve whoever comes:
    /// balancers need a moment to see it.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// From now on the node lets running streams end and takes no new ones.
    pub fn drain(&self) {
        self.leave();
        self.draining.store(true, Ordering::Release);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Notes whether the database answered; for how long it has not.
    fn database_silent_for(&self, answered: bool, now: Instant) -> Duration {
        // A poisoned lock holds a whole value: nothing between lock and unlock can panic.
        let mut since = self.database_silent_since.lock().unwrap_or_else(PoisonError::into_inner);
        if answered {
            *since = None;
            return Duration::ZERO;
        }
        now.saturating_duration_since(*since.get_or_insert(now))
    }

    /// Tells in the log what has changed since the last look, for balancers look often. In the order of [`DEPENDENCIES`].
    fn note(&self, checked: &[Checked; 4]) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for ((told, dependency), (state, why)) in told.iter_mut().zip(DEPENDENCIES).zip(checked) {
            match (std::mem::replace(told, *state), *state) {
                (before, now) if before == now => {}
                (_, State::Ok) => tracing::info!(dependency, "a dependency is well again"),
                (_, state) => tracing::warn!(dependency, ?state, why, "a dependency is not well"),
            }
        }
    }

    /// What the dependencies' states, in the order of [`DEPENDENCIES`], make of the node.
    fn judge(&self, states: [State; 4], now: Instant) -> State {
        let [database, storage, ..] = states;
        let silent_for = self.database_silent_for(database != State::Down, now);
        if self.is_leaving() {
            return State::Draining;
        }
        if database == State::Down && (storage == State::Down || silent_for >= MEMORY) {
            return State::Down;
        }
        if states.iter().all(|state| *state == State::Ok) { State::Ok } else { State::Degraded }
    }
}

/// A dependency's state, and why it is not well.
type Checked = (State, String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Ok,
    /// A dependency: slow. The node: it serves what it can without the dependency that is down.
    Degraded,
    Down,
    Draining,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependencies {
    database: State,
    storage: State,
    shared_state: State,
    /// Where the node obeys a policy: whether that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    governance: Option<State>,
}

#[derive(Serialize)]
struct Report {
    status: State,
    dependencies: Dependencies,
    /// Contents that readers do not get because they are damaged. The others are served, so it does not change the status.
    quarantined: usize,
}

async fn live() -> HttpResponse {
    answer::ok(&serde_json::json!({ "status": State::Ok }))
}

async fn ready(
    readiness: Data<Readiness>,
    (ledger, storage, shared): (Data<dyn Upkeep>, Data<dyn BlobStore>, Data<dyn SharedState>),
    (clock, governor): (Data<dyn Clock>, Data<Governor>),
) -> HttpResponse {
    let standing = async { governor.standing().await.map_err(|error| error.to_string()) };
    let checked = futures_util::join!(
        check(ledger.ping(), &**clock),
        check(storage.ping(), &**clock),
        check(shared.ping(), &**clock),
        check(standing, &**clock),
    )
    .into();
    readiness.note(&checked);
    let states = checked.map(|(state, _)| state);
    let status = readiness.judge(states, clock.monotonic());
    let serves = matches!(status, State::Ok | State::Degraded);
    let code = if serves { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let [database, storage, shared_state, governance] = states;
    let governance = governor.bound_to().is_some().then_some(governance);
    let dependencies = Dependencies { database, storage, shared_state, governance };
    let report = Report { status, dependencies, quarantined: readiness.quarantine.len() };
    answer::no_store(HttpResponse::build(code)).json(report)
}

/// Asks a dependency whether it is there.
async fn check<E: Display>(ping: impl Future<Output = Result<(), E>>, clock: &dyn Clock) -> Checked {
    let began = clock.monotonic();
    match tokio::time::timeout(DEADLINE, ping).await {
        Ok(Ok(())) if clock.monotonic().saturating_duration_since(began) <= SLOW => (State::Ok, String::new()),
        Ok(Ok(())) => (State::Degraded, "it answers slowly".to_owned()),
        Ok(Err(error)) => (State::Down, error.to_string()),
        Err(_) => (State::Down, format!("no answer within {DEADLINE:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::State::{Degraded, Down, Draining, Ok};
    use super::*;

    #[test]
    fn a_node_is_ready_while_any_stream_could_be_served() {
        let now = Instant::now();
        let judge = |database, storage, shared| Readiness::default().judge([database, storage, shared, State::Ok], now);
        assert_eq!(judge(Ok, Ok, Ok), Ok);
        assert_eq!(judge(Ok, Ok, Down), Degraded);
        assert_eq!(judge(Ok, Down, Ok), Degraded);
        assert_eq!(judge(Down, Ok, Ok), Degraded);
        assert_eq!(judge(Degraded, Ok, Ok), Degraded);
        assert_eq!(judge(Down, Down, Ok), Down);
        let without_its_policy = Readiness::default().judge([Ok, Ok, Ok, Down], now);
        assert_eq!(without_its_policy, Degraded, "streams go on");
    }

    #[test]
    fn without_its_database_a_node_is_ready_as_long_as_its_memory_lasts() {
        let (readiness, start) = (Readiness::default(), Instant::now());
        assert_eq!(readiness.judge([Down, Ok, Ok, Ok], start), Degraded);
        assert_eq!(readiness.judge([Down, Ok, Ok, Ok], start + MEMORY), Down);
        assert_eq!(readiness.judge([Ok; 4], start + MEMORY), Ok);
        assert_eq!(readiness.judge([Down, Ok, Ok, Ok], start + MEMORY * 2), Degraded);
    }

    #[test]
    fn a_draining_node_is_never_ready() {
        for go in [Readiness::leave, Readiness::drain] {
            let readiness = Readiness::default();
            go(&readiness);
            assert_eq!(readiness.judge([Ok; 4], Instant::now()), Draining);
        }
    }
}
