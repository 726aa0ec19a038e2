//! Why a request or a stream failed.

use std::{io, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{Response, body::Incoming, header};
use serde::Deserialize;

/// A stream that brings nothing for this long hangs: a thousand of them on one processor still bring something each second.
pub(crate) const STALL: Duration = Duration::from_secs(60);

/// Longest problem document that is read.
const MAX_PROBLEM_BYTES: usize = 64 * 1024;

/// Why a stream is not what was asked for. The text is also the kind under which it is counted, so it names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("cannot connect: {0}")]
    Connect(io::ErrorKind),
    #[error("lost: {0}")]
    Lost(String),
    /// The node closed a kept connection before a byte of the answer came, as it may do with one that is idle.
    #[error("lost: {0}")]
    ClosedWhenIdle(String),
    #[error("nothing came for {} s", STALL.as_secs())]
    Stalled,
    #[error("refused: {status} {problem}")]
    /// `says_when`: with a Retry-After.
    Refused { status: u16, problem: String, says_when: bool },
    #[error("wrong head: {0}")]
    WrongHead(&'static str),
    #[error("wrong answer: {0}")]
    WrongAnswer(&'static str),
    #[error("wrong bytes")]
    WrongBytes,
    #[error("wrong length")]
    WrongLength,
}

impl Fault {
    /// Whether it is an answer of a node that has enough to do.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { status: 429 | 503, .. })
    }

    /// Whether it may come of a part that was stopped: no answer, or the answer of a node or balancer that has lost what it needs.
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Lost(_) | Self::ClosedWhenIdle(_) | Self::Stalled => true,
            Self::Refused { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Whether a stream may have begun all the same, and be charged.
    pub(crate) fn may_be_charged(&self) -> bool {
        match self {
            Self::Connect(_) => false,
            Self::Refused { status, .. } => matches!(status, 502 | 504),
            _ => true,
        }
    }

    /// Whether a refusal says what it should: a problem document, and when to come back.
    pub(crate) fn has_shape(&self) -> bool {
        matches!(self, Self::Refused { says_when: true, problem, .. } if problem.starts_with("urn:"))
    }

    pub(crate) fn lost(error: &hyper::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

/// The problem that an answer tells of.
pub(crate) async fn refusal(response: Response<Incoming>) -> Fault {
    #[derive(Deserialize)]
    struct Problem {
        r#type: String,
    }

    let status = response.status().as_u16();
    let says_when = response.headers().contains_key(header::RETRY_AFTER);
    let body = Limited::new(response.into_body(), MAX_PROBLEM_BYTES).collect().await;
    let body: Bytes = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let problem = serde_json::from_slice(&body)
        .map_or_else(|_| "without a problem document".into(), |problem: Problem| problem.r#type);
    Fault::Refused { status, problem, says_when }
}
