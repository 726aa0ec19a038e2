//! The allocator's own figures: what the program holds, and what the allocator keeps on top of it.

use prometheus::{
    core::{Collector, Desc},
    proto::{MetricFamily, MetricType},
};
use tikv_jemalloc_ctl::{epoch, epoch_mib, stats};

use super::readings::{desc, family, metric};

const NAME: &str = "penstock_allocator_bytes";
const HELP: &str =
    "Memory by the allocator: allocated by the program, in active pages, resident, mapped, and retained for later use.";

/// Reads jemalloc's figures at each scrape.
pub(super) struct Allocator {
    desc: Desc,
    epoch: epoch_mib,
    figures: [(&'static str, Figure); 5],
}

type Figure = Box<dyn Fn() -> tikv_jemalloc_ctl::Result<usize> + Send + Sync>;

impl Allocator {
    /// `None` where the allocator does not tell.
    pub(super) fn of_this_process() -> Result<Option<Self>, prometheus::Error> {
        let desc = desc((NAME, HELP), &["state"])?;
        Ok(Self::reading(desc).ok())
    }

    fn reading(desc: Desc) -> tikv_jemalloc_ctl::Result<Self> {
        let (allocated, active) = (stats::allocated::mib()?, stats::active::mib()?);
        let (resident, mapped) = (stats::resident::mib()?, stats::mapped::mib()?);
        let retained = stats::retained::mib()?;
        let figures: [(&'static str, Figure); 5] = [
            ("allocated", Box::new(move || allocated.read())),
            ("active", Box::new(move || active.read())),
            ("resident", Box::new(move || resident.read())),
            ("mapped", Box::new(move || mapped.read())),
            ("retained", Box::new(move || retained.read())),
        ];
        Ok(Self { desc, epoch: epoch::mib()?, figures })
    }
}

impl Collector for Allocator {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // The figures are of the last step of jemalloc's epoch. If there is none, they are older, and no less true.
        let _ = self.epoch.advance();
        let figures = self.figures.iter().filter_map(|(state, read)| {
            let bytes = read().ok()?;
            Some(metric(MetricType::GAUGE, [("state", *state)], bytes as f64))
        });
        vec![family(NAME, HELP, MetricType::GAUGE, figures.collect())]
    }
}
