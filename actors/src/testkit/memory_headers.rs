//! The store of headers in memory, which can be away.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use async_trait::async_trait;

use crate::{
    model::ChainHeader,
    ports::{HeaderStore, PortError, PortResult},
};

/// Headers in memory.
#[derive(Debug, Default)]
pub struct MemoryHeaders {
    headers: Mutex<Vec<ChainHeader>>,
    /// While it is set, no call is answered.
    pub is_away: AtomicBool,
}

impl MemoryHeaders {
    /// Forgets what is above this height, as a backup does.
    pub fn restore_to(&self, height: u32) {
        self.lock().retain(|header| header.height <= height);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<ChainHeader>> {
        self.headers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self) -> PortResult<std::sync::MutexGuard<'_, Vec<ChainHeader>>> {
        if self.is_away.load(Relaxed) { Err(PortError::unavailable("headers", "away")) } else { Ok(self.lock()) }
    }
}

#[async_trait]
impl HeaderStore for MemoryHeaders {
    async fn add_headers(&self, headers: &[ChainHeader]) -> PortResult<()> {
        let mut kept = self.answer()?;
        for header in headers {
            if kept.iter().all(|other| other.hash != header.hash) {
                kept.push(*header);
            }
        }
        Ok(())
    }

    async fn best_header(&self) -> PortResult<Option<ChainHeader>> {
        Ok(self.answer()?.iter().max_by_key(|header| header.total_work).copied())
    }

    async fn headers_from(&self, height: u32, heights: u32) -> PortResult<Vec<ChainHeader>> {
        let end = height.saturating_add(heights);
        let mut found: Vec<_> =
            self.answer()?.iter().filter(|header| (height..end).contains(&header.height)).copied().collect();
        found.sort_by_key(|header| header.height);
        Ok(found)
    }
}
