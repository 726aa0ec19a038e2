//! Streams: content out, to whoever holds a receipt.
//!
//! One actor round trip decides about the receipt, the quota and the stream slot together; the body then runs without the
//! handler, and settles itself when it ends or is dropped. Preconditions come before ranges (RFC 9110, section 13.2.2), and
//! the receipt before both: who may not stream learns nothing about the content.

use actix_web::{
    HttpRequest, HttpResponse,
    body::SizedStream,
    http::Method,
    web::{self, Data, Path, Query, ServiceConfig},
};
use penstock_actors::{
    delivery::Plan,
    ids::{ContentHash, ReceiptId, SessionId},
    quota_book::{Ask, Demand, Grant},
    system::Node,
};
use serde::Deserialize;

mod conditions;
mod headers;
mod range;
mod refusal;

pub(crate) use self::refusal::problem_of;
use self::{
    conditions::Precondition,
    headers::ContentHeaders,
    range::{RangeAnswer, Selected},
};
use super::{Problem, ProblemType, Readiness};

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/v1/streaming/data/{contentHash}").route(super::routing::read().to(by_path)))
        .service(web::resource("/v1/data").route(super::routing::read().to(by_query)));
}

/// How ranges are answered.
#[derive(Debug, Clone, Copy)]
pub struct StreamingSettings {
    /// The longest range of one answer in bytes; 0 is no limit. A longer one is answered by its beginning.
    pub max_range_bytes: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StreamQuery {
    content_hash: Option<String>,
    receipt_id: Option<String>,
    session_id: Option<String>,
}

async fn by_path(
    request: HttpRequest,
    hash: Path<String>,
    query: Query<StreamQuery>,
    (node, settings, readiness): (Data<Node>, Data<StreamingSettings>, Data<Readiness>),
) -> Result<HttpResponse, Problem> {
    let asked = Asked::read(&request, &hash, &query)?;
    serve(&request, asked, &node, &settings, &readiness).await
}

/// The same by query. `redirect` has no meaning where the node itself delivers, and is ignored.
async fn by_query(
    request: HttpRequest,
    query: Query<StreamQuery>,
    (node, settings, readiness): (Data<Node>, Data<StreamingSettings>, Data<Readiness>),
) -> Result<HttpResponse, Problem> {
    let hash = query.content_hash.as_deref().ok_or_else(|| malformed("contentHash is missing"))?;
    let asked = Asked::read(&request, hash, &query)?;
    serve(&request, asked, &node, &settings, &readiness).await
}

/// What a client asks to stream.
#[derive(Debug, Clone, Copy)]
struct Asked {
    hash: ContentHash,
    receipt: ReceiptId,
    session: Option<SessionId>,
}

impl Asked {
    fn read(request: &HttpRequest, hash: &str, query: &StreamQuery) -> Result<Self, Problem> {
        let receipt = one_of(request, "x-receipt-id", "receiptId", query.receipt_id.as_deref())?
            .ok_or_else(|| malformed("send the receipt as receiptId or X-Receipt-Id"))?;
        let session = one_of(request, "x-session-id", "sessionId", query.session_id.as_deref())?;
        Ok(Self { hash: hash.parse()?, receipt: receipt.parse()?, session: session.map(str::parse).transpose()? })
    }

    const fn ask(&self, demand: Demand) -> Ask {
        Ask { receipt_id: self.receipt, content_hash: self.hash, demand }
    }
}

/// A value that may come as a header or in the query, and if as both, then the same.
fn one_of<'a>(
    request: &'a HttpRequest,
    header: &'static str,
    parameter: &'static str,
    in_query: Option<&'a str>,
) -> Result<Option<&'a str>, Problem> {
    let in_header = match request.headers().get(header) {
        Some(value) => Some(value.to_str().map_err(|_| malformed(format!("{header} is not text")))?),
        None => None,
    };
    match (in_header, in_query) {
        (Some(header_value), Some(query_value)) if header_value != query_value => {
            Err(malformed(format!("{header} and {parameter} differ")))
        }
        (in_header, in_query) => Ok(in_header.or(in_query)),
    }
}

fn malformed(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(ProblemType::MalformedRequest).detail(detail)
}

async fn serve(
    request: &HttpRequest,
    asked: Asked,
    node: &Node,
    settings: &StreamingSettings,
    readiness: &Readiness,
) -> Result<HttpResponse, Problem> {
    if readiness.is_draining() {
        return Err(Problem::new(ProblemType::ShuttingDown).retry_after(refusal::SOON));
    }
    let precondition = conditions::evaluate(request, asked.hash);
    let wants_range = conditions::range_applies(request, asked.hash);
    if request.method() == Method::HEAD || precondition.is_some() || wants_range {
        let grant = node.quota.inspect(asked.receipt, asked.hash).await.map_err(|refusal| problem_of(&refusal))?;
        let headers = ContentHeaders::new(&grant, &asked)?;
        match precondition {
            Some(Precondition::NotModified) => return Ok(headers.not_modified()),
            Some(Precondition::Failed) => return Err(ProblemType::PreconditionFailed.into()),
            None => {}
        }
        let selected = if wants_range { range::select(request, headers.size, settings)? } else { Selected::Whole };
        if request.method() == Method::HEAD {
            return Ok(headers.head(&selected));
        }
        if let Selected::Ranges(ranges) = selected {
            return stream(asked, node, Demand::Bytes(ranges.content_bytes()), Some(ranges)).await;
        }
    }
    stream(asked, node, Demand::Whole, None).await
}

/// Lets a stream in and opens its body. Whatever fails after the reservation gives it back.
async fn stream(
    asked: Asked,
    node: &Node,
    demand: Demand,
    ranges: Option<RangeAnswer>,
) -> Result<HttpResponse, Problem> {
    let Some(permit) = node.streams.try_admit(1) else {
        return Err(Problem::new(ProblemType::Overloaded).retry_after(refusal::SOON));
    };
    let reservation =
        node.quota.acquire(asked.ask(demand), asked.session).await.map_err(|refusal| problem_of(&refusal))?;
    let grant: Grant = reservation.grant().clone();
    let headers = ContentHeaders::new(&grant, &asked)?;
    let plan = match &ranges {
        Some(ranges) => ranges.plan(&headers),
        None => Plan::single(0..headers.size),
    };
    let length = plan.body_bytes();
    let delivery = node.deliver(plan, reservation, permit).await.map_err(|error| refusal::unreadable(&error))?;
    Ok(headers.answer(ranges.as_ref(), SizedStream::new(length, delivery)))
}
