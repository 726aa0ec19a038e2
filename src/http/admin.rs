//! What an operator does by hand.

use actix_web::{
    HttpResponse,
    web::{self, Data, ServiceConfig},
};
use penstock_actors::ports::Tag;
use serde::Deserialize;
use serde_json::json;

use super::{
    Announcer, JsonBody, Problem, answer,
    auth::Admin,
    validation::{Validate, Violations, is_tier_name},
};

/// Tags in one call: as many as a channel to the other instances takes without lagging.
const MAX_TAGS: usize = 100;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/v1/admin/cache/invalidate").route(web::post().to(invalidate)));
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invalidate {
    tags: Vec<String>,
}

impl Validate for Invalidate {
    fn validate(&self, violations: &mut Violations) {
        let few = (1..=MAX_TAGS).contains(&self.tags.len());
        violations.require(few, "tags", format!("must have 1 to {MAX_TAGS} entries"));
        for (index, tag) in self.tags.iter().enumerate() {
            let path = format!("tags[{index}]");
            violations.require(read_tag(tag).is_some(), path, "must be receipt:ID, policy:NAME, asset:ID or recall:ID");
        }
    }
}

fn read_tag(text: &str) -> Option<Tag> {
    text.parse().ok().filter(|tag| !matches!(tag, Tag::Policy(name) if !is_tier_name(name)))
}

async fn invalidate(_: Admin, announcer: Data<Announcer>, body: JsonBody<Invalidate>) -> Result<HttpResponse, Problem> {
    let tags: Vec<_> = body.read().await?.tags.iter().filter_map(|tag| read_tag(tag)).collect();
    announcer.tell(&tags).await?;
    Ok(answer::ok(&json!({ "invalidated": tags.len() })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_names_its_kind() {
        assert!(matches!(read_tag("policy:standard"), Some(Tag::Policy(name)) if name == "standard"));
        assert!(matches!(read_tag("receipt:67e55044-10b1-426f-9247-bb680e5fe0c8"), Some(Tag::Receipt(_))));
        for bad in ["", "policy", "policy:", "receipt:1", "session:67e55044-10b1-426f-9247-bb680e5fe0c8"] {
            assert_eq!(read_tag(bad), None, "{bad:?}");
        }
    }
}
