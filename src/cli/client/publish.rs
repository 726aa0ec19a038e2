//! `penstock publish`: makes an asset of a stored content.

use clap::Args;
use penstock_actors::ids::ContentHash;
use serde_json::{Map, Value, json};

use super::node::{NodeClient, ProducerCallArgs};
use crate::words;

/// The asset to make.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// The hash of the content that the asset names
    #[arg(long, value_name = "HASH")]
    pub content: ContentHash,

    /// The name that the catalogue shows and downloads get
    #[arg(long)]
    pub name: String,

    /// A description of the asset
    #[arg(long, default_value = "")]
    pub description: String,

    /// The dataset that the asset belongs to
    #[arg(long, value_name = "ID")]
    pub dataset: Option<String>,

    /// The price of one receipt
    #[arg(long, value_name = "SATOSHIS", value_parser = words::count::<u64>)]
    pub price: Option<u64>,

    /// The media type, when it is not the content's own
    #[arg(long, value_name = "TYPE")]
    pub media_type: Option<String>,

    /// Facts for governance policies, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = json_object)]
    pub meta: Option<Map<String, Value>>,

    #[command(flatten)]
    pub call: ProducerCallArgs,
}

fn json_object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err("must be a JSON object, such as {\"license\": \"CC0-1.0\"}".to_owned()),
        Err(error) => Err(words::of_limit(&error).map_or_else(|| words::of_json(&error), str::to_owned)),
    }
}

/// Makes the asset; returns the node's answer.
///
/// # Errors
/// When the node refuses or cannot be reached.
pub async fn publish(args: &PublishArgs) -> anyhow::Result<Value> {
    let node = NodeClient::open_with_key(&args.call.node, &args.call.key)?;
    node.post(&["v1", "assets"], &new_asset(args)).await
}

/// The request: options that were not given are absent, so that the node's defaults apply.
fn new_asset(args: &PublishArgs) -> Value {
    let mut asset = json!({
        "name": args.name,
        "description": args.description,
        "contentHash": args.content,
    });
    let given = [
        ("datasetId", args.dataset.clone().map(Value::from)),
        ("priceSatoshis", args.price.map(Value::from)),
        ("mediaType", args.media_type.clone().map(Value::from)),
        ("policyMeta", args.meta.clone().map(Value::from)),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            asset[name] = value;
        }
    }
    asset
}
