//! The filter of the log.
//!
//! Directives for spans need to know in which spans a line is written, which costs some look-ups for each request. Without such a
//! directive, a table of targets is enough.

use std::{error::Error, fmt, str::FromStr};

use tracing::{
    Event, Metadata, Subscriber,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};
use tracing_subscriber::{EnvFilter, Layer, filter::Targets, layer::Context, registry::LookupSpan};

/// Which lines are written.
#[derive(Debug)]
pub enum LogFilter {
    Targets(Box<Targets>),
    Spans(Box<EnvFilter>),
}

impl LogFilter {
    /// Whether a line depends on the spans that it is in.
    pub(super) const fn looks_into_spans(&self) -> bool {
        matches!(self, Self::Spans(_))
    }
}

impl FromStr for LogFilter {
    type Err = Box<dyn Error + Send + Sync>;

    fn from_str(directives: &str) -> Result<Self, Self::Err> {
        // The table alone would take directives that are misspelt.
        let filter: EnvFilter = directives.parse()?;
        Ok(if directives.contains('[') {
            Self::Spans(Box::new(filter))
        } else {
            Self::Targets(Box::new(directives.parse()?))
        })
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Targets(filter) => filter.fmt(f),
            Self::Spans(filter) => filter.fmt(f),
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogFilter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self {
            Self::Targets(filter) => Layer::<S>::register_callsite(filter.as_ref(), metadata),
            Self::Spans(filter) => Layer::<S>::register_callsite(filter.as_ref(), metadata),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        match self {
            Self::Targets(filter) => Layer::<S>::enabled(filter.as_ref(), metadata, context),
            Self::Spans(filter) => Layer::<S>::enabled(filter.as_ref(), metadata, context),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        match self {
            Self::Targets(filter) => Layer::<S>::max_level_hint(filter.as_ref()),
            Self::Spans(filter) => Layer::<S>::max_level_hint(filter.as_ref()),
        }
    }

    fn event_enabled(&self, event: &Event<'_>, context: Context<'_, S>) -> bool {
        match self {
            Self::Targets(_) => true,
            Self::Spans(filter) => Layer::<S>::event_enabled(filter.as_ref(), event, context),
        }
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Self::Spans(filter) = self {
            Layer::<S>::on_new_span(filter.as_ref(), attributes, id, context);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Self::Spans(filter) = self {
            Layer::<S>::on_record(filter.as_ref(), id, values, context);
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if let Self::Spans(filter) = self {
            Layer::<S>::on_enter(filter.as_ref(), id, context);
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        if let Self::Spans(filter) = self {
            Layer::<S>::on_exit(filter.as_ref(), id, context);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        if let Self::Spans(filter) = self {
            Layer::<S>::on_close(filter.as_ref(), id, context);
        }
    }
}
