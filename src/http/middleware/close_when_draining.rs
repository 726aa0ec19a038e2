//! A node that leaves asks its clients to use another connection: a balancer in front then has no connection left into
//! which it might send a request just when the node closes it.

use actix_web::{
    body::BoxBody,
    dev::{ServiceRequest, ServiceResponse},
    http::ConnectionType,
    middleware::Next,
    web::Data,
};

use crate::http::Readiness;

/// Closes the connection after an answer that is given while the node leaves.
pub(in crate::http) async fn close_when_draining(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let readiness = request.app_data::<Data<Readiness>>().cloned();
    let mut answer = next.call(request).await?;
    if readiness.is_some_and(|readiness| readiness.is_leaving()) {
        answer.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(answer)
}
