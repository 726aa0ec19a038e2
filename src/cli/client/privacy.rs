//! `penstock privacy`: what a node keeps about the payer of receipts, for an administrator.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::node::{KeyArgs, NodeArgs, NodeClient};

/// The operation on the data of a payer.
#[derive(Debug, Args)]
pub struct PrivacyArgs {
    #[command(subcommand)]
    command: PrivacyCommand,

    #[command(flatten)]
    node: NodeArgs,

    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Subcommand)]
enum PrivacyCommand {
    /// Print all that is kept about the payer of these receipts, one JSON object for each receipt
    Export(ReceiptIds),
    /// Forget the payer of these receipts: their usage stays in the accounts without anything that names the payer
    Delete(ReceiptIds),
}

#[derive(Debug, Args)]
struct ReceiptIds {
    /// The payer's receipts, as the shop has them: a node does not know who a payer is
    #[arg(value_name = "RECEIPT_ID", required = true)]
    receipts: Vec<String>,
}

/// Runs the operation on one receipt after the other, and hands each answer over before the next begins.
///
/// # Errors
/// When the node refuses or cannot be reached. What was done for earlier receipts stays done.
pub async fn privacy(args: &PrivacyArgs, mut print: impl FnMut(&Value) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let node = NodeClient::open_with_key(&args.node, &args.key)?;
    match &args.command {
        PrivacyCommand::Export(ReceiptIds { receipts }) => {
            for receipt in receipts {
                print(&export(&node, receipt).await?)?;
            }
        }
        PrivacyCommand::Delete(ReceiptIds { receipts }) => {
            for receipt in receipts {
                let mut answer = node.delete(&["v1", "privacy", "receipts", receipt]).await?;
                answer["receiptId"] = json!(receipt);
                print(&answer)?;
            }
        }
    }
    Ok(())
}

/// All pages of usage in one object.
async fn export(node: &NodeClient, receipt: &str) -> anyhow::Result<Value> {
    let path = ["v1", "privacy", "receipts", receipt];
    let mut whole = node.page(&path, None).await?;
    while let Some(cursor) = whole["nextCursor"].as_str().map(str::to_owned) {
        let mut page = node.page(&path, Some(&cursor)).await?;
        if let (Some(all), Some(more)) = (whole["usage"].as_array_mut(), page["usage"].as_array_mut()) {
            all.append(more);
        }
        whole["nextCursor"] = page["nextCursor"].take();
    }
    if let Some(members) = whole.as_object_mut() {
        members.remove("nextCursor");
    }
    Ok(whole)
}
