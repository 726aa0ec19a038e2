//! A certificate with its chain, and the private key to it, as read from files.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use jiff::Timestamp;
use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use sha2::{Digest as _, Sha256};
use x509_cert::{Certificate, der::Decode as _};

/// A chain has a few certificates of a few kilobytes.
const LARGEST_FILE: u64 = 1 << 20;

/// The files, as PEM. Both may be the same one.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The certificate, then those of the authorities between it and the one that clients trust.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Files that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnusableCertificate(String);

impl UnusableCertificate {
    pub(super) fn new(path: &Path, why: &str) -> Self {
        Self(format!("{} cannot be used: {why}", path.display()))
    }
}

/// A certificate whose key is known.
#[derive(Debug, Clone)]
pub struct CertificatePair {
    pub(super) certified: Arc<CertifiedKey>,
    /// The latest beginning, and the earliest end, in the chain.
    not_before: SystemTime,
    not_after: SystemTime,
}

/// The bytes of both files.
pub(super) struct PairText {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl PairText {
    pub(super) fn read(files: &CertificateFiles) -> Result<Self, UnusableCertificate> {
        let read = |path: &Path| text(path).map_err(|error| UnusableCertificate::new(path, &error.to_string()));
        Ok(Self { certificate: read(&files.certificate)?, key: read(&files.key)? })
    }

    /// The same for the same bytes; the key cannot be found from it.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        let length = (self.certificate.len() as u64).to_be_bytes();
        Sha256::new().chain_update(length).chain_update(&self.certificate).chain_update(&self.key).finalize().into()
    }
}

impl CertificatePair {
    /// Reads and checks the pair; a certificate outside its time of validity is read all the same.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn load(files: &CertificateFiles) -> Result<Self, UnusableCertificate> {
        Self::parse(files, &PairText::read(files)?)
    }

    pub(super) fn parse(files: &CertificateFiles, text: &PairText) -> Result<Self, UnusableCertificate> {
        let path = &files.certificate;
        let chain = CertificateDer::pem_slice_iter(&text.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| UnusableCertificate::new(path, &error.to_string()))?;
        if chain.is_empty() {
            return Err(UnusableCertificate::new(path, "it holds no certificate"));
        }
        let (mut not_before, mut not_after) = (SystemTime::UNIX_EPOCH, None);
        for certificate in &chain {
            let certificate = Certificate::from_der(certificate).map_err(|error| {
                UnusableCertificate::new(path, &format!("a certificate in it cannot be read: {error}"))
            })?;
            let validity = certificate.tbs_certificate.validity;
            not_before = not_before.max(validity.not_before.to_system_time());
            let end = validity.not_after.to_system_time();
            not_after = Some(not_after.map_or(end, |earlier: SystemTime| earlier.min(end)));
        }
        // The library's message might quote the file.
        let key = PrivateKeyDer::from_pem_slice(&text.key)
            .map_err(|_| UnusableCertificate::new(&files.key, "it holds no private key that is not encrypted"))?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => UnusableCertificate::new(
                &files.key,
                &format!("the certificate in {} belongs to another key", path.display()),
            ),
            error => UnusableCertificate::new(&files.key, &error.to_string()),
        })?;
        let not_after = not_after.unwrap_or(not_before);
        Ok(Self { certified: Arc::new(certified), not_before, not_after })
    }

    /// When the certificate, or one in its chain, expires: seconds since 1970.
    pub fn expiry_seconds(&self) -> u64 {
        self.not_after.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// Why clients whose clock is right refuse the certificate now, if they do.
    pub fn fault(&self, now: SystemTime) -> Option<String> {
        if now > self.not_after {
            return Some(format!("the certificate, or one in its chain, expired at {}", shown(self.not_after)));
        }
        (now < self.not_before)
            .then(|| format!("the certificate, or one in its chain, is not valid before {}", shown(self.not_before)))
    }

    /// When it expires, for a log.
    pub fn expires(&self) -> String {
        shown(self.not_after)
    }
}

fn shown(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "a time out of range".to_owned(), |time| time.to_string())
}

fn text(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(LARGEST_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(text)
}
