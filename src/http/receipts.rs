//! Receipts: create, read, change their status.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpResponse,
    web::{self, Data, Path, ServiceConfig},
};
use jiff::Timestamp;
use penstock_actors::{
    clock::{Clock, to_micros},
    ids::{ReceiptId, VersionId},
    model::{Receipt, ReceiptStatus, moment},
    policy_evaluator::PolicyEvaluator,
    ports::{Assets, NewReceipt, Receipts, StatusChange, Tag},
};
use serde::Deserialize;

use super::{
    ChangePublisher, JsonBody, Problem, ProblemType, ReceiptReader, answer,
    auth::Producer,
    governance::gate,
    routing,
    validation::{Validate, Violations},
};
use crate::http::schemas::{answers, scalars};

/// How long a receipt lives when its producer does not say: the contract's default.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub assets: Arc<dyn Assets>,
    pub receipts: Arc<dyn Receipts>,
    pub publisher: Arc<ChangePublisher>,
    pub evaluator: Arc<PolicyEvaluator>,
    pub clock: Arc<dyn Clock>,
    pub reader: Arc<ReceiptReader>,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(create, show, set_status))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps)).service(routing::resource("/v1/receipts").route(web::post().to(create))).service(
        routing::resource("/v1/receipts/{receiptId}")
            .route(routing::read().to(show))
            .route(web::patch().to(set_status)),
    );
}

/// The request to create a receipt.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateReceipt {
    #[schema(value_type = scalars::Id)]
    version_id: VersionId,
    /// By default `standard`
    #[schema(value_type = Option<scalars::PlainName>)]
    quota_tier: Option<String>,
    /// May be in the past: the receipt is then expired from the start.
    #[serde(default, deserialize_with = "moment::optional")]
    #[schema(value_type = Option<scalars::Moment>)]
    expires_at: Option<Timestamp>,
    /// By default `confirmed`
    #[schema(value_type = Option<scalars::ReceiptStatus>)]
    status: Option<ReceiptStatus>,
}

/// The default tier of a receipt.
const USUAL_TIER: &str = "standard";

impl Validate for CreateReceipt {
    fn validate(&self, violations: &mut Violations) {
        if let Some(tier) = &self.quota_tier {
            violations.tier("quotaTier", tier);
        }
        // A receipt has no use for times before 1970, and databases differ in the earliest time that they store.
        let after_epoch = self.expires_at.is_none_or(|at| at >= Timestamp::UNIX_EPOCH);
        violations.require(after_epoch, "expiresAt", "must not be before 1970");
    }
}

#[utoipa::path(
    post,
    path = "/v1/receipts",
    operation_id = "issueReceipt",
    tag = "Receipts",
    summary = "Issue a receipt",
    description = "",
    request_body = CreateReceipt,
    responses(
        (status = 201, description = "The receipt", body = answers::Receipt, headers(("Location" = String, description = "The address of the new resource"))),
    ),
    extensions(("x-problems" = json!(["unknown-asset", "unknown-tier", "forbidden", "policy-blocked", "policy-missing"]))),
)]
async fn create(producer: Producer, deps: Data<Deps>, body: JsonBody<CreateReceipt>) -> Result<HttpResponse, Problem> {
    let given = body.read().await?;
    let asset = deps.assets.asset(given.version_id).await?.ok_or(ProblemType::UnknownAsset)?;
    producer.must_own(asset.producer_id)?;
    let passed = gate::before_selling(&deps.evaluator, &asset).await?;
    let now = deps.clock.now();
    let receipt = NewReceipt {
        receipt_id: ReceiptId::random(),
        version_id: given.version_id,
        quota_tier: given.quota_tier.unwrap_or_else(|| USUAL_TIER.to_owned()),
        status: given.status.unwrap_or(ReceiptStatus::Confirmed),
        expires_at: given.expires_at.map_or(now + LIFETIME, to_micros),
        created_at: now,
    };
    let receipt = deps.receipts.create_receipt(&receipt).await?;
    let location = format!("/v1/receipts/{}", receipt.receipt_id);
    Ok(answer::created(&location, &passed.with(deps.reader.with_token(as_of(receipt, now)))))
}

#[utoipa::path(
    get,
    path = "/v1/receipts/{receiptId}",
    operation_id = "showReceipt",
    tag = "Receipts",
    summary = "Show a receipt",
    description = "",
    params(("receiptId" = scalars::ReceiptName, Path, description = "The receipt: its id, or its token")),
    responses(
        (status = 200, description = "The receipt", body = answers::Receipt),
    ),
    extensions(("x-problems" = json!(["unknown-receipt"]))),
)]
async fn show(deps: Data<Deps>, receipt_id: Path<String>) -> Result<HttpResponse, Problem> {
    let id = deps.reader.open(&receipt_id)?;
    let receipt = deps.receipts.receipt(id).await?.ok_or(ProblemType::UnknownReceipt)?;
    Ok(answer::ok(&deps.reader.with_token(as_of(receipt, deps.clock.now()))))
}

/// The receipt with its present status: past its time it is expired, even if the ledger does not say so yet.
pub(super) fn as_of(mut receipt: Receipt, now: Timestamp) -> Receipt {
    receipt.status = receipt.status_at(now);
    receipt
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct SetStatus {
    #[schema(value_type = scalars::ReceiptStatus)]
    status: ReceiptStatus,
}

impl Validate for SetStatus {
    fn validate(&self, _: &mut Violations) {}
}

#[utoipa::path(
    patch,
    path = "/v1/receipts/{receiptId}",
    operation_id = "setReceiptStatus",
    tag = "Receipts",
    summary = "Change the status of a receipt",
    description = "`refunded` stops running streams within a second.",
    params(("receiptId" = scalars::ReceiptName, Path, description = "The receipt: its id, or its token")),
    request_body = SetStatus,
    responses(
        (status = 200, description = "The receipt", body = answers::Receipt),
    ),
    extensions(("x-problems" = json!(["unknown-receipt", "receipt-transition"]))),
)]
async fn set_status(
    producer: Producer,
    deps: Data<Deps>,
    receipt_id: Path<String>,
    body: JsonBody<SetStatus>,
) -> Result<HttpResponse, Problem> {
    let id = deps.reader.open_for_key_holder(&receipt_id)?;
    let to = body.read().await?.status;
    must_own(&producer, &*deps.assets, &*deps.receipts, id).await?;
    answer::to_the_end(async move {
        let now = deps.clock.now();
        match deps.receipts.set_receipt_status(id, to, now).await? {
            StatusChange::Changed(receipt) => {
                deps.publisher.publish(Tag::Receipt(id)).await;
                Ok(answer::ok(&deps.reader.with_token(as_of(receipt, now))))
            }
            StatusChange::Refused(from) => Err(refused(from, to)),
            StatusChange::NotFound => Err(Problem::from(ProblemType::UnknownReceipt)),
        }
    })
    .await
}

fn refused(from: ReceiptStatus, to: ReceiptStatus) -> Problem {
    Problem::new(ProblemType::ReceiptTransition)
        .detail(format!("a receipt that is {from} cannot become {to}"))
        .with("from", from.as_str())
        .with("to", to.as_str())
}

/// Refuses a caller that is neither an admin nor the producer of the receipt's asset. Receipts are not public, so the receipt of
/// another producer's asset is answered as one that does not exist.
///
/// # Errors
/// `unknown-receipt`, or the errors of the ports.
pub(super) async fn must_own(
    producer: &Producer,
    assets: &dyn Assets,
    receipts: &dyn Receipts,
    id: ReceiptId,
) -> Result<(), Problem> {
    let receipt = receipts.receipt(id).await?.ok_or(ProblemType::UnknownReceipt)?;
    if producer.scope().is_none() {
        return Ok(());
    }
    let asset = assets.asset(receipt.version_id).await?.ok_or(ProblemType::UnknownAsset)?;
    if producer.owns(asset.producer_id) { Ok(()) } else { Err(ProblemType::UnknownReceipt.into()) }
}
