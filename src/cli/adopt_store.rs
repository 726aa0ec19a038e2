//! `penstock adopt-store`: marks a blob store as this installation's, after showing what it found.

use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use penstock_actors::{
    model::StorageTier,
    storage::store_guard::{StoreGuard, StoreStanding},
};
use tokio::runtime::Handle;

use super::{Settings, print};
use crate::{config::Config, telemetry::Metrics, wiring};

#[derive(Debug, Args)]
pub(crate) struct AdoptStoreArgs {
    /// The tier of the store: hot, warm or cold [default: each that is not marked yet]
    #[arg(long, value_name = "TIER", value_parser = |tier: &str| tier.parse::<StorageTier>().map_err(|error| error.to_string()))]
    tier: Option<StorageTier>,

    /// Also adopt a store that does not look like this installation's
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    pub(super) settings: Settings,
}

pub(super) async fn run(args: &AdoptStoreArgs, config: &Config, io: &Handle) -> anyhow::Result<ExitCode> {
    let metrics = Metrics::new()?;
    let backends = wiring::open(config, &metrics, io).await?;
    let installation = backends.store.installation().await.context("cannot read the installation of the database")?;
    print(&format!("installation {}, since {}", installation.installation_id, installation.created_at))?;
    let tiers: Vec<_> = backends
        .ports
        .copies
        .tiers()
        .into_iter()
        .filter(|tier| args.tier.is_none_or(|wanted| wanted == *tier))
        .collect();
    ensure!(!tiers.is_empty(), "no such tier is configured");
    let mut code = ExitCode::SUCCESS;
    for tier in tiers {
        if !adopt(&backends.store, tier, args.yes).await? {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Adopts the store of one tier; false when the operator must confirm with `--yes`.
async fn adopt(store: &StoreGuard, tier: StorageTier, yes: bool) -> anyhow::Result<bool> {
    let place = store.place(tier);
    let standing = store.standing(tier).await.with_context(|| format!("cannot examine the {tier} store at {place}"))?;
    let (found, is_safe) = match &standing {
        StoreStanding::Ours => {
            print(&format!("the {tier} store at {place} carries this installation's mark: there is nothing to do"))?;
            return Ok(true);
        }
        StoreStanding::New => {
            ("is empty, and the database has no store yet: `penstock serve` would mark it".to_owned(), true)
        }
        StoreStanding::Older(evidence) => (format!("has no mark; {evidence}"), true),
        StoreStanding::Unmarked(evidence) => (format!("has no mark; {evidence}"), false),
        StoreStanding::Other(known) => (
            format!("carries this installation's mark, but is not the store that the database knows, last at {known}"),
            false,
        ),
        StoreStanding::Foreign(other) => (format!("carries the mark of another installation, {other}"), false),
        StoreStanding::Gone(known) => {
            (format!("is empty or missing; this installation's store was last at {known}"), false)
        }
        StoreStanding::Replaced(_) => bail!("{}", standing.refusal(tier, &place, store.installation().await?)),
        StoreStanding::Unreadable => ("has other data in place of its mark".to_owned(), false),
    };
    print(&format!("the {tier} store at {place} {found}"))?;
    if !is_safe && !yes {
        print(
            "  it was left as it is. If it is the right one, run this again with --yes: content that the database does not know \
            counts as garbage then, and content that the store does not have as lost",
        )?;
        return Ok(false);
    }
    store.adopt(tier).await.with_context(|| format!("cannot mark the {tier} store at {place}"))?;
    print("  it is marked as this installation's now; a running node notices within some seconds")?;
    Ok(true)
}
