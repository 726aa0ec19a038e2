//! Streams: content out, to whoever holds a receipt.
//!
//! One actor round trip decides about the receipt, the quota and the stream slot together; the body then runs without the
//! handler, and settles itself when it ends or is dropped. Preconditions come before ranges (RFC 9110, section 13.2.2), and
//! the receipt before both: who may not stream learns nothing about the content.

use std::future::{Ready, ready};

use actix_web::{
    FromRequest, HttpRequest, HttpResponse,
    body::SizedStream,
    dev::Payload,
    http::Method,
    web::{self, Data, Path, Query, ServiceConfig},
};
use moka::future::Cache;
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

/// Sizes of contents, which never change: what a range is read against before the receipt is asked about.
pub struct ContentSizes(Cache<ContentHash, u64>);

impl ContentSizes {
    /// Remembers so many contents.
    pub fn new(entries: u64) -> Self {
        Self(Cache::new(entries))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StreamQuery {
    content_hash: Option<String>,
    receipt_id: Option<String>,
    session_id: Option<String>,
}

/// What the handlers depend on.
#[derive(Clone)]
struct Deps {
    node: Data<Node>,
    settings: Data<StreamingSettings>,
    sizes: Data<ContentSizes>,
    readiness: Data<Readiness>,
}

impl FromRequest for Deps {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        fn get<T: 'static>(request: &HttpRequest) -> Result<Data<T>, Problem> {
            let data = request.app_data::<Data<T>>().cloned();
            data.ok_or_else(|| Problem::new(ProblemType::Internal).caused_by("the server was built without its data"))
        }
        let deps = || {
            Ok(Self { node: get(request)?, settings: get(request)?, sizes: get(request)?, readiness: get(request)? })
        };
        ready(deps())
    }
}

async fn by_path(
    request: HttpRequest,
    hash: Path<String>,
    query: Query<StreamQuery>,
    deps: Deps,
) -> Result<HttpResponse, Problem> {
    let asked = Asked::read(&request, &hash, &query)?;
    serve(&request, asked, &deps).await
}

/// The same by query. `redirect` has no meaning where the node itself delivers, and is ignored.
async fn by_query(request: HttpRequest, query: Query<StreamQuery>, deps: Deps) -> Result<HttpResponse, Problem> {
    let hash = query.content_hash.as_deref().ok_or_else(|| malformed("contentHash is missing"))?;
    let asked = Asked::read(&request, hash, &query)?;
    serve(&request, asked, &deps).await
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

async fn serve(request: &HttpRequest, asked: Asked, deps: &Deps) -> Result<HttpResponse, Problem> {
    if deps.readiness.is_draining() {
        return Err(Problem::new(ProblemType::ShuttingDown).retry_after(refusal::SOON));
    }
    let precondition = conditions::evaluate(request, asked.hash);
    let wants_range = conditions::range_applies(request, asked.hash);
    if request.method() == Method::HEAD || precondition.is_some() {
        let headers = inspect(&asked, deps).await?;
        return match precondition {
            Some(Precondition::NotModified) => Ok(headers.not_modified()),
            Some(Precondition::Failed) => Err(ProblemType::PreconditionFailed.into()),
            None => Ok(headers.head()),
        };
    }
    if wants_range && let Selected::Ranges(ranges) = select(request, &asked, deps).await? {
        return stream(asked, &deps.node, Demand::Bytes(ranges.content_bytes()), Some(ranges)).await;
    }
    stream(asked, &deps.node, Demand::Whole, None).await
}

/// Whether the receipt lets a stream in, and what the content is.
async fn inspect(asked: &Asked, deps: &Deps) -> Result<ContentHeaders, Problem> {
    let grant = deps.node.quota.inspect(asked.receipt, asked.hash).await.map_err(|refusal| problem_of(&refusal))?;
    let headers = ContentHeaders::new(&grant, asked)?;
    deps.sizes.0.insert(asked.hash, headers.size).await;
    Ok(headers)
}

/// Reads the range against the size of the content. A bad range is told only to whoever may stream.
async fn select(request: &HttpRequest, asked: &Asked, deps: &Deps) -> Result<Selected, Problem> {
    if let Some(size) = deps.sizes.0.get(&asked.hash).await
        && let Ok(selected) = range::select(request, size, &deps.settings)
    {
        return Ok(selected);
    }
    let headers = inspect(asked, deps).await?;
    range::select(request, headers.size, &deps.settings)
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
