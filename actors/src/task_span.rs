//! The span of the task that runs now, made when it is first needed.
//!
//! A span names its request in each line of the log, but most requests have no line besides that of the access log. A node that streams
//! small contents would make tens of thousands of spans a second for nothing. So a task has a [`TaskSpan`] at hand, and it is made
//! when a line is written, or when the task hands work to another one, which [`current`] is for.

use std::{future::Future, rc::Rc};

use tracing::{Instrument as _, Span, instrument::Instrumented};

/// What can make the span of a task. It makes one span, however often it is asked.
pub trait TaskSpan {
    fn span(&self) -> Span;
}

tokio::task_local! {
    static TASK: Rc<dyn TaskSpan>;
}

/// Runs a future whose lines have this span.
pub fn scope<F: Future>(span: Rc<dyn TaskSpan>, future: F) -> impl Future<Output = F::Output> {
    TASK.scope(span, future)
}

/// Runs code whose lines have this span.
pub fn sync_scope<T>(span: Rc<dyn TaskSpan>, code: impl FnOnce() -> T) -> T {
    TASK.sync_scope(span, code)
}

/// The span in which this code runs, or else that of its task.
pub fn current() -> Span {
    let span = Span::current();
    if span.is_none() { of_task().unwrap_or(span) } else { span }
}

/// The span of the present task, if it has one.
pub fn of_task() -> Option<Span> {
    TASK.try_with(|task| task.span()).ok()
}

/// Runs work on another task in the span of this one.
pub trait InTaskSpan: Sized {
    fn in_task_span(self) -> Instrumented<Self>;
}

impl<F: Future> InTaskSpan for F {
    fn in_task_span(self) -> Instrumented<Self> {
        self.instrument(current())
    }
}
