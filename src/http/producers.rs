//! Producers, each with a first key.

use std::sync::Arc;

use actix_web::{
    HttpResponse,
    web::{self, Data, Query, ServiceConfig},
};
use penstock_actors::{
    clock::Clock,
    ids::{KeyId, ProducerId},
    model::{ApiKey, NewProducer, Role},
    ports::ApiKeys,
};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{
    JsonBody, Problem, ProblemType, answer,
    auth::Admin,
    paging, routing,
    validation::{Validate, Violations},
};
use crate::http::schemas::answers;
use crate::keys;

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub api_keys: Arc<dyn ApiKeys>,
    pub clock: Arc<dyn Clock>,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list, create))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps))
        .service(routing::resource("/v1/producers").route(routing::read().to(list)).route(web::post().to(create)));
}

/// Producers per page by default.
const PAGE: u32 = 100;

/// The most producers per page.
const LONGEST_PAGE: u32 = 1000;

#[utoipa::path(
    get,
    path = "/v1/producers",
    operation_id = "listProducers",
    tag = "Producers and keys",
    summary = "List producers",
    description = "",
    params(paging::PageQuery),
    responses(
        (status = 200, description = "The producers", body = answers::ProducerPage),
    ),
)]
async fn list(_: Admin, deps: Data<Deps>, query: Query<paging::PageQuery>) -> Result<HttpResponse, Problem> {
    let limit = paging::limit(query.limit, PAGE, LONGEST_PAGE)?;
    let after = query.cursor.as_deref().map(|cursor| paging::place(cursor, |place| Uuid::from_slice(&place).ok()));
    let after = after.transpose()?.map(ProducerId::from_uuid);
    let page = deps.api_keys.producers(after, limit).await?;
    let more = page.items.last().filter(|_| page.more);
    let next = more.map(|last| paging::cursor(last.producer_id.as_uuid().as_bytes()));
    Ok(answer::ok(&json!({ "items": page.items, "nextCursor": next })))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateProducer {
    #[schema(min_length = 1, max_length = 256, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$", example = "Studio")]
    name: String,
}

impl Validate for CreateProducer {
    fn validate(&self, violations: &mut Violations) {
        violations.line("name", &self.name, 1..=256);
    }
}

/// Only this answer contains the secret of the key.
#[utoipa::path(
    post,
    path = "/v1/producers",
    operation_id = "createProducer",
    tag = "Producers and keys",
    summary = "Create a producer with a first key",
    description = "",
    request_body = CreateProducer,
    responses(
        (status = 201, description = "The producer with the secret of its key", body = answers::CreatedProducer),
    ),
)]
async fn create(_: Admin, deps: Data<Deps>, body: JsonBody<CreateProducer>) -> Result<HttpResponse, Problem> {
    let name = body.read().await?.name;
    let secret = keys::generate().map_err(|error| Problem::new(ProblemType::Internal).caused_by(error))?;
    let key = ApiKey {
        key_id: KeyId::next(),
        producer_id: ProducerId::next(),
        role: Role::Producer,
        secret_hash: secret.hash,
        ends_in: None,
    };
    let (producer_id, key_id) = (key.producer_id, key.key_id);
    deps.api_keys.create_producer(&NewProducer { name: name.clone(), key, created_at: deps.clock.now() }).await?;
    let made = json!({ "producerId": producer_id, "name": name, "keyId": key_id, "key": secret.text });
    Ok(answer::no_store(HttpResponse::Created()).json(made))
}
