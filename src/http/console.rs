//! Signing in to the console and out of it. [`auth::console`] says what a session is, and what a request of one must show.
//!
//! The console's screens call the public API, as every client does.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{self, Data, ServiceConfig},
};
use jiff::Timestamp;
use penstock_actors::{
    ids::KeyId,
    model::Role,
    ports::{ConsoleSession, NewConsoleSession},
};
use serde::Serialize;
use serde_json::json;

use super::{
    Problem, ProblemType, answer,
    auth::{
        self, Admin,
        console::{SessionToken, no_cookies, shown_token},
    },
    dashboard, origins, routing,
    schemas::answers,
};
use crate::telemetry::logs::AUDIT;

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    /// How long a session lasts.
    pub session_ttl: Duration,
    /// Whether the node's own listener is encrypted.
    pub is_tls: bool,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(show, sign_in, sign_out))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps))
        .service(routing::resource("/dashboard/session").route(routing::read().to(show)))
        .service(routing::resource("/dashboard/sign-in").route(web::post().to(sign_in)))
        .service(routing::resource("/dashboard/sign-out").route(web::post().to(sign_out)));
}

/// A session as its page sees it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    key_id: KeyId,
    expires_at: Timestamp,
    csrf_token: String,
}

impl Shown {
    fn of(session: &ConsoleSession, token: &SessionToken) -> Self {
        Self { key_id: session.key_id, expires_at: session.expires_at, csrf_token: token.csrf_token() }
    }
}

/// Tells a page that was just loaded whether its browser is signed in. Its cookie alone is enough for that, because the answer goes to
/// pages of this origin only.
#[utoipa::path(
    get,
    path = "/dashboard/session",
    operation_id = "showConsoleSession",
    tag = "Operators",
    summary = "Whether the browser that asks is signed in to the console",
    description = "For pages of this origin alone.",
    responses((status = 200, description = "The session, if there is one", body = answers::ConsoleState)),
    extensions(("x-problems" = json!(["origin-not-allowed"]))),
)]
async fn show(
    request: HttpRequest,
    access: Data<auth::Deps>,
    figures: Data<dashboard::Deps>,
) -> Result<HttpResponse, Problem> {
    origins::check_own(&request)?;
    let shows_figures = figures.shows_figures_to(&request);
    let session = match SessionToken::of(request.headers()) {
        Some(token) => match access.session(token.hash()).await {
            Ok(open) => {
                let of_admin = open.filter(|(_, key)| key.role == Role::Admin);
                of_admin.map(|(session, _)| Shown::of(&session, &token))
            }
            // Figures are wanted most while the database is away.
            Err(_) if shows_figures => None,
            Err(error) => return Err(Problem::from(&*error)),
        },
        None => None,
    };
    Ok(answer::ok(&json!({ "session": session, "figures": shows_figures || session.is_some() })))
}

#[utoipa::path(
    post,
    path = "/dashboard/sign-in",
    operation_id = "signIn",
    tag = "Operators",
    summary = "Sign in to the console",
    description = "Only the key itself signs in; a session does not prolong itself.",
    responses((
        status = 200,
        description = "The session",
        body = answers::SignedIn,
        headers(("Set-Cookie" = String, description = "The token of the session")),
    )),
    extensions(("x-problems" = json!(["origin-not-allowed"]))),
)]
async fn sign_in(
    admin: Admin,
    request: HttpRequest,
    deps: Data<Deps>,
    access: Data<auth::Deps>,
) -> Result<HttpResponse, Problem> {
    // A session must not prolong itself.
    let secret_hash = admin
        .secret_hash()
        .ok_or_else(|| Problem::new(ProblemType::Unauthorized).detail("signing in needs the key itself"))?;
    let token = SessionToken::generate().map_err(|error| Problem::new(ProblemType::Internal).caused_by(error))?;
    let new = NewConsoleSession { token_hash: token.hash(), secret_hash, key_id: admin.key_id, ttl: deps.session_ttl };
    let session = access.sessions.begin_console_session(&new).await?;
    tracing::info!(target: AUDIT, key_id = %session.key_id, expires_at = %session.expires_at, "an administrator signed in to the console");
    // A client that forges the fields of a proxy only keeps its own cookie for HTTPS.
    let is_secure = deps.is_tls || request.connection_info().scheme() == "https";
    Ok(answer::no_store(HttpResponse::Ok())
        .insert_header((header::SET_COOKIE, token.cookie(is_secure)))
        .json(json!({ "session": Shown::of(&session, &token) })))
}

#[utoipa::path(
    post,
    path = "/dashboard/sign-out",
    operation_id = "signOut",
    tag = "Operators",
    summary = "Sign out of the console",
    description = "Ends the session, if there is one.",
    responses((
        status = 204,
        description = "There is no session any more",
        headers(("Set-Cookie" = String, description = "Removes the cookie")),
    )),
    extensions(("x-problems" = json!(["origin-not-allowed", "forbidden"]))),
)]
async fn sign_out(request: HttpRequest, access: Data<auth::Deps>) -> Result<HttpResponse, Problem> {
    if let Some(token) = shown_token(&request)?
        && access.sessions.end_console_session(&token.hash()).await?
    {
        tracing::info!(target: AUDIT, "an administrator signed out of the console");
    }
    let mut done = answer::no_store(HttpResponse::NoContent());
    for cookie in no_cookies() {
        done.append_header((header::SET_COOKIE, cookie));
    }
    Ok(done.finish())
}
