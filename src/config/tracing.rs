//! `[tracing]`: spans of requests to a collector.

use reqwest::Url;
use serde::Deserialize;

use super::{problem::Rules, value};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tracing {
    /// Where spans are sent by OTLP over HTTP; empty: nowhere.
    pub otlp_endpoint: String,
    /// The share of the requests without a trace of their own whose spans are sent.
    #[serde(deserialize_with = "value::share")]
    pub sample: f64,
}

impl Tracing {
    pub(super) fn check(&self, rules: &mut Rules) {
        let is_http = |url: &Url| matches!(url.scheme(), "http" | "https");
        rules.require(
            self.otlp_endpoint.is_empty() || Url::parse(&self.otlp_endpoint).is_ok_and(|url| is_http(&url)),
            &["tracing.otlp_endpoint"],
            "be of the form http://127.0.0.1:4318/v1/traces",
        );
        rules.require(
            self.otlp_endpoint.is_empty() || cfg!(feature = "otlp"),
            &["tracing.otlp_endpoint"],
            "be empty: this binary was built without the feature `otlp`",
        );
    }
}
