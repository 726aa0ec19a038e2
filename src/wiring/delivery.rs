//! The server that delivers content requested at `/v1/data`.

use std::sync::Arc;

use penstock_actors::{content::delegation::Delegator, model::StorageTier, ports::UrlSigner};

use super::Backends;
use crate::{
    adapters::urls::{CdnKey, CdnSigner, InternalFiles, InternalProxy, Origin},
    config::{Config, DeliveryMode, DeliveryTier},
    http::Deliverer,
    telemetry::metrics::Mode,
};

/// The URL signer of the configured mode, if the mode has one. `origin` gives the paths of contents, and `storage`
/// signs URLs of the store itself, if it can.
pub(super) fn url_signer(
    config: &Config,
    origin: Arc<dyn Origin>,
    storage: Option<Arc<dyn UrlSigner>>,
) -> Option<Arc<dyn UrlSigner>> {
    let delivery = &config.delivery;
    match delivery.mode {
        DeliveryMode::Stream => None,
        DeliveryMode::Presigned => storage,
        DeliveryMode::Direct => {
            let key = CdnKey::new(delivery.signing_key.expose(), &delivery.signing_key_id);
            Some(Arc::new(CdnSigner::new(&delivery.base_url, key, origin)))
        }
        DeliveryMode::Accel => Some(match storage {
            Some(storage) => Arc::new(InternalProxy::new(&delivery.internal_prefix, storage)),
            None => Arc::new(InternalFiles::new(&delivery.internal_prefix, origin)),
        }),
    }
}

/// The tier of object storage for which URLs are given; `None`: any.
pub(super) fn tier(config: &Config) -> Option<StorageTier> {
    match config.delivery.tier {
        DeliveryTier::Any => None,
        DeliveryTier::Hot => Some(StorageTier::Hot),
        DeliveryTier::Warm => Some(StorageTier::Warm),
        DeliveryTier::Cold => Some(StorageTier::Cold),
    }
}

/// The deliverer of this configuration.
pub(super) fn deliverer(config: &Config, backends: &Backends) -> Deliverer {
    let Some(urls) = backends.urls.clone() else { return Deliverer::Node };
    let delegator = Delegator::new(urls, Arc::clone(&backends.ports.clock), config.delivery.url_ttl);
    match config.delivery.mode {
        DeliveryMode::Stream => Deliverer::Node,
        DeliveryMode::Presigned => Deliverer::Url { mode: Mode::Presigned, delegator },
        DeliveryMode::Direct => Deliverer::Url { mode: Mode::Direct, delegator },
        DeliveryMode::Accel => Deliverer::Proxy { delegator, trusted: config.server.trusted_proxies.clone() },
    }
}
