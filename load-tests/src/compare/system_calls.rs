//! System calls, counted by `strace -c -f` while a short load runs. That makes the servers many times slower, so it is done apart from what is timed.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::parts::process::{program, tree};

/// How long it may take until every process is watched, and until what was counted is written.
const PATIENCE: Duration = Duration::from_secs(30);

/// Counts what these trees of processes call while `load` runs.
pub(crate) async fn count<T>(
    roots: &[u32],
    folder: &Path,
    load: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(u64, T)> {
    let told = folder.join("strace");
    let processes: Vec<u32> = roots.iter().flat_map(|root| tree(*root)).collect();
    let mut command = Command::new(program("strace", "strace")?);
    command.args(["-c", "-f", "-o"]).arg(&told);
    for pid in &processes {
        command.args(["-p", &pid.to_string()]);
    }
    let mut strace = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run strace")?;
    let mut lines = BufReader::new(strace.stderr.take().context("strace says nothing")?).lines();
    let attached = async {
        let mut left = processes.len();
        let mut said = String::new();
        while left > 0 {
            let line = lines.next_line().await?;
            let line = line.with_context(|| format!("strace cannot watch the servers: {said}"))?;
            left -= usize::from(line.contains("attached"));
            said += &line;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, attached).await.context("strace does not watch the servers")??;
    // It says more, of each thread: it must never wait for this process.
    let rest = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let done = load.await?;
    let pid = strace.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    kill_process(pid.context("strace ended")?, Signal::INT).context("cannot end strace")?;
    tokio::time::timeout(PATIENCE, strace.wait()).await.context("strace does not end")??;
    rest.abort();
    let text = std::fs::read_to_string(&told).context("strace wrote nothing")?;
    let total = total(&text);
    ensure!(total > 0, "strace counted nothing: {text}");
    Ok((total, done))
}

/// The calls of the line `total`: its last number but the errors, which may be left out.
fn total(text: &str) -> u64 {
    let line = text.lines().rev().find(|line| line.trim_end().ends_with(" total"));
    let fields: Vec<&str> = line.map(|line| line.split_whitespace().collect()).unwrap_or_default();
    fields.get(3).and_then(|calls| calls.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_the_calls_is_read_with_errors_and_without() {
        let table = "% time     seconds  usecs/call     calls    errors syscall\n------ -----------\n 60.00 0.1 13 100 recvfrom\n";
        assert_eq!(total(&format!("{table}100.00    0.290861          13     22040        12 total\n")), 22_040);
        assert_eq!(total(&format!("{table}100.00    0.290861          13     22040           total\n")), 22_040);
        assert_eq!(total("strace: nothing\n"), 0);
    }
}
