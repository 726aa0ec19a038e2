//! Whether the blob stores belong to the installation.

use std::sync::Arc;

use penstock_actors::storage::store_guard::{StandingKind, StoreGuard};
use prometheus::{IntGaugeVec, Opts};

use super::Metrics;

impl Metrics {
    /// Exports the relation of each tier's store to the installation.
    ///
    /// # Errors
    /// When stores are exported already.
    pub fn observe_stores(&self, store: Arc<StoreGuard>) -> Result<(), prometheus::Error> {
        let help = "1 for the standing of a tier's store at the last check, 0 for the others; must be own.";
        let gauges = IntGaugeVec::new(Opts::new("penstock_store_standing", help), &["tier", "standing"])?;
        self.registry().register(Box::new(gauges.clone()))?;
        self.before_scrape(move || {
            for (tier, standing) in store.standings() {
                for kind in StandingKind::ALL {
                    gauges.with_label_values(&[tier.as_str(), kind.as_str()]).set(i64::from(*kind == standing));
                }
            }
        });
        Ok(())
    }
}
