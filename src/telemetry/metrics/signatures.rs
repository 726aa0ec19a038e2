//! What becomes of requests that are signed with an identity key.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// What a signature came to. Those but the first and the last two are reasons that clients are told by these words.
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
    /// What is remembered does not go back so far.
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
    /// When the registry has a metric of this name.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new(
                "penstock_signed_requests_total",
                "Requests with an identity key's signature, by what the signature came to; whether the body is the one \
                 that was signed comes out later.",
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
