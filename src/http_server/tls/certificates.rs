//! The certificate that the listener presents, and its renewal while the node runs.
//!
//! New files are used for new connections as soon as they are found good; connections that exist keep what they agreed on.
//! A new pair that is not good is refused, and the present one stays: a node with an old certificate serves its clients, and
//! one with half a pair serves no client.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::sync::Notify;

use super::pair::{CertificateFiles, CertificatePair, PairText, UnusableCertificate};
use crate::telemetry::metrics::TlsMetrics;

/// The pair in use.
pub struct Certificates {
    files: CertificateFiles,
    served: RwLock<CertificatePair>,
    /// What was last found in the files, good or bad: each finding is logged once.
    found: Mutex<Found>,
    asked: Notify,
    metrics: Arc<TlsMetrics>,
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Pair([u8; 32]),
    Nothing(UnusableCertificate),
}

impl Certificates {
    /// Reads the pair for the first time.
    ///
    /// # Errors
    /// When it cannot be used. One that has expired can: it may be this node's clock that is wrong, and a node that does
    /// not start serves no client at all.
    pub fn open(files: CertificateFiles, metrics: Arc<TlsMetrics>) -> Result<Self, UnusableCertificate> {
        let text = PairText::read(&files)?;
        let pair = CertificatePair::parse(&files, &text)?;
        if let Some(fault) = pair.fault(SystemTime::now()) {
            tracing::error!(certificate = %files.certificate.display(), fault, "clients refuse the TLS certificate; the node serves with it until the files are renewed");
        }
        metrics.certificate_served(pair.expiry_seconds());
        let found = Mutex::new(Found::Pair(text.fingerprint()));
        Ok(Self { files, served: RwLock::new(pair), found, asked: Notify::new(), metrics })
    }

    /// Asks for a look at the files now.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// Looks at the files at this interval, and when [asked](Self::ask). Never returns.
    pub async fn watch(self: Arc<Self>, interval: Duration) {
        loop {
            let was_asked = tokio::time::timeout(interval, self.asked.notified()).await.is_ok();
            let this = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || this.look(was_asked)).await;
            if let Err(error) = looked {
                tracing::error!(%error, "the look at the TLS certificate's files failed; the node keeps the present certificate");
            }
        }
    }

    fn look(&self, was_asked: bool) {
        let text = PairText::read(&self.files);
        let now_found = match &text {
            Ok(text) => Found::Pair(text.fingerprint()),
            Err(error) => Found::Nothing(error.clone()),
        };
        let is_new = {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            let is_new = *found != now_found;
            *found = now_found;
            is_new
        };
        if !is_new && !was_asked {
            return;
        }
        match text.and_then(|text| self.better(&text)) {
            Ok(pair) => {
                self.metrics.certificate_loaded(pair.expiry_seconds());
                let expires = pair.expires();
                *self.served.write().unwrap_or_else(PoisonError::into_inner) = pair;
                tracing::info!(certificate = %self.files.certificate.display(), expires, "new connections get the TLS certificate that was read again");
            }
            Err(error) => {
                self.metrics.certificate_refused();
                let expires = self.served().expires();
                tracing::error!(%error, expires, "the TLS certificate cannot be renewed; the node keeps the present one and looks at the files again");
            }
        }
    }

    /// The pair in the files, unless it is worse than the present one.
    fn better(&self, text: &PairText) -> Result<CertificatePair, UnusableCertificate> {
        let (pair, now) = (CertificatePair::parse(&self.files, text)?, SystemTime::now());
        match pair.fault(now) {
            // If the present one has a fault as well, this node's clock may be wrong.
            Some(fault) if self.served().fault(now).is_none() => {
                Err(UnusableCertificate::new(&self.files.certificate, &fault))
            }
            _ => Ok(pair),
        }
    }

    fn served(&self) -> CertificatePair {
        self.served.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner).certified))
    }
}

/// Without the key.
impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
    }
}
