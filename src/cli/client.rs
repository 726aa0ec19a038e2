//! The commands that speak to a node over HTTP only: they run on any machine that can reach the node.
//!
//! - `put` stores a file as content and prints its hash,
//! - `publish` makes an asset of a content and prints its version id,
//! - `receipt` makes a receipt for an asset and prints its id, or its token if the node signs receipts,
//! - `identity` prints the public key of an identity key, and makes the key if there is none,
//! - `keys` prints an administrator's view of keys, one line of JSON each,
//! - `privacy` exports and deletes what is kept about the payer of receipts, one line of JSON for each receipt,
//! - `log-level` shows or changes what an instance logs,
//! - `top` shows a node's figures, once a second,
//! - `get` streams a content under a receipt into a file.
//!
//! Standard output carries the result alone, so that a command can be used in `$(..)`; progress and notes go to
//! standard error, bars only if that is a terminal. Memory does not grow with the content: a file is processed in
//! parts.

use std::io::{self, Write};

use anyhow::Context;
use clap::Subcommand;

pub mod error;
pub mod get;
pub mod identity;
pub mod keys;
pub mod log_level;
pub mod node;
pub mod privacy;
mod progress;
pub mod publish;
pub mod put;
pub mod receipt;
mod refusal;
pub mod retry;
mod silence;
pub mod top;

use self::refusal::Printable;
pub use self::{
    get::GetArgs, identity::IdentityArgs, keys::KeysArgs, log_level::LogLevelArgs, privacy::PrivacyArgs,
    publish::PublishArgs, put::PutArgs, receipt::ReceiptArgs, top::TopArgs,
};

/// A client command.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Store a file as content and print its hash
    Put(PutArgs),
    /// Make an asset of a stored content and print its version id
    Publish(PublishArgs),
    /// Make a receipt for an asset and print its id
    Receipt(ReceiptArgs),
    /// Print the public key of an identity key, for an admin to bind; if the file does not exist, the key is made
    Identity(IdentityArgs),
    /// List, make, rotate and revoke the API keys of producers and administrators
    Keys(KeysArgs),
    /// Export or delete what the node keeps about the payer of receipts
    Privacy(PrivacyArgs),
    /// Show what a running node logs, or change it until its next start
    LogLevel(LogLevelArgs),
    /// Show a node's figures, once a second
    Top(TopArgs),
    /// Stream a content under a receipt into a file
    Get(GetArgs),
}

/// Runs a command and prints its result.
///
/// # Errors
/// When the node refuses, cannot be reached, or sends content with another hash than requested.
pub async fn run(command: ClientCommand) -> anyhow::Result<()> {
    match command {
        ClientCommand::Put(args) => {
            let stored = put::put(&args).await?;
            print_answer(&stored, "contentHash", args.call.json)
        }
        ClientCommand::Publish(args) => {
            let asset = publish::publish(&args).await?;
            print_warnings(&asset)?;
            print_answer(&asset, "versionId", args.call.json)
        }
        ClientCommand::Receipt(args) => {
            let receipt = receipt::receipt(&args).await?;
            print_warnings(&receipt)?;
            // What a client sends: the token, if the node signs receipts.
            let field = if receipt["receiptToken"].is_string() { "receiptToken" } else { "receiptId" };
            print_answer(&receipt, field, args.call.json)
        }
        ClientCommand::Identity(args) => {
            let identity = identity::identity(&args)?;
            writeln!(io::stdout(), "{identity}").context("cannot write to standard output")
        }
        ClientCommand::Keys(args) => {
            let answers = keys::keys(&args).await?;
            answers
                .iter()
                .try_for_each(|answer| writeln!(io::stdout(), "{answer}"))
                .context("cannot write to standard output")
        }
        ClientCommand::Privacy(args) => {
            let print = |answer: &serde_json::Value| {
                writeln!(io::stdout(), "{answer}").context("cannot write to standard output")
            };
            privacy::privacy(&args, print).await
        }
        ClientCommand::LogLevel(args) => {
            let levels = log_level::log_level(&args).await?;
            print_answer(&levels, "level", args.json)
        }
        ClientCommand::Top(args) => top::top(&args).await,
        ClientCommand::Get(args) => get::get(&args).await,
    }
}

/// Prints the warnings of the node's policy.
fn print_warnings(answer: &serde_json::Value) -> anyhow::Result<()> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    for warning in answer["warnings"].as_array().into_iter().flatten() {
        let (rule, reason) = (text(&warning["rule"]), text(&warning["reason"]));
        writeln!(io::stderr(), "warning: {}: {}", Printable(&rule), Printable(&reason))
            .context("cannot write to standard error")?;
    }
    Ok(())
}

/// Prints the whole answer, or the field that the next command needs.
fn print_answer(answer: &serde_json::Value, field: &str, whole: bool) -> anyhow::Result<()> {
    let line = if whole {
        serde_json::to_string_pretty(answer)?
    } else {
        let value = answer.get(field).and_then(serde_json::Value::as_str);
        value.with_context(|| format!("the node's answer has no `{field}`"))?.to_owned()
    };
    writeln!(io::stdout(), "{line}").context("cannot write to standard output")
}
