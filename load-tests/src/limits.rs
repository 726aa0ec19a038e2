//! Open files: a thousand streams need a thousand sockets here and, in a node that this process starts, as many again with
//! a file each. The limit is inherited, so raising it here raises it there.

use anyhow::ensure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that neither side opens for a stream: databases, logs, libraries, listeners.
const OTHER_FILES: u64 = 200;

/// A socket and a file in the node, which has more of them per stream than the client has.
const FILES_PER_STREAM: u64 = 2;

/// Raises the limit as far as this user may, and checks that it is enough for this many streams.
///
/// # Errors
/// When it is not: better said now than found out as a thousand failed connections.
pub(crate) fn allow_streams(streams: usize) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // A refusal leaves the limit as it was, which the check below judges.
    let _ = setrlimit(Resource::Nofile, raised);
    let needed = streams as u64 * FILES_PER_STREAM + OTHER_FILES;
    // No limit at all is told as `None`.
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    ensure!(
        allowed >= needed,
        "{streams} requests at a time need {needed} open files, and this user may have {allowed}. Raise the limit (`ulimit -n {needed}`; beyond \
         `ulimit -Hn` root does, in /etc/security/limits.conf or by LimitNOFILE), or copy the scenario (`show`) and lower its max_open to {}",
        allowed.saturating_sub(OTHER_FILES) / FILES_PER_STREAM
    );
    Ok(())
}
