//! Quota policies: the limits of each tier.

use std::sync::Arc;

use actix_web::{
    HttpResponse,
    web::{self, Data, Path, ServiceConfig},
};
use penstock_actors::{
    clock::Clock,
    model::QuotaPolicy,
    ports::{Receipts, Tag},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    ChangePublisher, JsonBody, Problem, ProblemType, answer,
    auth::Admin,
    routing,
    validation::{Validate, Violations, is_media_range, is_tier_name},
};
use crate::http::schemas::{answers, scalars};

/// The largest limit in bytes: 1 EiB, which keeps sums of usage within a signed 64-bit column.
const MAX_BYTES: u64 = 1 << 60;

/// The largest limit in requests: more than a million per second for a month.
const MAX_REQUESTS: u64 = 10_000_000_000_000;

/// The most concurrent streams of one receipt: more than an instance holds connections.
const MAX_STREAMS: u32 = 100_000;

/// The fastest tier: 1 Tbit/s, faster than any network card.
const MAX_MBPS: f64 = 1_000_000.0;

/// The longest burst: a month, the longest window.
const MAX_BURST_MINUTES: u32 = 31 * 24 * 60;

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub receipts: Arc<dyn Receipts>,
    pub publisher: Arc<ChangePublisher>,
    pub clock: Arc<dyn Clock>,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list, show, put))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps))
        .service(routing::resource("/v1/streaming/policies").route(routing::read().to(list)))
        .service(
            routing::resource("/v1/streaming/policies/{policyName}")
                .route(routing::read().to(show))
                .route(web::put().to(put)),
        );
}

/// The limits of a tier; an absent one means unlimited.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PutQuotaPolicy {
    #[schema(max_length = 8192, pattern = "^[^\\u0000]*$")]
    description: Option<String>,
    #[schema(maximum = 1_152_921_504_606_846_976u64, example = 1_073_741_824)]
    bytes_per_hour: Option<u64>,
    #[schema(maximum = 1_152_921_504_606_846_976u64)]
    bytes_per_day: Option<u64>,
    #[schema(maximum = 1_152_921_504_606_846_976u64)]
    bytes_per_month: Option<u64>,
    #[schema(maximum = 10_000_000_000_000u64)]
    requests_per_hour: Option<u64>,
    #[schema(maximum = 10_000_000_000_000u64)]
    requests_per_day: Option<u64>,
    #[schema(maximum = 10_000_000_000_000u64)]
    requests_per_month: Option<u64>,
    #[schema(minimum = 1, maximum = 100_000, example = 2)]
    max_concurrent_streams: Option<u32>,
    #[schema(exclusive_minimum = 0, maximum = 1_000_000, example = 25.0)]
    max_bandwidth_mbps: Option<f64>,
    #[schema(maximum = 1_152_921_504_606_846_976u64)]
    burst_bytes_allowance: Option<u64>,
    #[schema(minimum = 1, maximum = 44_640)]
    burst_duration_minutes: Option<u32>,
    #[schema(maximum = 1_152_921_504_606_846_976u64)]
    max_file_size_bytes: Option<u64>,
    #[schema(min_items = 1, max_items = 100, example = json!(["video/*"]))]
    allowed_content_types: Option<Vec<String>>,
}

impl Validate for PutQuotaPolicy {
    fn validate(&self, violations: &mut Violations) {
        if let Some(description) = &self.description {
            violations.text("description", description, 8 * 1024);
        }
        for (path, limit, most) in [
            ("bytesPerHour", self.bytes_per_hour, MAX_BYTES),
            ("bytesPerDay", self.bytes_per_day, MAX_BYTES),
            ("bytesPerMonth", self.bytes_per_month, MAX_BYTES),
            ("burstBytesAllowance", self.burst_bytes_allowance, MAX_BYTES),
            ("maxFileSizeBytes", self.max_file_size_bytes, MAX_BYTES),
            ("requestsPerHour", self.requests_per_hour, MAX_REQUESTS),
            ("requestsPerDay", self.requests_per_day, MAX_REQUESTS),
            ("requestsPerMonth", self.requests_per_month, MAX_REQUESTS),
        ] {
            violations.require(limit.is_none_or(|limit| limit <= most), path, format!("must be at most {most}"));
        }
        for (path, limit, most) in [
            ("maxConcurrentStreams", self.max_concurrent_streams, MAX_STREAMS),
            ("burstDurationMinutes", self.burst_duration_minutes, MAX_BURST_MINUTES),
        ] {
            let fits = limit.is_none_or(|limit| (1..=most).contains(&limit));
            violations.require(fits, path, format!("must be 1 to {most}"));
        }
        let bandwidth = self.max_bandwidth_mbps.is_none_or(|mbps| mbps > 0.0 && mbps <= MAX_MBPS);
        violations.require(bandwidth, "maxBandwidthMbps", format!("must be above 0 and at most {MAX_MBPS}"));
        if let Some(types) = &self.allowed_content_types {
            let few = (1..=100).contains(&types.len());
            violations.require(few, "allowedContentTypes", "must have 1 to 100 entries; leave it out to allow all");
            for (index, entry) in types.iter().enumerate() {
                let path = format!("allowedContentTypes[{index}]");
                violations.require(is_media_range(entry), path, "must be a media type or a family, such as video/*");
            }
        }
    }
}

impl PutQuotaPolicy {
    fn into_policy(self, policy_name: String) -> QuotaPolicy {
        QuotaPolicy {
            policy_name,
            description: self.description,
            bytes_per_hour: self.bytes_per_hour,
            bytes_per_day: self.bytes_per_day,
            bytes_per_month: self.bytes_per_month,
            requests_per_hour: self.requests_per_hour,
            requests_per_day: self.requests_per_day,
            requests_per_month: self.requests_per_month,
            max_concurrent_streams: self.max_concurrent_streams,
            max_bandwidth_mbps: self.max_bandwidth_mbps,
            burst_bytes_allowance: self.burst_bytes_allowance,
            burst_duration_minutes: self.burst_duration_minutes,
            max_file_size_bytes: self.max_file_size_bytes,
            allowed_content_types: self.allowed_content_types,
        }
    }
}

#[utoipa::path(
    get,
    path = "/v1/streaming/policies",
    operation_id = "listQuotaPolicies",
    tag = "Quota policies",
    summary = "List quota policies",
    description = "",
    responses(
        (status = 200, description = "All quota policies", body = answers::QuotaPolicies),
    ),
)]
async fn list(_: Admin, deps: Data<Deps>) -> Result<HttpResponse, Problem> {
    let policies = deps.receipts.policies().await?;
    Ok(answer::ok(&json!({ "items": policies })))
}

#[utoipa::path(
    get,
    path = "/v1/streaming/policies/{policyName}",
    operation_id = "showQuotaPolicy",
    tag = "Quota policies",
    summary = "Show a quota policy",
    description = "",
    params(("policyName" = scalars::PlainName, Path, description = "The tier")),
    responses(
        (status = 200, description = "The policy", body = answers::QuotaPolicy),
    ),
    extensions(("x-problems" = json!(["not-found"]))),
)]
async fn show(_: Admin, deps: Data<Deps>, name: Path<String>) -> Result<HttpResponse, Problem> {
    let policies = deps.receipts.policies().await?;
    let policy = policies.iter().find(|policy| policy.policy_name == *name).ok_or(ProblemType::NotFound)?;
    Ok(answer::ok(policy))
}

#[utoipa::path(
    put,
    path = "/v1/streaming/policies/{policyName}",
    operation_id = "putQuotaPolicy",
    tag = "Quota policies",
    summary = "Create or replace a quota policy",
    description = "",
    params(("policyName" = scalars::PlainName, Path, description = "The tier")),
    request_body = PutQuotaPolicy,
    responses(
        (status = 200, description = "The policy is replaced", body = answers::QuotaPolicy),
        (status = 201, description = "The policy is new", body = answers::QuotaPolicy, headers(("Location" = String, description = "The address of the new resource"))),
    ),
)]
async fn put(
    _: Admin,
    deps: Data<Deps>,
    name: Path<String>,
    body: JsonBody<PutQuotaPolicy>,
) -> Result<HttpResponse, Problem> {
    let name = name.into_inner();
    if !is_tier_name(&name) {
        return Err(Problem::malformed("the name of a policy has 1 to 64 characters out of a-z, 0-9 and -"));
    }
    let policy = body.read().await?.into_policy(name);
    answer::to_the_end(async move {
        let new = deps.receipts.put_quota_policy(&policy, deps.clock.now()).await?;
        deps.publisher.publish(Tag::QuotaPolicy(policy.policy_name.clone())).await;
        let location = format!("/v1/streaming/policies/{}", policy.policy_name);
        Ok(if new { answer::created(&location, &policy) } else { answer::ok(&policy) })
    })
    .await
}
