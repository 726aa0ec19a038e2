//! Logs: structured lines on standard error, so that standard output holds only the results of commands.
//!
//! The log belongs to the process, as standard error does: a second server in the process logs to the same place, at the same level.

pub mod access;
mod filter;
mod gathered;
mod task;

use std::{
    io::IsTerminal as _,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use anyhow::{Context as _, anyhow, bail};
use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Registry, fmt, prelude::*, reload};

pub(super) use self::gathered::dropped_lines;
pub use self::{filter::LogFilter, gathered::flush};

/// The format of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people; in colour on a terminal.
    #[default]
    Text,
    /// One JSON object per line, for collectors.
    Json,
}

/// Lines about what administrators change. No level silences them.
pub const AUDIT: &str = "penstock::audit";

/// Directives that each filter begins with. The framework logs each end of a connection as an error, even if the client is at
/// fault, and names no peer; `http_server` logs the same ends with their peer, at debug level.
const ALWAYS: &str = "actix_http::h1::dispatcher=off,penstock::audit=info";

/// The longest level, with its directives. Each directive costs a comparison for each place in the program that logs.
pub const LEVEL_CHARS: usize = 1024;

static LOG: OnceLock<Log> = OnceLock::new();

/// Whether the filter needs the spans of requests from their beginnings.
static INTO_SPANS: AtomicBool = AtomicBool::new(false);

/// Whether the filter has directives for spans, which so have to be there before their first line.
pub fn looks_into_spans() -> bool {
    INTO_SPANS.load(Relaxed)
}

/// The log of this process.
struct Log {
    filter: reload::Handle<LogFilter, Registry>,
    format: LogFormat,
    in_colour: bool,
    /// The level at the start.
    configured: String,
    level: Mutex<String>,
}

/// Reads a level such as `info`, or directives such as `info,penstock::access=warn`, in which each target has its level.
///
/// # Errors
/// When it cannot be read, is empty or is too long.
pub fn read(level: &str) -> anyhow::Result<LogFilter> {
    if !(1..=LEVEL_CHARS).contains(&level.trim().len()) {
        bail!("it has no characters, or more than {LEVEL_CHARS}");
    }
    // The library takes a word that is no level for the name of a target, so that a misspelt level would silence the log.
    let is_clear = |one: &str| one.contains(['=', '[']) || one.parse::<LevelFilter>().is_ok();
    // Nor does it take spaces.
    let directives: Vec<&str> = level.split(',').map(str::trim).collect();
    if let Some(word) = directives.iter().find(|one| !is_clear(one)) {
        bail!("`{word}` is no level");
    }
    format!("{ALWAYS},{}", directives.join(",")).parse().map_err(|error| anyhow!("{error}"))
}

/// Starts logging for the process. The first start wins.
///
/// # Errors
/// When the level is invalid.
pub fn start(level: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = read(level).context("the log filter is not valid")?;
    let into_spans = filter.looks_into_spans();
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::registry().with(filter);
    // A line that cannot be written is lost. Reporting that on the same stream would panic, as when the terminal is
    // closed.
    let text = fmt::layer().with_writer(gathered::stderr()).log_internal_errors(false);
    let in_colour = is_in_colour();
    let started = match format {
        LogFormat::Text => lines.with(text.with_ansi(in_colour).map_event_format(task::InTask)).try_init(),
        LogFormat::Json => {
            let json = text.json().flatten_event(true).with_span_list(false);
            lines.with(json.map_event_format(task::InTask)).try_init()
        }
    };
    // An existing logger is kept; that is no error.
    if started.is_ok() {
        INTO_SPANS.store(into_spans, Relaxed);
        let (configured, level) = (level.to_owned(), Mutex::new(level.to_owned()));
        LOG.get_or_init(|| Log { filter: handle, format, in_colour, configured, level });
    }
    Ok(())
}

/// Colours are for terminals, and not for people who ask for none (<https://no-color.org>).
fn is_in_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The levels of the log: the one in force, and the one at the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLevels {
    pub level: String,
    pub configured: String,
}

/// The levels, if this process logs.
pub fn levels() -> Option<LogLevels> {
    let log = LOG.get()?;
    let level = log.level.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Some(LogLevels { level, configured: log.configured.clone() })
}

/// Changes the level for all lines from now on; `None` for the one at the start. Returns the levels before.
///
/// # Errors
/// When the level cannot be read, or this process does not log.
pub fn set_level(level: Option<&str>) -> anyhow::Result<LogLevels> {
    let log = LOG.get().context("this process does not log")?;
    let level = level.unwrap_or(&log.configured);
    let filter = read(level)?;
    let into_spans = filter.looks_into_spans();
    let mut current = log.level.lock().unwrap_or_else(PoisonError::into_inner);
    log.filter.reload(filter)?;
    INTO_SPANS.store(into_spans, Relaxed);
    let before = std::mem::replace(&mut *current, level.to_owned());
    Ok(LogLevels { level: before, configured: log.configured.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_stops_the_start() {
        let error = start("info,penstock=loudest", LogFormat::Text).expect_err("no such level");
        assert!(format!("{error:#}").starts_with("the log filter is not valid"));
    }

    #[test]
    fn a_level_is_bounded_and_keeps_what_every_filter_has() {
        for level in ["warn,penstock::http=debug", "warn,penstock::http=debug,[request]=trace"] {
            let filter = read(level).expect("a level").to_string();
            for directive in ["warn", "penstock::http=debug", "penstock::audit=info", "actix_http::h1::dispatcher=off"]
            {
                assert!(filter.split(',').any(|one| one == directive), "{directive}: {filter}");
            }
        }
        for good in ["off", "INFO", "info, penstock=debug", "warn,[request]=trace"] {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in
            ["", "  ", "inof", "info,penstock::http", "info,=,", "penstock=loudest", &"a".repeat(LEVEL_CHARS + 1)]
        {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
