//! `Revocation`: how running streams learn that their receipt was revoked.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::ports::Connection;

/// Raised when a receipt loses its right to stream, or a stream its lease or its slot. It cuts the connections of running streams;
/// streams also check it with each piece.
#[derive(Default)]
pub struct Revocation {
    raised: AtomicBool,
    watched: Mutex<WatchedConnections>,
}

/// One for each running stream of more than a piece, so it has the same bound as streams.
#[derive(Default)]
struct WatchedConnections {
    last: u64,
    connections: HashMap<u64, Weak<dyn Connection>>,
}

impl Revocation {
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed)
    }

    /// Cuts all watched connections, and those that come later.
    pub fn raise(&self) {
        let connections = {
            let mut watched = self.lock();
            self.raised.store(true, Ordering::Relaxed);
            std::mem::take(&mut watched.connections)
        };
        connections.into_values().filter_map(|connection| connection.upgrade()).for_each(|connection| connection.cut());
    }

    /// Cuts the connection when this is raised; at once if it is raised already.
    pub fn watch(&self, connection: &Weak<dyn Connection>) -> Watch {
        let mut watched = self.lock();
        watched.last += 1;
        let watch = Watch(watched.last);
        if !self.is_raised() {
            watched.connections.insert(watch.0, Weak::clone(connection));
            return watch;
        }
        drop(watched);
        if let Some(connection) = connection.upgrade() {
            connection.cut();
        }
        watch
    }

    /// Stops watching a connection.
    pub fn leave(&self, watch: &Watch) {
        self.lock().connections.remove(&watch.0);
    }

    fn lock(&self) -> MutexGuard<'_, WatchedConnections> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Revocation").field(&self.is_raised()).finish()
    }
}

/// A watched connection, for [`Revocation::leave`].
#[derive(Debug, PartialEq, Eq)]
pub struct Watch(u64);

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicU32};

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicU32);

    impl Counted {
        fn cuts(&self) -> u32 {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Connection for Counted {
        fn handed_over(&self, _: u64) {}

        fn unsent(&self) -> u64 {
            0
        }

        fn cut(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn weak(line: &Arc<Counted>) -> Weak<dyn Connection> {
        let line: Weak<Counted> = Arc::downgrade(line);
        line
    }

    #[test]
    fn a_revocation_cuts_the_connections_that_it_watches_and_those_that_come_too_late() {
        let revocation = Revocation::default();
        let lines: [Arc<Counted>; 3] = Default::default();
        revocation.watch(&weak(&lines[0]));
        let ended = revocation.watch(&weak(&lines[1]));
        revocation.leave(&ended);
        let gone = Arc::new(Counted::default());
        revocation.watch(&weak(&gone));
        drop(gone);
        assert!(!revocation.is_raised());
        revocation.raise();
        revocation.raise();
        revocation.watch(&weak(&lines[2]));
        assert_eq!(lines.map(|line| line.cuts()), [1, 0, 1]);
        assert!(revocation.is_raised());
    }
}
