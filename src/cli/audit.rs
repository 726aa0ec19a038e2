//! `penstock audit`: compares every quota window with the sum of its usage rows, and its reservations with the sum of
//! its leases.

use std::{process::ExitCode, sync::Arc};

use penstock_actors::{
    model::Credit,
    ports::{AuditDifference, Unheld},
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
    let Unheld { leases, credit } = database.upkeep.unheld().await?;
    if leases > 0 {
        let Credit { bytes, requests } = credit;
        print(&format!(
            "{leases} leases of {bytes} bytes and {requests} requests are held by no instance that is alive; the next pass of a \
             Janitor reclaims them"
        ))?;
    }
    Ok(if differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
