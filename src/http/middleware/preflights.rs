//! Preflights: what the library for CORS answers by itself, around it.
//!
//! The library stands outside the limit on calls, so that pages of other origins can read the refusals of the limit and when to
//! try again. It answers preflights itself, so these are counted here.

use std::sync::Arc;

use actix_cors::CorsError;
use actix_web::{
    HttpResponse,
    body::BoxBody,
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
};

use crate::http::{
    RateGate,
    middleware::rate_limit::limit_rate,
    origins::{is_preflight, refused_preflight},
};

/// Counts a preflight against its client's limit on the calls of that class.
pub(in crate::http) async fn limit_preflights(
    gate: Arc<RateGate>,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    if is_preflight(request.method(), request.headers()) {
        limit_rate(gate, request, next).await
    } else {
        next.call(request).await
    }
}

/// Turns a refusal by the library into a problem document.
pub(in crate::http) async fn document_preflights(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let answer = next.call(request).await?;
    let refused = answer.response().error().and_then(|error| error.as_error::<CorsError>()).map(refused_preflight);
    Ok(match refused {
        Some(problem) => answer.into_response(HttpResponse::from_error(problem)),
        None => answer,
    })
}
