//! The identity keys of producers: an admin binds keys to producers.

use std::sync::Arc;

use actix_web::{
    HttpResponse,
    web::{self, Data, Path, ServiceConfig},
};
use penstock_actors::{
    clock::Clock,
    ids::ProducerId,
    model::IdentityKey,
    ports::{BindOutcome, Identities, Tag},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    ChangePublisher, JsonBody, Problem, ProblemType, answer,
    auth::Admin,
    routing,
    validation::{Validate, Violations},
};
use crate::signatures::is_on_curve;

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub identities: Arc<dyn Identities>,
    pub publisher: Arc<ChangePublisher>,
    pub clock: Arc<dyn Clock>,
}

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps))
        .service(
            routing::resource("/v1/producers/{producerId}/identities")
                .route(routing::read().to(list))
                .route(web::post().to(bind)),
        )
        .service(
            routing::resource("/v1/producers/{producerId}/identities/{identityKey}").route(web::delete().to(unbind)),
        );
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BindIdentity {
    identity_key: IdentityKey,
}

impl Validate for BindIdentity {
    fn validate(&self, violations: &mut Violations) {
        violations.require(is_on_curve(&self.identity_key), "identityKey", "must be a point of secp256k1");
    }
}

async fn bind(
    _: Admin,
    deps: Data<Deps>,
    producer: Path<String>,
    body: JsonBody<BindIdentity>,
) -> Result<HttpResponse, Problem> {
    let producer: ProducerId = producer.parse()?;
    let key = body.read().await?.identity_key;
    answer::to_the_end(async move {
        let bound = deps.identities.bind_identity(key, producer, deps.clock.now()).await?;
        deps.publisher.publish(Tag::Identity(key)).await;
        match bound {
            BindOutcome::New(binding) => {
                Ok(answer::created(&format!("/v1/producers/{producer}/identities/{key}"), &binding))
            }
            BindOutcome::Already(binding) => Ok(answer::ok(&binding)),
            BindOutcome::Taken => Err(Problem::from(ProblemType::IdentityTaken)),
        }
    })
    .await
}

async fn list(_: Admin, deps: Data<Deps>, producer: Path<String>) -> Result<HttpResponse, Problem> {
    let bound = deps.identities.identities(producer.parse()?).await?;
    Ok(answer::ok(&json!({ "items": bound })))
}

async fn unbind(_: Admin, deps: Data<Deps>, which: Path<(String, String)>) -> Result<HttpResponse, Problem> {
    let (producer, key) = which.into_inner();
    let (producer, key): (ProducerId, IdentityKey) = (producer.parse()?, key.parse()?);
    answer::to_the_end(async move {
        let unbound = deps.identities.unbind_identity(key, producer).await?;
        deps.publisher.publish(Tag::Identity(key)).await;
        if !unbound {
            return Err(Problem::new(ProblemType::NotFound).detail("the identity key is not bound to this producer"));
        }
        Ok(answer::no_store(HttpResponse::NoContent()).finish())
    })
    .await
}
