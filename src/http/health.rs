//! `/health/live` and `/health/ready`: polled by balancers every few seconds.
//!
//! Live means that the process answers; it does so even while the node starts ([`crate::serve::startup_server`]). Ready means
//! that requests should be sent here: 503 is for a node that leaves, that has not started, or that can no longer serve
//! from memory, which may hold for this instance alone. The failure of a dependency that all instances share takes no
//! instance out, because it would take out all of them at once: the node continues from memory, and reports `degraded`
//! with 200. A node whose clock differs too much from the database's is not ready: results that depend on its clock,
//! such as the URLs that object storage has signed, would be wrong. A node whose store of new content answers
//! but belongs to another installation is not ready either: an unmounted share, or a wrong prefix, usually concerns
//! this instance alone.
//!
//! The answer comes at once, even if a dependency hangs: balancers give up after a second, and would take a node out
//! for its database.

mod looks;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Data, ServiceConfig},
};
use penstock_actors::{
    clock::{Clock, watch::ClockWatch},
    content::quarantine::Quarantine,
    model::StorageTier,
    policy_evaluator::PolicyEvaluator,
    ports::{BlobStore, SharedState, Upkeep},
    storage::{store_guard::StoreGuard, verifier::MassLossGuard},
};
use serde::Serialize;

use self::looks::{Dependency, ProbeOutcome};
use super::{answer, routing};
use crate::http::schemas::answers;

/// Their names in the log.
const DEPENDENCIES: [&str; 4] = ["database", "storage", "shared state", "governance"];

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub readiness: Arc<Readiness>,
    pub ledger: Arc<dyn Upkeep>,
    pub storage: Arc<dyn BlobStore>,
    pub shared: Arc<dyn SharedState>,
    pub clock: Arc<dyn Clock>,
    pub evaluator: Arc<PolicyEvaluator>,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(live, ready))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps))
        .service(routing::resource("/health/live").route(routing::read().to(live)))
        .service(routing::resource("/health/ready").route(routing::read().to(ready)));
}

/// Whether this instance wants new streams, and the known state of its dependencies. One per process.
#[derive(Default)]
pub struct Readiness {
    leaving: AtomicBool,
    draining: AtomicBool,
    /// How long the node can serve without its database.
    memory: Duration,
    database_silent_since: Mutex<Option<Instant>>,
    quarantine: Quarantine,
    /// In the order of [`DEPENDENCIES`].
    looks: [Arc<Dependency>; 4],
    /// This instance's doubts about content that it finds missing; `None` when nothing is verified.
    doubt: Option<Arc<MassLossGuard>>,
    clocks: Option<Arc<ClockWatch>>,
    /// The installation's stores of blobs; `None` when no store is checked.
    store: Option<Arc<StoreGuard>>,
    /// The states that were logged last, in the order of [`DEPENDENCIES`].
    logged: Mutex<[DependencyState; 4]>,
}

impl Readiness {
    /// The readiness of a node with this quarantine of damaged content, which can serve for `memory` without its
    /// database (as long as its leases count), and with `doubt` about its own findings.
    pub fn of(quarantine: Quarantine, memory: Duration, doubt: Arc<MassLossGuard>) -> Self {
        Self { quarantine, memory, doubt: Some(doubt), ..Self::default() }
    }

    /// Storage that answers, but lacks more content than the node believes, is degraded.
    fn doubted(&self, storage: ProbeOutcome, now: Instant) -> ProbeOutcome {
        let is_doubting = self.doubt.as_ref().is_some_and(|doubt| doubt.is_doubting(now));
        if is_doubting && storage.state == DependencyState::Ok {
            let why = "more content is missing than this instance believes".to_owned();
            return ProbeOutcome { state: DependencyState::Degraded, why, ..storage };
        }
        storage
    }

    /// The node is not ready while its clock differs too much from the database's.
    #[must_use]
    pub fn watching(self, clocks: Arc<ClockWatch>) -> Self {
        Self { clocks: Some(clocks), ..self }
    }

    /// Makes the node not ready while it must not use its store of new content.
    #[must_use]
    pub fn guarding(self, store: Arc<StoreGuard>) -> Self {
        Self { store: Some(store), ..self }
    }

    /// From now on the node is not ready, and closes each connection after its answer, but still serves every request:
    /// balancers need a moment to notice.
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

    /// By how many seconds this machine's clock is ahead of the database's, if that is more than allowed.
    fn clock_skew(&self) -> Option<f64> {
        let clocks = self.clocks.as_ref().filter(|clocks| clocks.is_skewed())?;
        Some(clocks.skew().as_secs_f64())
    }

    /// Why the hottest unused store is not used, with advice.
    fn store_advice(&self) -> Option<String> {
        let store = self.store.as_ref()?;
        store.tiers().find_map(|tier| store.advice(tier))
    }

    /// Whether this instance can take no upload and lacks the newest content, because its hot store is not the right one.
    fn lacks_its_store(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.advice(StorageTier::Hot).is_some())
    }

    /// Notes whether the database answered; returns for how long it has not.
    fn database_silent_for(&self, answered: bool, now: Instant) -> Duration {
        // After a panic the value is still consistent: no code between lock and unlock can panic.
        let mut since = self.database_silent_since.lock().unwrap_or_else(PoisonError::into_inner);
        if answered {
            *since = None;
            return Duration::ZERO;
        }
        now.saturating_duration_since(*since.get_or_insert(now))
    }

    /// Logs the changes since the last check, because balancers poll often. In the order of [`DEPENDENCIES`].
    fn note(&self, found: &[ProbeOutcome; 4]) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        for ((logged, dependency), ProbeOutcome { state, why, .. }) in logged.iter_mut().zip(DEPENDENCIES).zip(found) {
            match (std::mem::replace(logged, *state), *state) {
                (before, now) if before == now => {}
                (_, DependencyState::Ok) => tracing::info!(dependency, "a dependency works again"),
                (_, state) => tracing::warn!(
                    dependency,
                    ?state,
                    why,
                    "a dependency is degraded or down; the node serves what it can without it"
                ),
            }
        }
    }

    /// The node's state, from the states of the dependencies in the order of [`DEPENDENCIES`].
    fn judge(&self, states: [DependencyState; 4], now: Instant) -> DependencyState {
        let [database, storage, ..] = states;
        let silent_for = self.database_silent_for(database != DependencyState::Down, now);
        if self.is_leaving() {
            return DependencyState::Draining;
        }
        if self.clock_skew().is_some() || self.lacks_its_store() {
            return DependencyState::Down;
        }
        if database == DependencyState::Down && (storage == DependencyState::Down || silent_for >= self.memory) {
            return DependencyState::Down;
        }
        if states.iter().all(|state| *state == DependencyState::Ok) {
            DependencyState::Ok
        } else {
            DependencyState::Degraded
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
enum DependencyState {
    #[default]
    Ok,
    /// A dependency: slow, or not checked yet. The node: it serves what it can without the dependency that is down.
    Degraded,
    Down,
    Draining,
}

/// One value per dependency.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PerDependency<T> {
    database: T,
    storage: T,
    shared_state: T,
    /// If the node has a governance policy: whether the policy is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    governance: Option<T>,
}

impl<T> PerDependency<T> {
    fn of([database, storage, shared_state, governance]: [T; 4], is_governed: bool) -> Self {
        Self { database, storage, shared_state, governance: is_governed.then_some(governance) }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    status: DependencyState,
    /// Why a blob store of this instance is not used, with advice.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    dependencies: PerDependency<DependencyState>,
    /// How many milliseconds ago each state was found; `null` for a dependency that has not been checked yet.
    age_ms: PerDependency<Option<u64>>,
    /// Contents that are withheld from readers because they are damaged. The others are served, so this does not change
    /// the status.
    quarantined: usize,
    /// By how much this machine's clock is ahead of the database's, if that is more than allowed: the node is not ready
    /// then.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_skew_seconds: Option<f64>,
}

#[utoipa::path(
    get,
    path = "/health/live",
    operation_id = "showLiveness",
    tag = "Operators",
    summary = "Whether the process answers",
    description = "",
    responses(
        (status = 200, description = "The process answers", body = answers::Liveness),
    ),
)]
async fn live() -> HttpResponse {
    answer::ok(&serde_json::json!({ "status": DependencyState::Ok }))
}

#[utoipa::path(
    get,
    path = "/health/ready",
    operation_id = "showReadiness",
    tag = "Operators",
    summary = "Whether requests should be sent to this instance",
    description = "",
    responses(
        (status = 200, description = "The instance serves", body = answers::ReadinessReport),
        (status = 503, description = "The instance does not serve", body = answers::ReadinessReport),
    ),
)]
async fn ready(deps: Data<Deps>) -> HttpResponse {
    let Deps { readiness, ledger, storage, shared, clock, evaluator } = Deps::clone(&deps);
    let is_governed = evaluator.bound_to().is_some();
    let [of_ledger, of_storage, of_shared, of_governance] = &readiness.looks;
    let (database, storage, shared, governance) = futures::join!(
        of_ledger.probe(&clock, async move { ledger.ping().await }),
        of_storage.probe(&clock, async move { storage.ping().await }),
        of_shared.probe(&clock, async move { shared.ping().await }),
        of_governance.probe(&clock, async move { evaluator.standing().await }),
    );
    let found = [database, readiness.doubted(storage, clock.monotonic()), shared, governance];
    readiness.note(&found);
    let states = found.each_ref().map(|found| found.state);
    let status = readiness.judge(states, clock.monotonic());
    let serves = matches!(status, DependencyState::Ok | DependencyState::Degraded);
    let code = if serves { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let ages = found.map(|found| found.age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
    answer::no_store(HttpResponse::build(code)).json(Report {
        status,
        reason: readiness.store_advice(),
        dependencies: PerDependency::of(states, is_governed),
        age_ms: PerDependency::of(ages, is_governed),
        quarantined: readiness.quarantine.len(),
        clock_skew_seconds: readiness.clock_skew(),
    })
}

#[cfg(test)]
mod tests {
    use super::DependencyState::{Degraded, Down, Draining, Ok};
    use super::*;

    const MEMORY: Duration = Duration::from_secs(60);

    fn readiness() -> Readiness {
        Readiness { memory: MEMORY, ..Readiness::default() }
    }

    #[test]
    fn a_node_is_ready_while_any_stream_could_be_served() {
        let now = Instant::now();
        let judge =
            |database, storage, shared| readiness().judge([database, storage, shared, DependencyState::Ok], now);
        assert_eq!(judge(Ok, Ok, Ok), Ok);
        assert_eq!(judge(Ok, Ok, Down), Degraded);
        assert_eq!(judge(Ok, Down, Ok), Degraded);
        assert_eq!(judge(Down, Ok, Ok), Degraded);
        assert_eq!(judge(Degraded, Ok, Ok), Degraded);
        assert_eq!(judge(Down, Down, Ok), Down);
        let without_its_policy = readiness().judge([Ok, Ok, Ok, Down], now);
        assert_eq!(without_its_policy, Degraded, "streams go on");
    }

    #[test]
    fn without_its_database_a_node_is_ready_as_long_as_its_memory_lasts() {
        let (readiness, start) = (readiness(), Instant::now());
        assert_eq!(readiness.judge([Down, Ok, Ok, Ok], start), Degraded);
        assert_eq!(readiness.judge([Down, Ok, Ok, Ok], start + MEMORY), Down);
        assert_eq!(readiness.judge([Ok; 4], start + MEMORY), Ok);
        assert_eq!(readiness.judge([Down, Ok, Ok, Ok], start + MEMORY * 2), Degraded);
    }

    #[test]
    fn a_draining_node_is_never_ready() {
        for go in [Readiness::leave, Readiness::drain] {
            let readiness = readiness();
            go(&readiness);
            assert_eq!(readiness.judge([Ok; 4], Instant::now()), Draining);
        }
    }
}
