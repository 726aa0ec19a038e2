//! The chain by which payments are verified.

use jiff::Timestamp;
use penstock_actors::payments::chain_handle::ChainHandle;
use prometheus::{Gauge, IntCounter, IntGauge, Registry};

use super::{Metrics, readings::catch_up};

/// Gauges of the chain, and counters that follow its own.
struct ChainGauges {
    height: IntGauge,
    age: Gauge,
    lag: IntGauge,
    reorganisations: IntCounter,
    refused: IntCounter,
}

impl ChainGauges {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let height = IntGauge::new(
            "penstock_chain_height",
            "The height of the last block that this node knows; -1 while it knows none.",
        )?;
        let age = Gauge::new(
            "penstock_chain_tip_age_seconds",
            "Since when the last block is there, by its miner's clock. Above payments.headers_max_age, payments on chain are refused.",
        )?;
        let lag = IntGauge::new(
            "penstock_chain_lag_blocks",
            "By how many blocks the source of headers was ahead when it was last asked; negative when it was behind.",
        )?;
        let reorganisations =
            IntCounter::new("penstock_chain_reorganisations_total", "How often blocks left the best chain.")?;
        let refused = IntCounter::new(
            "penstock_chain_refused_headers_total",
            "Headers that did not fulfil the rules of the network; the source is wrong, or serves another network.",
        )?;
        registry.register(Box::new(height.clone()))?;
        registry.register(Box::new(age.clone()))?;
        registry.register(Box::new(lag.clone()))?;
        registry.register(Box::new(reorganisations.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Self { height, age, lag, reorganisations, refused })
    }
}

impl Metrics {
    /// Exports the state of the chain.
    ///
    /// # Errors
    /// When a chain is exported already.
    pub fn observe_chain(&self, chain: ChainHandle) -> Result<(), prometheus::Error> {
        let gauges = ChainGauges::new(self.registry())?;
        self.before_scrape(move || {
            let standing = chain.standing();
            gauges.height.set(standing.height.map_or(-1, i64::from));
            gauges.lag.set(standing.lag);
            let age = standing.made_at.map(|made_at| Timestamp::now().duration_since(made_at));
            gauges.age.set(age.map_or(f64::NAN, |age| age.as_secs_f64()));
            catch_up(&gauges.reorganisations, standing.reorganisations);
            catch_up(&gauges.refused, standing.refused);
        });
        Ok(())
    }
}
