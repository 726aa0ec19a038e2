//! `penstock payments recheck`: verifies the envelopes of recorded payments again, by the chain as it is known now.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use penstock_actors::{
    model::{Payment, PaymentState},
    ports::{PaymentFault, Payments},
};
use serde_json::json;

use super::{OutpointName, Settings, each};
use crate::{
    cli::print,
    config::Config,
    wiring::{self, Database, KnownChain},
};

#[derive(Debug, Args)]
pub(crate) struct RecheckArgs {
    /// Only this payment, TXID:INDEX; otherwise all that are not invalidated
    #[arg(value_name = "PAYMENT")]
    payment: Option<OutpointName>,

    /// Print one JSON object per payment
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    pub(super) settings: Settings,
}

/// Fails when a payment is not valid any more. Changes nothing.
pub(super) async fn run(args: &RecheckArgs, config: &Config, database: &Database) -> anyhow::Result<ExitCode> {
    let known = wiring::known_chain(&config.payments, database).await?;
    let payments = &*database.payments;
    let mut are_valid = true;
    if let Some(OutpointName(outpoint)) = args.payment {
        let payment = payments.payment(&outpoint).await?.context("there is no such payment")?;
        are_valid = recheck(args, payments, &known, &payment).await?;
    } else {
        each(payments, None, None, async |payment| {
            if payment.state != PaymentState::Invalidated {
                are_valid &= recheck(args, payments, &known, payment).await?;
            }
            Ok(())
        })
        .await?;
    }
    Ok(if are_valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn recheck(
    args: &RecheckArgs,
    payments: &dyn Payments,
    KnownChain { chain, verifier }: &KnownChain,
    payment: &Payment,
) -> anyhow::Result<bool> {
    let beef = payments.beef(&payment.outpoint).await?.context("the envelope of a payment is not there")?;
    let fault: Option<PaymentFault> = verifier.verify(&beef, chain).err();
    let outpoint = payment.outpoint;
    print(&if args.json {
        let fault = fault.map(|fault| fault.to_string());
        json!({ "txid": outpoint.txid.to_string(), "outputIndex": outpoint.vout, "valid": fault.is_none(), "fault": fault })
            .to_string()
    } else {
        match fault {
            None => format!("{outpoint} is valid"),
            Some(fault) => format!("{outpoint} is not valid: {fault}"),
        }
    })?;
    Ok(fault.is_none())
}
