//! `/v1/admin/log-level`: what this instance logs, changed while it runs.

use actix_web::{
    HttpResponse,
    web::{self, ServiceConfig},
};
use serde::Deserialize;

use super::{
    JsonBody, Problem, ProblemType, answer,
    auth::Admin,
    routing,
    validation::{Validate, Violations},
};
use crate::http::schemas::answers;
use crate::telemetry::logs;

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(show, change))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig) {
    cfg.service(routing::resource("/v1/admin/log-level").route(routing::read().to(show)).route(web::put().to(change)));
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Change {
    /// Left out: the level of the configuration.
    #[schema(max_length = 1024, example = "info,penstock::adapters=debug")]
    level: Option<String>,
}

impl Validate for Change {
    fn validate(&self, violations: &mut Violations) {
        violations.require(
            self.level.as_deref().is_none_or(|level| logs::read(level).is_ok()),
            "level",
            format!(
                "must be error, warn, info, debug, trace, or directives such as info,penstock::http=debug, with at most {} \
                 characters",
                logs::LEVEL_CHARS
            ),
        );
    }
}

#[utoipa::path(
    get,
    path = "/v1/admin/log-level",
    operation_id = "showLogLevel",
    tag = "Operators",
    summary = "Show the log level of this instance",
    description = "",
    responses(
        (status = 200, description = "The levels", body = answers::LogLevelReport),
    ),
)]
async fn show(_: Admin) -> Result<HttpResponse, Problem> {
    levels()
}

#[utoipa::path(
    put,
    path = "/v1/admin/log-level",
    operation_id = "changeLogLevel",
    tag = "Operators",
    summary = "Change the log level of this instance",
    description = "",
    request_body = Change,
    responses(
        (status = 200, description = "The levels", body = answers::LogLevelReport),
    ),
)]
async fn change(admin: Admin, body: JsonBody<Change>) -> Result<HttpResponse, Problem> {
    let asked = body.read().await?;
    let before = logs::set_level(asked.level.as_deref())
        .map_err(|error| Problem::new(ProblemType::Internal).caused_by(format_args!("{error:#}")))?;
    let after = asked.level.unwrap_or(before.configured);
    tracing::info!(target: logs::AUDIT, key_id = %admin.key_id, before = before.level, after, "an administrator changed the log level");
    levels()
}

fn levels() -> Result<HttpResponse, Problem> {
    let levels = logs::levels().ok_or_else(|| Problem::new(ProblemType::Internal).caused_by("there is no log"))?;
    Ok(answer::ok(&levels))
}
