//! Clients with HTTP/1.0, which does not have chunked bodies (RFC 9112, section 6.1): by default, nginx towards its
//! upstreams is one.
//!
//! They get an answer of unknown length as it is, and it ends with the connection.

use actix_web::{
    body::{BodySize, BoxBody, MessageBody as _},
    dev::{ServiceRequest, ServiceResponse},
    http::{ConnectionType, Version},
    middleware::Next,
};

/// Sends a body of unknown length to an HTTP/1.0 client without chunks, and closes the connection after it.
pub(in crate::http) async fn serve_older_clients(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let knows_chunks = request.version() >= Version::HTTP_11;
    let mut answer = next.call(request).await?;
    if !knows_chunks && answer.response().body().size() == BodySize::Stream {
        let head = answer.response_mut().head_mut();
        head.no_chunking(true);
        head.set_connection_type(ConnectionType::Close);
    }
    Ok(answer)
}
