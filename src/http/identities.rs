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
use crate::http::schemas::{answers, scalars};
use crate::key_derivation::is_on_curve;

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub identities: Arc<dyn Identities>,
    pub publisher: Arc<ChangePublisher>,
    pub clock: Arc<dyn Clock>,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list, bind, unbind))]
pub(super) struct Calls;

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

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BindIdentity {
    #[schema(value_type = scalars::PublicKey)]
    identity_key: IdentityKey,
}

impl Validate for BindIdentity {
    fn validate(&self, violations: &mut Violations) {
        violations.require(is_on_curve(&self.identity_key), "identityKey", "must be a point of secp256k1");
    }
}

#[utoipa::path(
    post,
    path = "/v1/producers/{producerId}/identities",
    operation_id = "bindIdentity",
    tag = "Producers and keys",
    summary = "Bind an identity key to a producer",
    description = "",
    params(("producerId" = scalars::Id, Path, description = "The producer")),
    request_body = BindIdentity,
    responses(
        (status = 200, description = "It was bound before", body = answers::Identity),
        (status = 201, description = "It is bound", body = answers::Identity, headers(("Location" = String, description = "The address of the new resource"))),
    ),
    extensions(("x-problems" = json!(["not-found", "identity-taken"]))),
)]
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

#[utoipa::path(
    get,
    path = "/v1/producers/{producerId}/identities",
    operation_id = "listIdentities",
    tag = "Producers and keys",
    summary = "List the identity keys of a producer",
    description = "",
    params(("producerId" = scalars::Id, Path, description = "The producer")),
    responses(
        (status = 200, description = "The identity keys", body = answers::Identities),
    ),
    extensions(("x-problems" = json!(["not-found"]))),
)]
async fn list(_: Admin, deps: Data<Deps>, producer: Path<String>) -> Result<HttpResponse, Problem> {
    let bound = deps.identities.identities(producer.parse()?).await?;
    Ok(answer::ok(&json!({ "items": bound })))
}

#[utoipa::path(
    delete,
    path = "/v1/producers/{producerId}/identities/{identityKey}",
    operation_id = "unbindIdentity",
    tag = "Producers and keys",
    summary = "Unbind an identity key",
    description = "",
    params(("producerId" = scalars::Id, Path, description = "The producer"), ("identityKey" = scalars::PublicKey, Path, description = "The identity key")),
    responses(
        (status = 204, description = "It is unbound"),
    ),
    extensions(("x-problems" = json!(["not-found"]))),
)]
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
