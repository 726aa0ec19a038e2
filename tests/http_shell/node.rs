//! A node's HTTP surface in this process, over ports in memory.

use std::{net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};

use actix_web::{
    App, Error, HttpResponse,
    body::BoxBody,
    dev::{Service, ServiceFactory, ServiceRequest, ServiceResponse},
    http::{StatusCode, header, header::HeaderMap},
    test::{self, TestRequest},
    web::{self, Bytes},
};
use penstock::{
    http::{
        self, ChangePublisher, Origins, Proxies, RATE_WINDOW, RateGate, RateGateParts, Readiness, ReceiptReader, Shell,
        SignedRequests, admin, assets, auth, governance, health, log_level, producers, quota_policies, receipts,
        scrape, usage,
    },
    keys::{self, KeyRing},
    receipt_tokens::ReceiptTokens,
    route_class::RouteClass,
    telemetry::{
        Metrics, Spans,
        metrics::{RateMetrics, ReceiptMetrics, SignatureMetrics},
    },
};
use penstock_actors::{
    cache::{CacheTtls, TieredCache, TieredDeps, TieredSettings},
    clock::Clock,
    content::quarantine::Quarantine,
    governance::GovernancePolicy,
    ids::{ContentHash, GovernancePolicyId, KeyId, ProducerId},
    model::{ApiKey, NewProducer, Role},
    policy_evaluator::{PolicyEvaluator, PolicyEvaluatorDeps},
    ports::{ApiKeys as _, Assets, GovernancePolicies, Receipts, ReplayTerms},
    rate_limit::RateLimiter,
    storage::verifier::MassLossGuard,
    testkit::{
        clock::ManualClock,
        memory_governance::{MemoryGovernancePolicies, MemoryProvenance},
    },
};
use prometheus::Registry;
use serde_json::Value;

use crate::{unused::Unused, world::World};

/// When the tests take place.
pub(crate) const NOW: &str = "2027-03-04T05:06:07Z";

/// A proxy that is believed.
pub(crate) const PROXY: &str = "10.0.0.1";

/// The bound on heads that the tests set.
pub(crate) const MAX_HEAD_BYTES: usize = 2048;

/// A stored content.
pub(crate) const STORED: ContentHash = ContentHash::from_bytes([7; 32]);

/// What `/v1/data-of-a-test` answers in these tests: JSON that a producer put in.
pub(crate) const CONTENT: &str = include_str!("../../Cargo.toml");

pub(crate) struct Node {
    pub(crate) world: Arc<World>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) policies: Arc<MemoryGovernancePolicies>,
    /// The policy that the node obeys.
    bound_to: Option<GovernancePolicyId>,
    rates: Arc<RateGate>,
    pub(crate) origins: Origins,
    keys: Arc<KeyRing>,
    pub(crate) admin: String,
    pub(crate) producer: String,
    pub(crate) other_producer: String,
}

/// The head and the body of an answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the answer is JSON")
    }

    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a text"))
    }

    /// The short name of the problem that this answer is; everything that a problem document must have is checked.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{:?}", self.body);
        let document = self.json();
        assert_eq!(document["status"], self.status.as_u16());
        assert!(document["title"].is_string());
        let kind = document["type"].as_str().expect("a type");
        kind.strip_prefix("urn:penstock:problem:").expect("a type of ours").to_owned()
    }
}

impl Node {
    pub(crate) async fn new() -> Self {
        Self::limited(|_| None).await
    }

    /// With limits on requests per minute, behind a proxy at [`PROXY`].
    pub(crate) async fn limited(per_minute: impl Fn(RouteClass) -> Option<NonZeroU32>) -> Self {
        let world = Arc::new(World::new());
        world.store(STORED);
        let mut secrets = Vec::new();
        for (name, role) in [("admin", Role::Admin), ("one", Role::Producer), ("two", Role::Producer)] {
            let secret = keys::generate().expect("randomness");
            let (key_id, producer_id) = (KeyId::next(), ProducerId::next());
            let key = ApiKey { key_id, producer_id, role, secret_hash: secret.hash, ends_in: None };
            let created_at = NOW.parse().expect("a time");
            world.create_producer(&NewProducer { name: name.into(), key, created_at }).await.expect("a producer");
            secrets.push(secret.text);
        }
        let [admin, producer, other_producer] = secrets.try_into().expect("three keys");
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let clock = Arc::new(ManualClock::at(NOW));
        let keys = Arc::new(KeyRing::new(world.clone()));
        let parts = RateGateParts {
            limiter: RateLimiter::new(&(clock.clone() as Arc<dyn Clock>), RATE_WINDOW, 1000, None),
            proxies: Proxies::new(vec![PROXY.parse::<IpAddr>().expect("an address").into()]),
            keys: keys.clone(),
            metrics: RateMetrics::new(metrics.registry()).expect("metrics"),
        };
        let rates = Arc::new(RateGate::new(parts, per_minute));
        Self {
            world,
            readiness: Arc::new(Readiness::of(
                Quarantine::default(),
                Duration::from_secs(60),
                Arc::new(MassLossGuard::of(100)),
            )),
            metrics,
            clock,
            policies: Arc::default(),
            bound_to: None,
            rates,
            origins: Origins::default(),
            keys,
            admin,
            producer,
            other_producer,
        }
    }

    /// Has the node obey a policy, which need not be there.
    pub(crate) fn bind(&mut self, policy: &str) {
        self.bound_to = Some(policy.parse().expect("an id"));
    }

    /// Puts a policy with these rules.
    pub(crate) async fn put_governance_policy(&self, policy: &str, rules: Value) {
        let read = GovernancePolicy::read(serde_json::json!({ "rules": rules })).expect("a policy");
        self.policies.put_document(&policy.parse().expect("an id"), &read, self.clock.now()).await.expect("put");
    }

    fn evaluator(&self) -> PolicyEvaluator {
        let deps = PolicyEvaluatorDeps {
            policies: self.policies.clone(),
            provenance: Arc::new(MemoryProvenance::default()),
            clock: self.clock.clone(),
            observer: Arc::new(|_, _| ()),
        };
        PolicyEvaluator::new(deps, self.bound_to.clone())
    }

    /// Of a node that takes no signed requests.
    fn signed_requests(&self) -> SignedRequests {
        SignedRequests {
            audiences: Vec::new(),
            terms: ReplayTerms { window: Duration::from_secs(60), ahead: Duration::from_secs(5), uses: 1 },
            identities: Arc::new(Unused),
            replays: self.world.clone(),
            clock: self.clock.clone(),
            metrics: SignatureMetrics::new(&Registry::new()).expect("metrics"),
        }
    }

    /// The routes that need no actors.
    fn routes(&self, cfg: &mut web::ServiceConfig) {
        let publisher = Arc::new(ChangePublisher::new(self.world.clone(), self.world.clone(), |_| ()));
        let (assets, receipts): (Arc<dyn Assets>, Arc<dyn Receipts>) = (self.world.clone(), self.world.clone());
        let evaluator = Arc::new(self.evaluator());
        let clock: Arc<dyn Clock> = self.clock.clone();
        let reader = Arc::new(ReceiptReader {
            tokens: ReceiptTokens::default(),
            metrics: ReceiptMetrics::new(&Registry::new()).expect("metrics"),
        });
        let deps = assets::Deps {
            assets: assets.clone(),
            index: self.world.clone(),
            publisher: publisher.clone(),
            evaluator: evaluator.clone(),
            clock: clock.clone(),
        };
        assets::configure(cfg, deps);
        let deps = receipts::Deps {
            assets: assets.clone(),
            receipts: receipts.clone(),
            publisher: publisher.clone(),
            evaluator: evaluator.clone(),
            clock: clock.clone(),
            reader: reader.clone(),
        };
        receipts::configure(cfg, deps);
        let deps =
            quota_policies::Deps { receipts: receipts.clone(), publisher: publisher.clone(), clock: clock.clone() };
        quota_policies::configure(cfg, deps);
        let deps = governance::Deps {
            policies: self.policies.clone(),
            assets: assets.clone(),
            publisher: publisher.clone(),
            evaluator: evaluator.clone(),
            clock: clock.clone(),
        };
        governance::configure(cfg, deps);
        usage::configure(cfg, usage::Deps { assets, receipts, reader });
        producers::configure(cfg, producers::Deps { api_keys: self.world.clone(), clock: clock.clone() });
        admin::configure(cfg, admin::Deps { publisher, cache: cache() });
        log_level::configure(cfg);
        let deps = health::Deps {
            readiness: self.readiness.clone(),
            ledger: self.world.clone(),
            storage: self.world.clone(),
            shared: self.world.clone(),
            clock,
            evaluator,
        };
        health::configure(cfg, deps);
        scrape::configure(cfg, scrape::Deps { metrics: self.metrics.clone() });
    }

    pub(crate) fn app(
        &self,
    ) -> App<
        impl ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse<BoxBody>, Error = Error, InitError = ()>
        + use<>,
    > {
        let shell = Shell {
            metrics: self.metrics.http.clone(),
            spans: Spans::default(),
            max_head_bytes: MAX_HEAD_BYTES,
            rates: Arc::clone(&self.rates),
            readiness: self.readiness.clone(),
            auth: auth::Deps {
                keys: self.keys.clone(),
                signed: Arc::new(self.signed_requests()),
                sessions: Arc::new(Unused),
            },
            origins: self.origins.clone(),
            hsts_max_age: None,
        };
        http::app(shell).configure(|cfg| self.routes(cfg)).route(
            "/v1/data-of-a-test",
            web::get().to(|| async { HttpResponse::Ok().content_type("application/json").body(CONTENT) }),
        )
    }

    pub(crate) async fn serve(
        &self,
    ) -> impl Service<actix_http::Request, Response = ServiceResponse<BoxBody>, Error = Error> + use<> {
        test::init_service(self.app()).await
    }
}

/// Caches of an instance that is alone, all of them off.
fn cache() -> TieredCache {
    let off = std::time::Duration::ZERO;
    let ttls = CacheTtls { assets: off, listings: off, lineage: off, policies: off, receipts: off, identities: off };
    let settings = TieredSettings { memory: 1 << 20, ttls, stale: off, negative_ttl: off, patience: off };
    let io = tokio::runtime::Handle::current();
    TieredCache::new(settings, TieredDeps { shared: None, clock: Arc::new(ManualClock::at(NOW)), io })
}

/// Sends a request with a key and a JSON body, where given, and takes the whole answer.
pub(crate) async fn call(
    app: &impl Service<actix_http::Request, Response = ServiceResponse<BoxBody>, Error = Error>,
    request: TestRequest,
    key: Option<&str>,
    body: Option<Value>,
) -> Answer {
    let mut request = request;
    if let Some(key) = key {
        request = request.insert_header((header::AUTHORIZATION, format!("Bearer {key}")));
    }
    if let Some(body) = body {
        request = request.set_json(body);
    }
    let answer = test::call_service(app, request.to_request()).await;
    let (status, headers) = (answer.status(), answer.headers().clone());
    Answer { status, headers, body: test::read_body(answer).await }
}

/// Asks without a key or a body.
pub(crate) async fn ask(
    app: &impl Service<actix_http::Request, Response = ServiceResponse<BoxBody>, Error = Error>,
    request: TestRequest,
) -> Answer {
    call(app, request, None, None).await
}
