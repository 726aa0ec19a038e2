//! `penstock get`: streams a content under a receipt into a file, and verifies its hash.
//!
//! Bytes go to `FILE.HASH.part`. Bytes from an earlier run are hashed and kept, and every attempt requests only the
//! rest (`Range`, with `If-Range` on the content's `ETag`). If FILE is the content already, nothing is requested, so no
//! byte is paid for twice. After the last byte, the hash of all bytes must be the requested one: then the file gets its
//! name, otherwise it is deleted. Memory is bounded by one part of the answer and the file's write buffer.

use std::path::PathBuf;

use clap::Args;
use penstock_actors::ids::ContentHash;
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{self, HeaderMap},
};

mod content_range;
mod destination;
mod part_file;
mod pipe;
mod target;

use self::{content_range::ContentRange, destination::Destination, target::OutputTarget};
use super::{
    error::AttemptFailure,
    node::{NodeArgs, NodeClient},
    progress::Progress,
    refusal::read_refusal,
    retry::{Retries, RetryArgs},
    silence::SilenceLimit,
};
use crate::receipt_tokens::ReceiptText;

/// The content to stream, and its destination.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// The hash of the content
    pub hash: ContentHash,

    /// The receipt for the content: its id, or its token if the node signs receipts
    #[arg(long, value_name = "ID")]
    pub receipt: ReceiptText,

    /// The file to write, or `-` for standard output; pipes and devices are written into, links are followed
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    #[command(flatten)]
    pub node: NodeArgs,

    #[command(flatten)]
    pub retry: RetryArgs,
}

/// Streams the content to its destination.
///
/// # Errors
/// When the node refuses or cannot be reached, the file cannot be written, or the bytes have another hash.
pub async fn get(args: &GetArgs) -> anyhow::Result<()> {
    let node = NodeClient::open(&args.node)?;
    let target = OutputTarget::of(&args.output)?;
    if let OutputTarget::File(path) = &target
        && part_file::is_content(path, args.hash).await?
    {
        Progress::new("streaming", None).note(&format!("{} is this content already", args.output.display()));
        return Ok(());
    }
    let mut destination = Destination::open(target, args.hash).await?;
    let resumed_at = destination.len();
    // A download that was stopped between its last byte and its name needs no request.
    if resumed_at == 0 || destination.digest() != *args.hash.as_bytes() {
        stream(&node, args, &mut destination).await?;
    }
    destination.finish(args.hash).await
}

/// Makes attempts until all bytes are in.
async fn stream(node: &NodeClient, args: &GetArgs, destination: &mut Destination) -> anyhow::Result<()> {
    let progress = Progress::new("streaming", None);
    let mut retries = Retries::new(&args.retry);
    let mut furthest = destination.len();
    loop {
        let request = request(node, args, destination.len())?;
        let ended = attempt(request, args.hash, node.silence(), destination, &progress).await;
        // Bytes that arrived before the connection was lost are kept, even if this process ends during the pause.
        destination.flush().await?;
        let failure = match ended? {
            Ok(ResponseReach::End) => break,
            // A node may answer with the beginning of the requested range.
            Ok(ResponseReach::Part) if destination.len() > furthest => {
                furthest = destination.len();
                continue;
            }
            Ok(ResponseReach::Part) => {
                AttemptFailure::Passing { reason: "the answer ended early".into(), retry_after: None }
            }
            Err(failure) => failure,
        };
        // Only new bytes count: if a node ignores `Range` and is cut off at the same byte each time, the attempts must
        // end.
        if destination.len() > furthest {
            furthest = destination.len();
            retries.begin_again();
        }
        retries.pause(failure, &progress).await?;
    }
    progress.clear();
    Ok(())
}

/// The request for the missing bytes.
fn request(node: &NodeClient, args: &GetArgs, have: u64) -> anyhow::Result<RequestBuilder> {
    let hash = args.hash.to_string();
    // The receipt grants access: in a header it stays out of the access logs of servers on the way.
    let request =
        node.request(Method::GET, &["v1", "streaming", "data", &hash])?.header("x-receipt-id", args.receipt.as_str());
    Ok(if have == 0 {
        request
    } else {
        request.header(header::RANGE, format!("bytes={have}-")).header(header::IF_RANGE, etag(args.hash))
    })
}

/// The strong `ETag` of a content is its hash.
fn etag(hash: ContentHash) -> String {
    format!("\"{hash}\"")
}

/// How far a complete answer reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResponseReach {
    End,
    /// Bytes are missing after it.
    Part,
}

/// One request, and as much of its answer as arrives. The outer error is the destination's, the inner one the node's or
/// the connection's.
async fn attempt(
    request: RequestBuilder,
    hash: ContentHash,
    silence: SilenceLimit,
    destination: &mut Destination,
    progress: &Progress,
) -> anyhow::Result<Result<ResponseReach, AttemptFailure>> {
    let answer = match silence.bound(request.send()).await {
        Ok(response) => GetResponse::judge(response, hash, destination.len(), silence).await,
        Err(failure) => Err(failure),
    };
    let (mut response, total) = match answer {
        Ok(GetResponse::Rest { response, total }) => (response, Some(total)),
        Ok(GetResponse::Whole(response)) => {
            destination.restart().await?;
            let total = response.content_length();
            (response, total)
        }
        Ok(GetResponse::NothingLeft) => {
            destination.restart().await?;
            let reason = "the existing part is not the beginning of this content".to_owned();
            return Ok(Err(AttemptFailure::Passing { reason, retry_after: None }));
        }
        Err(failure) => return Ok(Err(failure)),
    };
    progress.expect(total);
    progress.set(destination.len());
    loop {
        match silence.bound(response.chunk()).await {
            Ok(Some(part)) => {
                destination.write(&part).await?;
                progress.advance(part.len());
            }
            Ok(None) => break,
            Err(failure) => return Ok(Err(failure)),
        }
    }
    // HTTP has checked the length of this answer; this checks the length of the whole content.
    let missing = total.is_some_and(|total| destination.len() < total);
    Ok(Ok(if missing { ResponseReach::Part } else { ResponseReach::End }))
}

/// The content of an answer, judged by its head.
enum GetResponse {
    /// The missing bytes, beginning with the first one.
    Rest { response: Response, total: u64 },
    /// All bytes: the node ignores ranges, or its content differs from that of the part.
    Whole(Response),
    /// The existing part is as long as the content, or longer, but is not the content.
    NothingLeft,
}

impl GetResponse {
    async fn judge(
        response: Response,
        hash: ContentHash,
        have: u64,
        silence: SilenceLimit,
    ) -> Result<Self, AttemptFailure> {
        match response.status() {
            StatusCode::OK => Ok(Self::Whole(response)),
            StatusCode::PARTIAL_CONTENT => {
                let total =
                    rest_total(response.headers(), hash, have).map_err(|what| AttemptFailure::Final(what.into()))?;
                Ok(Self::Rest { response, total })
            }
            StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => Ok(Self::NothingLeft),
            status if status.is_client_error() || status.is_server_error() => {
                Err(read_refusal(response, silence).await)
            }
            status => {
                Err(AttemptFailure::Final(format!("the node answered {status}, which does not answer a download")))
            }
        }
    }
}

/// The size of the content, if the head describes its bytes after the first `have`, or the beginning of them.
fn rest_total(headers: &HeaderMap, hash: ContentHash, have: u64) -> Result<u64, &'static str> {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    if text(header::ETAG).is_some_and(|found| found != etag(hash)) {
        return Err("the node sent a part of another content");
    }
    let range: ContentRange = text(header::CONTENT_RANGE)
        .and_then(|range| range.parse().ok())
        .ok_or("the node sent a part without its position")?;
    if range.first != have {
        return Err("the node sent another part than the requested one");
    }
    Ok(range.total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(range: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_RANGE, header::HeaderValue::from_static(range))])
    }

    #[test]
    fn only_the_part_that_was_asked_for_is_taken() {
        let hash = ContentHash::from_bytes([7; 32]);
        assert_eq!(rest_total(&head("bytes 5-9/10"), hash, 5), Ok(10));
        assert!(rest_total(&head("bytes 4-9/10"), hash, 5).is_err());
        assert_eq!(rest_total(&head("bytes 5-8/10"), hash, 5), Ok(10), "a node may send less at a time");
        assert!(rest_total(&HeaderMap::new(), hash, 5).is_err());
    }

    #[test]
    fn a_part_of_another_content_is_not_taken() {
        let mut headers = head("bytes 5-9/10");
        headers.insert(header::ETAG, header::HeaderValue::from_static("\"other\""));
        assert!(rest_total(&headers, ContentHash::from_bytes([7; 32]), 5).is_err());
    }
}
