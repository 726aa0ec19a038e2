//! Sessions: they sum up a client's streams under one receipt. The streams carry the session's id as `X-Session-Id`.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpResponse,
    web::{self, Data, Path, ServiceConfig},
};
use penstock_actors::{
    clock::Clock,
    ids::SessionId,
    model::{Session, SessionProgress},
    node::Node,
    ports::{Receipts, SessionStore},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    JsonBody, Problem, ProblemType, ReceiptReader, answer, routing,
    validation::{Validate, Violations},
};
use crate::http::schemas::{answers, scalars};
use crate::receipt_tokens::ReceiptText;

/// How long sessions are kept.
#[derive(Debug, Clone, Copy)]
pub struct SessionSettings {
    /// After the last use.
    pub ttl: Duration,
}

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub node: Arc<Node>,
    pub receipts: Arc<dyn Receipts>,
    pub sessions: Arc<dyn SessionStore>,
    pub clock: Arc<dyn Clock>,
    pub settings: SessionSettings,
    pub reader: Arc<ReceiptReader>,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(create, show))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps))
        .service(routing::resource("/v1/streaming/sessions").route(web::post().to(create)))
        .service(routing::resource("/v1/streaming/sessions/{sessionId}").route(routing::read().to(show)));
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateSession {
    #[schema(value_type = scalars::ReceiptName)]
    receipt_id: ReceiptText,
}

impl Validate for CreateSession {
    fn validate(&self, _: &mut Violations) {}
}

#[utoipa::path(
    post,
    path = "/v1/streaming/sessions",
    operation_id = "createSession",
    tag = "Receipts",
    summary = "Create a session",
    description = "",
    request_body = CreateSession,
    responses(
        (status = 201, description = "The session", body = answers::Session, headers(("Location" = String, description = "The address of the new resource"))),
    ),
    extensions(("x-problems" = json!(["unknown-receipt", "receipt-not-confirmed", "receipt-expired", "receipt-refunded", "media-type-not-allowed", "receipt-consumed", "receipt-for-other-content", "content-not-stored", "content-too-large", "quota-exceeded", "too-many-streams"]))),
)]
async fn create(deps: Data<Deps>, body: JsonBody<CreateSession>) -> Result<HttpResponse, Problem> {
    let receipt_id = deps.reader.open(body.read().await?.receipt_id.as_str())?;
    let receipt = deps.receipts.receipt(receipt_id).await?.ok_or(ProblemType::UnknownReceipt)?;
    let grant = deps.node.quota.inspect(receipt_id, receipt.content_hash).await?;
    let session = Session {
        session_id: SessionId::random(),
        receipt_id,
        content_hash: receipt.content_hash,
        size_bytes: grant.view.content.as_ref().map_or(0, |content| content.size_bytes),
        created_at: deps.clock.now(),
        progress: SessionProgress::default(),
    };
    deps.sessions.put_session(&session, deps.settings.ttl).await?;
    Ok(answer::created(&format!("/v1/streaming/sessions/{}", session.session_id), &document(&session)))
}

#[utoipa::path(
    get,
    path = "/v1/streaming/sessions/{sessionId}",
    operation_id = "showSession",
    tag = "Receipts",
    summary = "Show a session",
    description = "",
    params(("sessionId" = scalars::Id, Path, description = "The session")),
    responses(
        (status = 200, description = "The session", body = answers::Session),
    ),
    extensions(("x-problems" = json!(["unknown-session"]))),
)]
async fn show(session_id: Path<String>, deps: Data<Deps>) -> Result<HttpResponse, Problem> {
    let id: SessionId = session_id.parse()?;
    let session = deps.sessions.session(id).await?.ok_or(ProblemType::UnknownSession)?;
    Ok(answer::ok(&document(&session)))
}

fn document(session: &Session) -> Value {
    let SessionProgress { streams, bytes_delivered, position, last_active } = session.progress;
    let state = match (streams, position >= session.size_bytes) {
        (0, _) => "new",
        (_, true) => "complete",
        (_, false) => "active",
    };
    json!({
        "sessionId": session.session_id,
        "receiptId": session.receipt_id,
        "contentHash": session.content_hash,
        "sizeBytes": session.size_bytes,
        "state": state,
        "streams": streams,
        "bytesDelivered": bytes_delivered,
        "position": position,
        "progressPercentage": if session.size_bytes == 0 { 100.0 } else { position as f64 / session.size_bytes as f64 * 100.0 },
        "createdAt": session.created_at,
        "lastActiveAt": last_active,
    })
}
