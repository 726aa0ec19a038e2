//! The list of all routes, with who may call each.
//!
//! The router is built from this list: [`resource`](super::routing::resource) takes only paths that are in it, and nothing
//! else makes resources. A test calls every route with every kind of caller, and compares this list with docs/api.md. So a
//! new route cannot be forgotten.

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Every client.
    Anyone,
    /// Every client that knows the id of a receipt or of a session.
    Holder,
    /// A producer or an admin.
    Producer,
    /// The producer to which the object of the call belongs, or an admin.
    Owner,
    /// An admin.
    Admin,
    /// An admin, or a browser on the machine of the node.
    Local,
}

impl Caller {
    /// The word in docs/api.md.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anyone => "anyone",
            Self::Holder => "holder",
            Self::Producer => "producer",
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Local => "local",
        }
    }
}

/// A method of a path. Where GET works, HEAD works too.
#[derive(Debug, Clone, Copy)]
pub struct RouteEntry {
    pub method: &'static str,
    pub path: &'static str,
    pub caller: Caller,
}

const fn entry(method: &'static str, path: &'static str, caller: Caller) -> RouteEntry {
    RouteEntry { method, path, caller }
}

/// All routes, in the order of docs/api.md.
pub const ROUTES: &[RouteEntry] = &[
    entry("POST", "/v1/content", Caller::Producer),
    entry("OPTIONS", "/v1/uploads", Caller::Anyone),
    entry("POST", "/v1/uploads", Caller::Producer),
    entry("GET", "/v1/uploads/{uploadId}", Caller::Owner),
    entry("PATCH", "/v1/uploads/{uploadId}", Caller::Owner),
    entry("POST", "/v1/uploads/{uploadId}", Caller::Owner),
    entry("DELETE", "/v1/uploads/{uploadId}", Caller::Owner),
    entry("GET", "/v1/streaming/data/{contentHash}", Caller::Holder),
    entry("GET", "/v1/data", Caller::Holder),
    entry("POST", "/v1/assets", Caller::Owner),
    entry("GET", "/v1/assets/{versionId}", Caller::Anyone),
    entry("PUT", "/v1/assets/{versionId}/price", Caller::Owner),
    entry("POST", "/v1/assets/{versionId}/purchase", Caller::Anyone),
    entry("GET", "/v1/catalog", Caller::Anyone),
    entry("POST", "/v1/receipts", Caller::Owner),
    entry("GET", "/v1/receipts/{receiptId}", Caller::Holder),
    entry("PATCH", "/v1/receipts/{receiptId}", Caller::Owner),
    entry("GET", "/v1/streaming/quotas/{receiptId}", Caller::Holder),
    entry("POST", "/v1/streaming/sessions", Caller::Holder),
    entry("GET", "/v1/streaming/sessions/{sessionId}", Caller::Holder),
    entry("GET", "/v1/streaming/usage", Caller::Owner),
    entry("GET", "/v1/privacy/receipts/{receiptId}", Caller::Admin),
    entry("DELETE", "/v1/privacy/receipts/{receiptId}", Caller::Admin),
    entry("GET", "/v1/streaming/policies", Caller::Admin),
    entry("GET", "/v1/streaming/policies/{policyName}", Caller::Admin),
    entry("PUT", "/v1/streaming/policies/{policyName}", Caller::Admin),
    entry("GET", "/v1/policies", Caller::Admin),
    entry("GET", "/v1/policies/{policyId}", Caller::Admin),
    entry("PUT", "/v1/policies/{policyId}", Caller::Admin),
    entry("POST", "/v1/policies/{policyId}/evaluate", Caller::Admin),
    entry("GET", "/v1/policies/{policyId}/runs", Caller::Admin),
    entry("GET", "/v1/producers", Caller::Admin),
    entry("POST", "/v1/producers", Caller::Admin),
    entry("GET", "/v1/producers/{producerId}/keys", Caller::Admin),
    entry("POST", "/v1/producers/{producerId}/keys", Caller::Admin),
    entry("POST", "/v1/producers/{producerId}/keys/{keyId}/rotate", Caller::Admin),
    entry("DELETE", "/v1/producers/{producerId}/keys/{keyId}", Caller::Admin),
    entry("GET", "/v1/producers/{producerId}/identities", Caller::Admin),
    entry("POST", "/v1/producers/{producerId}/identities", Caller::Admin),
    entry("DELETE", "/v1/producers/{producerId}/identities/{identityKey}", Caller::Admin),
    entry("POST", "/api/v1/lineage", Caller::Producer),
    entry("POST", "/api/v1/lineage/batch", Caller::Producer),
    entry("GET", "/v1/openlineage/lineage", Caller::Anyone),
    entry("GET", "/v1/openlineage/nodes/dataset/{namespace}/{name}", Caller::Anyone),
    entry("GET", "/v1/openlineage/jobs/{namespace}/{name}", Caller::Anyone),
    entry("GET", "/v1/openlineage/runs/{runId}", Caller::Anyone),
    entry("GET", "/v1/openlineage/search", Caller::Anyone),
    entry("POST", "/v1/storage/verify/{contentHash}", Caller::Admin),
    entry("GET", "/v1/storage/verifications/{contentHash}", Caller::Admin),
    entry("GET", "/v1/storage/quarantine", Caller::Admin),
    entry("POST", "/v1/storage/move/{contentHash}", Caller::Admin),
    entry("GET", "/health/live", Caller::Anyone),
    entry("GET", "/health/ready", Caller::Anyone),
    entry("GET", "/metrics", Caller::Anyone),
    entry("GET", "/", Caller::Anyone),
    entry("GET", "/dashboard", Caller::Anyone),
    entry("GET", "/dashboard/dashboard.css", Caller::Anyone),
    entry("GET", "/dashboard/dashboard.js", Caller::Anyone),
    entry("GET", "/dashboard/session.js", Caller::Anyone),
    entry("GET", "/dashboard/uplot.css", Caller::Anyone),
    entry("GET", "/dashboard/uplot.js", Caller::Anyone),
    entry("GET", "/dashboard/console.css", Caller::Anyone),
    entry("GET", "/dashboard/console.js", Caller::Anyone),
    entry("GET", "/dashboard/graph.js", Caller::Anyone),
    entry("GET", "/dashboard/cytoscape.js", Caller::Anyone),
    entry("GET", "/dashboard/events", Caller::Local),
    entry("GET", "/dashboard/session", Caller::Anyone),
    entry("POST", "/dashboard/sign-in", Caller::Admin),
    entry("POST", "/dashboard/sign-out", Caller::Anyone),
    entry("GET", "/openapi.json", Caller::Anyone),
    entry("GET", "/docs", Caller::Anyone),
    entry("GET", "/docs/docs.css", Caller::Anyone),
    entry("GET", "/docs/docs.js", Caller::Anyone),
    entry("GET", "/docs/rapidoc.js", Caller::Anyone),
    entry("POST", "/v1/admin/cache/invalidate", Caller::Admin),
    entry("GET", "/v1/admin/log-level", Caller::Admin),
    entry("PUT", "/v1/admin/log-level", Caller::Admin),
];

/// The routes that `penstock demo` serves beside them, all for anyone.
const DEMO_PATHS: [&str; 3] = ["/player", "/player/player.css", "/player/player.js"];

/// Whether the lists have a path.
pub(super) fn has_path(path: &str) -> bool {
    DEMO_PATHS.contains(&path) || ROUTES.iter().any(|route| route.path == path)
}
