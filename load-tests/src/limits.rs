//! Open files: a thousand streams need a thousand sockets here and, in a node that this process starts, as many again with a file each. The limit is
//! inherited, so raising it here raises it there.

use anyhow::ensure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that belong to no stream. A node keeps so many of a large limit for databases and for connections that it refuses, and half of a small one.
const OTHER_FILES: u64 = 1500;

/// A socket and a file in the node, which has more of them per stream than the client has.
const FILES_PER_STREAM: u64 = 2;

/// The files that a node needs to serve so many streams.
fn needed(streams: u64) -> u64 {
    let files = streams * FILES_PER_STREAM;
    files + OTHER_FILES.min(files)
}

/// The streams that a node with so many files serves.
fn room(files: u64) -> u64 {
    files.saturating_sub(OTHER_FILES.min(files / 2)) / FILES_PER_STREAM
}

/// Raises the limit as far as this user may, and checks that it is enough for this many streams.
///
/// # Errors
/// When it is not: better said now than found out as a thousand failed connections.
pub(crate) fn allow_streams(streams: usize) -> anyhow::Result<()> {
    let (streams, needed) = (streams as u64, needed(streams as u64));
    let limit = getrlimit(Resource::Nofile);
    // Root may go beyond the hard limit, others up to it. A refusal leaves the limit as it was, which the check below judges.
    let beyond = limit.maximum.map(|maximum| maximum.max(needed));
    if setrlimit(Resource::Nofile, Rlimit { current: beyond, maximum: beyond }).is_err() {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    // No limit at all is told as `None`.
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    ensure!(
        room(allowed) >= streams,
        "{streams} requests at a time need {needed} open files, and this user may have {allowed}. Raise the limit: run it as root, or let root \
         raise it (`ulimit -Hn`, /etc/security/limits.conf, LimitNOFILE). Or copy the scenario (`show NAME > mine.toml`) and lower its `max_open` \
         to {} or less",
        room(allowed)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_enough_and_one_stream_more_is_too_many() {
        for streams in [1, 100, 375, 750, 1000, 9250, 10_000] {
            assert!(room(needed(streams)) >= streams, "{streams}");
        }
        assert_eq!((needed(10_000), room(20_000), room(21_500)), (21_500, 9250, 10_000));
        assert!(room(needed(10_000) - 2) < 10_000);
    }

    #[test]
    fn more_than_any_kernel_allows_is_refused_with_what_to_do() {
        let error = allow_streams(usize::MAX / 8).unwrap_err().to_string();
        assert!(error.contains("lower its `max_open`") && error.contains("Raise the limit"), "{error}");
    }
}
