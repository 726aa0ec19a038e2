//! Receipts for payments on chain (BRC-121): `POST /v1/assets/{versionId}/purchase`.
//!
//! A request without a payment is told the price, with 402 and no body. The same request with a payment gets a receipt. Anybody may pay;
//! who asks again for what was paid must show that it is the payer, by a signature.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{HeaderName, HeaderValue},
    web::{self, Data, Path, ServiceConfig},
};
use penstock_actors::{
    clock::Clock,
    ids::VersionId,
    model::{IdentityKey, Receipt},
    payments::purchase::{NoPurchase, Order, Purchase, Purchased},
    policy_evaluator::PolicyEvaluator,
    ports::Assets,
};

use self::sent::{PaymentSent, Sent};
use super::{
    Problem, ProblemType, ReceiptReader, answer, auth,
    governance::gate::{self, GateWarnings},
    receipts::as_of,
    routing,
};
use crate::{
    http::schemas::{answers, scalars},
    telemetry::metrics::{PaymentMetrics, PurchaseOutcome},
};

mod sent;

pub use sent::BodyLimits;

const PRICE: HeaderName = HeaderName::from_static("x-bsv-sats");
const PAYEE: HeaderName = HeaderName::from_static("x-bsv-server");

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    /// `None`: this node has no payment key.
    pub purchase: Option<Purchase>,
    pub limits: BodyLimits,
    pub assets: Arc<dyn Assets>,
    pub evaluator: Arc<PolicyEvaluator>,
    pub reader: Arc<ReceiptReader>,
    pub clock: Arc<dyn Clock>,
    pub metrics: PaymentMetrics,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(buy))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps))
        .service(routing::resource("/v1/assets/{versionId}/purchase").route(web::post().to(buy)));
}

#[utoipa::path(
    post,
    path = "/v1/assets/{versionId}/purchase",
    operation_id = "buyReceipt",
    tag = "Receipts",
    summary = "Buy a receipt on chain",
    description = "Without a payment the answer is 402 with the price (BRC-121). With a payment, in header fields or in the body, it is the receipt. A payer that asks again, signed with the key that paid, gets the same receipt.",
    params(
        ("versionId" = scalars::Id, Path, description = "The asset"),
        ("x-bsv-beef" = Option<String>, Header, description = "The payment: a BEEF in base64"),
        ("x-bsv-sender" = Option<String>, Header, description = "The payer's identity key"),
        ("x-bsv-nonce" = Option<String>, Header, description = "The derivation prefix, in base64"),
        ("x-bsv-time" = Option<String>, Header, description = "When the payment was made, in milliseconds since 1970: its text in base64 is the derivation suffix"),
        ("x-bsv-vout" = Option<String>, Header, description = "The index of the output that pays"),
    ),
    request_body(
        content(
            (sent::PaymentBody = "application/json"),
            ([u8] = "application/octet-stream"),
        ),
        description = "A payment too large for header fields: all of its parts as JSON, or the BEEF alone",
    ),
    responses(
        (status = 200, description = "The receipt that this payment has bought before", body = answers::Receipt),
        (status = 201, description = "The receipt", body = answers::Receipt, headers(("Location" = String, description = "The address of the new resource"))),
        (status = 402, description = "The price: without a body when the request has no payment", headers(("x-bsv-sats" = u64, description = "The price in satoshis"), ("x-bsv-server" = String, description = "The node's payment key"))),
    ),
    extensions(("x-problems" = json!(["payment-required", "not-for-sale", "chain-behind", "unknown-asset", "policy-blocked", "policy-missing", "signature-refused", "upload-too-large"]))),
)]
async fn buy(
    request: HttpRequest,
    deps: Data<Deps>,
    version_id: Path<String>,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let version: VersionId = version_id.parse()?;
    let bought = match &deps.purchase {
        Some(purchase) => answered(&request, &deps, purchase, version, body).await,
        None => Err(not_for_sale("off", "this node has no payment key, or no source of headers")),
    };
    deps.metrics.purchase(match &bought {
        Ok((outcome, _)) => *outcome,
        Err(problem) => outcome_of(problem.kind()),
    });
    bought.map(|(_, answer)| answer)
}

type Answered = Result<(PurchaseOutcome, HttpResponse), Problem>;

async fn answered(
    request: &HttpRequest,
    deps: &Deps,
    purchase: &Purchase,
    version: VersionId,
    body: web::Payload,
) -> Answered {
    let signer = auth::payer(request)?;
    let asset = deps.assets.asset(version).await?.ok_or(ProblemType::UnknownAsset)?;
    let sent = PaymentSent::read(request, body, deps.limits).await?;
    let passed = gate::before_selling(&deps.evaluator, &asset).await?;
    let sent = match sent {
        PaymentSent::Nothing => {
            let price = purchase.offer(version).await.map_err(refused)?;
            return Ok((PurchaseOutcome::Offered, offer(purchase, price.asked)));
        }
        PaymentSent::Incomplete(why) => return Err(with_offer(purchase, version, unpaid("malformed", why)).await),
        PaymentSent::Whole(sent) => sent,
    };
    match paid(deps, purchase, version, signer, sent).await {
        Ok(Purchased::New(receipt)) => {
            let location = format!("/v1/receipts/{}", receipt.receipt_id);
            Ok((PurchaseOutcome::Bought, answer::created(&location, &shown(deps, receipt, passed))))
        }
        Ok(Purchased::Before(receipt)) => Ok((PurchaseOutcome::ShownAgain, answer::ok(&shown(deps, receipt, passed)))),
        Err(problem) if problem.kind() == ProblemType::PaymentRequired => {
            Err(with_offer(purchase, version, problem).await)
        }
        Err(problem) => Err(problem),
    }
}

async fn paid(
    deps: &Deps,
    purchase: &Purchase,
    version_id: VersionId,
    signer: Option<IdentityKey>,
    sent: Sent,
) -> Result<Purchased, Problem> {
    let is_signed = match signer {
        Some(signer) if signer != sent.sender => {
            return Err(unpaid("other-signer", "the request is signed by another key than that of the sender"));
        }
        signer => signer.is_some(),
    };
    // A copy of somebody else's payment is worth something for this long at most; a signature cannot be copied to another request.
    if !is_signed && !sent.is_fresh(deps.clock.now()) {
        let why = "x-bsv-time is more than 30 seconds from the node's clock; sign the request with the key that paid";
        return Err(unpaid("stale", why).with("now", deps.clock.now().as_millisecond()));
    }
    let order =
        Order { version_id, derivation: sent.derivation(), beef: sent.beef, sender: sent.sender, vout: sent.vout };
    let purchase = purchase.clone();
    let bought = answer::to_the_end(async move { purchase.buy(order).await.map_err(refused) }).await?;
    match bought {
        Purchased::Before(_) if !is_signed => Err(unpaid(
            "replayed",
            "the payment has bought its receipt; sign the request with the key that paid to get it again",
        )),
        bought => Ok(bought),
    }
}

fn shown(deps: &Deps, receipt: Receipt, passed: GateWarnings) -> impl serde::Serialize {
    passed.with(deps.reader.with_token(as_of(receipt, deps.clock.now())))
}

/// The price, as BRC-121 has it.
fn offer(purchase: &Purchase, satoshis: u64) -> HttpResponse {
    let mut answer = answer::no_store(HttpResponse::PaymentRequired());
    for (name, value) in terms(purchase, satoshis) {
        answer.insert_header((name, value));
    }
    // With a length, so that a client does not wait for the end of the connection.
    answer.body("")
}

/// The fields that tell a payer what to pay, and to whom.
fn terms(purchase: &Purchase, satoshis: u64) -> Vec<(HeaderName, HeaderValue)> {
    let payee = HeaderValue::try_from(purchase.payee().to_string());
    let mut fields = vec![
        (PRICE, HeaderValue::from(satoshis)),
        (actix_web::http::header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("x-bsv-sats, x-bsv-server")),
    ];
    // 66 hexadecimal characters are always a value.
    fields.extend(payee.map(|payee| (PAYEE, payee)));
    fields
}

/// A refusal of a payment that also says what would be enough, if the asset is for sale now.
async fn with_offer(purchase: &Purchase, version: VersionId, refusal: Problem) -> Problem {
    let Ok(price) = purchase.offer(version).await else { return refusal };
    terms(purchase, price.asked).into_iter().fold(refusal, |refusal, (name, value)| refusal.header(name, value))
}

fn unpaid(reason: &'static str, detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(ProblemType::PaymentRequired).detail(detail).with("reason", reason)
}

fn not_for_sale(reason: &'static str, detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(ProblemType::NotForSale).detail(detail).with("reason", reason)
}

fn refused(refusal: NoPurchase) -> Problem {
    let detail = refusal.to_string();
    match refusal {
        NoPurchase::UnknownAsset => ProblemType::UnknownAsset.into(),
        NoPurchase::NotForSale => not_for_sale("no-price", detail),
        NoPurchase::NoBroadcaster => not_for_sale("no-broadcaster", detail),
        NoPurchase::TooExpensive { most_satoshis } => {
            not_for_sale("price-too-high", detail).with("limit", most_satoshis)
        }
        NoPurchase::HeadersTooOld => ProblemType::ChainBehind.into(),
        NoPurchase::Overloaded => {
            Problem::new(ProblemType::Overloaded).caused_by("as many payments are being verified as may be at a time")
        }
        NoPurchase::Invalid(_) => unpaid("invalid", detail),
        NoPurchase::NoOutput(_) => unpaid("no-output", detail),
        NoPurchase::OtherKey => unpaid("other-key", detail),
        NoPurchase::TooLittle { paid, price } => unpaid("too-little", detail).with("paid", paid).with("price", price),
        NoPurchase::Taken => unpaid("taken", detail),
        NoPurchase::Conflict(_) => unpaid("conflict", detail),
        NoPurchase::Port(error) => error.into(),
    }
}

/// The label of a refusal in `penstock_purchases_total`.
fn outcome_of(refusal: ProblemType) -> PurchaseOutcome {
    match refusal {
        ProblemType::PaymentRequired => PurchaseOutcome::Unpaid,
        refusal if refusal.status().is_server_error() => PurchaseOutcome::Failed,
        _ => PurchaseOutcome::Refused,
    }
}
