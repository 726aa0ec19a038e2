//! Routes for reading, and those that carry content.

use actix_web::{Resource, Route, guard, web};

use super::routes;

/// A resource of one of the paths in [`ROUTES`](routes::ROUTES). A path that the list lacks would be a route that no test of
/// the access rules calls.
pub fn resource(path: &'static str) -> Resource {
    debug_assert!(routes::has_path(path), "add {path} to src/http/routes.rs");
    #[expect(clippy::disallowed_methods, reason = "the one place that makes resources")]
    web::resource(path)
}

/// A route for reading: GET, and HEAD, which RFC 9110 requires for every resource with GET.
pub fn read() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// Whether answers of this route carry content, which is sent as it was stored and never transformed.
pub fn carries_content(template: &str) -> bool {
    template.starts_with("/v1/streaming/data") || template.starts_with("/v1/data")
}
