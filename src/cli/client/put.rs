//! `penstock put`: stores a file as content.
//!
//! The file is read twice: once for its hash, which the request carries as `Repr-Digest`, and once to send it. So if a
//! byte changes on the way, or the file is changed in between, the node refuses it and keeps nothing. Repeating an
//! upload yields the same content, so after a lost connection it is simply repeated from the start.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use clap::Args;
use reqwest::{Body, Method, header};
use serde_json::Value;

mod source;

use self::source::UploadSource;
use super::{
    error::AttemptFailure,
    node::{NodeClient, ProducerCallArgs},
    progress::Progress,
    refusal::expect_success,
    retry::{Retries, RetryArgs},
    silence::ProgressSignal,
};

/// The file to store.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// The file, or `-` for standard input; input from a pipe is kept in a temporary file until it is stored
    pub file: PathBuf,

    /// The media type [default: by the file's extension]
    #[arg(long, value_name = "TYPE")]
    pub media_type: Option<String>,

    #[command(flatten)]
    pub call: ProducerCallArgs,

    #[command(flatten)]
    pub retry: RetryArgs,
}

/// Stores the file; returns the node's answer.
///
/// # Errors
/// When the file cannot be read, or the node refuses, cannot be reached, or has stored other bytes.
pub async fn put(args: &PutArgs) -> anyhow::Result<Value> {
    let node = NodeClient::open_with_key(&args.call.node, &args.call.key)?;
    let media_type = args.media_type.clone().unwrap_or_else(|| media_type_of(&args.file));
    let source = UploadSource::open(args.file.clone()).await?;

    let progress = Progress::new("storing", Some(source.size_bytes));
    let mut retries = Retries::new(&args.retry);
    let stored = loop {
        match attempt(&node, &source, &media_type, &progress).await? {
            Ok(stored) => break stored,
            Err(failure) => retries.pause(failure, &progress).await?,
        }
    };
    progress.clear();
    let (named, hash) = (stored.get("contentHash").and_then(Value::as_str), source.hash().to_string());
    ensure!(
        named.is_none_or(|named| named == hash),
        "the node calls the content {}, but the file's hash is {hash}",
        named.unwrap_or_default(),
    );
    Ok(stored)
}

fn media_type_of(file: &Path) -> String {
    mime_guess::from_path(file).first_or_octet_stream().essence_str().to_owned()
}

/// One upload. The outer error is this command's own, the inner one the node's or the connection's.
async fn attempt(
    node: &NodeClient,
    source: &UploadSource,
    media_type: &str,
    progress: &Progress,
) -> anyhow::Result<Result<Value, AttemptFailure>> {
    progress.set(0);
    let moved = ProgressSignal::default();
    let request = node
        .request(Method::POST, &["v1", "content"])?
        .header(header::CONTENT_TYPE, media_type)
        .header(header::CONTENT_LENGTH, source.size_bytes)
        .header("repr-digest", format!("sha-256=:{}:", BASE64.encode(source.digest)))
        .body(Body::wrap_stream(source.parts(progress.clone(), moved.clone())));
    let answer = node.silence().bound_by(&moved, node.signed(request)?.send()).await;
    let answer = async { node.read_json(expect_success(answer?, node.silence()).await?).await };
    Ok(answer.await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_comes_from_the_extension() {
        assert_eq!(media_type_of(Path::new("film.mp4")), "video/mp4");
        assert_eq!(media_type_of(Path::new("a/Song.MP3")), "audio/mpeg");
        assert_eq!(media_type_of(Path::new("README")), "application/octet-stream");
    }
}
