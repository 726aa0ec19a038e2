//! TLS on the node's own listener.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    Completed,
    /// The client and the node found no common ground, or the client does not trust the certificate.
    Failed,
    NotTls,
    Left,
    TimedOut,
}

impl Handshake {
    /// In the order of their numbers (`handshake as usize`).
    const ALL: [Self; 5] = [Self::Completed, Self::Failed, Self::NotTls, Self::Left, Self::TimedOut];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::NotTls => "not-tls",
            Self::Left => "left",
            Self::TimedOut => "timed-out",
        }
    }
}

/// Handshakes and certificates.
pub struct TlsMetrics {
    handshakes: [IntCounter; Handshake::ALL.len()],
    loaded: IntCounter,
    refused: IntCounter,
    expiry: IntGauge,
}

impl TlsMetrics {
    /// # Errors
    /// When the registry already has metrics of these names.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let handshakes = IntCounterVec::new(
            Opts::new("penstock_tls_handshakes_total", "TLS handshakes with clients that ended, by outcome."),
            &["outcome"],
        )?;
        let reloads = IntCounterVec::new(
            Opts::new(
                "penstock_tls_certificate_reloads_total",
                "Times that the files of the TLS certificate had changed and were read again, by outcome; the present certificate stays when they are refused.",
            ),
            &["outcome"],
        )?;
        let expiry = IntGauge::new(
            "penstock_tls_certificate_expiry_timestamp_seconds",
            "When the TLS certificate that new connections get, or one in its chain, expires, in seconds since 1970.",
        )?;
        registry.register(Box::new(handshakes.clone()))?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(expiry.clone()))?;
        Ok(Self {
            handshakes: Handshake::ALL.map(|outcome| handshakes.with_label_values(&[outcome.as_str()])),
            loaded: reloads.with_label_values(&["loaded"]),
            refused: reloads.with_label_values(&["refused"]),
            expiry,
        })
    }

    pub fn handshake_ended(&self, outcome: Handshake) {
        self.handshakes[outcome as usize].inc();
    }

    /// The certificate that the node starts with.
    pub fn certificate_served(&self, expiry_seconds: u64) {
        self.expiry.set(i64::try_from(expiry_seconds).unwrap_or(i64::MAX));
    }

    pub fn certificate_loaded(&self, expiry_seconds: u64) {
        self.loaded.inc();
        self.certificate_served(expiry_seconds);
    }

    pub fn certificate_refused(&self) {
        self.refused.inc();
    }
}
