//! A connection that holds back as many bytes as a test says.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use crate::ports::Connection;

/// A connection in memory. At first, bytes leave as soon as they are handed over.
#[derive(Default)]
pub struct TestConnection {
    handed_over: AtomicU64,
    unsent: AtomicU64,
    cut: AtomicBool,
}

impl TestConnection {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn weak(self: &Arc<Self>) -> Weak<dyn Connection> {
        let this: Weak<Self> = Arc::downgrade(self);
        this
    }

    /// From now on, this many bytes have not left.
    pub fn hold_back(&self, bytes: u64) {
        self.unsent.store(bytes, Relaxed);
    }

    pub fn all_handed_over(&self) -> u64 {
        self.handed_over.load(Relaxed)
    }

    pub fn is_cut(&self) -> bool {
        self.cut.load(Relaxed)
    }
}

impl Connection for TestConnection {
    fn handed_over(&self, bytes: u64) {
        self.handed_over.fetch_add(bytes, Relaxed);
    }

    fn unsent(&self) -> u64 {
        self.unsent.load(Relaxed)
    }

    fn cut(&self) {
        self.cut.store(true, Relaxed);
    }
}
