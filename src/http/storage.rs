//! Operations on stored content, for operators: verify it, read its history, list what is damaged, move it to another tier.
//!
//! Such work may take longer than a client or a balancer waits. It then continues in the background: the answer is 202
//! after [`PATIENCE`], and the next call returns the state.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpResponse,
    web::{self, Data, Path, Query, ServiceConfig},
};
use penstock_actors::{
    flow::admission::Permit,
    ids::{ContentHash, VerificationId},
    model::{HistoryPosition, MoveState, StorageTier, Verification, VerificationKind},
    node::Node,
    ports::{Page, QuarantineList, Verifications},
    storage::{mover::MoveStart, verifier::Verified},
    task_span::InTaskSpan as _,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    JsonBody, Problem, ProblemType, answer,
    auth::Admin,
    paging, routing,
    validation::{Validate, Violations},
};
use crate::http::schemas::{answers, scalars};

/// How long an answer waits for the work: less than balancers wait for an answer.
const PATIENCE: Duration = Duration::from_secs(25);

/// Verifications, or contents in quarantine, per page by default.
const PAGE: u32 = 100;

/// The largest page: about 300 KiB of JSON.
const MAX_PAGE: u32 = 1000;

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub node: Arc<Node>,
    pub history: Arc<dyn Verifications>,
    pub quarantine: Arc<dyn QuarantineList>,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(verify, history, quarantined, move_content))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps))
        .service(routing::resource("/v1/storage/verify/{contentHash}").route(web::post().to(verify)))
        .service(routing::resource("/v1/storage/verifications/{contentHash}").route(routing::read().to(history)))
        .service(routing::resource("/v1/storage/quarantine").route(routing::read().to(quarantined)))
        .service(routing::resource("/v1/storage/move/{contentHash}").route(web::post().to(move_content)));
}

/// The permit to work on the storage.
fn enter(node: &Node) -> Result<Permit, Problem> {
    node.storage_work.try_admit(1).ok_or_else(|| ProblemType::Overloaded.into())
}

/// Runs work to its end, and waits for it for a limited time; `None` when it continues.
async fn for_a_while<T: 'static>(
    permit: Permit,
    work: impl Future<Output = Result<T, Problem>> + 'static,
) -> Result<Option<T>, Problem> {
    let work = async move {
        let done = work.await;
        drop(permit);
        // The client may not wait any more, so the log has the error.
        if let Err(problem) = &done {
            tracing::debug!(%problem, cause = problem.cause(), "work on stored content failed");
        }
        done
    };
    match tokio::time::timeout(PATIENCE, actix_web::rt::spawn(work.in_task_span())).await {
        Ok(Ok(done)) => done.map(Some),
        Ok(Err(stopped)) => Err(Problem::new(ProblemType::Internal).caused_by(stopped)),
        Err(_) => Ok(None),
    }
}

/// The answer for work that was accepted and continues.
fn under_way(hash: ContentHash, status: &str) -> HttpResponse {
    answer::no_store(HttpResponse::Accepted()).json(json!({ "contentHash": hash, "status": status }))
}

#[utoipa::path(
    post,
    path = "/v1/storage/verify/{contentHash}",
    operation_id = "verifyContent",
    tag = "Stored content",
    summary = "Verify all copies of a content",
    description = "",
    params(("contentHash" = scalars::Hash, Path, description = "The content")),
    responses(
        (status = 200, description = "The findings", body = answers::Verified),
        (status = 202, description = "The work continues", body = answers::UnderWay),
    ),
    extensions(("x-problems" = json!(["content-not-stored", "content-unavailable"]))),
)]
async fn verify(_: Admin, hash: Path<String>, deps: Data<Deps>) -> Result<HttpResponse, Problem> {
    let hash: ContentHash = hash.parse()?;
    let permit = enter(&deps.node)?;
    let verifier = deps.node.verifier.clone();
    let look = async move { Ok(verifier.verify(hash, VerificationKind::OnDemand, None).await?) };
    match for_a_while(permit, look).await? {
        Some(Some(verified)) => Ok(answer::ok(&shown(&verified))),
        Some(None) => Err(ProblemType::ContentNotStored.into()),
        None => Ok(under_way(hash, "under_way")),
    }
}

fn shown(verified: &Verified) -> Value {
    let content = &verified.content;
    let status = match (verified.quarantined, verified.repaired.is_empty()) {
        (true, _) => "damaged",
        (false, false) => "repaired",
        (false, true) => "intact",
    };
    let copies: Vec<_> = verified
        .copies
        .iter()
        .map(|copy| json!({ "tier": copy.tier, "finding": copy.finding, "foundBytes": copy.found_bytes }))
        .collect();
    json!({
        "contentHash": content.content_hash,
        "sizeBytes": content.size_bytes,
        "tier": content.tier,
        "status": status,
        "quarantined": verified.quarantined,
        "copies": copies,
        "repaired": verified.repaired,
        "removed": verified.removed,
    })
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct VerificationQuery {
    /// One kind alone
    #[serde(rename = "type")]
    #[param(inline, value_type = Option<scalars::VerificationKind>)]
    kind: Option<String>,
    /// The `nextCursor` of the page before
    #[param(value_type = Option<scalars::Cursor>)]
    cursor: Option<String>,
    /// Items per page
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

#[utoipa::path(
    get,
    path = "/v1/storage/verifications/{contentHash}",
    operation_id = "listVerifications",
    tag = "Stored content",
    summary = "List the verifications of a content",
    description = "",
    params(("contentHash" = scalars::Hash, Path, description = "The content"), VerificationQuery),
    responses(
        (status = 200, description = "The verifications", body = answers::VerificationPage),
    ),
)]
async fn history(
    _: Admin,
    hash: Path<String>,
    which: Query<VerificationQuery>,
    deps: Data<Deps>,
) -> Result<HttpResponse, Problem> {
    let hash: ContentHash = hash.parse()?;
    let after = which.cursor.as_deref().map(read_cursor).transpose()?;
    let limit = paging::limit(which.limit, PAGE, MAX_PAGE)?;
    let kind = match which.kind.as_deref() {
        None => None,
        Some(word) => Some(VerificationKind::parse(word).ok_or_else(|| {
            let known: Vec<_> = VerificationKind::ALL.iter().map(|kind| kind.as_str()).collect();
            Problem::malformed(format!("type is one of {}", known.join(", ")))
        })?),
    };
    // One more than is shown, to know whether there are more.
    let page = Page::of(deps.history.verifications(hash, kind, after, limit + 1).await?, limit);
    let next = page.items.last().filter(|_| page.more).map(write_cursor);
    let items: Vec<_> = page.items.iter().map(row).collect();
    Ok(answer::ok(&json!({ "items": items, "nextCursor": next })))
}

fn row(look: &Verification) -> Value {
    json!({
        "verificationId": look.verification_id,
        "contentHash": look.content_hash,
        "type": look.kind,
        "tier": look.tier,
        "finding": look.finding,
        "expectedBytes": look.expected_bytes,
        "foundBytes": look.found_bytes,
        "nodeId": look.node,
        "verifiedAt": look.verified_at,
    })
}

fn write_cursor(last: &Verification) -> String {
    paging::cursor_in_time(last.verified_at, last.verification_id.as_uuid())
}

fn read_cursor(text: &str) -> Result<HistoryPosition, Problem> {
    let (verified_at, id) = paging::place_in_time(text)?;
    Ok(HistoryPosition { verified_at, verification_id: VerificationId::from_uuid(id) })
}

/// The contents that are withheld from readers, in the order of their hashes.
#[utoipa::path(
    get,
    path = "/v1/storage/quarantine",
    operation_id = "listQuarantine",
    tag = "Stored content",
    summary = "List the contents that are withheld because they are damaged",
    description = "In the order of their hashes.",
    params(paging::PageQuery),
    responses((status = 200, description = "The contents", body = answers::QuarantinePage)),
)]
async fn quarantined(_: Admin, which: Query<paging::PageQuery>, deps: Data<Deps>) -> Result<HttpResponse, Problem> {
    let read = |place: Vec<u8>| place.try_into().ok().map(ContentHash::from_bytes);
    let after = which.cursor.as_deref().map(|cursor| paging::place(cursor, read)).transpose()?;
    let limit = paging::limit(which.limit, PAGE, MAX_PAGE)?;
    let page = Page::of(deps.quarantine.quarantined(after, limit + 1).await?, limit);
    let next = page.items.last().filter(|_| page.more).map(|last| paging::cursor(last.content_hash.as_bytes()));
    let items: Vec<_> =
        page.items.iter().map(|one| json!({ "contentHash": one.content_hash, "since": one.since })).collect();
    Ok(answer::ok(&json!({ "items": items, "nextCursor": next })))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Move {
    #[schema(value_type = scalars::Tier)]
    tier: String,
}

impl Validate for Move {
    fn validate(&self, violations: &mut Violations) {
        violations.require(StorageTier::parse(&self.tier).is_some(), "tier", "must be hot, warm or cold");
    }
}

#[utoipa::path(
    post,
    path = "/v1/storage/move/{contentHash}",
    operation_id = "moveContent",
    tag = "Stored content",
    summary = "Move a content to another storage tier",
    description = "",
    params(("contentHash" = scalars::Hash, Path, description = "The content")),
    request_body = Move,
    responses(
        (status = 200, description = "The content is moved", body = answers::Moved),
        (status = 202, description = "The work continues", body = answers::UnderWay),
    ),
    extensions(("x-problems" = json!(["content-not-stored", "content-moving", "content-unavailable", "storage-full"]))),
)]
async fn move_content(
    _: Admin,
    hash: Path<String>,
    deps: Data<Deps>,
    body: JsonBody<Move>,
) -> Result<HttpResponse, Problem> {
    let hash: ContentHash = hash.parse()?;
    let asked = body.read().await?;
    let Some(to) = StorageTier::parse(&asked.tier) else { return Err(ProblemType::ValidationFailed.into()) };
    let permit = enter(&deps.node)?;
    let mover = deps.node.mover.clone();
    let carried = async move {
        match mover.begin(hash, to).await? {
            MoveStart::Ours(at) => {
                mover.carry_out(&at, None).await?;
                Ok(MoveState::Leaving)
            }
            MoveStart::Known(at) => Ok(at.state),
        }
    };
    match for_a_while(permit, carried).await? {
        Some(MoveState::Leaving) => Ok(answer::ok(&json!({ "contentHash": hash, "tier": to, "status": "moved" }))),
        Some(MoveState::Copying) | None => Ok(under_way(hash, "copying")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_and_a_made_up_one_is_refused() {
        let look = Verification {
            verification_id: VerificationId::next(),
            content_hash: ContentHash::from_bytes([1; 32]),
            kind: VerificationKind::Walk,
            tier: StorageTier::Hot,
            finding: penstock_actors::model::Finding::Intact,
            expected_bytes: 1,
            found_bytes: Some(1),
            node: penstock_actors::ids::NodeId::random(),
            verified_at: "2026-01-02T03:04:05.678901Z".parse().expect("a time"),
        };
        let place = HistoryPosition { verified_at: look.verified_at, verification_id: look.verification_id };
        assert_eq!(read_cursor(&write_cursor(&look)).ok(), Some(place));
        for bad in ["", "AAAA", "not base64!", &"A".repeat(200)] {
            assert!(read_cursor(bad).is_err(), "{bad}");
        }
    }
}
