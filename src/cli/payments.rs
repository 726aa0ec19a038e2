//! `penstock payments`: payments on chain, for the operator and for the payee's wallet.

use std::{process::ExitCode, str::FromStr, sync::Arc};

use anyhow::{Context as _, anyhow};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand, ValueEnum};
use penstock_actors::{
    ids::ReceiptId,
    model::{Outpoint, Payment, PaymentStage},
    ports::Payments,
};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::{Settings, print};
use crate::{config::Config, telemetry::Metrics, wiring};

mod recheck;

/// Payments per step.
const STEP: u32 = 200;

/// The first bytes of an Atomic BEEF (BRC-95).
const ATOMIC: [u8; 4] = [1, 1, 1, 1];

#[derive(Debug, Subcommand)]
pub(crate) enum PaymentsCommand {
    /// List the payments, the earliest first
    List(ListArgs),
    /// Show a payment
    Show(ShowArgs),
    /// Print what the payee's wallet needs to take the outputs over (BRC-100, internalizeAction): one JSON object per line
    Export(ExportArgs),
    /// Verify the recorded payments again, by the blocks that are known now; fails if one is not valid
    Recheck(recheck::RecheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those in this state
    #[arg(long, value_name = "STATE")]
    state: Option<Stage>,

    /// Print one JSON object per line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The output that paid, TXID:INDEX, or the receipt that it bought
    #[arg(value_name = "PAYMENT")]
    payment: Name,

    /// Print the payment as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Only those in this state
    #[arg(long, value_name = "STATE")]
    state: Option<Stage>,

    /// Only those after this payment, TXID:INDEX: the last one of an earlier export
    #[arg(long, value_name = "PAYMENT")]
    after: Option<OutpointName>,

    #[command(flatten)]
    settings: Settings,
}

impl PaymentsCommand {
    pub(super) fn load(&self) -> anyhow::Result<Config> {
        match self {
            Self::List(args) => args.settings.load(),
            Self::Show(args) => args.settings.load(),
            Self::Export(args) => args.settings.load(),
            Self::Recheck(args) => args.settings.load(),
        }
    }
}

/// A state on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Stage {
    Pending,
    Unproven,
    Proven,
    Invalidated,
}

impl From<Stage> for PaymentStage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Pending => Self::Pending,
            Stage::Unproven => Self::Unproven,
            Stage::Proven => Self::Proven,
            Stage::Invalidated => Self::Invalidated,
        }
    }
}

/// An output as TXID:INDEX.
#[derive(Debug, Clone, Copy)]
struct OutpointName(Outpoint);

impl FromStr for OutpointName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(txid, vout)| Some((txid.parse().ok()?, vout.parse().ok()?)));
        let (txid, vout) =
            parts.ok_or("an output is TXID:INDEX, with the 64 hexadecimal characters of a transaction")?;
        Ok(Self(Outpoint { txid, vout }))
    }
}

/// A payment by its output, or by its receipt.
#[derive(Debug, Clone, Copy)]
enum Name {
    Output(Outpoint),
    Receipt(ReceiptId),
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains(':') {
            return OutpointName::from_str(text).map(|name| Self::Output(name.0));
        }
        text.parse().map(Self::Receipt).map_err(|_| "a payment is TXID:INDEX, or the id of its receipt".to_owned())
    }
}

pub(super) async fn run(command: &PaymentsCommand, config: &Config, io: &Handle) -> anyhow::Result<ExitCode> {
    let metrics = Metrics::new()?;
    let database = wiring::open_database(config, &Arc::clone(&metrics.db), io).await?;
    let payments = &*database.payments;
    match command {
        PaymentsCommand::List(args) => list(args, payments).await,
        PaymentsCommand::Show(args) => show(args, payments).await,
        PaymentsCommand::Export(args) => export(args, payments).await,
        PaymentsCommand::Recheck(args) => recheck::run(args, config, &database).await,
    }
}

async fn list(args: &ListArgs, payments: &dyn Payments) -> anyhow::Result<ExitCode> {
    each(payments, args.state, None, async |payment| {
        print(&if args.json { document(payment).to_string() } else { line(payment) }).map(drop)
    })
    .await
}

async fn show(args: &ShowArgs, payments: &dyn Payments) -> anyhow::Result<ExitCode> {
    let payment = match args.payment {
        Name::Output(outpoint) => payments.payment(&outpoint).await?,
        Name::Receipt(receipt) => payments.payment_of_receipt(receipt).await?,
    };
    let payment = payment.ok_or_else(|| anyhow!("there is no such payment"))?;
    let document = document(&payment);
    if args.json {
        return print(&document.to_string());
    }
    for (name, value) in document.as_object().into_iter().flatten() {
        print(&format!("{name:17} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn export(args: &ExportArgs, payments: &dyn Payments) -> anyhow::Result<ExitCode> {
    each(payments, args.state, args.after.map(|after| after.0), async |payment| {
        let beef = payments.beef(&payment.outpoint).await?.context("the envelope of a payment is not there")?;
        print(&remittance(payment, &beef).to_string()).map(drop)
    })
    .await
}

/// Does the same for each payment, in the order in which they were made.
async fn each(
    payments: &dyn Payments,
    stage: Option<Stage>,
    mut after: Option<Outpoint>,
    mut work: impl AsyncFnMut(&Payment) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    loop {
        let page = payments.payments_page(stage.map(PaymentStage::from), after, STEP).await?;
        for payment in &page.items {
            work(payment).await?;
        }
        after = page.items.last().map(|last| last.outpoint);
        if !page.more {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn line(payment: &Payment) -> String {
    let Payment { outpoint, satoshis, state, made_at, receipt_id, .. } = payment;
    let receipt = receipt_id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    format!("{made_at} {outpoint} {satoshis} satoshis, {}, receipt {receipt}", state.stage().as_str())
}

fn document(payment: &Payment) -> Value {
    json!({
        "txid": payment.outpoint.txid.to_string(),
        "outputIndex": payment.outpoint.vout,
        "satoshis": payment.satoshis,
        "priceSatoshis": payment.price_satoshis,
        "state": payment.state.stage().as_str(),
        "height": payment.state.height(),
        "versionId": payment.version_id,
        "receiptId": payment.receipt_id,
        "senderIdentityKey": payment.sender,
        "payeeIdentityKey": payment.payee,
        "derivationPrefix": payment.derivation.prefix,
        "derivationSuffix": payment.derivation.suffix,
        "madeAt": payment.made_at,
        "changedAt": payment.changed_at,
    })
}

/// The arguments of a wallet's internalizeAction; the transaction is in base64.
fn remittance(payment: &Payment, beef: &[u8]) -> Value {
    json!({
        "tx": STANDARD.encode(atomic(payment, beef)),
        "outputs": [{
            "outputIndex": payment.outpoint.vout,
            "protocol": "wallet payment",
            "paymentRemittance": {
                "derivationPrefix": payment.derivation.prefix,
                "derivationSuffix": payment.derivation.suffix,
                "senderIdentityKey": payment.sender,
            },
        }],
        "description": "Payment for a receipt",
        "labels": ["penstock"],
        "payment": document(payment),
    })
}

/// The envelope with its subject named. It has no transaction that the subject does not need: the verifier refuses such ones.
fn atomic(payment: &Payment, beef: &[u8]) -> Vec<u8> {
    if beef.starts_with(&ATOMIC) {
        return beef.to_vec();
    }
    [&ATOMIC, payment.outpoint.txid.as_wire().as_slice(), beef].concat()
}
