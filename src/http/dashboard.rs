//! `/dashboard`: a page that shows this instance's figures, and what will run out first.
//!
//! The page and everything that it needs are part of the binary. It reads [`Snapshot`]s as server-sent events, one a second.
//! Its own policy lets it load nothing from elsewhere.
//!
//! **Who sees the figures.** A browser on the node's own machine sees them without a key: the node listens on loopback alone, the
//! request names loopback as its host (so that a page elsewhere whose name leads to loopback gets nothing), and no proxy forwarded
//! it. Everyone else needs an admin key, or a session at the [console](super::console), and sees them as long as that is valid.
//!
//! **Bound.** [`MOST_VIEWERS`] pages at a time. They share one snapshot a second.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::{
    FromRequest as _, HttpRequest, HttpResponse,
    dev::Payload,
    http::header,
    web::{Bytes, Data, ServiceConfig},
};
use futures::{Stream, StreamExt as _, stream};
use penstock_actors::{clock::Clock, ids::NodeId};
use serde::Serialize;

use super::{
    Problem, ProblemType, Readiness, answer,
    auth::{Admin, LastingRight},
    pages::{self, CSS, HTML, JS, PageFile},
    routing,
};
use crate::telemetry::{Metrics, metrics::Snapshot};

/// Pages that are open at a time. Each costs a connection and a few kilobytes a second.
const MOST_VIEWERS: usize = 16;

const EVERY: Duration = Duration::from_secs(1);

/// After how many snapshots the right of a viewer is looked at again: a page that is open ends soon after its session or key.
const LOOK_AGAIN: usize = 3;

/// What the page may load and do: its own files and this node's answers.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Fields by which proxies say that they forward a request.
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// The files of the page. Those of the console's screens are loaded when the first of these is opened.
pub(super) const FILES: &[PageFile] = &[
    ("/dashboard", HTML, include_str!("dashboard/page/index.html")),
    ("/dashboard/dashboard.css", CSS, include_str!("dashboard/page/dashboard.css")),
    ("/dashboard/dashboard.js", JS, include_str!("dashboard/page/dashboard.js")),
    ("/dashboard/session.js", JS, include_str!("dashboard/page/session.js")),
    ("/dashboard/uplot.css", CSS, include_str!("dashboard/page/vendor/uplot.min.css")),
    ("/dashboard/uplot.js", JS, include_str!("dashboard/page/vendor/uplot.min.js")),
    ("/dashboard/console.css", CSS, include_str!("dashboard/page/console.css")),
    ("/dashboard/console.js", JS, include_str!("dashboard/page/console.js")),
    ("/dashboard/graph.js", JS, include_str!("dashboard/page/graph.js")),
    ("/dashboard/cytoscape.js", JS, include_str!("dashboard/page/vendor/cytoscape.min.js")),
];

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub clock: Arc<dyn Clock>,
    pub node: NodeId,
    /// Whether the node listens on loopback alone.
    pub is_local: bool,
    pub viewers: Arc<Viewers>,
}

impl Deps {
    /// Whether a request needs no key for the figures.
    pub(super) fn shows_figures_to(&self, request: &HttpRequest) -> bool {
        self.is_local && is_from_here(request)
    }
}

/// The pages that are open, and the snapshot that they share.
#[derive(Default)]
pub struct Viewers {
    open: AtomicUsize,
    latest: Mutex<Option<(Instant, Bytes)>>,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(lead_to_the_dashboard, events))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps))
        .service(routing::resource("/").route(routing::read().to(lead_to_the_dashboard)))
        .service(routing::resource("/dashboard/events").route(routing::read().to(events)));
    pages::serve(cfg, FILES, POLICY);
}

#[utoipa::path(
    get,
    path = "/",
    operation_id = "leadToDashboard",
    tag = "Operators",
    summary = "Lead to the dashboard",
    description = "",
    responses(
        (status = 302, description = "The address of the dashboard", headers(("Location" = String, description = "`/dashboard`"))),
    ),
)]
async fn lead_to_the_dashboard() -> HttpResponse {
    answer::no_store(HttpResponse::Found()).insert_header((header::LOCATION, "/dashboard")).finish()
}

/// Snapshots as server-sent events (the HTML standard, "Server-sent events").
#[utoipa::path(
    get,
    path = "/dashboard/events",
    operation_id = "followFigures",
    tag = "Operators",
    summary = "The figures of the dashboard, as server-sent events",
    description = "The answer does not end by itself. Its form may change with any version: programs read `/metrics`.",
    responses(
        (status = 200, description = "One event a second", body = String, content_type = "text/event-stream"),
    ),
)]
async fn events(request: HttpRequest, deps: Data<Deps>) -> Result<HttpResponse, Problem> {
    let right = match deps.shows_figures_to(&request) {
        true => None,
        false => Some(Admin::from_request(&request, &mut Payload::None).await?.lasting(&request)?),
    };
    let viewer = Viewer::of(&deps.viewers)
        .ok_or_else(|| Problem::new(ProblemType::Overloaded).detail("enough dashboards of this instance are open"))?;
    Ok(answer::no_store(HttpResponse::Ok())
        .content_type("text/event-stream")
        // nginx would otherwise collect events before it passes them on.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(snapshots(deps.get_ref().clone(), viewer, right)))
}

/// Whether a browser on this machine asks, under a name of this machine, and not through a proxy.
fn is_from_here(request: &HttpRequest) -> bool {
    let headers = request.headers();
    let is_forwarded = FORWARDED.iter().any(|field| headers.contains_key(*field));
    let is_near = request.peer_addr().is_some_and(|peer| peer.ip().is_loopback());
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    !is_forwarded && is_near && names_loopback(host)
}

fn names_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// A page that is open.
struct Viewer(Arc<Viewers>);

impl Viewer {
    fn of(viewers: &Arc<Viewers>) -> Option<Self> {
        let one_more = |open| (open < MOST_VIEWERS).then_some(open + 1);
        viewers.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self(Arc::clone(viewers)))
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One event a second, until the node drains, because an open page must not hold up its stop, or until the viewer has no right to
/// them any more.
fn snapshots(
    deps: Deps,
    viewer: Viewer,
    right: Option<LastingRight>,
) -> impl Stream<Item = Result<Bytes, serde_json::Error>> {
    let ticks = stream::unfold(tokio::time::interval(EVERY), async |mut ticks| {
        ticks.tick().await;
        Some(((), ticks))
    });
    let readiness = Arc::clone(&deps.readiness);
    let ticks = ticks.enumerate().take_while(move |(tick, ())| {
        let is_leaving = readiness.is_leaving();
        let right = right.clone().filter(|_| (tick + 1) % LOOK_AGAIN == 0);
        async move { !is_leaving && still_holds(right).await }
    });
    ticks.map(move |_| latest(&deps, &viewer.0))
}

/// The figures matter most while a dependency hangs, so the answer does not wait for the database.
async fn still_holds(right: Option<LastingRight>) -> bool {
    let Some(right) = right else { return true };
    tokio::time::timeout(EVERY, right.holds()).await.unwrap_or(true)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    /// Milliseconds since 1970.
    at: i64,
    /// Seconds since 1970.
    started: f64,
    version: &'a str,
    node: NodeId,
    #[serde(flatten)]
    snapshot: Snapshot,
}

/// The event of this second, which all pages share.
fn latest(deps: &Deps, viewers: &Viewers) -> Result<Bytes, serde_json::Error> {
    let mut latest = viewers.latest.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((made, event)) = &*latest
        && made.elapsed() < EVERY / 2
    {
        return Ok(event.clone());
    }
    let snapshot = deps.metrics.snapshot();
    let event = Event {
        at: deps.clock.now().as_millisecond(),
        started: snapshot.values.get("process_start_time_seconds").copied().unwrap_or_default(),
        version: env!("CARGO_PKG_VERSION"),
        node: deps.node,
        snapshot,
    };
    let event = Bytes::from(format!("data: {}\n\n", serde_json::to_string(&event)?));
    *latest = Some((Instant::now(), event.clone()));
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_and_others() {
        for host in ["127.0.0.1", "127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080", "[::1]", "127.9.9.9"] {
            assert!(names_loopback(host), "{host}");
        }
        for host in [
            "",
            "penstock.example",
            "penstock.example:8080",
            "10.0.0.1:80",
            "localhost.example",
            "127.0.0.1.example:80",
        ] {
            assert!(!names_loopback(host), "{host}");
        }
    }

    #[test]
    fn the_pages_that_are_open_are_bounded() {
        let viewers = Arc::new(Viewers::default());
        let mut open: Vec<_> = (0..MOST_VIEWERS).filter_map(|_| Viewer::of(&viewers)).collect();
        assert_eq!(open.len(), MOST_VIEWERS);
        assert!(Viewer::of(&viewers).is_none());
        open.pop();
        assert!(Viewer::of(&viewers).is_some());
    }
}
