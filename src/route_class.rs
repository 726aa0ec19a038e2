//! The classes by which metrics and limits group routes.

/// The label for requests without a matching route, so that made-up paths create no new series.
pub const UNMATCHED: &str = "unmatched";

/// Routes that cost alike and are limited alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteClass {
    /// Uploads.
    Content,
    /// Streams, their quotas and sessions.
    Streaming,
    Catalogue,
    Receipts,
    /// Payments on chain: each is verified.
    Purchases,
    Lineage,
    Admin,
    /// Attempts to sign in to the console.
    SignIn,
    /// Health, metrics and documents for operators.
    Operations,
    /// Unknown paths.
    Unmatched,
}

impl RouteClass {
    /// All classes, in the order of their numbers (`class as usize`).
    pub const ALL: [Self; 10] = [
        Self::Content,
        Self::Streaming,
        Self::Catalogue,
        Self::Receipts,
        Self::Purchases,
        Self::Lineage,
        Self::Admin,
        Self::SignIn,
        Self::Operations,
        Self::Unmatched,
    ];

    /// The class of a path or of a route's template: its prefix decides, so that the class is known before routing.
    pub fn of(path: &str) -> Self {
        // The first matching prefix decides, so the longer ones come first.
        const PREFIXES: [(&str, RouteClass); 23] = [
            ("/v1/content", RouteClass::Content),
            ("/v1/uploads", RouteClass::Content),
            ("/v1/data", RouteClass::Streaming),
            ("/v1/streaming/policies", RouteClass::Admin),
            ("/v1/streaming/", RouteClass::Streaming),
            ("/v1/assets", RouteClass::Catalogue),
            ("/v1/catalog", RouteClass::Catalogue),
            ("/v1/receipts", RouteClass::Receipts),
            ("/api/v1/lineage", RouteClass::Lineage),
            ("/v1/openlineage/", RouteClass::Lineage),
            ("/v1/admin/", RouteClass::Admin),
            ("/v1/producers", RouteClass::Admin),
            ("/v1/policies", RouteClass::Admin),
            ("/v1/storage/", RouteClass::Admin),
            ("/health/", RouteClass::Operations),
            ("/metrics", RouteClass::Operations),
            ("/dashboard/sign-in", RouteClass::SignIn),
            ("/dashboard/sign-out", RouteClass::Admin),
            ("/dashboard/session", RouteClass::Admin),
            ("/dashboard", RouteClass::Operations),
            ("/player", RouteClass::Operations),
            ("/docs", RouteClass::Operations),
            ("/openapi.json", RouteClass::Operations),
        ];
        if path.starts_with("/v1/assets/") && path.ends_with("/purchase") {
            return Self::Purchases;
        }
        // Leads to the dashboard.
        if path == "/" {
            return Self::Operations;
        }
        PREFIXES.iter().find(|(prefix, _)| path.starts_with(prefix)).map_or(Self::Unmatched, |&(_, class)| class)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Streaming => "streaming",
            Self::Catalogue => "catalogue",
            Self::Receipts => "receipts",
            Self::Purchases => "purchases",
            Self::Lineage => "lineage",
            Self::Admin => "admin",
            Self::SignIn => "sign_in",
            Self::Operations => "operations",
            Self::Unmatched => UNMATCHED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_the_class_that_operators_limit_it_by() {
        for (template, class) in [
            ("/v1/content", RouteClass::Content),
            ("/v1/uploads/{uploadId}", RouteClass::Content),
            ("/v1/streaming/data/{contentHash}", RouteClass::Streaming),
            ("/v1/streaming/quotas/{receiptId}", RouteClass::Streaming),
            ("/v1/streaming/policies/{policyName}", RouteClass::Admin),
            ("/v1/assets/{versionId}/price", RouteClass::Catalogue),
            ("/v1/receipts", RouteClass::Receipts),
            ("/v1/assets/{versionId}/purchase", RouteClass::Purchases),
            ("/health/live", RouteClass::Operations),
            ("/metrics", RouteClass::Operations),
            ("/openapi.json", RouteClass::Operations),
            ("/dashboard/events", RouteClass::Operations),
            ("/dashboard/sign-in", RouteClass::SignIn),
            ("/dashboard/sign-out", RouteClass::Admin),
            ("/dashboard/session", RouteClass::Admin),
            ("/made/up", RouteClass::Unmatched),
            (UNMATCHED, RouteClass::Unmatched),
        ] {
            assert_eq!(RouteClass::of(template), class, "{template}");
        }
        for (number, class) in RouteClass::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, number);
        }
    }
}
