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

impl LogFilter {
    fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> &dyn Layer<S> {
        match self {
            Self::Targets(filter) => &**filter,
            Self::Spans(filter) => &**filter,
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogFilter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.layer::<S>().register_callsite(metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        self.layer().enabled(metadata, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.layer::<S>().max_level_hint()
    }

    fn event_enabled(&self, event: &Event<'_>, context: Context<'_, S>) -> bool {
        self.layer().event_enabled(event, context)
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.layer().on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.layer().on_record(id, values, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        self.layer().on_enter(id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        self.layer().on_exit(id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.layer().on_close(id, context);
    }
}
