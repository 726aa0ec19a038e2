//! The access log: one line for each request, in the format of the other lines.
//!
//! These lines are made here, and not by the library that makes the others, because they are most of the log: what a line costs, each
//! small stream costs. A test holds them to the library's form.
//!
//! A line is off or on by the filter of the log, as if it was an event of the target [`TARGET`].

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    time::Duration,
};

use jiff::Timestamp;
use penstock_actors::ids::ContentHash;
use serde::Serialize;

use super::{LOG, LogFormat, gathered};
use crate::telemetry::TraceContext;

/// The target of the lines.
pub const TARGET: &str = "penstock::access";

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLevel {
    Info,
    /// Every balancer probes and scrapes every few seconds.
    Debug,
}

impl AccessLevel {
    fn is_on(self) -> bool {
        match self {
            Self::Info => tracing::enabled!(target: TARGET, tracing::Level::INFO),
            Self::Debug => tracing::enabled!(target: TARGET, tracing::Level::DEBUG),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
        }
    }
}

/// A request that has ended.
#[derive(Debug, Clone, Serialize)]
pub struct AccessLine<'a> {
    pub method: &'static str,
    /// The route's template.
    pub route: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The type of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<&'static str>,
    pub bytes: u64,
    #[serde(serialize_with = "millis")]
    pub duration_ms: Duration,
    pub outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<ContentHash>,
    /// The first characters of the receipt's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<&'a str>,
}

/// The ids by which a request is found.
#[derive(Debug, Clone, Copy)]
pub struct AccessIds<'a> {
    pub request_id: &'a str,
    pub trace: Option<&'a TraceContext>,
}

/// Writes a line, if the filter lets it pass.
pub fn write(level: AccessLevel, line: &AccessLine<'_>, ids: AccessIds<'_>) {
    thread_local!(static TEXT: RefCell<String> = const { RefCell::new(String::new()) });
    let Some(log) = LOG.get().filter(|_| level.is_on()) else { return };
    TEXT.with_borrow_mut(|text| {
        text.clear();
        let now = Timestamp::now();
        let written = match log.format {
            LogFormat::Json => write_json(text, now, level, line, ids),
            LogFormat::Text => write_text(text, now, level, line, ids, Paint { is_on: log.in_colour }),
        };
        if written.is_ok() {
            gathered::line(text.as_bytes());
        }
    });
}

/// Three digits after the point, which is what clocks and people can tell apart.
fn millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    (duration.as_micros() as f64 / 1e3).serialize(serializer)
}

/// The time of a line, to the microsecond. The second is made once, as lines of one second follow each other.
struct Moment(Timestamp);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        thread_local!(static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) });
        SECOND.with_borrow_mut(|(second, text)| {
            if *second != self.0.as_second() {
                *second = self.0.as_second();
                *text = self.0.strftime("%Y-%m-%dT%H:%M:%S").to_string();
            }
            write!(f, "{text}.{:06}Z", self.0.subsec_nanosecond() / 1000)
        })
    }
}

fn write_json(
    text: &mut String,
    now: Timestamp,
    level: AccessLevel,
    line: &AccessLine<'_>,
    ids: AccessIds<'_>,
) -> fmt::Result {
    write!(text, r#"{{"timestamp":"{}","level":"{}","#, Moment(now), level.name())?;
    let fields = serde_json::to_string(line).map_err(|_| fmt::Error)?;
    text.push_str(&fields[1..fields.len() - 1]);
    write!(text, r#","target":"{TARGET}","span":{{"#)?;
    let request_id = serde_json::to_string(ids.request_id).map_err(|_| fmt::Error)?;
    // In the order of their names.
    if let Some(parent) = ids.trace.and_then(TraceContext::parent_id) {
        write!(text, r#""parent_id":"{parent}","#)?;
    }
    write!(text, r#""request_id":{request_id},"#)?;
    if let Some(trace) = ids.trace {
        write!(text, r#""span_id":"{}","trace_id":"{}","#, trace.span_id(), trace.trace_id())?;
    }
    text.push_str("\"name\":\"request\"}}\n");
    Ok(())
}

/// The colours of a terminal, as the library of the other lines chooses them.
#[derive(Clone, Copy)]
struct Paint {
    is_on: bool,
}

impl Paint {
    fn code(self, text: &mut String, code: &str, part: impl fmt::Display) -> fmt::Result {
        if self.is_on { write!(text, "\x1b[{code}m{part}\x1b[0m") } else { write!(text, "{part}") }
    }

    fn field(self, text: &mut String, name: &str, value: impl fmt::Display) -> fmt::Result {
        self.code(text, "3", name)?;
        self.code(text, "2", '=')?;
        write!(text, "{value}")
    }
}

fn write_text(
    text: &mut String,
    now: Timestamp,
    level: AccessLevel,
    line: &AccessLine<'_>,
    ids: AccessIds<'_>,
    paint: Paint,
) -> fmt::Result {
    paint.code(text, "2", Moment(now))?;
    text.push(' ');
    match level {
        AccessLevel::Info => paint.code(text, "32", " INFO")?,
        AccessLevel::Debug => paint.code(text, "34", "DEBUG")?,
    }
    text.push(' ');
    paint.code(text, "1", "request")?;
    paint.code(text, "1", '{')?;
    paint.field(text, "request_id", ids.request_id)?;
    if let Some(trace) = ids.trace {
        let parent = trace.parent_id().map(|parent| ("parent_id", parent));
        let named = [Some(("trace_id", trace.trace_id())), parent, Some(("span_id", trace.span_id()))];
        for (name, value) in named.into_iter().flatten() {
            text.push(' ');
            paint.field(text, name, format_args!("{value:?}"))?;
        }
    }
    paint.code(text, "1", '}')?;
    paint.code(text, "2", ':')?;
    text.push(' ');
    paint.code(text, "2", TARGET)?;
    paint.code(text, "2", ':')?;
    text.push(' ');
    paint.field(text, "method", format_args!("{:?}", line.method))?;
    text.push(' ');
    paint.field(text, "route", line.route)?;
    if let Some(status) = line.status {
        text.push(' ');
        paint.field(text, "status", status)?;
    }
    if let Some(problem) = line.problem {
        text.push(' ');
        paint.field(text, "problem", format_args!("{problem:?}"))?;
    }
    text.push(' ');
    paint.field(text, "bytes", line.bytes)?;
    text.push(' ');
    paint.field(text, "duration_ms", format_args!("{:?}", line.duration_ms.as_micros() as f64 / 1e3))?;
    text.push(' ');
    paint.field(text, "outcome", format_args!("{:?}", line.outcome))?;
    if let Some(content) = line.content {
        text.push(' ');
        paint.field(text, "content", content)?;
    }
    if let Some(receipt) = line.receipt {
        text.push(' ');
        paint.field(text, "receipt", format_args!("{receipt:?}"))?;
    }
    text.push('\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::{fmt, prelude::*};

    use super::*;

    /// What the library writes.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the library makes of the same event, without its time.
    fn by_the_library(line: &AccessLine<'_>, ids: AccessIds<'_>, format: LogFormat, in_colour: bool) -> String {
        let written = Written::default();
        let writer = written.clone();
        let text = fmt::layer().with_writer(move || writer.clone()).without_time();
        let lines = tracing_subscriber::registry();
        let event = || {
            let span = tracing::error_span!(
                "request",
                request_id = %ids.request_id,
                trace_id = ids.trace.map(TraceContext::trace_id),
                parent_id = ids.trace.and_then(TraceContext::parent_id),
                span_id = ids.trace.map(TraceContext::span_id),
            );
            tracing::info!(
                target: TARGET,
                parent: &span,
                method = line.method,
                route = %line.route,
                status = line.status,
                problem = line.problem,
                bytes = line.bytes,
                duration_ms = line.duration_ms.as_micros() as f64 / 1e3,
                outcome = line.outcome,
                content = line.content.map(tracing::field::display),
                receipt = line.receipt,
            );
        };
        match format {
            LogFormat::Text => tracing::subscriber::with_default(lines.with(text.with_ansi(in_colour)), event),
            LogFormat::Json => {
                let json = text.json().flatten_event(true).with_span_list(false);
                tracing::subscriber::with_default(lines.with(json), event);
            }
        }
        let bytes = written.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn lines_have_the_form_of_all_other_lines() {
        let now: Timestamp = "2026-11-30T21:04:11.000042718Z".parse().expect("a time");
        let trace = TraceContext::read("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None);
        let (whole, bare) = (
            AccessLine {
                method: "GET",
                route: "/v1/streaming/data/{contentHash}",
                status: Some(404),
                problem: Some("unknown-receipt"),
                bytes: 2_750_836,
                duration_ms: Duration::from_nanos(41_206_999),
                outcome: "completed",
                content: Some(ContentHash::from_bytes([7; 32])),
                receipt: Some("d50a947a"),
            },
            AccessLine {
                method: "other",
                route: "unmatched",
                status: None,
                problem: None,
                bytes: 0,
                duration_ms: Duration::from_secs(3),
                outcome: "aborted",
                content: None,
                receipt: None,
            },
        );
        for (line, trace) in [(&whole, trace.as_ref()), (&bare, None)] {
            let ids = AccessIds { request_id: "edge-42", trace };
            for in_colour in [false, true] {
                let mut text = String::new();
                write_text(&mut text, now, AccessLevel::Info, line, ids, Paint { is_on: in_colour }).expect("written");
                let time = if in_colour {
                    "\x1b[2m2026-11-30T21:04:11.000042Z\x1b[0m "
                } else {
                    "2026-11-30T21:04:11.000042Z "
                };
                let rest = text.strip_prefix(time).expect("the time");
                assert_eq!(rest, by_the_library(line, ids, LogFormat::Text, in_colour));
            }
            let mut json = String::new();
            write_json(&mut json, now, AccessLevel::Info, line, ids).expect("written");
            let rest = json.strip_prefix(r#"{"timestamp":"2026-11-30T21:04:11.000042Z","#).expect("the time");
            assert_eq!(rest, &by_the_library(line, ids, LogFormat::Json, false)[1..]);
        }
    }
}
