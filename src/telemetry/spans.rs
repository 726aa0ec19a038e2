//! Spans of requests: what a collector of traces is sent, and of which requests.
//!
//! A request with a `traceparent` is sent if its caller records the trace; one without becomes a trace of its own as often as
//! `tracing.sample` says. What sends the spans ([`SpanSink`]) is a feature of the binary: `otlp`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::TraceContext;

/// A request that has ended.
#[derive(Debug, Clone)]
pub struct RequestSpan {
    pub trace: TraceContext,
    pub method: &'static str,
    /// The route's template.
    pub route: String,
    pub status: Option<u16>,
    /// The type of a refusal.
    pub problem: Option<&'static str>,
    pub outcome: &'static str,
    pub bytes: u64,
    pub request_id: String,
    pub ended: SystemTime,
    pub duration: Duration,
}

/// Where spans go. It never waits: what it cannot take is lost.
pub trait SpanSink: Send + Sync {
    fn ended(&self, span: RequestSpan);

    /// Sends what is left, for at most this long. It blocks its thread.
    fn close(&self, patience: Duration);
}

/// The traces of requests.
#[derive(Clone, Default)]
pub struct Spans {
    sink: Option<Arc<dyn SpanSink>>,
    /// The share of the requests without a trace that begin one.
    sample: f64,
}

impl Spans {
    /// Sends spans there, and begins a trace for this share of the requests that have none.
    pub fn to(sink: Arc<dyn SpanSink>, sample: f64) -> Self {
        Self { sink: Some(sink), sample }
    }

    /// The trace of a request: the given one, or a new one where this request is drawn.
    pub fn trace_of(&self, given: Option<TraceContext>) -> Option<TraceContext> {
        given.or_else(|| (self.sink.is_some() && fastrand::f64() < self.sample).then(TraceContext::begin))
    }

    /// Takes the span of a request, which is made only if it is sent.
    pub fn ended(&self, trace: TraceContext, span: impl FnOnce(TraceContext) -> RequestSpan) {
        if let Some(sink) = self.sink.as_ref().filter(|_| trace.is_recorded()) {
            sink.ended(span(trace));
        }
    }

    /// Sends what is left, for at most this long. It blocks its thread.
    pub fn close(&self, patience: Duration) {
        if let Some(sink) = &self.sink {
            sink.close(patience);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Sent(Mutex<Vec<String>>);

    impl SpanSink for Sent {
        fn ended(&self, span: RequestSpan) {
            self.0.lock().expect("tests do not panic here").push(span.trace.trace_id().to_owned());
        }

        fn close(&self, _: Duration) {}
    }

    fn span(trace: TraceContext) -> RequestSpan {
        let (ended, duration) = (SystemTime::now(), Duration::ZERO);
        let (route, request_id) = (String::new(), String::new());
        let (status, problem, bytes) = (Some(200), None, 0);
        RequestSpan {
            trace,
            method: "GET",
            route,
            status,
            problem,
            outcome: "completed",
            bytes,
            request_id,
            ended,
            duration,
        }
    }

    #[test]
    fn a_caller_decides_about_its_trace_and_the_sample_about_all_others() {
        let given =
            |flags| TraceContext::read(&format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}"), None);
        for (sample, begins) in [(0.0, false), (1.0, true)] {
            let sent = Arc::new(Sent::default());
            let spans = Spans::to(sent.clone(), sample);
            assert_eq!(spans.trace_of(None).is_some(), begins);
            for (flags, is_sent) in [("01", true), ("00", false), ("03", true)] {
                let trace = spans.trace_of(given(flags)).expect("the given one");
                assert_eq!(trace.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
                spans.ended(trace, span);
                assert_eq!(sent.0.lock().expect("no panic").pop().is_some(), is_sent, "{flags}");
            }
        }
        assert!(Spans::default().trace_of(None).is_none());
        assert!(Spans::default().trace_of(given("01")).is_some(), "it is passed on all the same");
    }
}
