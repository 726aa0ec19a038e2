//! How many connections of clients are served at a time.

use super::saturate;
use crate::config::Config;

/// A connection, and the content that it streams.
const FILES_OF_A_CLIENT: u64 = 2;

/// Files that belong to no client: databases, Redis, the usage spool, uploads, connections that are being refused.
const OTHER_FILES: u64 = 1500;

/// The connections that are served at a time: as many as are configured, if this process may open so many `files`. Without a free
/// descriptor a connection could not even be refused.
pub fn most_connections(config: &Config, files: u64) -> u32 {
    let configured = saturate(config.server.max_connections);
    let room = files.saturating_sub(OTHER_FILES.min(files / 2)) / FILES_OF_A_CLIENT;
    let room = u32::try_from(room).unwrap_or(u32::MAX).max(1);
    if room < configured {
        tracing::warn!(
            files,
            room,
            configured,
            "the limit on open files has room for fewer connections than server.max_connections; this node refuses those beyond it"
        );
    }
    configured.min(room)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn the_limit_on_open_files_bounds_the_connections() {
        let config = Config::load(&Sources::default()).expect("the defaults");
        let most = [u64::MAX, 25_500, 20_000, 4096, 1024, 0].map(|files| most_connections(&config, files));
        assert_eq!(most, [12_000, 12_000, 9250, 1298, 256, 1]);
    }
}
