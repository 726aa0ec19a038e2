//! The limit on the head of a request. The framework's own limit, 128 KiB and 96 fields, protects its buffer; the
//! operator sets this one, and its refusal states the limit. A request to buy may have more, since its payment is in the head.

use actix_web::{
    HttpResponse,
    body::BoxBody,
    dev::{ServiceRequest, ServiceResponse},
    http::ConnectionType,
    middleware::Next,
};

use crate::{
    http::{Problem, ProblemType},
    route_class::RouteClass,
};

/// The most bytes of the head of a request to buy, where it is more than other calls may have: the payment is in it. The framework takes
/// no more than 128 KiB.
const HEAD_BYTES_TO_BUY: usize = 120 << 10;

/// Refuses a request whose head has more than `limit` bytes.
pub(in crate::http) async fn limit_head(
    limit: usize,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let buys = RouteClass::of(request.match_info().as_str()) == RouteClass::Purchases;
    let limit = if buys { limit.max(HEAD_BYTES_TO_BUY) } else { limit };
    if head_bytes(&request) > limit {
        let mut problem = Problem::new(ProblemType::HeadersTooLarge).with("limit", limit);
        if buys {
            problem = problem.detail("send the payment in the body, as JSON");
        }
        let mut refusal = HttpResponse::from_error(problem);
        // A client that sends such a head would send the next one alike.
        refusal.head_mut().set_connection_type(ConnectionType::Close);
        return Ok(request.into_response(refusal));
    }
    next.call(request).await
}

/// The size of the request line and the fields on the wire, without optional white space.
fn head_bytes(request: &ServiceRequest) -> usize {
    // "GET / HTTP/1.1\r\n" has 12 bytes beside the method and the target, a field ": " and "\r\n".
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let fields: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    request.method().as_str().len() + target + 12 + fields
}
