//! The chain by which payments are verified, from the configuration.

use std::sync::Arc;

use anyhow::Context as _;
use penstock_actors::{
    payments::{
        chain_handle::ChainHandle,
        header_keeper::{HeaderKeeper, KeeperDeps},
    },
    ports::{HeaderSource, PaymentVerifier},
    supervision::Supervised,
};

use super::Backends;
use crate::{
    adapters::{
        bsv::{header_rules::NetworkRules, verifier::BeefVerifier},
        header_sources::{
            ServerSettings, block_headers_service::BlockHeadersService, chaintracks::Chaintracks, file::HeaderFile,
        },
    },
    config::{HeadersSource, Payments},
};

/// What verifies payments.
pub struct PaymentChain {
    pub chain: ChainHandle,
    pub verifier: Arc<dyn PaymentVerifier>,
    _keeper: Supervised<HeaderKeeper>,
}

/// Starts to follow the chain; `None` if no source of headers is configured.
///
/// # Errors
/// The fault of the configuration.
pub fn follow_chain(payments: &Payments, backends: &Backends) -> anyhow::Result<Option<PaymentChain>> {
    let Some(source) = header_source(payments).context("payments.headers_source")? else { return Ok(None) };
    let chain = ChainHandle::new(payments.headers_max_age);
    let deps = KeeperDeps {
        chain: chain.clone(),
        rules: Arc::new(NetworkRules::of(payments.network())),
        source,
        store: Arc::clone(&backends.headers),
        clock: Arc::clone(&backends.ports.clock),
    };
    Ok(Some(PaymentChain {
        chain,
        verifier: Arc::new(BeefVerifier::new(payments.network(), payments.limits())),
        _keeper: HeaderKeeper::start(deps, payments.headers_poll),
    }))
}

/// The source of headers; `None` if none is configured.
///
/// # Errors
/// The fault of the configuration.
pub fn header_source(payments: &Payments) -> anyhow::Result<Option<Arc<dyn HeaderSource>>> {
    let server = || {
        anyhow::Ok(ServerSettings {
            url: payments.headers_url.parse().context("payments.headers_url")?,
            token: payments.headers_token.expose().to_owned(),
            timeout: payments.headers_timeout,
        })
    };
    Ok(Some(match payments.headers_source {
        HeadersSource::None => return Ok(None),
        HeadersSource::Chaintracks => Arc::new(Chaintracks::new(server()?)?),
        HeadersSource::BlockHeadersService => Arc::new(BlockHeadersService::new(server()?)?),
        HeadersSource::File => Arc::new(HeaderFile::new(payments.headers_file.clone())),
    }))
}
