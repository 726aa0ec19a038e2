//! `penstock receipt`: makes a receipt for an asset.

use clap::Args;
use jiff::Timestamp;
use penstock_actors::{
    ids::VersionId,
    model::{ReceiptStatus, moment::moment},
};
use serde_json::{Value, json};

use super::node::{NodeClient, ProducerCallArgs};

/// The receipt to make.
#[derive(Debug, Args)]
pub struct ReceiptArgs {
    /// The version id of the asset
    #[arg(long, value_name = "VERSION_ID")]
    pub asset: VersionId,

    /// The quota tier [default: the node's]
    #[arg(long)]
    pub tier: Option<String>,

    /// When it expires: a time such as 2030-01-31T12:00:00Z, or a span from now such as 7d [default: the node's]
    #[arg(long, value_name = "TIME", value_parser = expiry)]
    pub expires: Option<Timestamp>,

    /// The initial status [default: the node's]
    #[arg(long)]
    pub status: Option<ReceiptStatus>,

    #[command(flatten)]
    pub call: ProducerCallArgs,
}

fn expiry(text: &str) -> Result<Timestamp, String> {
    let now = Timestamp::now();
    if let Some(time) = moment(text) {
        // A receipt that is already expired cannot be used.
        return if time > now { Ok(time) } else { Err("this time is in the past".to_owned()) };
    }
    let neither = || "neither a time such as 2030-01-31T12:00:00Z nor a span such as 7d".to_owned();
    let span = humantime::parse_duration(text).map_err(|_| neither())?;
    now.checked_add(span).map_err(|_| "no such time: it is more than 7,000 years from now".to_owned())
}

/// Makes the receipt; returns the node's answer.
///
/// # Errors
/// When the node refuses or cannot be reached.
pub async fn receipt(args: &ReceiptArgs) -> anyhow::Result<Value> {
    let node = NodeClient::open_with_key(&args.call.node, &args.call.key)?;
    node.post(&["v1", "receipts"], &new_receipt(args)).await
}

/// The request: options that were not given are absent, so that the node's defaults apply.
fn new_receipt(args: &ReceiptArgs) -> Value {
    let mut receipt = json!({ "versionId": args.asset });
    if let Some(tier) = &args.tier {
        receipt["quotaTier"] = tier.as_str().into();
    }
    if let Some(expires) = args.expires {
        receipt["expiresAt"] = expires.to_string().into();
    }
    if let Some(status) = args.status {
        receipt["status"] = status.as_str().into();
    }
    receipt
}

#[cfg(test)]
mod tests {
    use penstock_actors::model::moment::LAST;

    use super::*;

    #[test]
    fn an_expiry_is_a_time_or_a_span() {
        assert_eq!(expiry("2030-01-31T12:00:00Z").unwrap().as_second(), 1_896_091_200);
        assert!(expiry("7d").unwrap() > Timestamp::now());
        for text in ["tomorrow", "2030-01-31", ""] {
            assert!(expiry(text).unwrap_err().starts_with("neither a time such as"), "{text}");
        }
        assert_eq!(expiry("2020-01-31T12:00:00Z").unwrap_err(), "this time is in the past");
        assert_eq!(expiry("9000y").unwrap_err(), "no such time: it is more than 7,000 years from now");
        assert_eq!(expiry("9999-12-31T23:59:59Z").unwrap(), LAST);
    }
}
