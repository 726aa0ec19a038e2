//! The chain by which payments are verified, from the configuration.

use std::sync::Arc;

use anyhow::Context as _;
use penstock_actors::{
    clock::{Clock, SystemClock},
    payments::{
        chain_handle::ChainHandle,
        header_keeper::{HeaderKeeper, KeeperDeps},
    },
    ports::{HeaderSource, HeaderStore, PaymentVerifier},
    supervision::Supervised,
};

use super::{Backends, Database};
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
    let Some(deps) = keeper_deps(payments, &backends.headers, &backends.ports.clock)? else { return Ok(None) };
    Ok(Some(PaymentChain {
        chain: deps.chain.clone(),
        verifier: verifier(payments),
        _keeper: HeaderKeeper::start(deps, payments.headers_poll),
    }))
}

/// The chain as the database and the source of headers have it now, and what verifies payments by it.
pub struct KnownChain {
    pub chain: ChainHandle,
    pub verifier: Arc<dyn PaymentVerifier>,
}

/// Reads the chain once, for a tool.
///
/// # Errors
/// No source of headers is configured, or the chain cannot be read.
pub async fn known_chain(payments: &Payments, database: &Database) -> anyhow::Result<KnownChain> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let deps = keeper_deps(payments, &database.headers, &clock)?.context("payments.headers_source is \"none\"")?;
    deps.round().await.context("cannot read the headers of blocks")?;
    Ok(KnownChain { chain: deps.chain, verifier: verifier(payments) })
}

fn verifier(payments: &Payments) -> Arc<dyn PaymentVerifier> {
    Arc::new(BeefVerifier::new(payments.network(), payments.limits()))
}

fn keeper_deps(
    payments: &Payments,
    store: &Arc<dyn HeaderStore>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Option<KeeperDeps>> {
    let Some(source) = header_source(payments).context("payments.headers_source")? else { return Ok(None) };
    Ok(Some(KeeperDeps {
        chain: ChainHandle::new(payments.headers_max_age),
        rules: Arc::new(NetworkRules::of(payments.network())),
        source,
        store: Arc::clone(store),
        clock: Arc::clone(clock),
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
