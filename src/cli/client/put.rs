//! `penstock put`: stores a file as content.
//!
//! The file is read twice: once for its hash, which goes with the request as `Repr-Digest`, and once to send it. So a byte
//! that changes on the way, or a file that is written to in between, is refused by the node and nothing is kept. The same
//! upload again ends in the same content, so a connection that is lost is simply tried again, from the start.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::{Bytes, BytesMut};
use clap::Args;
use futures_util::{Stream, stream};
use reqwest::{Body, Method, header};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use super::{
    failure::Failure,
    node::{KeyArgs, Node, NodeArgs, read_json, send_and_expect_success},
    progress::Progress,
    retry::{Retries, RetryArgs},
};

/// Bytes read at a time: few enough system calls to keep up with a fast disk, little enough to lie in a cache.
const PART_BYTES: usize = 256 * 1024;

/// The file to store.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// The file
    pub file: PathBuf,

    /// The media type [default: by the file's extension]
    #[arg(long, value_name = "TYPE")]
    pub media_type: Option<String>,

    /// Print the whole answer as JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub node: NodeArgs,

    #[command(flatten)]
    pub key: KeyArgs,

    #[command(flatten)]
    pub retry: RetryArgs,
}

/// Stores the file; the answer is the node's.
///
/// # Errors
/// When the file cannot be read, or the node refuses, cannot be reached, or has stored something else.
pub async fn put(args: &PutArgs) -> anyhow::Result<Value> {
    let node = Node::open_with_key(&args.node, &args.key)?;
    let media_type = args.media_type.clone().unwrap_or_else(|| media_type_of(&args.file));
    let measured = measure(args.file.clone()).await?;

    let progress = Progress::new("storing", Some(measured.size_bytes));
    let mut retries = Retries::new(&args.retry);
    let stored = loop {
        match attempt(&node, &args.file, &measured, &media_type, &progress).await? {
            Ok(stored) => break stored,
            Err(failure) => retries.pause(failure, &progress).await?,
        }
    };
    progress.clear();
    let named = stored.get("contentHash").and_then(Value::as_str);
    ensure!(
        named.is_none_or(|hash| hash == measured.hex()),
        "the node calls the content {}, but the file's hash is {}",
        named.unwrap_or_default(),
        measured.hex()
    );
    Ok(stored)
}

fn media_type_of(file: &Path) -> String {
    mime_guess::from_path(file).first_or_octet_stream().essence_str().to_owned()
}

/// What the first reading of the file tells.
struct Measured {
    size_bytes: u64,
    digest: [u8; 32],
}

impl Measured {
    fn hex(&self) -> String {
        penstock_actors::ids::ContentHash::from_bytes(self.digest).to_string()
    }
}

/// Hashes the file, off the runtime's threads: hashing is work, not waiting.
async fn measure(file: PathBuf) -> anyhow::Result<Measured> {
    let shown = file.display().to_string();
    let measuring = tokio::task::spawn_blocking(move || {
        let mut source = File::open(file)?;
        let meta = source.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let progress = Progress::new("hashing", Some(meta.len()));
        let (mut hasher, mut size_bytes) = (Sha256::new(), 0);
        let mut part = vec![0; PART_BYTES];
        loop {
            let count = source.read(&mut part)?;
            if count == 0 {
                break;
            }
            hasher.update(&part[..count]);
            size_bytes += count as u64;
            progress.advance(count);
        }
        progress.clear();
        Ok(Measured { size_bytes, digest: hasher.finalize().into() })
    });
    measuring.await.context("the hashing was stopped")?.with_context(|| format!("cannot read {shown}"))
}

/// One upload. The outer error is the file's, the inner one the node's or the connection's.
async fn attempt(
    node: &Node,
    file: &Path,
    measured: &Measured,
    media_type: &str,
    progress: &Progress,
) -> anyhow::Result<Result<Value, Failure>> {
    let source = tokio::fs::File::open(file).await.with_context(|| format!("cannot read {}", file.display()))?;
    progress.set(0);
    let request = node
        .request(Method::POST, &["v1", "content"])?
        .header(header::CONTENT_TYPE, media_type)
        .header(header::CONTENT_LENGTH, measured.size_bytes)
        .header("repr-digest", format!("sha-256=:{}:", BASE64.encode(measured.digest)))
        .body(Body::wrap_stream(parts(source, measured.size_bytes, progress.clone())));
    Ok(match send_and_expect_success(node.signed(request)?).await {
        Ok(response) => read_json(response).await,
        Err(failure) => Err(failure),
    })
}

/// The file in parts, no more of it than was measured: what grew in the meantime stays out, what shrank ends in an error.
fn parts(source: tokio::fs::File, size_bytes: u64, progress: Progress) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(source.take(size_bytes), move |mut source| {
        let progress = progress.clone();
        async move {
            let mut part = BytesMut::with_capacity(PART_BYTES);
            if source.read_buf(&mut part).await? == 0 {
                return match source.limit() {
                    0 => Ok(None),
                    _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was sent")),
                };
            }
            progress.advance(part.len());
            Ok(Some((part.freeze(), source)))
        }
    })
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
