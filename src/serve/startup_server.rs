//! The server of a node that is starting: it answers that the node is alive, and why it is not ready.
//!
//! A start waits for the database and migrates its schema, which may take minutes. Without answers in that time, a
//! supervisor would take the process for hung, kill it and start it again, over and over. So the port is open from the
//! beginning, with this small server behind it; the real server replaces it without closing the port.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use actix_web::{
    App, HttpResponse,
    dev::ServerHandle,
    web::{self, Data},
};
use anyhow::Context as _;
use penstock_actors::flow::fairness::FairAdmission;
use tokio::task::JoinHandle;

use crate::{
    http::{Problem, ProblemType, answer, problem, routing},
    http_server::{Serving, client_socket::ClientTerms, tls::Tls},
};

/// How long a connected client that sends nothing may delay the real server.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How long a client may take to send the head of a request, or to take its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Checks of a starting node come from a few supervisors and balancers.
const MAX_CONNECTIONS: u32 = 1000;

/// The server of a node that is starting.
pub struct StartupServer {
    handle: ServerHandle,
    serving: JoinHandle<std::io::Result<()>>,
}

/// What a start does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Database,
    Stores,
    Spool,
    Actors,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Database, Self::Stores, Self::Spool, Self::Actors];

    const fn waits_for(self) -> &'static str {
        match self {
            Self::Database => "the database does not answer yet, or its schema is being migrated",
            Self::Stores => "the node opens its database and its blob stores",
            Self::Spool => "the node reads the usage spool of its last process",
            Self::Actors => "the node settles what its last process left, and starts its actors",
        }
    }

    /// What a start did that was broken off.
    const fn past(self) -> &'static str {
        match self {
            Self::Database => "it waited for its database or migrated the schema",
            Self::Stores => "it opened its database and its blob stores",
            Self::Spool => "it read the usage spool of its last process",
            Self::Actors => "it settled what its last process left, and started its actors",
        }
    }
}

/// The progress of the start.
#[derive(Debug, Default)]
pub(super) struct Start {
    phase: AtomicU8,
}

impl Start {
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Relaxed)).min(Phase::ALL.len() - 1)]
    }

    fn waits_for(&self) -> &'static str {
        self.phase().waits_for()
    }

    pub(super) fn past(&self) -> &'static str {
        self.phase().past()
    }
}

impl StartupServer {
    /// Answers every client of the listener. Needs a running actix system.
    ///
    /// # Errors
    /// The system's error about the listener.
    pub(super) fn open(listener: TcpListener, tls: Option<Arc<Tls>>, start: Arc<Start>) -> anyhow::Result<Self> {
        let shared = Data::from(start);
        let factory = move || {
            App::new()
                .app_data(shared.clone())
                .service(routing::resource("/health/live").route(routing::read().to(live)))
                .service(routing::resource("/health/ready").route(routing::read().to(ready)))
                .default_service(web::to(refuse))
        };
        let serving = Serving {
            workers: 1,
            connections: problem::connection_limit(FairAdmission::new("connections", MAX_CONNECTIONS)),
            // None: the next request belongs to the real server.
            keep_alive: Duration::ZERO,
            drain_grace: LAST_ANSWERS,
            terms: ClientTerms { header_timeout: PATIENCE, stall_timeout: PATIENCE, refusals: problem::of_unread_head },
            tls,
        };
        let server = serving.serve(listener, factory).context("cannot listen")?;
        let handle = server.handle();
        Ok(Self { handle, serving: actix_web::rt::spawn(server) })
    }

    /// Gives the last answers. Clients that connect meanwhile wait in the listener's queue for the real server.
    pub async fn close(self) {
        self.handle.stop(true).await;
        if let Ok(Err(error)) = self.serving.await {
            tracing::debug!(%error, "the server of the starting node ended with an error");
        }
    }
}

async fn live() -> HttpResponse {
    answer::ok(&serde_json::json!({ "status": "ok" }))
}

async fn ready(start: Data<Start>) -> HttpResponse {
    let report = serde_json::json!({ "status": "starting", "reason": start.waits_for() });
    answer::no_store(HttpResponse::ServiceUnavailable()).json(report)
}

async fn refuse(start: Data<Start>) -> Result<HttpResponse, Problem> {
    let detail = format!("the node starts: {}", start.waits_for());
    Err(Problem::new(ProblemType::DependencyUnavailable).detail(detail))
}
