//! The server: starts everything in order, and stops it in order.
//!
//! # Shutdown
//! 1. A [signal](self::signals) asks for it: the [supervisor] is told, `/health/ready` reports draining and connections are closed after their
//!    answer, but every request is served for `server.drain_notice`. Then new connections are not accepted any more, and
//!    those that are already connected are served.
//! 2. The listener closes, and new streams and uploads are refused; running requests have `server.drain_grace` to end,
//!    then their connections are closed, which settles their streams by the bytes that were sent.
//! 3. Lineage events under way are stored, leases are released, usage is flushed to the ledger, and the node's epoch is
//!    closed there: awaited, for `server.drain_settle` at most. What did not reach the ledger stays in the usage spool.
//! 4. Exit 0. A second signal, unless it is SIGHUP, exits at once at any point.
//!
//! One [`deadline`] covers all of it. A signal during the start breaks the start off at once, wherever it is: every step
//! of a start may be killed at any time, and the next start goes on from there.

mod deadline;
pub mod node_identity;
pub mod signals;
pub mod startup_server;
mod supervisor;
mod watches;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actix_web::dev::ServerHandle;
use anyhow::{Context as _, bail};
use penstock_actors::{
    flow::fairness::FairAdmission,
    lineage::Lineage,
    node::{DrainReport, Node, NodeFolder, Observers},
    policy_evaluator::{EvaluationError, PolicyEvaluator},
};
use rlimit::Resource;
use tokio::task::JoinHandle;

use self::{
    deadline::StopTimes,
    node_identity::{EpochFile, IdentityDeps},
    signals::Signals,
    startup_server::{Phase, Start, StartupServer},
    supervisor::Supervisor,
};
use crate::{
    client_marks::ClientMarks,
    config::{Config, DatabaseBackend},
    data_dir::DataDir,
    http::Readiness,
    http_server::listener::Listener,
    keys::{self, AdminKey, KeyRing},
    telemetry::{
        Metrics, Spans,
        metrics::{GovernanceMetrics, JanitorMetrics},
    },
    wiring::{self, Backends, ListenerTls, PaymentChain, ServerParts},
};

/// The longest time that the last spans may take to reach their collector.
const SPAN_PATIENCE: Duration = Duration::from_secs(2);

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    pub admin: AdminKey,
    pub backends: Backends,
    pub node: Node,
    lineage: Lineage,
    /// Until the stop: the port is free once no part of the process has it.
    shared_listener: Option<Listener>,
    handle: ServerHandle,
    serving: JoinHandle<std::io::Result<()>>,
    readiness: Arc<Readiness>,
    scheme: &'static str,
    stop_times: StopTimes,
    spans: Spans,
    io: tokio::runtime::Handle,
    /// Followed until the end.
    _payment_chain: Option<PaymentChain>,
    /// Held until the end, so that no other process uses the folder.
    _data_dir: DataDir,
}

impl Server {
    /// Starts a server. Needs a running actix system; blocking work and connections run on `io`.
    ///
    /// # Errors
    /// The part that could not be opened or bound, and why; or that a signal asked the node to stop.
    pub async fn start(config: &Config, io: &tokio::runtime::Handle, signals: &mut Signals) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new()?);
        let tls = wiring::listener_tls(config, &metrics)?;
        if let Some(tls) = &tls {
            signals.reload(Arc::clone(&tls.certificates));
        }
        let progress = Arc::<Start>::default();
        let entrance = Entrance { config, io, metrics, tls, progress: Arc::clone(&progress) };
        tokio::select! {
            // A large future that runs once.
            started = Box::pin(Self::enter(entrance)) => started,
            signal = signals.stop() => {
                // A migration is rolled back, and the usage spool keeps what is not settled.
                deadline::end_at_once();
                bail!("stopped by {signal} while {}", progress.past())
            }
        }
    }

    async fn enter(entrance: Entrance<'_>) -> anyhow::Result<Self> {
        let Entrance { config, io, metrics, tls, progress } = entrance;
        let files = rlimit::increase_nofile_limit(u64::MAX).or_else(|error| {
            tracing::warn!(%error, "the limit on open files cannot be raised; it bounds the number of connections");
            Resource::NOFILE.get_soft()
        });
        let mut data_dir = DataDir::take(&config.data.dir)?;
        let (shared_listener, listener) = Listener::open(config.server.bind)
            .with_context(|| format!("cannot listen on {} (server.bind)", config.server.bind))?;
        let address = listener.local_addr()?;
        let certificates = tls.as_ref().map(|tls| Arc::clone(&tls.certificates));
        let handshakes = tls.map(|tls| tls.handshakes);
        // A supervisor must not take a process that waits for its database for a hung one.
        let antechamber = StartupServer::open(listener.try_clone()?, handshakes.clone(), Arc::clone(&progress))?;
        ready_database(config, io).await?;
        progress.enter(Phase::Stores);
        if let Some(certificates) = certificates {
            io.spawn(certificates.watch(config.tls.reload_interval));
        }
        let backends = wiring::open(config, &metrics, io).await?;
        wiring::take_stores_into_use(config, &backends).await?;
        if let Some(pool) = backends.pool.clone() {
            io.spawn(wiring::watch_replicas(pool.clone()));
            io.spawn(wiring::keep_pool_warm(pool));
        }
        let epoch_file = EpochFile::of(&data_dir);
        let ports = &backends.ports;
        let alone = config.database.backend == DatabaseBackend::Sqlite;
        let deps = IdentityDeps { ledger: &*ports.ledger, timelines: &*ports.timelines, alone };
        let is_same_folder = node_identity::settle(&mut data_dir, &epoch_file, &deps).await?;
        let configured = config.server.admin_key.expose();
        let configured = (!configured.is_empty()).then_some(configured);
        let admin = keys::ensure_admin(&*backends.api_keys, configured, data_dir.path()).await?;

        let janitor = JanitorMetrics::new(metrics.registry())?;
        let (store, cache) = (backends.pool.clone(), backends.cache.clone());
        let keys = Arc::new(KeyRing::new(Arc::clone(&backends.api_keys)));
        let ring = Arc::clone(&keys);
        let observers = Observers {
            epochs: Arc::new(move |record: &_| epoch_file.write(record)),
            janitor: Arc::new(move |report: &_| janitor.pass_ended(report)),
            changes: Arc::new(move |change| {
                store.iter().for_each(|store| store.heard(change));
                cache.heard(change);
                ring.heard(change);
            }),
        };
        // Before the node, whose background work would compete for connections with calls that the start needs.
        let lineage = Lineage::start(&backends.lineage, wiring::lineage_settings(config))
            .await
            .context("cannot start lineage")?;
        metrics.observe_lineage(lineage.clone())?;
        let settings = wiring::node_settings(config, wiring::cores());
        progress.enter(Phase::Spool);
        let (data_dir, folder) = open_folder(config, data_dir, is_same_folder, io).await?;
        progress.enter(Phase::Actors);
        let node = Node::start(&backends.ports, &settings, folder, observers, io.clone())
            .await
            .context("cannot register this node in the ledger")?;
        metrics.observe_node(node.clone())?;
        metrics.observe_actors(&node, &lineage)?;
        let connections =
            FairAdmission::new("connections", wiring::most_connections(config, files.unwrap_or(u64::MAX)));
        metrics.observe_connections(connections.clone())?;
        if let Some(pool) = backends.pool.clone() {
            wiring::observe_pools(&metrics, pool)?;
        }
        metrics.observe_cache(backends.cache.clone())?;
        metrics.observe_clock(Arc::clone(&backends.ports.watch))?;
        metrics.observe_stores(Arc::clone(&backends.store))?;
        metrics.observe_data_folder(data_dir.path().to_owned())?;
        io.spawn(wiring::cache_warmer(config, &backends, node.clone(), &metrics)?.run());

        let doubt = Arc::clone(node.verifier.doubt());
        let readiness = Readiness::of(node.content.quarantine().clone(), config.quota.lease_ttl, doubt);
        let readiness = readiness.watching(Arc::clone(&backends.ports.watch)).guarding(Arc::clone(&backends.store));
        let readiness = Arc::new(readiness);
        let evaluator = wiring::evaluator(config, &backends, GovernanceMetrics::new(metrics.registry())?);
        log_policy(&evaluator).await;
        let payment_chain = wiring::follow_chain(&config.payments, &backends)?;
        if let Some(followed) = &payment_chain {
            metrics.observe_chain(followed.chain.clone())?;
        }
        let marks = ClientMarks::start(Arc::clone(&backends.client_keys), io).await;
        antechamber.close().await;
        let spans = wiring::spans(config, &node, io)?;
        let parts = ServerParts {
            config,
            backends: &backends,
            metrics: &metrics,
            io,
            node: &node,
            lineage: &lineage,
            evaluator,
            payment_chain: payment_chain.as_ref(),
            keys,
            marks,
            readiness: Arc::clone(&readiness),
            tls: handshakes,
            connections,
            spans: spans.clone(),
        };
        let http = wiring::http_server(parts, listener)?;
        let handle = http.handle();
        let serving = actix_web::rt::spawn(http);
        Ok(Self {
            address,
            admin,
            backends,
            node,
            lineage,
            shared_listener: Some(shared_listener),
            handle,
            serving,
            readiness,
            scheme: if config.tls.is_on() { "https" } else { "http" },
            stop_times: StopTimes::from(&config.server),
            spans,
            io: io.clone(),
            _payment_chain: payment_chain,
            _data_dir: data_dir,
        })
    }

    /// The address for clients, without a path.
    pub fn base_url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Serves until a signal comes, then drains.
    ///
    /// # Errors
    /// When an actor died or the listener failed: the process should exit with a failure, so that a supervisor restarts
    /// it.
    pub async fn run(mut self, mut signals: Signals) -> anyhow::Result<()> {
        let supervisor = Supervisor::from_env();
        supervisor.ready();
        let failure = tokio::select! {
            signal = signals.stop() => {
                tracing::info!(signal, "the node was asked to stop");
                None
            }
            ended = &mut self.serving => Some(format!("the listener ended: {ended:?}")),
            failure = watches::node(&self.node, &self.lineage, &self.backends) => Some(failure),
            failure = watches::database(&self.backends.store) => Some(failure),
        };
        let times = if failure.is_some() { self.stop_times.without_notice() } else { self.stop_times };
        if let Some(failure) = &failure {
            tracing::error!(failure, "the node cannot continue and stops");
        }
        supervisor.stopping();
        self.readiness.leave();
        let report = tokio::select! {
            report = self.drain(times) => report,
            signal = signals.stop_now() => {
                deadline::end_at_once();
                bail!("stopped by a second signal, {signal}, before the drain had ended")
            }
        };
        let DrainReport { streams, unsettled, spooled, closed } = report;
        if !closed {
            tracing::error!(
                streams,
                unsettled,
                spooled,
                "the node's epoch cannot be closed in the ledger; the next start on this data folder settles what the usage spool has and \
                 closes the epoch, or its leases are reclaimed as after a crash"
            );
        }
        match failure {
            Some(failure) => bail!(failure),
            None if unsettled > 0 => {
                bail!("{unsettled} usage rows did not reach the ledger; {spooled} are in the usage spool")
            }
            None if !closed => bail!("the node's epoch was not closed in the ledger"),
            None => Ok(()),
        }
    }

    /// Sends the last spans. Spans that are lost are no reason to fail.
    async fn close_spans(&self, patience: Duration) {
        let spans = self.spans.clone();
        let _closed = self.io.spawn_blocking(move || spans.close(patience)).await;
    }

    /// Lets requests end, and settles what they leave.
    async fn drain(&mut self, times: StopTimes) -> DrainReport {
        let deadline = times.begin();
        tokio::time::sleep(times.notice).await;
        if let Some(Err(error)) = self.shared_listener.take().map(Listener::shut) {
            tracing::warn!(%error, "the listener cannot drop new connection requests; a client that connects now may be reset");
        }
        tokio::time::sleep(times.last_in()).await;
        tracing::info!("draining: no new streams, running ones may end");
        let stopped = self.handle.stop(true);
        self.readiness.drain();
        stopped.await;
        let settle = deadline.left_to_settle();
        tracing::info!(within = ?settle, "no connection is left; the node hands its leases back and settles its usage");
        // Side by side, so that neither takes the time of the other.
        let (stored, report, ()) = tokio::join!(
            self.lineage.drain(settle),
            self.node.drain(settle),
            self.close_spans(settle.min(SPAN_PATIENCE))
        );
        if !stored {
            tracing::warn!(
                "lineage events were not stored before the deadline; their senders got no confirmation and should send them again"
            );
        }
        if let Some(redis) = &self.backends.redis
            && tokio::time::timeout(deadline.left_to_settle(), redis.flush()).await.is_err()
        {
            tracing::debug!("Redis did not answer before the deadline; queued background updates may be lost");
        }
        report
    }
}

/// What a start begins with.
struct Entrance<'a> {
    config: &'a Config,
    io: &'a tokio::runtime::Handle,
    metrics: Arc<Metrics>,
    tls: Option<ListenerTls>,
    progress: Arc<Start>,
}

/// Opens the usage spool on a thread of its own, since that reads files. The lock of the folder goes with it, so that no other process
/// takes the folder before the work has ended.
async fn open_folder(
    config: &Config,
    data_dir: DataDir,
    is_same_folder: bool,
    io: &tokio::runtime::Handle,
) -> anyhow::Result<(DataDir, NodeFolder)> {
    let usage = config.usage.clone();
    let opening = io.spawn_blocking(move || {
        let folder = wiring::open_folder(&usage, &data_dir, is_same_folder);
        (data_dir, folder)
    });
    opening.await.context("the usage spool was not opened")
}

/// Waits for the database, with the schema of this version.
async fn ready_database(config: &Config, io: &tokio::runtime::Handle) -> anyhow::Result<()> {
    if config.database.migrate_at_start {
        wiring::migrate(config, io).await.map(drop)
    } else {
        wiring::await_database(config).await
    }
}

/// Logs at the start when the node's policy cannot be loaded. The node starts all the same: streams do not need the
/// policy, and an operator puts it through the node itself.
async fn log_policy(evaluator: &PolicyEvaluator) {
    match evaluator.standing().await {
        Ok(()) => {}
        Err(error @ EvaluationError::Missing(_)) => {
            tracing::warn!(%error, "the node's policy is missing; nothing is published or sold until it is put (governance.policy)");
        }
        Err(error) => {
            tracing::warn!(%error, "the node's policy cannot be read; nothing is published or sold until it can (governance.policy)");
        }
    }
}
