//! Routes for reading, and those that carry content.

use actix_web::{Route, guard, web};

/// A route for reading: GET, and HEAD, which RFC 9110 requires for every resource with GET.
pub fn read() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// Whether answers of this route carry content, which is sent as it was stored and never transformed.
pub fn carries_content(template: &str) -> bool {
    template.starts_with("/v1/streaming/data") || template.starts_with("/v1/data")
}
