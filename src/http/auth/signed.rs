//! Callers that sign their requests with an identity key.
//!
//! # The steps, with the reason for this order
//! 1. Read the fields, and check that the request is for this installation: that costs nothing.
//! 2. Verify the signature, the most expensive step. Its result is never cached: only a replay could ask again.
//! 3. Look up the producer of the key, in the caches. Only the holder of a key learns whether it is known.
//! 4. Check that this is the first use within its time, by the shared state and its clock. This comes last, so that only
//!    known signers add entries to that store, and before any work is done for the request.
//!
//! Without the shared state no instance can tell a replay from a first use, so the request is refused with 503. Calls
//! with an API key still work.

use std::sync::Arc;

use actix_web::{HttpRequest, http::header};
use jiff::Timestamp;
use penstock_actors::{
    clock::{Clock, before},
    ids::ProducerId,
    model::IdentityKey,
    ports::{Identities, PortError, ReplayCheck, ReplayGuard, ReplayKey, ReplayTerms},
};

use crate::{
    http::{Problem, ProblemType, middleware::signed_body::SignedBody},
    signatures::{Audience, MalformedProof, Message, Proof, TIMESTAMP, is_signed, signed_at},
    telemetry::metrics::{SignatureMetrics, Signed},
};

/// The means to check signed requests.
pub struct SignedRequests {
    pub audiences: Vec<Audience>,
    pub terms: ReplayTerms,
    pub identities: Arc<dyn Identities>,
    pub replays: Arc<dyn ReplayGuard>,
    pub clock: Arc<dyn Clock>,
    pub metrics: SignatureMetrics,
}

/// Why a request is not accepted as signed.
struct SignatureRefusal {
    outcome: Signed,
    problem: Problem,
}

impl SignatureRefusal {
    fn of(outcome: Signed, detail: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        let problem = Problem::new(ProblemType::SignatureRefused).detail(detail).with("reason", outcome.as_str());
        Self { outcome, problem }
    }
}

impl From<MalformedProof> for SignatureRefusal {
    fn from(error: MalformedProof) -> Self {
        Self::of(Signed::Malformed, error.to_string())
    }
}

impl From<PortError> for SignatureRefusal {
    fn from(error: PortError) -> Self {
        Self { outcome: Signed::Unavailable, problem: error.into() }
    }
}

impl SignedRequests {
    /// The producer of a request's signer.
    ///
    /// # Errors
    /// `signature-refused` with the member `reason`, or the errors of the ports.
    pub(super) async fn producer(&self, request: &HttpRequest) -> Result<ProducerId, Problem> {
        let judged = self.judge(request).await;
        self.metrics.checked(judged.as_ref().map_or_else(|refusal| refusal.outcome, |_| Signed::Accepted));
        judged.map_err(|refusal| refusal.problem)
    }

    /// The identity key that signed a request, whether a producer has it or not. A request counts for as long as its time says: one that
    /// is sent again is not recognised, so what it asks for must be the same each time.
    ///
    /// # Errors
    /// `signature-refused` with the member `reason`.
    pub(super) fn signer(&self, request: &HttpRequest) -> Result<IdentityKey, Problem> {
        let judged = self.judge_signer(request);
        self.metrics.checked(judged.as_ref().map_or_else(|refusal| refusal.outcome, |_| Signed::Accepted));
        judged.map_err(|refusal| refusal.problem)
    }

    fn judge_signer(&self, request: &HttpRequest) -> Result<IdentityKey, SignatureRefusal> {
        self.takes_signatures()?;
        let (proof, signed_at) = self.verified(request)?;
        let now = self.clock.now();
        let is_in_time = signed_at >= before(now, self.terms.window) && before(signed_at, self.terms.ahead) <= now;
        if is_in_time { Ok(proof.identity) } else { Err(self.stale(signed_at, now)) }
    }

    fn takes_signatures(&self) -> Result<(), SignatureRefusal> {
        if self.audiences.is_empty() {
            return Err(SignatureRefusal::of(Signed::NotTaken, "this node takes no signed requests; send a key"));
        }
        Ok(())
    }

    async fn judge(&self, request: &HttpRequest) -> Result<ProducerId, SignatureRefusal> {
        self.takes_signatures()?;
        let (proof, signed_at) = self.verified(request)?;
        let producer = self.identities.identity(proof.identity).await?;
        let producer = producer.ok_or_else(|| {
            SignatureRefusal::of(Signed::UnknownIdentity, "the identity key is bound to no producer of this node")
        })?;
        let once = ReplayKey { name: name_of(&proof), made_at: signed_at };
        match self.replays.check_replay(once, self.terms).await? {
            ReplayCheck::First => Ok(producer),
            ReplayCheck::Again => {
                Err(SignatureRefusal::of(Signed::Replayed, "the request was sent before; sign it again"))
            }
            ReplayCheck::Stale(now) => Err(self.stale(signed_at, now)),
            ReplayCheck::Forgotten(wait) => {
                let detail = "the node does not remember whether the request was sent before; sign it again";
                let problem = Problem::new(ProblemType::DependencyUnavailable).detail(detail).retry_after(wait);
                Err(SignatureRefusal { outcome: Signed::Forgotten, problem })
            }
        }
    }

    /// The signer's claims, after the signature has been verified.
    fn verified(&self, request: &HttpRequest) -> Result<(Proof, Timestamp), SignatureRefusal> {
        let headers = request.headers();
        if headers.contains_key(header::AUTHORIZATION) {
            return Err(SignatureRefusal::of(Signed::Malformed, "send Authorization or a signature, not both"));
        }
        let proof = Proof::read(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))?;
        let fields: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .filter(|(name, _)| is_signed(name))
            .collect();
        // A proxy may join two fields of one name, or use only one of them.
        if fields.iter().any(|(name, _)| fields.iter().filter(|(other, _)| other == name).nth(1).is_some()) {
            return Err(SignatureRefusal::of(Signed::Malformed, "a signed field occurs twice"));
        }
        let timestamp = fields.iter().find(|(name, _)| *name == TIMESTAMP).map(|(_, value)| signed_at(value));
        let timestamp = timestamp.unwrap_or(Err(MalformedProof::Missing(TIMESTAMP)))?;
        SignedBody::check_head(request).map_err(|detail| SignatureRefusal::of(Signed::Malformed, detail))?;
        if !self.audiences.contains(&proof.audience) {
            let detail = "x-bsv-auth-your-nonce is not the SHA-256 of an address under which this node is reached";
            return Err(SignatureRefusal::of(Signed::OtherAudience, detail));
        }
        let message = Message {
            request_id: proof.request_id,
            method: request.method().as_str(),
            path: request.uri().path(),
            query: request.uri().query(),
            fields,
        };
        if !proof.verifies(&message) {
            return Err(SignatureRefusal::of(Signed::BadSignature, "the identity key has not signed this request"));
        }
        Ok((proof, timestamp))
    }

    fn stale(&self, signed_at: Timestamp, now: Timestamp) -> SignatureRefusal {
        tracing::debug!(%signed_at, %now, here = %self.clock.now(), "a signed request is too old, or its time is in the future; it is refused with 401");
        let mut refusal =
            SignatureRefusal::of(Signed::Stale, "the request was signed too long ago, or by a clock that is ahead");
        refusal.problem = refusal
            .problem
            .with("now", now.as_millisecond())
            .with("timestamp", signed_at.as_millisecond())
            .with("windowSeconds", self.terms.window.as_secs_f64())
            .with("aheadSeconds", self.terms.ahead.as_secs_f64());
        refusal
    }
}

/// The name under which a request is remembered. The nonce is its signer's own, so one signer cannot use up another's
/// nonces.
fn name_of(proof: &Proof) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(proof.identity.as_bytes());
    hasher.update(&proof.nonce);
    *hasher.finalize().as_bytes()
}
