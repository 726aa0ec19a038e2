//! What is kept about the payer of a receipt: shown, and forgotten, for an admin.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    HttpResponse,
    web::{self, Data, Path, Query, ServiceConfig},
};
use penstock_actors::{
    clock::Clock,
    ids::ReceiptId,
    node::Node,
    ports::{ErasureStep, PayerData, Receipts, SetAside, Tag},
};
use serde_json::{Value, json};

use super::{
    ChangePublisher, Problem, ProblemType, ReceiptReader, answer,
    auth::Admin,
    paging::{self, PageQuery},
    receipts::as_of,
    routing,
    usage::{read_cursor, write_cursor},
};
use crate::http::schemas::{answers, scalars};

/// Usage rows per page: a read of as many index entries.
const PAGE: u32 = 1000;

/// Rows set aside that are shown. Each is an incident; the command line shows all of them.
const SET_ASIDE: u32 = 1000;

/// Usage rows made anonymous in one transaction: about 10 ms of SQLite's writer, for which starting streams may have to wait.
const STEP: u32 = 500;

/// Between two steps, so that streams come first.
const PAUSE: Duration = Duration::from_millis(10);

/// How long the usage of streams that have just ended may take to reach the ledger.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);

/// How long instances may take to give back the credit that they hold: those without Redis read of it in the change log.
const RECALL_PATIENCE: Duration = Duration::from_secs(5);
const RECALL_PAUSE: Duration = Duration::from_millis(50);

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub node: Arc<Node>,
    pub receipts: Arc<dyn Receipts>,
    pub payers: Arc<dyn PayerData>,
    pub publisher: Arc<ChangePublisher>,
    pub clock: Arc<dyn Clock>,
    pub reader: Arc<ReceiptReader>,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(export, forget))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps)).service(
        routing::resource("/v1/privacy/receipts/{receiptId}")
            .route(routing::read().to(export))
            .route(web::delete().to(forget)),
    );
}

#[utoipa::path(
    get,
    path = "/v1/privacy/receipts/{receiptId}",
    operation_id = "exportPayer",
    tag = "Privacy",
    summary = "Show what is kept about the payer of a receipt",
    description = "",
    params(("receiptId" = scalars::ReceiptName, Path, description = "The receipt: its id, or its token"), PageQuery),
    responses(
        (status = 200, description = "What is kept", body = answers::PayerData),
    ),
    extensions(("x-problems" = json!(["unknown-receipt"]))),
)]
async fn export(
    _: Admin,
    deps: Data<Deps>,
    receipt: Path<String>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let id = deps.reader.open_for_key_holder(&receipt)?;
    let after = page.cursor.as_deref().map(read_cursor).transpose()?;
    let limit = paging::limit(page.limit, PAGE, PAGE)?;
    let receipt = deps.receipts.receipt(id).await?;
    let set_aside = deps.payers.set_aside_under(id, SET_ASIDE).await?;
    if receipt.is_none() && set_aside.is_empty() {
        return Err(ProblemType::UnknownReceipt.into());
    }
    let usage = deps.receipts.usage(id, after, limit).await?;
    let next = usage.items.last().filter(|_| usage.more).map(|row| write_cursor(row.usage_id));
    Ok(answer::ok(&json!({
        "receipt": receipt.map(|receipt| as_of(receipt, deps.clock.now())),
        "setAside": set_aside.iter().map(shown).collect::<Vec<_>>(),
        "usage": usage.items,
        "nextCursor": next,
    })))
}

fn shown(SetAside { row, set_aside_at, reason, .. }: &SetAside) -> Value {
    json!({ "row": row, "setAsideAt": set_aside_at, "reason": reason })
}

#[utoipa::path(
    delete,
    path = "/v1/privacy/receipts/{receiptId}",
    operation_id = "forgetPayer",
    tag = "Privacy",
    summary = "Forget the payer of a receipt",
    description = "",
    params(("receiptId" = scalars::ReceiptName, Path, description = "The receipt: its id, or its token")),
    responses(
        (status = 200, description = "The payer is forgotten", body = answers::Forgotten),
    ),
    extensions(("x-problems" = json!(["receipt-in-use", "unknown-receipt"]))),
)]
async fn forget(_: Admin, deps: Data<Deps>, receipt: Path<String>) -> Result<HttpResponse, Problem> {
    let id = deps.reader.open_for_key_holder(&receipt)?;
    answer::to_the_end(async move {
        deps.node.settled(id, SETTLE_PATIENCE).await;
        let usage_rows = erase(&deps, id).await?;
        deps.publisher.publish(Tag::Receipt(id)).await;
        // Without the id: a log outlives what it tells of.
        tracing::info!(usage_rows, "the payer of a receipt is forgotten; the usage rows of the receipt are anonymous");
        Ok(answer::ok(&json!({ "usageRows": usage_rows })))
    })
    .await
}

/// Repeats the step until nothing of the receipt is left; returns how many usage rows were made anonymous.
async fn erase(deps: &Deps, id: ReceiptId) -> Result<u64, Problem> {
    let (mut usage_rows, mut recalled) = (0, None::<Instant>);
    loop {
        let pause = match deps.payers.erase(id, STEP).await? {
            ErasureStep::More(rows) => {
                usage_rows += rows;
                PAUSE
            }
            ErasureStep::Done(rows) => return Ok(usage_rows + rows),
            ErasureStep::Open => {
                return Err(in_use("it may still be streamed under; set its status to consumed or refunded first"));
            }
            ErasureStep::Leased if recalled.is_some_and(|at| at.elapsed() > RECALL_PATIENCE) => {
                return Err(in_use("instances hold credit of it; repeat the call when they have given it back"));
            }
            ErasureStep::Leased => {
                if recalled.is_none() {
                    deps.publisher.tell(&[Tag::Recall(id)]).await?;
                    recalled = Some(Instant::now());
                }
                RECALL_PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

fn in_use(why: &'static str) -> Problem {
    Problem::new(ProblemType::ReceiptInUse).detail(why)
}
