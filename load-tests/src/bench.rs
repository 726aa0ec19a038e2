//! What a scenario is given, and what it finds: a node, receipts to stream under, phases and checks.

use std::sync::Arc;

use crate::{
    api::Api,
    check::Check,
    client::Target,
    content::Content,
    fault_report::FaultReport,
    measure::{PhaseReport, Tally},
    memory::Resident,
    report::OverloadReport,
    stream::Wanted,
};

/// What the phases of a scenario have found.
pub(crate) struct Findings {
    pub(crate) phases: Vec<PhaseReport>,
    pub(crate) checks: Vec<Check>,
    /// All streams of all phases: what the bill is compared with.
    pub(crate) tally: Tally,
    /// The node's resident memory while the most streams were held.
    pub(crate) held_bytes: Option<u64>,
    pub(crate) overload: Option<OverloadReport>,
    /// What was stopped or paused meanwhile.
    pub(crate) faults: Vec<FaultReport>,
}

impl Findings {
    pub(crate) fn new() -> Self {
        Self {
            phases: Vec::new(),
            checks: Vec::new(),
            tally: Tally::new(),
            held_bytes: None,
            overload: None,
            faults: Vec::new(),
        }
    }
}

/// The node that a scenario is run against, or the instances.
pub(crate) struct Bench {
    /// Where clients ask: the node, or what is before the instances.
    pub(crate) api: Arc<Api>,
    /// Known when the nodes were started by this run.
    pub(crate) pids: Vec<u32>,
    /// Every instance by itself; one without anything before it.
    pub(crate) instances: Vec<Arc<Api>>,
}

impl Bench {
    /// The resident memory of all instances now, when they run here.
    pub(crate) fn resident(&self) -> Option<Resident> {
        let each: Vec<Resident> = self.pids.iter().filter_map(|pid| Resident::of(*pid)).collect();
        let add = |sum: Resident, of: Resident| Resident { now: sum.now + of.now, peak: sum.peak + of.peak };
        each.into_iter().reduce(add)
    }

    pub(crate) fn targets(&self) -> Vec<Target> {
        self.instances.iter().map(|api| api.target.clone()).collect()
    }

    /// Stores a content, and makes an asset and that many receipts for it.
    pub(crate) async fn prepare(
        &self,
        content: &Arc<Content>,
        tier: &str,
        receipts: usize,
    ) -> anyhow::Result<Vec<Wanted>> {
        self.api.put_content(content).await?;
        let version_id = self.api.make_asset(content, &format!("load test, {} bytes", content.len())).await?;
        let mut wanted = Vec::with_capacity(receipts);
        for _ in 0..receipts {
            wanted.push(Wanted::whole(content.clone(), self.api.make_receipt(&version_id, tier).await?));
        }
        Ok(wanted)
    }
}
