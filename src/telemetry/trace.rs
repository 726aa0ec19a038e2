//! The trace that a request belongs to, by W3C Trace Context: read from its caller, and passed on to servers that the node calls.
//!
//! A [`TraceContext`] is kept with the span of its request in the registry of the log, so it reaches every task that runs in that
//! span, and needs no parameter of its own. A request without `traceparent` has a trace only if its [spans](super::spans) are sent:
//! otherwise its id is enough.

use std::fmt;

use tracing::{Dispatch, Span, span};
use tracing_subscriber::{Registry, registry::LookupSpan as _};

/// The longest `tracestate` that is passed on: the length that the specification asks everyone to pass on.
const STATE_BYTES: usize = 512;

/// The place of a request in a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: String,
    /// The caller's part of the trace; `None` where the trace begins with this request.
    parent_id: Option<String>,
    /// This node's part.
    span_id: String,
    /// Two hexadecimal digits; the lowest bit says that the caller records the trace.
    flags: String,
    /// What other systems keep in the trace; only passed on.
    state: Option<String>,
}

impl TraceContext {
    /// Reads the fields of a request. A `traceparent` that is not well-formed is ignored, as the specification requires, and
    /// `tracestate` with it.
    pub fn read(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let mut parts = traceparent.splitn(5, '-');
        let (version, trace_id, parent_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex =
            |part: &str, len| part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let is_id = |part: &str, len| is_hex(part, len) && part.bytes().any(|b| b != b'0');
        // Later versions may append members; version 0 has none, and ff is forbidden.
        let ends = version != "00" || parts.next().is_none();
        let well_formed = is_hex(version, 2) && version != "ff" && is_hex(flags, 2) && ends;
        if !well_formed || !is_id(trace_id, 32) || !is_id(parent_id, 16) {
            return None;
        }
        let is_text = |state: &&str| {
            (1..=STATE_BYTES).contains(&state.len()) && state.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
        };
        Some(Self {
            trace_id: trace_id.to_owned(),
            parent_id: Some(parent_id.to_owned()),
            span_id: random_span(),
            flags: flags.to_owned(),
            state: tracestate.filter(is_text).map(str::to_owned),
        })
    }

    /// A trace that begins with this request, and is recorded.
    pub fn begin() -> Self {
        Self {
            trace_id: format!("{:032x}", fastrand::u128(1..)),
            parent_id: None,
            span_id: random_span(),
            flags: "01".to_owned(),
            state: None,
        }
    }

    /// Whether the trace is recorded: so said its caller, or the node began it.
    pub fn is_recorded(&self) -> bool {
        u8::from_str_radix(&self.flags, 16).is_ok_and(|flags| flags & 1 == 1)
    }

    pub fn trace_id(&self) -> &str {
        &self.trace_id
    }

    pub fn parent_id(&self) -> Option<&str> {
        self.parent_id.as_deref()
    }

    pub fn span_id(&self) -> &str {
        &self.span_id
    }

    /// `tracestate` for a server that the node calls.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Keeps this with a span.
    pub fn keep_with(self, span: &Span) {
        span.with_subscriber(|(id, dispatch)| {
            if let Some(span) = registry(dispatch).and_then(|registry| registry.span(id)) {
                span.extensions_mut().replace(self);
            }
        });
    }

    /// That of the span in which this code runs, or of the nearest span around it.
    pub fn current() -> Option<Self> {
        Span::current().with_subscriber(|(id, dispatch)| Self::of(id, dispatch)).flatten()
    }

    fn of(id: &span::Id, dispatch: &Dispatch) -> Option<Self> {
        registry(dispatch)?.span(id)?.scope().find_map(|span| span.extensions().get::<Self>().cloned())
    }
}

fn random_span() -> String {
    format!("{:016x}", fastrand::u64(1..))
}

fn registry(dispatch: &Dispatch) -> Option<&Registry> {
    dispatch.downcast_ref()
}

/// `traceparent` for a server that the node calls: this node is the caller. Of the flags, the node knows those of version 0.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recorded = u8::from(self.is_recorded());
        write!(f, "00-{}-{}-{recorded:02x}", self.trace_id, self.span_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_is_taken_over_only_when_it_is_well_formed() {
        let trace = TraceContext::read(GOOD, Some("congo=t61rcWkgMzE")).expect("the example of the specification");
        assert_eq!((trace.trace_id(), trace.parent_id()), (&GOOD[3..35], Some(&GOOD[36..52])));
        assert_eq!(trace.state(), Some("congo=t61rcWkgMzE"));
        assert!(TraceContext::read(&GOOD.replacen("00", "cc", 1).replace("-01", "-01-more"), None).is_some());
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(TraceContext::read(bad, None), None, "{bad}");
        }
        for bad in ["", "a\nb", &"a".repeat(STATE_BYTES + 1)] {
            assert_eq!(TraceContext::read(GOOD, Some(bad)).expect("a trace").state(), None, "{bad}");
        }
    }

    #[test]
    fn a_server_that_is_called_gets_the_trace_with_this_node_as_its_caller() {
        let trace = TraceContext::read(GOOD, None).expect("a trace");
        let passed_on = TraceContext::read(&trace.to_string(), None).expect("well-formed");
        assert_eq!(passed_on.trace_id(), trace.trace_id());
        assert_eq!(passed_on.parent_id(), Some(trace.span_id()));
        assert_ne!(passed_on.parent_id(), trace.parent_id());
        assert!(trace.to_string().ends_with("-01"));
        let begun = TraceContext::begin();
        assert!(begun.parent_id().is_none() && begun.is_recorded());
        assert!(TraceContext::read(&begun.to_string(), None).is_some());
    }

    #[test]
    fn a_trace_holds_within_its_span_alone() {
        tracing::subscriber::with_default(tracing_subscriber::registry(), || {
            assert_eq!(TraceContext::current(), None);
            let request = tracing::error_span!("request");
            let trace = TraceContext::read(GOOD, None).expect("a trace");
            trace.clone().keep_with(&request);
            request.in_scope(|| {
                tracing::error_span!("within").in_scope(|| assert_eq!(TraceContext::current(), Some(trace)));
            });
            assert_eq!(TraceContext::current(), None);
        });
        // Without a log there is no trace, and no harm.
        tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::new(), || {
            TraceContext::read(GOOD, None).expect("a trace").keep_with(&tracing::error_span!("request"));
            assert_eq!(TraceContext::current(), None);
        });
    }
}
