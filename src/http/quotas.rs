//! A receipt's quota: the usage in its windows, what is left, and when it would run out.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpResponse,
    web::{Data, Path, ServiceConfig},
};
use jiff::Timestamp;
use penstock_actors::{
    clock::Clock,
    model::{QuotaPolicy, WindowUsage},
    node::Node,
    ports::{Receipts, StreamSlots},
};
use serde_json::{Map, Value, json};

use super::{Problem, ProblemType, ReceiptReader, answer, routing};
use crate::http::schemas::{answers, scalars};

/// How long the answer waits for usage that is not in the ledger yet, so that a client sees what it just streamed.
const SETTLING: Duration = Duration::from_secs(2);

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub node: Arc<Node>,
    pub receipts: Arc<dyn Receipts>,
    pub slots: Arc<dyn StreamSlots>,
    pub clock: Arc<dyn Clock>,
    pub reader: Arc<ReceiptReader>,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(show))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps))
        .service(routing::resource("/v1/streaming/quotas/{receiptId}").route(routing::read().to(show)));
}

#[utoipa::path(
    get,
    path = "/v1/streaming/quotas/{receiptId}",
    operation_id = "showQuota",
    tag = "Receipts",
    summary = "Show the quota of a receipt",
    description = "",
    params(("receiptId" = scalars::ReceiptName, Path, description = "The receipt: its id, or its token")),
    responses(
        (status = 200, description = "The quota", body = answers::Quota),
    ),
    extensions(("x-problems" = json!(["unknown-receipt"]))),
)]
async fn show(receipt_id: Path<String>, deps: Data<Deps>) -> Result<HttpResponse, Problem> {
    let id = deps.reader.open(&receipt_id)?;
    let settled = deps.node.settled(id, SETTLING).await;
    let now = deps.clock.now();
    let (quota, active) = futures::join!(deps.receipts.quota(id, now), deps.slots.slots(id));
    let quota = quota?.ok_or(ProblemType::UnknownReceipt)?;
    let policy = &quota.policy;
    let by_window = |make: &dyn Fn(&WindowUsage) -> Value| -> Map<String, Value> {
        quota.windows.iter().map(|usage| (usage.window.kind.as_str().to_owned(), make(usage))).collect()
    };
    Ok(answer::ok(&json!({
        "receiptId": id,
        "quotaPolicy": policy,
        "windows": by_window(&|usage| window(policy, usage)),
        "burst": {
            "bytesAllowance": policy.burst_bytes_allowance.unwrap_or(0),
            "durationMinutes": policy.burst_duration_minutes,
        },
        "concurrent": {
            // `null` (unknown) and not 0 while the shared state does not answer.
            "activeStreams": active.ok(),
            "maxAllowed": policy.max_concurrent_streams,
        },
        "projections": by_window(&|usage| projection(policy, usage, now)),
        "settled": settled,
    })))
}

fn window(policy: &QuotaPolicy, usage: &WindowUsage) -> Value {
    let limits = policy.limits(usage.window.kind);
    json!({
        "windowStart": usage.window.start,
        "windowEnd": usage.window.end,
        "bytesUsed": usage.used.bytes,
        "bytesReserved": usage.reserved.bytes,
        "bytesAllowed": limits.bytes,
        "requestsUsed": usage.used.requests,
        "requestsReserved": usage.reserved.requests,
        "requestsAllowed": limits.requests,
        "utilizationPercentage": limits.bytes.map(|limit| percentage(usage.used.bytes, limit)),
    })
}

fn percentage(used: u64, limit: u64) -> f64 {
    if limit == 0 {
        return 100.0;
    }
    // Two decimals: a percentage is not more precise.
    (used as f64 / limit as f64 * 10_000.0).round() / 100.0
}

/// The usage at the end of the window at the present rate, and when its bytes run out if that is earlier.
fn projection(policy: &QuotaPolicy, usage: &WindowUsage, now: Timestamp) -> Value {
    let elapsed = now.duration_since(usage.window.start).as_secs_f64();
    let whole = usage.window.end.duration_since(usage.window.start).as_secs_f64();
    let rate = if elapsed > 0.0 { usage.used.bytes as f64 / elapsed } else { 0.0 };
    let runs_out = policy.limits(usage.window.kind).bytes.filter(|_| rate > 0.0).and_then(|limit| {
        let left = limit.saturating_sub(usage.used.bytes) as f64 / rate;
        let at = now.checked_add(Duration::try_from_secs_f64(left).ok()?).ok()?;
        (at < usage.window.end).then_some(at)
    });
    json!({ "bytesAtEnd": (rate * whole) as u64, "exhaustedAt": runs_out })
}

#[cfg(test)]
mod tests {
    use penstock_actors::model::{Credit, WindowKind};

    use super::*;

    #[test]
    fn a_projection_goes_on_as_the_window_has_begun() {
        let at = |text: &str| -> Timestamp { text.parse().expect("a time") };
        let window = WindowKind::Hour.window(at("2026-11-01T10:15:00Z"));
        let usage = WindowUsage { used: Credit::new(300, 3), ..WindowUsage::empty(window) };
        let policy = QuotaPolicy { bytes_per_hour: Some(900), ..QuotaPolicy::default() };
        let projected = projection(&policy, &usage, at("2026-11-01T10:15:00Z"));
        assert_eq!(projected["bytesAtEnd"], 1200);
        assert_eq!(projected["exhaustedAt"], "2026-11-01T10:45:00Z");
        let unlimited = projection(&QuotaPolicy::default(), &usage, at("2026-11-01T10:15:00Z"));
        assert_eq!(unlimited["exhaustedAt"], Value::Null);
    }
}
