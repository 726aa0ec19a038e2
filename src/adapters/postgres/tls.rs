//! Encryption of the connection to the server, and the check that it is the right server.
//!
//! There is no "prefer": an attacker who can tamper with the connection can also refuse encryption, so "prefer" would
//! protect nothing. Files are read when a store is opened; renewed files take effect with the next start.

use std::{error::Error as _, fmt, io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{TlsIdentity, TlsMode, TlsSettings};

/// Files or settings that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct UnusableTls(String);

/// Opens encrypted connections, or plain ones if so configured.
#[derive(Clone)]
pub(super) struct Tls {
    mode: TlsMode,
    connector: MakeRustlsConnect,
}

impl Tls {
    pub(super) fn load(settings: &TlsSettings) -> Result<Self, UnusableTls> {
        let provider = Arc::new(ring::default_provider());
        let roots = match settings.mode {
            TlsMode::Verify => roots(settings.ca_file.as_deref())?,
            TlsMode::Off | TlsMode::Require => RootCertStore::empty(),
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| UnusableTls(error.to_string()))?
            .with_root_certificates(roots);
        let mut config = match &settings.identity {
            Some(identity) if settings.mode != TlsMode::Off => {
                let (chain, key) = read(identity)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| unusable(&identity.certificate_file, &error.to_string()))?
            }
            _ => builder.with_no_client_auth(),
        };
        if settings.mode == TlsMode::Require {
            config.dangerous().set_certificate_verifier(Arc::new(AnyCertificate { provider }));
        }
        Ok(Self { mode: settings.mode, connector: MakeRustlsConnect::new(config) })
    }

    /// The settings here override `config`.
    pub(super) fn apply(&self, config: &mut tokio_postgres::Config) {
        config.ssl_mode(match self.mode {
            TlsMode::Off => SslMode::Disable,
            TlsMode::Require | TlsMode::Verify => SslMode::Require,
        });
    }

    pub(super) fn connector(&self) -> MakeRustlsConnect {
        self.connector.clone()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("mode", &self.mode).finish_non_exhaustive()
    }
}

fn read(identity: &TlsIdentity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), UnusableTls> {
    let key = PrivateKeyDer::from_pem_file(&identity.key_file)
        .map_err(|error| unusable(&identity.key_file, &error.to_string()))?;
    Ok((certificates(&identity.certificate_file)?, key))
}

/// Whether one side refused the other's certificate, or the server offers no TLS. A handshake that merely broke does
/// not count.
pub(super) fn is_distrust(error: &tokio_postgres::Error) -> bool {
    let Some(cause) = error.source() else { return false };
    let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inner.is_some_and(|inner| inner.is::<rustls::Error>()) || cause.to_string() == "server does not support TLS"
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, UnusableTls> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca_file else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found.errors.first().map_or_else(|| "none were found".to_owned(), ToString::to_string);
            let message = format!("this system's certificate authorities cannot be read: {why}; name a CA file");
            return Err(UnusableTls(message));
        }
        return Ok(roots);
    };
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| unusable(path, &error.to_string()))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, UnusableTls> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(unusable(path, "it holds no certificate")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unusable(path, &error.to_string())),
    }
}

fn unusable(path: &Path, why: &str) -> UnusableTls {
    UnusableTls(format!("{} cannot be used: {why}", path.display()))
}

/// Accepts any certificate, but checks that the handshake is signed with its key.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
