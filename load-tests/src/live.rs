//! What a person sees while a scenario runs: one line on the terminal, and nothing where there is none.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::timeline::Recorder;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(200);

/// The turns of a comparison on the terminal.
pub(crate) struct Turns {
    bar: ProgressBar,
}

impl Turns {
    pub(crate) fn begin(turns: usize) -> Self {
        let bar = ProgressBar::new(turns as u64);
        let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {pos}/{len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar }
    }

    /// The next one begins.
    pub(crate) fn show(&self, turn: &str) {
        self.bar.set_message(turn.to_owned());
        self.bar.inc(1);
    }

    pub(crate) fn end(self) {
        self.bar.finish_and_clear();
    }
}

/// A phase on the terminal.
pub(crate) struct Live {
    bar: ProgressBar,
    began: Instant,
    shown: Cell<Instant>,
}

impl Live {
    /// `length`: how long requests are sent.
    pub(crate) fn begin(phase: &str, length: Duration) -> Self {
        let bar = ProgressBar::new(u64::try_from(length.as_millis()).unwrap_or(u64::MAX).max(1));
        let style = ProgressStyle::with_template("{prefix:<10} {elapsed_precise} {wide_bar} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(phase.to_owned());
        let now = Instant::now();
        Self { bar, began: now, shown: Cell::new(now) }
    }

    pub(crate) fn show(&self, recorder: &Recorder, open: usize) {
        let now = Instant::now();
        if self.bar.is_hidden() || now - self.shown.get() < EVERY {
            return;
        }
        self.shown.set(now);
        self.bar.set_position(u64::try_from((now - self.began).as_millis()).unwrap_or(u64::MAX));
        let errors: u64 = recorder.tally.faults.values().sum();
        let first_byte = recorder.tally.first_byte.percentiles();
        self.bar.set_message(format!(
            "{} done, {open} open, first byte p50 {:.1} p99 {:.1} ms, {} refused, {errors} errors",
            recorder.tally.streams, first_byte.p50, first_byte.p99, recorder.refused
        ));
    }

    pub(crate) fn end(self) {
        self.bar.finish_and_clear();
    }
}
