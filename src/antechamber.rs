//! What a node answers while it starts: that it lives, and why it is not ready.
//!
//! A start waits for the database and brings its schema up to date, which may take minutes. Without an answer in that time, whoever
//! looks after the process would kill it for a hang, and take it up again, and kill it again. So the door is open from the
//! beginning, with this little server behind it; it gives way to the real one without closing the door.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use actix_web::{
    App, HttpResponse, HttpServer,
    dev::ServerHandle,
    http::KeepAlive,
    web::{self, Data},
};
use anyhow::Context as _;
use tokio::task::JoinHandle;

use crate::http::{Problem, ProblemType, answer, routing};

/// When to ask a node again that starts.
const RETRY: Duration = Duration::from_secs(2);

/// How long a client that is connected and asks nothing may hold up the real server, in seconds.
const LAST_ANSWERS: u64 = 1;

/// The server of a node that starts.
pub struct Antechamber {
    handle: ServerHandle,
    serving: JoinHandle<std::io::Result<()>>,
    start: Arc<Start>,
}

/// How far the start has come.
#[derive(Debug, Default)]
struct Start {
    has_database: AtomicBool,
}

impl Start {
    fn waits_for(&self) -> &'static str {
        if self.has_database.load(Relaxed) {
            "the node takes up its work"
        } else {
            "the database does not answer yet, or its schema is being brought up to date"
        }
    }
}

impl Antechamber {
    /// Answers whoever comes through the door. Needs a running actix system.
    ///
    /// # Errors
    /// What the system says of the listener.
    pub fn open(listener: TcpListener) -> anyhow::Result<Self> {
        let start = Arc::<Start>::default();
        let shared = Data::from(Arc::clone(&start));
        let factory = move || {
            App::new()
                .app_data(shared.clone())
                .service(web::resource("/health/live").route(routing::read().to(live)))
                .service(web::resource("/health/ready").route(routing::read().to(ready)))
                .default_service(web::to(refuse))
        };
        let server = HttpServer::new(factory)
            .workers(1)
            // The next request of a connection is the real server's.
            .keep_alive(KeepAlive::Disabled)
            .shutdown_timeout(LAST_ANSWERS)
            .disable_signals()
            .listen(listener)
            .context("cannot listen")?
            .run();
        let handle = server.handle();
        Ok(Self { handle, serving: actix_web::rt::spawn(server), start })
    }

    /// From now on the start waits for other things than the database.
    pub fn database_is_there(&self) {
        self.start.has_database.store(true, Relaxed);
    }

    /// Gives its last answers. Whoever connects meanwhile waits at the door for the real server.
    pub async fn close(self) {
        self.handle.stop(true).await;
        if let Ok(Err(error)) = self.serving.await {
            tracing::debug!(%error, "the server of the start ended");
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
    Err(Problem::new(ProblemType::DependencyUnavailable).detail(detail).retry_after(RETRY))
}
