//! `ClientKeys`: the keys under which addresses of clients are marked in usage rows, one for each day.

use std::time::Duration;

use async_trait::async_trait;
use jiff::civil::Date;

use super::PortResult;

/// The key of the present day.
#[derive(Clone, Copy)]
pub struct DailyKey {
    pub key: [u8; 32],
    /// What is left of the day.
    pub left: Duration,
}

/// The keys that all instances share. Days are in UTC, by the database's clock.
#[async_trait]
pub trait ClientKeys: Send + Sync + 'static {
    /// The key of the present day. If it has none yet, `proposal` becomes its key.
    async fn key_of_today(&self, proposal: [u8; 32]) -> PortResult<DailyKey>;

    /// The keys that are not deleted yet, by day.
    async fn kept_keys(&self) -> PortResult<Vec<(Date, [u8; 32])>>;
}
