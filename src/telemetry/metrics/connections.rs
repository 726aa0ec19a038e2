//! The connections of clients.

use penstock_actors::{flow::fairness::FairAdmission, model::Client};
use prometheus::{IntCounter, IntGauge};

use super::{Metrics, node::signed, readings::catch_up};

impl Metrics {
    /// Exports the connections of clients, their bound, and how many were refused.
    ///
    /// # Errors
    /// When connections are exported already.
    pub fn observe_connections(&self, connections: FairAdmission<Client>) -> Result<(), prometheus::Error> {
        let served = IntGauge::new("penstock_http_connections", "Connections of clients that are served.")?;
        let most = IntGauge::new("penstock_http_connections_max", "The most connections that are served at a time.")?;
        let help = "Connections that were refused because there were too many, or too many of their address.";
        let refused = IntCounter::new("penstock_http_connections_refused_total", help)?;
        self.registry().register(Box::new(served.clone()))?;
        self.registry().register(Box::new(most.clone()))?;
        self.registry().register(Box::new(refused.clone()))?;
        self.before_scrape(move || {
            let now = connections.snapshot();
            served.set(signed(now.in_use));
            most.set(signed(now.capacity));
            catch_up(&refused, now.refused);
        });
        Ok(())
    }
}
