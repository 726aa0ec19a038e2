//! What a scenario is given, and what it finds: a node, receipts to stream under, phases and checks.

use std::sync::Arc;

use crate::{
    api::Api,
    client::Target,
    content::Content,
    measure::{PhaseReport, Tally},
    memory::Resident,
    report::{Check, OverloadReport},
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
}

impl Findings {
    pub(crate) fn new() -> Self {
        Self { phases: Vec::new(), checks: Vec::new(), tally: Tally::new(), held_bytes: None, overload: None }
    }
}

/// The node that a scenario is run against.
pub(crate) struct Bench {
    pub(crate) api: Arc<Api>,
    /// Known when the node was started by this run.
    pub(crate) pid: Option<u32>,
    /// Further instances that share everything with this node.
    pub(crate) peers: Vec<Arc<Api>>,
}

impl Bench {
    /// The node's resident memory now, when it runs here.
    pub(crate) fn resident(&self) -> Option<Resident> {
        self.pid.and_then(Resident::of)
    }

    /// Every instance, the node first.
    pub(crate) fn instances(&self) -> impl Iterator<Item = &Arc<Api>> {
        std::iter::once(&self.api).chain(&self.peers)
    }

    pub(crate) fn targets(&self) -> Vec<Target> {
        self.instances().map(|api| api.target.clone()).collect()
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
