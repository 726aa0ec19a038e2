//! Operations by hand, for operators.

use std::sync::Arc;

use actix_web::{
    HttpResponse,
    web::{self, Data, ServiceConfig},
};
use penstock_actors::{
    cache::TieredCache,
    ports::{KeyPattern, Tag},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    ChangePublisher, JsonBody, Problem, answer,
    auth::Admin,
    body, routing,
    validation::{Validate, Violations, is_tier_name},
};
use crate::http::schemas::answers;

/// Tags in one call: as many as a channel to the other instances takes without lagging.
const MAX_TAGS: usize = 100;

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub publisher: Arc<ChangePublisher>,
    pub cache: TieredCache,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(invalidate))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps))
        .service(routing::resource("/v1/admin/cache/invalidate").route(web::post().to(invalidate)));
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Invalidate {
    #[serde(default, deserialize_with = "body::or_default")]
    /// Changed objects, such as `policy:standard`; 1 to 100 unless there is a pattern
    #[schema(value_type = Option<Vec<String>>, max_items = 100, example = json!(["policy:standard"]))]
    tags: Vec<String>,
    /// Matches keys of cached entries instead of naming a change: `assets:*`.
    #[schema(pattern = "^[A-Za-z0-9:_.=/*?-]+$")]
    pattern: Option<String>,
}

impl Validate for Invalidate {
    fn validate(&self, violations: &mut Violations) {
        let least = usize::from(self.pattern.is_none());
        let few = (least..=MAX_TAGS).contains(&self.tags.len());
        violations.require(few, "tags", format!("must have {least} to {MAX_TAGS} entries"));
        if let Some(pattern) = &self.pattern {
            let read = KeyPattern::parse(pattern).is_some();
            violations.require(read, "pattern", "must be letters, digits, any of :-_.=/ and the wildcards * and ?");
        }
        for (index, tag) in self.tags.iter().enumerate() {
            let path = format!("tags[{index}]");
            violations.require(
                read_tag(tag).is_some(),
                path,
                "must be receipt:ID, policy:NAME, asset:ID, lineage:graph, governance:ID, content:HASH, identity:KEY, key:ID or recall:ID",
            );
        }
    }
}

fn read_tag(text: &str) -> Option<Tag> {
    text.parse().ok().filter(|tag| match tag {
        Tag::QuotaPolicy(name) => is_tier_name(name),
        Tag::Entries(_) | Tag::EndStream(_) => false,
        Tag::Receipt(_)
        | Tag::Asset(_)
        | Tag::Lineage
        | Tag::Governance(_)
        | Tag::Content(_)
        | Tag::Identity(_)
        | Tag::Key(_)
        | Tag::Recall(_) => true,
    })
}

#[utoipa::path(
    post,
    path = "/v1/admin/cache/invalidate",
    operation_id = "invalidateCaches",
    tag = "Operators",
    summary = "Make every instance drop cached values",
    description = "",
    request_body = Invalidate,
    responses(
        (status = 200, description = "All instances were told", body = answers::Invalidated),
    ),
)]
async fn invalidate(_: Admin, deps: Data<Deps>, body: JsonBody<Invalidate>) -> Result<HttpResponse, Problem> {
    let asked = body.read().await?;
    let mut tags: Vec<_> = asked.tags.iter().filter_map(|tag| read_tag(tag)).collect();
    let invalidated = tags.len();
    answer::to_the_end(async move {
        for tag in &tags {
            deps.cache.changed(tag).await;
        }
        let mut told = json!({ "invalidated": invalidated });
        if let Some(pattern) = asked.pattern.as_deref().and_then(KeyPattern::parse) {
            told["removed"] = deps.cache.remove(&pattern).await?.into();
            tags.push(Tag::Entries(pattern));
        }
        deps.publisher.tell(&tags).await?;
        Ok(answer::ok(&told))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_names_its_kind() {
        assert!(matches!(read_tag("policy:standard"), Some(Tag::QuotaPolicy(name)) if name == "standard"));
        assert!(matches!(read_tag("receipt:67e55044-10b1-426f-9247-bb680e5fe0c8"), Some(Tag::Receipt(_))));
        for bad in ["", "policy", "entries:*", "policy:", "receipt:1", "session:67e55044-10b1-426f-9247-bb680e5fe0c8"] {
            assert_eq!(read_tag(bad), None, "{bad:?}");
        }
    }
}
