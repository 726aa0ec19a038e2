//! Requests that are signed with an identity key, by outcome.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// The outcome of a signature. Clients see these words as the reason of a refusal, except the first and the last two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    Accepted,
    /// This node has no audience.
    NotTaken,
    Malformed,
    OtherAudience,
    BadSignature,
    UnknownIdentity,
    Stale,
    Replayed,
    /// The stored one-time uses do not go back far enough.
    Forgotten,
    /// The database or the shared state did not answer.
    Unavailable,
}

impl Signed {
    /// In the order of their numbers (`signed as usize`).
    pub const ALL: [Self; 10] = [
        Self::Accepted,
        Self::NotTaken,
        Self::Malformed,
        Self::OtherAudience,
        Self::BadSignature,
        Self::UnknownIdentity,
        Self::Stale,
        Self::Replayed,
        Self::Forgotten,
        Self::Unavailable,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::NotTaken => "not-taken",
            Self::Malformed => "malformed",
            Self::OtherAudience => "other-audience",
            Self::BadSignature => "bad-signature",
            Self::UnknownIdentity => "unknown-identity",
            Self::Stale => "stale",
            Self::Replayed => "replayed",
            Self::Forgotten => "forgotten",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Signed requests, by outcome.
pub struct SignatureMetrics {
    outcomes: [IntCounter; Signed::ALL.len()],
}

impl SignatureMetrics {
    /// # Errors
    /// When the registry already has a metric of this name.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new(
                "penstock_signed_requests_total",
                "Requests with an identity key's signature, by the outcome of its verification; whether the body is the \
                 signed one is known only later.",
            ),
            &["outcome"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        Ok(Self { outcomes: Signed::ALL.map(|signed| requests.with_label_values(&[signed.as_str()])) })
    }

    pub fn checked(&self, signed: Signed) {
        self.outcomes[signed as usize].inc();
    }
}
