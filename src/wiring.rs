//! The composition root: takes the configuration and makes ports and node settings. Only this module names every
//! adapter.
//!
//! [`open`] makes the [`Backends`]: `database` and `storage` choose the stores, `delivery` the signer of URLs. `http_server` gives each
//! module of routes its dependencies, and `gauges` tells metrics how to read adapters. `usage_spool` opens what the data folder has for
//! the node.

mod clock;
mod connections;
mod database;
mod delivery;
mod gauges;
mod governance;
mod http_server;
mod lineage;
mod payment_chain;
mod purchases;
mod rate_gate;
mod signed;
mod spans;
mod storage;
mod tls;
mod usage_spool;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use penstock_actors::{
    cache::{CacheTtls, TieredCache, TieredDeps, TieredSettings},
    clock::Clock,
    content::{reader::ContentSettings, resumable::ResumableSettings, upload::IngestSettings},
    ids::InstallationId,
    lineage::LineagePorts,
    model::{Credit, LeaseSizing, UploadBounds},
    node::{Node, NodeSettings, Ports, janitor::JanitorSettings},
    ports::{
        ApiKeys, ClientKeys, ConsoleSessions, GovernancePolicies, HeaderStore, Identities, PayerData, Payments,
        Receipts, Search, SharedCache, SharedState, UrlSigner,
    },
    quota::{book::BookSettings, cache::QuotaSettings, usage_batch::BatchLimits, usage_batcher::UsageSettings},
    storage::{
        maintenance::MaintenanceSettings,
        store_guard::{GuardedBlobs, StoreGuard},
    },
};
use tokio::runtime::Handle;

use crate::{
    adapters::{
        cached::{CachedAssets, CachedGovernancePolicies, CachedIdentities, CachedReceipts},
        in_process::InProcessState,
        postgres::PostgresStore,
        redis::{RedisCache, RedisLink, RedisSettings, RedisState},
        sqlite::DatabaseFile,
    },
    cache_warmer::{CacheWarmer, CacheWarmerSettings},
    config::{Config, Lifecycle, StorageBackend},
    content_sizes::ContentSizes,
    popularity::Popularity,
    telemetry::{Metrics, metrics::WarmMetrics},
};

pub use clock::watch_clock;
pub use connections::most_connections;
pub use database::{
    Database, await_database, keep_pool_warm, migrate, open_database, sqlite_path, sqlite_settings, watch_replicas,
};
use delivery::deliverer;
pub use gauges::{observe_pools, observe_redis};
pub use governance::evaluator;
pub use http_server::{ServerParts, http_server};
use lineage::lineage_http_settings;
pub use lineage::lineage_settings;
pub use payment_chain::{KnownChain, PaymentChain, follow_chain, header_source, known_chain};
use signed::signed_requests;
pub use spans::spans;
pub use storage::open as open_storage;
pub use tls::{ListenerTls, certificate, listener_tls};
pub use usage_spool::open_folder;

/// A request to the quota cache waits for its queue, a refill and its retry: two statements and a wait for a
/// connection.
const QUESTION_ROUND_TRIPS: u32 = 2;

/// Everything behind the handlers and the actors.
#[derive(Clone)]
pub struct Backends {
    pub ports: Ports,
    /// Assets and receipts through the caches, for handlers. The actors use them without caches.
    pub assets: Arc<CachedAssets>,
    pub receipts: Arc<dyn Receipts>,
    pub search: Arc<dyn Search>,
    pub lineage: LineagePorts,
    /// Checks that the blob stores belong to this installation.
    pub store: Arc<StoreGuard>,
    /// Governance policies through the caches, for handlers.
    pub policies: Arc<dyn GovernancePolicies>,
    /// Identity keys through the caches.
    pub identities: Arc<dyn Identities>,
    pub api_keys: Arc<dyn ApiKeys>,
    pub client_keys: Arc<dyn ClientKeys>,
    pub console_sessions: Arc<dyn ConsoleSessions>,
    pub payers: Arc<dyn PayerData>,
    pub headers: Arc<dyn HeaderStore>,
    pub payments: Arc<dyn Payments>,
    /// Signs URLs for servers that deliver instead of the node; `None` if there are none.
    pub urls: Option<Arc<dyn UrlSigner>>,
    pub cache: TieredCache,
    /// The shared tier of the caches; `None` if this instance has none.
    pub shared_cache: Option<Arc<dyn SharedCache>>,
    /// Uses of assets and contents, for warming.
    pub uses: Arc<Popularity>,
    /// Sizes of contents.
    pub sizes: Arc<ContentSizes>,
    /// Keeps the connection pool warm; `None` if there is no pool.
    pub pool: Option<PostgresStore>,
    /// The database's file; `None` if the database is a server.
    pub file: Option<Arc<DatabaseFile>>,
    /// The link to Redis; `None` if state is kept in this process.
    pub redis: Option<RedisLink>,
}

/// Opens the database, the blobs and the shared state. The database must be migrated.
///
/// # Errors
/// The part that cannot be opened, and why.
pub async fn open(config: &Config, metrics: &Metrics, io: &Handle) -> anyhow::Result<Backends> {
    let database = open_database(config, &metrics.db, io).await?;
    let (clock, watch) = watch_clock(config, &database);
    watch.measure().await.context("cannot read the database's clock")?;
    let clock: Arc<dyn Clock> = clock;
    let installation =
        database.installations.installation().await.context("cannot read the installation of the database")?;
    let redis = open_redis(config, metrics, io, Some(installation.installation_id)).await?;
    let shared = shared_state(config, redis.as_ref(), Arc::clone(&clock));
    let (blobs, urls) = open_storage(config, metrics, io).await?;
    let store = StoreGuard::new(blobs, Arc::clone(&database.installations), Arc::clone(&database.index));
    let guarded = Arc::new(GuardedBlobs(Arc::clone(&store)));
    let settings = cache_settings(config);
    let shared_cache = redis.clone().map(|link| {
        let longest = settings.ttls.longest() + settings.stale;
        Arc::new(RedisCache::new(link, longest)) as Arc<dyn SharedCache>
    });
    let uses = Arc::<Popularity>::default();
    let cache = TieredCache::new(
        settings,
        TieredDeps { shared: shared_cache.clone(), clock: Arc::clone(&clock), io: io.clone() },
    );
    let cache_of_lineage = cache.clone();
    Ok(Backends {
        assets: Arc::new(CachedAssets::new(database.assets, cache.clone(), Arc::clone(&uses))),
        receipts: Arc::new(CachedReceipts::new(database.receipts, cache.clone())),
        policies: Arc::new(CachedGovernancePolicies::new(Arc::clone(&database.policies), cache.clone())),
        identities: Arc::new(CachedIdentities::new(database.identities, cache.clone())),
        api_keys: database.api_keys,
        client_keys: database.client_keys,
        console_sessions: database.console_sessions,
        payers: database.payers,
        headers: database.headers,
        payments: database.payments,
        cache,
        shared_cache,
        uses,
        sizes: Arc::new(ContentSizes::new(config.streams.content_entries)),
        ports: Ports {
            ledger: database.ledger,
            upkeep: database.upkeep,
            index: database.index,
            changes: database.changes,
            timelines: database.timelines,
            policies: database.policies,
            blobs: guarded.clone(),
            copies: guarded.clone(),
            trash: guarded.clone(),
            resumable: database.resumable,
            upload_parts: guarded,
            shared,
            storage: database.storage,
            installations: database.installations,
            clock: Arc::clone(&clock),
            watch: Arc::clone(&watch),
        },
        lineage: database.lineage.ports(clock, watch, cache_of_lineage),
        store,
        urls,
        search: database.search,
        pool: database.pool,
        file: database.file,
        redis,
    })
}

/// The state that instances share: on Redis if there is a link to it, otherwise in this process.
pub fn shared_state(config: &Config, redis: Option<&RedisLink>, clock: Arc<dyn Clock>) -> Arc<dyn SharedState> {
    let sessions = config.sessions.entries;
    match redis {
        Some(link) => RedisState::start(link.clone(), clock, sessions),
        None => Arc::new(InProcessState::new(clock).bounded_to(sessions)),
    }
}

/// Marks new blob stores, and logs those that do not belong to this installation.
///
/// # Errors
/// When a folder cannot be read or written. An S3 that does not answer may come back: stores are checked repeatedly.
pub async fn take_stores_into_use(config: &Config, backends: &Backends) -> anyhow::Result<()> {
    let Err(error) = backends.store.mark_new_stores().await else { return Ok(()) };
    if config.storage.backend == StorageBackend::Fs {
        return Err(error).with_context(|| format!("cannot use the blob folder {}", config.blob_root().display()));
    }
    tracing::warn!(%error, "the blob store cannot be used; the node runs without it and checks it again");
    Ok(())
}

/// The link to Redis, if the configuration names one. Redis need not be up yet.
///
/// Keys contain the installation, so that two installations on one server with one prefix never read each other's keys:
/// a cached identity key of one would give access to the other. Without an installation, the link only serves to check
/// whether Redis answers.
///
/// # Errors
/// The fault of the configuration.
pub async fn open_redis(
    config: &Config,
    metrics: &Metrics,
    io: &Handle,
    of: Option<InstallationId>,
) -> anyhow::Result<Option<RedisLink>> {
    let redis = &config.redis;
    let Some(servers) = redis.servers().map_err(|why| anyhow!("redis.url or redis.cluster_nodes: {why}"))? else {
        return Ok(None);
    };
    let settings = RedisSettings {
        servers,
        tls: redis.certificates().context("redis.ca_file, redis.client_certificate or redis.client_key")?,
        key_prefix: of.map_or_else(|| redis.key_prefix.clone(), |of| format!("{}{}:", redis.key_prefix, of.short())),
        connect_timeout: redis.connect_timeout,
        response_timeout: redis.response_timeout,
        breaker_period: redis.breaker_period,
        queue: redis.queue,
        gather: redis.gather,
    };
    let link = RedisLink::open(settings, Arc::clone(&metrics.redis), io.clone()).await;
    observe_redis(metrics, link.clone());
    Ok(Some(link))
}

/// The limits and times of the caches.
pub fn cache_settings(config: &Config) -> TieredSettings {
    let cache = &config.cache;
    TieredSettings {
        memory: cache.memory,
        ttls: CacheTtls {
            // An asset includes its price.
            assets: cache.assets_ttl.min(cache.prices_ttl),
            listings: cache.listings_ttl.min(cache.prices_ttl),
            lineage: cache.lineage_ttl,
            policies: cache.policies_ttl,
            receipts: cache.receipts_ttl,
            identities: cache.identities_ttl,
        },
        stale: cache.stale,
        negative_ttl: cache.negative_ttl,
        patience: cache.patience,
    }
}

/// The warmer of a node's caches.
///
/// # Errors
/// When a warmer is exported already.
pub fn cache_warmer(
    config: &Config,
    backends: &Backends,
    node: Node,
    metrics: &Metrics,
) -> Result<CacheWarmer, prometheus::Error> {
    let settings = CacheWarmerSettings {
        most: config.cache.warm,
        interval: config.cache.warm_interval,
        // The other half is for content that is requested meanwhile.
        leaves: config.streams.memory_cache / 2,
    };
    Ok(CacheWarmer {
        settings,
        uses: Arc::clone(&backends.uses),
        shared: backends.shared_cache.clone(),
        assets: Arc::clone(&backends.assets),
        index: Arc::clone(&backends.ports.index),
        node,
        sizes: Arc::clone(&backends.sizes),
        metrics: WarmMetrics::new(metrics.registry())?,
    })
}

/// How soon other instances return recalled credit: they hear of the recall through Redis, or read it in the change
/// log.
fn held_back_retry(config: &Config) -> Duration {
    let message = Duration::from_secs(1);
    let has_redis = matches!(config.redis.servers(), Ok(Some(_)));
    if has_redis { message } else { message + config.quota.change_poll }
}

/// The limits and times of the actors.
pub fn node_settings(config: &Config, cores: usize) -> NodeSettings {
    let Config { quota, usage, streams, uploads, janitor, .. } = config;
    // Two shards saturate any ledger; more only split the batches of their refills.
    let shards = if quota.shards == 0 { cores.clamp(1, 2) } else { quota.shards };
    let statement = config.postgres.wait_timeout + config.postgres.statement_timeout;
    NodeSettings {
        quota: QuotaSettings {
            shards,
            queue: saturate(quota.queue),
            book: BookSettings {
                entries: quota.entries.div_ceil(shards),
                entry_ttl: quota.entry_ttl,
                negative_ttl: quota.negative_ttl,
                refusal_ttl: quota.refusal_ttl,
                held_back_retry: held_back_retry(config),
                lease_max: Credit::new(quota.lease_max_bytes, quota.lease_max_requests),
            },
            sizing: LeaseSizing { divisor: quota.lease_divisor },
            patience: statement * QUESTION_ROUND_TRIPS,
            slot_ttl: quota.lease_ttl,
            session_ttl: config.sessions.ttl,
            lost_lease: quota.lost_lease,
        },
        usage: UsageSettings {
            limits: BatchLimits { rows: usage.batch_rows, age: usage.batch_age },
            queue: saturate(usage.queue_rows),
        },
        content: ContentSettings {
            memory_cache: streams.memory_cache,
            read_ahead: u32::try_from(streams.read_ahead).unwrap_or(u32::MAX),
            verify: config.storage.verify,
        },
        ingest: IngestSettings {
            max_bytes: uploads.max_bytes,
            concurrent: saturate(uploads.concurrent),
            in_parts: saturate(uploads.in_parts),
            stores_parts: config.storage.backend == StorageBackend::S3,
        },
        resumable: ResumableSettings {
            bounds: UploadBounds {
                per_producer: saturate(uploads.resumable_per_producer),
                total_bytes: uploads.resumable_bytes,
            },
            ttl: uploads.resumable_ttl,
        },
        janitor: JanitorSettings {
            interval: janitor.interval,
            step: janitor.step,
            lost_lease: quota.lost_lease,
            temporary_age: janitor.temporary_age,
            trash_ttl: janitor.trash_ttl,
            orphan_share: janitor.orphan_share,
            window_retention: janitor.window_retention,
            client_key_retention: usage.client_key_retention,
            policy_retention: config.governance.run_retention,
            months_ahead: janitor.months_ahead,
        },
        storage: maintenance_settings(config),
        max_streams: saturate(streams.max_streams),
        max_searches: saturate(config.catalogue.searches),
        lease_ttl: quota.lease_ttl,
        heartbeat: quota.heartbeat,
        change_poll: quota.change_poll,
    }
}

fn maintenance_settings(config: &Config) -> MaintenanceSettings {
    let Config { verification, lifecycle, .. } = config;
    MaintenanceSettings {
        interval: verification.interval,
        verify_rate: verification.walk_rate(),
        verify_every: verification.every,
        missing_per_hour: verification.missing_per_hour,
        retention: verification.retention,
        warm_after: Lifecycle::age(lifecycle.warm_after),
        cold_after: Lifecycle::age(lifecycle.cold_after),
        move_rate: lifecycle.rate,
        grace: lifecycle.grace,
    }
}

/// The processors that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn saturate(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
