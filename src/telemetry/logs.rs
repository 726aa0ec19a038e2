//! Logs: structured lines on standard error, so that standard output holds only the results of commands.

mod gathered;

use std::io::IsTerminal as _;

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

pub(super) use self::gathered::dropped_lines;
pub use self::gathered::flush;

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

/// The framework logs each end of a connection as an error, even if the client is at fault, and names no peer.
/// `http_server` logs the same ends with their peer, at debug level.
const REPLACED: &str = "actix_http::h1::dispatcher=off";

/// Starts logging for the process, with a filter such as `info,penstock::access=warn`. The first start wins: a second server
/// in the process logs to the same place.
///
/// # Errors
/// When the filter is invalid.
pub fn start(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter: EnvFilter = format!("{REPLACED},{filter}")
        .parse()
        .map_err(|error| anyhow!("{error}"))
        .context("the log filter is not valid")?;
    let lines = tracing_subscriber::registry().with(filter);
    // A line that cannot be written is lost. Reporting that on the same stream would panic, as when the terminal is
    // closed.
    let text = fmt::layer().with_writer(gathered::stderr()).log_internal_errors(false);
    // An existing logger is kept; that is no error.
    let _kept = match format {
        LogFormat::Text => lines.with(text.with_ansi(std::io::stderr().is_terminal())).try_init(),
        LogFormat::Json => lines.with(text.json().flatten_event(true).with_span_list(false)).try_init(),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_stops_the_start() {
        let error = start("info,penstock=loudest", LogFormat::Text).expect_err("no such level");
        assert!(format!("{error:#}").starts_with("the log filter is not valid"));
    }
}
