//! Progress bars on a terminal, and plain lines elsewhere, both on standard error.

use indicatif::{ProgressBar, ProgressStyle};

/// The progress of one transfer. Cheap to clone: all clones are one bar.
#[derive(Clone)]
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar over `total` bytes, or without an end when that is not known yet. Shown only on a terminal.
    pub(super) fn new(what: &'static str, total: Option<u64>) -> Self {
        // It draws to standard error, and hides itself if that is not a terminal.
        let progress = Self { bar: ProgressBar::no_length() };
        progress.bar.set_message(what);
        progress.expect(total);
        progress
    }

    /// Sets the total number of bytes, once that is known.
    pub(super) fn expect(&self, total: Option<u64>) {
        const BAR: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        const SPINNER: &str = "{msg} {spinner} {bytes} {bytes_per_sec}";

        if let Ok(style) = ProgressStyle::with_template(if total.is_some() { BAR } else { SPINNER }) {
            self.bar.set_style(style);
        }
        if let Some(total) = total {
            self.bar.set_length(total);
        }
    }

    #[cfg(test)]
    pub(super) fn hidden() -> Self {
        Self { bar: ProgressBar::hidden() }
    }

    /// Sets the progress without a transfer: bytes that existed already, or are read again.
    pub(super) fn set(&self, bytes: u64) {
        self.bar.set_position(bytes);
        // Otherwise they would count as bytes of this moment in the rate.
        self.bar.reset_eta();
    }

    pub(super) fn advance(&self, bytes: usize) {
        self.bar.inc(bytes as u64);
    }

    /// A line for the waiting user.
    pub(super) fn note(&self, line: &str) {
        if self.bar.is_hidden() {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    /// Removes the bar.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
