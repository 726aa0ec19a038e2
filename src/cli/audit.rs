//! `penstock audit`: compares every quota window with the sum of its usage rows, and its reservations with the sum of
//! its leases, and reports live instances to which more is leased than they know of.

use std::{process::ExitCode, sync::Arc};

use penstock_actors::{
    model::Credit,
    ports::{AuditDifference, LeaseComparison, UnknownLeases, Upkeep},
};
use tokio::runtime::Handle;

use super::print;
use crate::{config::Config, telemetry::Metrics, wiring};

/// Receipts per step: each step is one statement, short enough to run beside a busy node.
const STEP: u32 = 500;

pub(super) async fn run(config: &Config, io: &Handle) -> anyhow::Result<ExitCode> {
    let metrics = Metrics::new()?;
    let database = wiring::open_database(config, &Arc::clone(&metrics.db), io).await?;
    let (mut after, mut windows, mut differences) = (None, 0, 0_usize);
    loop {
        let page = database.upkeep.audit(after, STEP).await?;
        windows += page.windows;
        differences += page.differences.len();
        for difference in &page.differences {
            print(&describe(difference))?;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    print(&format!("{windows} windows compared, {differences} differences"))?;
    let UnknownLeases { leases, credit } = database.upkeep.unheld().await?;
    if leases > 0 {
        let Credit { bytes, requests } = credit;
        print(&format!(
            "{leases} leases of {bytes} bytes and {requests} requests are held by no instance that is alive; the next pass of a \
             Janitor reclaims them"
        ))?;
    }
    let all_known = tell_of_instances(&*database.upkeep).await?;
    Ok(if differences == 0 && all_known { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the results of the live instances' last comparison with their leases. Returns whether no instance has found unknown
/// leases.
async fn tell_of_instances(upkeep: &dyn Upkeep) -> anyhow::Result<bool> {
    let instances = upkeep.compared().await?;
    let (mut strays, mut unheard) = (0, 0);
    for LeaseComparison { node_epoch, unknown } in &instances {
        match unknown {
            Some((Credit { bytes, requests }, at)) if *bytes > 0 || *requests > 0 => {
                strays += 1;
                print(&format!(
                    "instance {}, epoch {}: {bytes} bytes and {requests} requests are leased to it and unknown to it, as of {at}",
                    node_epoch.node, node_epoch.epoch
                ))?;
            }
            Some(_) => {}
            None => {
                unheard += 1;
                print(&format!(
                    "instance {}, epoch {}: it has not compared its leases with the ledger yet",
                    node_epoch.node, node_epoch.epoch
                ))?;
            }
        }
    }
    let known = instances.len() - strays - unheard;
    print(&format!("instances alive: {}; {known} know of all that is leased to them", instances.len()))?;
    Ok(strays == 0)
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
