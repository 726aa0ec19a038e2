//! `penstock keys`: the API keys of producers and administrators, for an administrator.

use std::time::Duration;

use clap::{Args, Subcommand};
use penstock_actors::ids::{KeyId, ProducerId};
use reqwest::Method;
use serde_json::{Value, json};

use super::node::{KeyArgs, NodeArgs, NodeClient};

/// The operation on keys.
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,

    #[command(flatten)]
    node: NodeArgs,

    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// List the producers, or the keys of one producer
    List {
        /// The producer; the administrator is 00000000-0000-0000-0000-000000000001
        #[arg(long, value_name = "PRODUCER_ID")]
        producer: Option<ProducerId>,
    },
    /// Make another key of a producer, and show its secret
    Create {
        /// The producer
        #[arg(long, value_name = "PRODUCER_ID")]
        producer: ProducerId,
        /// A name for the key
        #[arg(long, default_value = "")]
        name: String,
    },
    /// Give a key a new secret, and show it: the old one is invalid from then on, on all instances, or after the overlap
    Rotate {
        #[command(flatten)]
        which: KeyRef,
        /// How long the old secret stays valid, as in `1h` (at most 30 days); none for a secret that leaked
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "0s")]
        overlap: Duration,
    },
    /// Revoke a key for good, on all instances
    Revoke(KeyRef),
}

#[derive(Debug, Args)]
struct KeyRef {
    /// The producer
    #[arg(long, value_name = "PRODUCER_ID")]
    producer: ProducerId,
    /// The key's id, as `list` shows it
    #[arg(value_name = "KEY_ID")]
    key: KeyId,
}

/// Runs the operation; returns the answers of the node.
///
/// # Errors
/// When the node refuses or cannot be reached.
pub async fn keys(args: &KeysArgs) -> anyhow::Result<Vec<Value>> {
    let node = NodeClient::open_with_key(&args.node, &args.key)?;
    match &args.command {
        KeysCommand::List { producer: None } => list(&node, &["v1", "producers"]).await,
        KeysCommand::List { producer: Some(producer) } => {
            list(&node, &["v1", "producers", &producer.to_string(), "keys"]).await
        }
        KeysCommand::Create { producer, name } => {
            let path = ["v1", "producers", &producer.to_string(), "keys"];
            Ok(vec![node.post(&path, &json!({ "name": name })).await?])
        }
        KeysCommand::Rotate { which: KeyRef { producer, key }, overlap } => {
            let path = ["v1", "producers", &producer.to_string(), "keys", &key.to_string(), "rotate"];
            Ok(vec![node.post(&path, &json!({ "overlapSeconds": overlap.as_secs() })).await?])
        }
        KeysCommand::Revoke(KeyRef { producer, key }) => {
            node.call(Method::DELETE, &["v1", "producers", &producer.to_string(), "keys", &key.to_string()]).await?;
            Ok(Vec::new())
        }
    }
}

/// All pages of a list.
async fn list(node: &NodeClient, path: &[&str]) -> anyhow::Result<Vec<Value>> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let mut page = node.page(path, cursor.as_deref()).await?;
        if let Some(items) = page["items"].as_array_mut() {
            all.append(items);
        }
        match page["nextCursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return Ok(all),
        }
    }
}
