//! TLS on the node's own listener.

use std::sync::Arc;

use anyhow::Context as _;

use crate::{
    config::Config,
    http::Problem,
    http_server::tls::{CertificateFiles, CertificatePair, Certificates, Tls},
    telemetry::{Metrics, metrics::TlsMetrics},
};

/// The TLS of a listener.
#[derive(Clone)]
pub struct ListenerTls {
    pub handshakes: Arc<Tls>,
    pub certificates: Arc<Certificates>,
}

/// From the configuration; `None`: the listener speaks plain HTTP.
///
/// # Errors
/// When the certificate cannot be used, or metrics of TLS are registered already.
pub fn listener_tls(config: &Config, metrics: &Metrics) -> anyhow::Result<Option<ListenerTls>> {
    let Some(files) = certificate_files(config) else { return Ok(None) };
    let metrics = Arc::new(TlsMetrics::new(metrics.registry())?);
    let certificates =
        Certificates::open(files, Arc::clone(&metrics)).context("TLS cannot be used (tls.certificate, tls.key)")?;
    let certificates = Arc::new(certificates);
    let answer = Problem::malformed("this port speaks TLS: use https:// in the address").on_the_wire();
    let handshakes = Tls::new(certificates.clone(), config.tls.handshake_timeout, metrics)?.refusing_plain_http(answer);
    Ok(Some(ListenerTls { handshakes: Arc::new(handshakes), certificates }))
}

/// The pair as a start would read it; `None` without TLS.
pub fn certificate(config: &Config) -> Option<anyhow::Result<CertificatePair>> {
    let files = certificate_files(config)?;
    Some(CertificatePair::load(&files).map_err(Into::into))
}

fn certificate_files(config: &Config) -> Option<CertificateFiles> {
    let tls = &config.tls;
    tls.is_on().then(|| CertificateFiles { certificate: tls.certificate.clone(), key: tls.key.clone() })
}
