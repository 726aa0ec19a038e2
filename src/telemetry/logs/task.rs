//! Lines that name the request of their task.

use std::fmt;

use penstock_actors::task_span;
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatFields,
        format::{FormatEvent, Writer},
    },
    registry::LookupSpan,
};

/// The form of a line that is in the [span of its task](task_span), which is made for it if it was not.
pub(super) struct InTask<E>(pub(super) E);

impl<S, N, E> FormatEvent<S, N> for InTask<E>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    E: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let is_outside = event.is_contextual() && context.lookup_current().is_none();
        let span = if is_outside { task_span::of_task() } else { None };
        let _within = span.as_ref().map(tracing::Span::enter);
        self.0.format_event(context, writer, event)
    }
}
