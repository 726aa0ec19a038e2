//! `penstock audit`: compares every quota window with the sum of its usage rows, and its reservations with the sum of
//! its leases, and reports live instances to which more is leased than they know of.

use std::{process::ExitCode, sync::Arc};

use penstock_actors::{
    model::Credit,
    ports::{AuditDifference, LeaseComparison, UnknownLeases},
};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::{print, working::Working};
use crate::{config::Config, telemetry::Metrics, wiring};

/// Receipts per step: each step is one statement, short enough to run beside a busy node.
const STEP: u32 = 500;

/// What was found, which a run tells as text, or as JSON in lines.
enum Finding<'a> {
    Difference(&'a AuditDifference),
    Compared { windows: u64, differences: usize },
    Unheld(UnknownLeases),
    Instance(&'a LeaseComparison),
    Instances { alive: usize, known: usize },
}

pub(super) async fn run(config: &Config, io: &Handle, json: bool) -> anyhow::Result<ExitCode> {
    let metrics = Metrics::new()?;
    let database = wiring::open_database(config, &Arc::clone(&metrics.db), io).await?;
    let working = Working::counting("windows compared");
    let tell = |finding: Finding<'_>| {
        let line = if json { Some(finding.document().to_string()) } else { finding.text() };
        working.aside(|| line.map_or(Ok(()), |line| print(&line).map(drop)))
    };
    let (mut after, mut windows, mut differences) = (None, 0, 0_usize);
    loop {
        let page = database.upkeep.audit(after, STEP).await?;
        windows += page.windows;
        working.done(page.windows);
        differences += page.differences.len();
        page.differences.iter().try_for_each(|difference| tell(Finding::Difference(difference)))?;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    tell(Finding::Compared { windows, differences })?;
    tell(Finding::Unheld(database.upkeep.unheld().await?))?;
    let instances = database.upkeep.compared().await?;
    instances.iter().try_for_each(|instance| tell(Finding::Instance(instance)))?;
    let known = instances.iter().filter(|instance| knows_all(instance) == Some(true)).count();
    tell(Finding::Instances { alive: instances.len(), known })?;
    let is_well = differences == 0 && instances.iter().all(|instance| knows_all(instance) != Some(false));
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether a live instance knows of all that is leased to it; `None` if it has not compared.
fn knows_all(instance: &LeaseComparison) -> Option<bool> {
    instance.unknown.map(|(credit, _)| credit.bytes == 0 && credit.requests == 0)
}

impl Finding<'_> {
    /// `None` for what needs no line.
    fn text(&self) -> Option<String> {
        Some(match self {
            Self::Difference(difference) => describe(difference),
            Self::Compared { windows, differences } => format!("{windows} windows compared, {differences} differences"),
            Self::Unheld(UnknownLeases { leases: 0, .. }) => return None,
            Self::Unheld(UnknownLeases { leases, credit: Credit { bytes, requests } }) => format!(
                "{leases} leases of {bytes} bytes and {requests} requests are held by no instance that is alive; the next pass of a \
                 Janitor reclaims them"
            ),
            Self::Instance(instance) => {
                let LeaseComparison { node_epoch, unknown } = instance;
                let name = format!("instance {}, epoch {}", node_epoch.node, node_epoch.epoch);
                match (knows_all(instance), unknown) {
                    (Some(false), Some((Credit { bytes, requests }, at))) => {
                        format!(
                            "{name}: {bytes} bytes and {requests} requests are leased to it and unknown to it, as of {at}"
                        )
                    }
                    (None, _) => format!("{name}: it has not compared its leases with the ledger yet"),
                    _ => return None,
                }
            }
            Self::Instances { alive, known } => {
                format!("instances alive: {alive}; {known} know of all that is leased to them")
            }
        })
    }

    fn document(&self) -> Value {
        let credit = |credit: &Credit| json!({ "bytes": credit.bytes, "requests": credit.requests });
        match self {
            Self::Difference(difference) => json!({ "difference": {
                "receiptId": difference.receipt_id,
                "window": difference.window.as_str(),
                "windowStart": difference.window_start,
                "column": if difference.reserved { "reserved" } else { "used" },
                "recorded": credit(&difference.recorded),
                "recomputed": credit(&difference.recomputed),
            } }),
            Self::Compared { windows, differences } => {
                json!({ "compared": { "windows": windows, "differences": differences } })
            }
            Self::Unheld(unheld) => json!({ "unheld": { "leases": unheld.leases, "credit": credit(&unheld.credit) } }),
            Self::Instance(LeaseComparison { node_epoch, unknown }) => json!({ "instance": {
                "node": node_epoch.node,
                "epoch": node_epoch.epoch,
                "unknown": unknown.as_ref().map(|(unknown, _)| credit(unknown)),
                "comparedAt": unknown.map(|(_, at)| at),
            } }),
            Self::Instances { alive, known } => json!({ "instances": { "alive": alive, "known": known } }),
        }
    }
}

fn describe(difference: &AuditDifference) -> String {
    let AuditDifference { receipt_id, window, window_start, recorded, recomputed, reserved } = difference;
    let (column, source) = if *reserved { ("reserved", "leases") } else { ("used", "usage rows") };
    format!(
        "receipt {receipt_id}, {} of {window_start}: {column} says {} bytes and {} requests, its {source} {} and {}",
        window.as_str(),
        recorded.bytes,
        recorded.requests,
        recomputed.bytes,
        recomputed.requests,
    )
}
