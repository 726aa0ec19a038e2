//! A sign of life on a terminal while a command works whose end is not known beforehand.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often it moves.
const TICK: Duration = Duration::from_millis(100);

/// Shown on standard error if that is a terminal, and gone when dropped.
pub(super) struct Working {
    bar: ProgressBar,
}

impl Working {
    /// Says what the command does.
    pub(super) fn at(what: &'static str) -> Self {
        Self::with(what, "{spinner} {msg}, {elapsed}")
    }

    /// Says what the command does, and how many of these it has done.
    pub(super) fn counting(what: &'static str) -> Self {
        Self::with(what, "{spinner} {human_pos} {msg}, {elapsed}")
    }

    fn with(what: &'static str, template: &str) -> Self {
        // It draws to standard error, and hides itself if that is not a terminal.
        let bar = ProgressBar::new_spinner().with_message(what);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self { bar }
    }

    pub(super) fn done(&self, count: u64) {
        self.bar.inc(count);
    }

    /// Runs code that writes to the terminal, with the sign of life out of its way.
    pub(super) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
