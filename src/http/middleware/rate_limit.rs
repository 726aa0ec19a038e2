//! The middleware that limits how often a client may call.
//!
//! A class of calls without a limit passes unchanged. For the others, the client is identified by a key that this node
//! knows, or else by its address ([`Proxies`]), and each answer states what is left in the fields of
//! draft-ietf-httpapi-ratelimit-headers-10. A refusal is 429 `rate-limited`, before a byte of the body is read.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use actix_web::{
    HttpResponse,
    body::BoxBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
};
use penstock_actors::{
    model::{Client, Subject},
    rate_limit::{RateDecision, RateLimiter},
};

use crate::{
    http::{Problem, ProblemType, Proxies, credentials::bearer},
    keys::KeyRing,
    route_class::RouteClass,
    telemetry::metrics::RateMetrics,
};

/// The unit of limits: requests per minute.
pub const RATE_WINDOW: Duration = Duration::from_mins(1);

const POLICY_FIELD: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE_FIELD: HeaderName = HeaderName::from_static("ratelimit");

/// The state of the middleware.
pub struct RateGate {
    limiter: RateLimiter,
    /// By the number of the class.
    policies: [Option<ClassLimit>; RouteClass::ALL.len()],
    proxies: Proxies,
    keys: Arc<KeyRing>,
    metrics: RateMetrics,
}

/// The limit of a class.
struct ClassLimit {
    limit: u32,
    /// The header field that states it.
    field: HeaderValue,
}

/// The parts of a [`RateGate`].
pub struct RateGateParts {
    pub limiter: RateLimiter,
    pub proxies: Proxies,
    pub keys: Arc<KeyRing>,
    pub metrics: RateMetrics,
}

impl RateGate {
    /// `per_minute` returns the limit of a class.
    pub fn new(parts: RateGateParts, per_minute: impl Fn(RouteClass) -> Option<NonZeroU32>) -> Self {
        let RateGateParts { limiter, proxies, keys, metrics } = parts;
        let policy = |class: RouteClass| {
            let limit = per_minute(class)?.get();
            let field = format!("\"{}\";q={limit};w={}", class.as_str(), RATE_WINDOW.as_secs());
            // A word, numbers and ASCII signs: always a valid value.
            HeaderValue::try_from(field).ok().map(|field| ClassLimit { limit, field })
        };
        Self { limiter, policies: RouteClass::ALL.map(policy), proxies, keys, metrics }
    }

    /// Subjects in memory.
    pub fn subjects(&self) -> usize {
        self.limiter.subjects()
    }

    async fn client(&self, request: &ServiceRequest) -> Client {
        if let Some(secret) = bearer(request.headers())
            && let Some(key) = self.keys.name(secret).await
        {
            return Client::Key(key);
        }
        Client::at(self.proxies.client(request.peer_addr().map(|peer| peer.ip()), request.headers()))
    }
}

/// Counts a request against its client's limit, if its class has one.
pub(in crate::http) async fn limit_rate(
    gate: Arc<RateGate>,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    // The path that the router sees, so that another spelling of a path is not another class.
    let class = RouteClass::of(request.match_info().as_str());
    let Some(policy) = &gate.policies[class as usize] else { return next.call(request).await };
    let subject = Subject { class: class.as_str(), client: gate.client(&request).await };
    let verdict = gate.limiter.check(&subject, policy.limit).await;
    gate.metrics.checked(class, &verdict);
    let mut answer = if verdict.allowed {
        next.call(request).await?
    } else {
        request.into_response(HttpResponse::from_error(refusal(class, &verdict)))
    };
    tell(answer.headers_mut(), class, policy, &verdict);
    Ok(answer)
}

fn refusal(class: RouteClass, verdict: &RateDecision) -> Problem {
    Problem::new(ProblemType::RateLimited)
        .detail(format!("there were too many calls of the class {} in a minute", class.as_str()))
        .with("window", "minute")
        .with("limit", verdict.limit)
        .with("used", verdict.limit.saturating_sub(verdict.remaining))
        .with("remaining", verdict.remaining)
        .retry_after(verdict.more_after)
}

/// The two fields: the limit, and what is left of it until it increases.
fn tell(headers: &mut HeaderMap, class: RouteClass, policy: &ClassLimit, verdict: &RateDecision) {
    headers.insert(POLICY_FIELD, policy.field.clone());
    // Rounded up like Retry-After, so that no client retries too early.
    let seconds = verdict.more_after.as_millis().div_ceil(1000).max(1);
    let state = format!("\"{}\";r={};t={seconds}", class.as_str(), verdict.remaining);
    if let Ok(state) = HeaderValue::try_from(state) {
        headers.insert(STATE_FIELD, state);
    }
}
