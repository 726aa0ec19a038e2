//! The load: `wrk`, which takes less processor time for a request than any client that compares bytes, and says what it has counted. That the bytes
//! are right is seen before it begins, and what was charged is seen after.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, ensure};
use serde::Deserialize;
use tokio::process::Command;

use crate::parts::process::{program, put};

const THREADS: usize = 2;

/// What marks the line that the script prints.
const RESULT: &str = "RESULT ";

/// What a run of wrk counted.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counted {
    pub(crate) requests: u64,
    /// With the heads of the answers.
    pub(crate) bytes: u64,
    pub(crate) micros: u64,
    /// Connections that broke, answers that did not come, and answers that were no success.
    pub(crate) errors: u64,
    pub(crate) p50_micros: f64,
    pub(crate) p99_micros: f64,
}

/// The addresses that a run asks for, in turn.
pub(crate) struct Wrk {
    program: PathBuf,
    script: PathBuf,
    first: String,
    connections: usize,
}

impl Wrk {
    /// `paths` are asked for one after the other, by each thread from another place on.
    pub(crate) fn new(folder: &Path, name: &str, paths: &[String], connections: usize) -> anyhow::Result<Self> {
        let script = put(folder, &format!("{name}.lua"), &script(paths)?)?;
        let first = paths.first().cloned().unwrap_or_default();
        Ok(Self { program: program("wrk", "wrk")?, script, first, connections })
    }

    /// The first address that it asks for.
    pub(crate) fn first(&self) -> &str {
        &self.first
    }

    pub(crate) async fn run(&self, base: &str, time: Duration) -> anyhow::Result<Counted> {
        let said = Command::new(&self.program)
            .args(["-t", &THREADS.min(self.connections).to_string(), "-c", &self.connections.to_string()])
            .args(["-d", &format!("{}s", time.as_secs()), "--timeout", "60s", "-s"])
            .arg(&self.script)
            .arg(base)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("cannot run wrk")?;
        let text = String::from_utf8_lossy(&said.stdout);
        ensure!(said.status.success(), "wrk failed: {text}{}", String::from_utf8_lossy(&said.stderr));
        counted(&text)
    }
}

fn counted(said: &str) -> anyhow::Result<Counted> {
    let line = said.lines().find_map(|line| line.strip_prefix(RESULT));
    serde_json::from_str(line.with_context(|| format!("wrk has no result: {said}"))?).context("wrk's result")
}

/// Requests are made once, so a request costs the generator an index into a table. One address needs not even that.
fn script(paths: &[String]) -> anyhow::Result<String> {
    let mut text = String::from("local paths = {\n");
    for path in paths {
        writeln!(text, "    {path:?},")?;
    }
    text += "}
local threads = 0
function setup(thread)
    thread:set('place', threads)
    threads = threads + 1
end
local requests, at = {}, 0
function init()
    for turn, path in ipairs(paths) do requests[turn] = wrk.format('GET', path) end
    at = math.floor(#requests * place / 2)
end
function request()
    at = at % #requests + 1
    return requests[at]
end
function done(summary, latency)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format('";
    text += RESULT;
    text += "{\"requests\":%d,\"bytes\":%d,\"micros\":%d,\"errors\":%d,\"p50Micros\":%.1f,\"p99Micros\":%.1f}\\n',
        summary.requests, summary.bytes, summary.duration, failed, latency:percentile(50), latency:percentile(99)))
end
";
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_is_read_among_what_else_wrk_says() {
        let said = "Running 1s test\n  2 threads\nRESULT {\"requests\":10,\"bytes\":4096,\"micros\":1000000,\"errors\":0,\
                    \"p50Micros\":100.5,\"p99Micros\":900.0}\n";
        let counted = counted(said).unwrap();
        assert_eq!((counted.requests, counted.bytes, counted.p99_micros), (10, 4096, 900.0));
        assert!(super::counted("Running 1s test\n").is_err());
    }
}
