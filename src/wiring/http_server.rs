//! The HTTP server over the ports and the actors: the dependencies of each module of routes, in one place.

use std::{net::TcpListener, sync::Arc};

use anyhow::Context as _;
use penstock_actors::{
    flow::fairness::FairAdmission, lineage::Lineage, model::Client, node::Node, policy_evaluator::PolicyEvaluator,
    ports::Assets,
};

use super::{
    Backends, PaymentChain, cores, deliverer, lineage_http_settings, purchases,
    rate_gate::{rate_gate, rate_limiter},
    signed_requests,
};
use crate::{
    adapters::cached::CachedSearch,
    client_marks::ClientMarks,
    config::Config,
    http::{
        self, CatalogueSettings, ChangePublisher, Origins, Proxies, Readiness, ReceiptReader, SessionSettings, Shell,
        StreamingSettings, UploadSettings, admin, api_keys, assets, auth, catalog, console, content, dashboard, data,
        governance, health, identities, lineage, privacy, producers, purchase, quota_policies, quotas, receipts,
        scrape, sessions, storage, streaming, uploads, usage,
    },
    http_server::{Serving, client_socket::ClientTerms, tls::Tls},
    keys::KeyRing,
    openlineage::EventReader,
    telemetry::{
        Metrics, Spans,
        metrics::{PaymentMetrics, ReceiptMetrics},
    },
};

/// The parts of a server that is about to answer.
pub struct ServerParts<'a> {
    pub config: &'a Config,
    pub backends: &'a Backends,
    pub metrics: &'a Arc<Metrics>,
    pub io: &'a tokio::runtime::Handle,
    pub node: &'a Node,
    pub lineage: &'a Lineage,
    pub evaluator: PolicyEvaluator,
    /// What verifies payments on chain; `None` if nothing is sold so.
    pub payment_chain: Option<&'a PaymentChain>,
    pub keys: Arc<KeyRing>,
    pub marks: Arc<ClientMarks>,
    pub readiness: Arc<Readiness>,
    pub tls: Option<Arc<Tls>>,
    pub connections: FairAdmission<Client>,
    pub spans: Spans,
}

/// The server on this listener. It answers once its future runs.
///
/// # Errors
/// When a metric is registered already, the schema of lineage cannot be read, or the listener cannot be used.
pub fn http_server(parts: ServerParts<'_>, listener: TcpListener) -> anyhow::Result<actix_web::dev::Server> {
    let server = &parts.config.server;
    let serving = Serving {
        workers: if server.workers == 0 { cores() } else { server.workers },
        connections: http::problem::connection_limit(parts.connections.clone())
            .exempting(server.trusted_proxies.clone()),
        keep_alive: server.keep_alive,
        drain_grace: server.drain_grace,
        terms: ClientTerms {
            header_timeout: server.header_timeout,
            stall_timeout: server.stall_timeout,
            refusals: http::problem::of_unread_head,
        },
        tls: parts.tls.clone(),
    };
    let (shell, deps) = (shell(&parts)?, routes(parts)?);
    let factory = move || http::app(shell.clone()).configure(|cfg| http::configure(cfg, deps.clone()));
    serving.serve(listener, factory).context("cannot listen")
}

/// The middleware.
fn shell(parts: &ServerParts<'_>) -> anyhow::Result<Shell> {
    let ServerParts { config, backends, metrics, keys, .. } = parts;
    let limiter = rate_limiter(config, backends, parts.node, parts.io);
    let signed = Arc::new(signed_requests(config, backends, metrics)?);
    Ok(Shell {
        metrics: Arc::clone(&metrics.http),
        spans: parts.spans.clone(),
        max_head_bytes: usize::try_from(config.server.header_limit).unwrap_or(usize::MAX),
        rates: rate_gate(config, limiter, Arc::clone(keys), metrics)?,
        readiness: Arc::clone(&parts.readiness),
        auth: auth::Deps { keys: Arc::clone(keys), signed, sessions: Arc::clone(&backends.console_sessions) },
        origins: Origins::new(config.cors.origins()),
        hsts_max_age: config.tls.is_on().then_some(config.tls.hsts_max_age),
    })
}

/// The dependencies of all routes.
fn routes(parts: ServerParts<'_>) -> anyhow::Result<http::Deps> {
    let paid = PaymentMetrics::new(parts.metrics.registry())?;
    let purchase = purchases::purchase(&parts, &paid);
    if let Some(purchase) = purchase.clone() {
        let verifying = paid.verifying.clone();
        parts.metrics.before_scrape(move || {
            verifying.set(i64::try_from(purchase.verifications().in_use()).unwrap_or(i64::MAX));
        });
    }
    let ServerParts { config, backends, metrics, node, lineage, evaluator, readiness, marks, .. } = parts;
    let (here, here_id) = (node.clone(), node.id());
    let Backends { ports, cache, receipts, policies, identities, api_keys, .. } = backends.clone();
    let assets: Arc<dyn Assets> = backends.assets.clone();
    let publisher =
        ChangePublisher::new(ports.shared.clone(), Arc::clone(&ports.changes), move |tag| here.invalidate(tag));
    let publisher = Arc::new(publisher);
    let search = CachedSearch::new(Arc::clone(&backends.search), cache.clone(), node.searches.clone());
    let (shared, clock) = (ports.shared, ports.clock);
    let (node, evaluator) = (Arc::new(node.clone()), Arc::new(evaluator));
    let reader =
        Arc::new(ReceiptReader { tokens: config.receipts.tokens(), metrics: ReceiptMetrics::new(metrics.registry())? });
    let streaming = streaming::Deps {
        node: node.clone(),
        metrics: Arc::clone(metrics),
        settings: StreamingSettings {
            max_range_bytes: config.streams.max_range_bytes,
            content_host: config.delivery.content_host(),
            proxies: Proxies::new(config.server.trusted_proxies.clone()),
            origins: Origins::new(config.cors.origins()),
        },
        sizes: Arc::clone(&backends.sizes),
        uses: Arc::clone(&backends.uses),
        readiness: readiness.clone(),
        reader: reader.clone(),
        marks,
    };
    Ok(http::Deps {
        data: data::Deps { streaming: streaming.clone(), deliverer: Arc::new(deliverer(config, backends)) },
        streaming,
        content: content::Deps {
            node: node.clone(),
            readiness: readiness.clone(),
            settings: UploadSettings { idle_timeout: config.uploads.idle_timeout },
        },
        uploads: uploads::Deps {
            node: node.clone(),
            readiness: readiness.clone(),
            idle_timeout: config.uploads.idle_timeout,
        },
        quotas: quotas::Deps {
            node: node.clone(),
            receipts: receipts.clone(),
            slots: shared.clone(),
            clock: clock.clone(),
            reader: reader.clone(),
        },
        sessions: sessions::Deps {
            node: node.clone(),
            receipts: receipts.clone(),
            sessions: shared.clone(),
            clock: clock.clone(),
            settings: SessionSettings { ttl: config.sessions.ttl },
            reader: reader.clone(),
        },
        assets: assets::Deps {
            assets: assets.clone(),
            index: ports.index,
            publisher: publisher.clone(),
            evaluator: evaluator.clone(),
            clock: clock.clone(),
        },
        catalog: catalog::Deps {
            search: Arc::new(search),
            settings: CatalogueSettings {
                facet_assets: u32::try_from(config.catalogue.facet_assets).unwrap_or(u32::MAX),
            },
        },
        receipts: receipts::Deps {
            assets: assets.clone(),
            receipts: receipts.clone(),
            publisher: publisher.clone(),
            evaluator: evaluator.clone(),
            clock: clock.clone(),
            reader: reader.clone(),
        },
        purchase: purchase::Deps {
            purchase,
            limits: purchase::BodyLimits {
                envelope: config.payments.limits().bytes,
                idle_timeout: config.uploads.idle_timeout,
            },
            assets: assets.clone(),
            evaluator: evaluator.clone(),
            reader: reader.clone(),
            clock: clock.clone(),
            metrics: paid,
        },
        quota_policies: quota_policies::Deps {
            receipts: receipts.clone(),
            publisher: publisher.clone(),
            clock: clock.clone(),
        },
        governance: governance::Deps {
            policies,
            assets: assets.clone(),
            publisher: publisher.clone(),
            evaluator: evaluator.clone(),
            clock: clock.clone(),
        },
        privacy: privacy::Deps {
            node: node.clone(),
            receipts: receipts.clone(),
            payers: Arc::clone(&backends.payers),
            publisher: publisher.clone(),
            clock: clock.clone(),
            reader: reader.clone(),
        },
        usage: usage::Deps { assets, receipts, reader },
        lineage: lineage::Deps {
            lineage: lineage.clone(),
            reader: Arc::new(EventReader::new(config.lineage.bounds())?),
            store: Arc::clone(&backends.lineage.store),
            settings: lineage_http_settings(config),
            clock: clock.clone(),
        },
        producers: producers::Deps { api_keys: api_keys.clone(), clock: clock.clone() },
        storage: storage::Deps { node, history: ports.storage.verifications, quarantine: ports.storage.quarantine },
        identities: identities::Deps { identities, publisher: publisher.clone(), clock: clock.clone() },
        api_keys: api_keys::Deps { api_keys, publisher: publisher.clone(), clock: clock.clone() },
        admin: admin::Deps { publisher, cache },
        dashboard: dashboard::Deps {
            metrics: Arc::clone(metrics),
            readiness: readiness.clone(),
            clock: clock.clone(),
            node: here_id,
            is_local: config.server.bind.ip().is_loopback(),
            viewers: Arc::default(),
        },
        console: console::Deps { session_ttl: config.console.session_ttl, is_tls: config.tls.is_on() },
        has_player: config.has_player,
        health: health::Deps { readiness, ledger: ports.upkeep, storage: ports.blobs, shared, clock, evaluator },
        scrape: scrape::Deps { metrics: Arc::clone(metrics) },
    })
}
