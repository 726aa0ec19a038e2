//! A node that leaves asks its clients to use another connection: a balancer in front then has no connection left into
//! which it might send a request just when the node closes it.

use std::sync::Arc;

use actix_web::{
    body::BoxBody,
    dev::{ServiceRequest, ServiceResponse},
    http::ConnectionType,
    middleware::Next,
};

use crate::http::Readiness;

/// Closes the connection after an answer that is given while the node leaves.
pub(in crate::http) async fn close_when_draining(
    readiness: Arc<Readiness>,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let mut answer = next.call(request).await?;
    if readiness.is_leaving() {
        answer.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(answer)
}
