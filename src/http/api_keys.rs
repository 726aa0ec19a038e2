//! The API keys of producers and administrators: an admin lists, creates, rotates and revokes them. A revoked secret is
//! invalid on this instance before the answer, and on the others as soon as they are told. A rotation may leave the old secret
//! valid for a while.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpResponse,
    web::{self, Data, Path, Query, ServiceConfig},
};
use jiff::Timestamp;
use penstock_actors::{
    clock::Clock,
    ids::{KeyId, ProducerId},
    model::{ApiKey, KeyInfo, NewKey, Role},
    ports::{ApiKeys, Tag},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    ChangePublisher, JsonBody, Problem, ProblemType, answer,
    auth::Admin,
    body, paging, routing,
    validation::{Validate, Violations},
};
use crate::http::schemas::{answers, scalars};
use crate::keys::{self, ADMIN, ADMIN_KEY, NewSecret};

/// Keys per page by default.
const PAGE: u32 = 100;

/// The most keys per page.
const LONGEST_PAGE: u32 = 1000;

/// The longest time for which a rotation may leave the old secret valid: 30 days. A longer one would be two keys.
const LONGEST_OVERLAP: u64 = 30 * 24 * 60 * 60;

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub api_keys: Arc<dyn ApiKeys>,
    pub publisher: Arc<ChangePublisher>,
    pub clock: Arc<dyn Clock>,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list, create, rotate, revoke))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps))
        .service(
            routing::resource("/v1/producers/{producerId}/keys")
                .route(routing::read().to(list))
                .route(web::post().to(create)),
        )
        .service(routing::resource("/v1/producers/{producerId}/keys/{keyId}").route(web::delete().to(revoke)))
        .service(routing::resource("/v1/producers/{producerId}/keys/{keyId}/rotate").route(web::post().to(rotate)));
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateKey {
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(value_type = Option<String>, max_length = 256, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$", example = "encoder")]
    name: String,
}

impl Validate for CreateKey {
    fn validate(&self, violations: &mut Violations) {
        violations.line("name", &self.name, 0..=256);
    }
}

/// A key with its secret, which only this answer contains.
#[derive(Serialize)]
struct KeyWithSecret {
    #[serde(flatten)]
    info: KeyInfo,
    key: String,
}

/// The keys of the producer that stands for the administrator are admin keys.
fn role_of(producer: ProducerId) -> Role {
    if producer == ADMIN { Role::Admin } else { Role::Producer }
}

fn secret() -> Result<NewSecret, Problem> {
    keys::generate().map_err(|error| Problem::new(ProblemType::Internal).caused_by(error))
}

#[utoipa::path(
    post,
    path = "/v1/producers/{producerId}/keys",
    operation_id = "createKey",
    tag = "Producers and keys",
    summary = "Create a key",
    description = "",
    params(("producerId" = scalars::Id, Path, description = "The producer")),
    request_body = CreateKey,
    responses(
        (status = 201, description = "The key with its secret", body = answers::Key),
    ),
    extensions(("x-problems" = json!(["not-found"]))),
)]
async fn create(
    _: Admin,
    deps: Data<Deps>,
    producer: Path<String>,
    body: JsonBody<CreateKey>,
) -> Result<HttpResponse, Problem> {
    let producer_id: ProducerId = producer.parse()?;
    let CreateKey { name } = body.read().await?;
    let secret = secret()?;
    let (key_id, role, created_at) = (KeyId::next(), role_of(producer_id), deps.clock.now());
    let info = KeyInfo {
        key_id,
        producer_id,
        role,
        name: name.clone(),
        created_at,
        revoked_at: None,
        previous_valid_until: None,
        last_used_at: None,
    };
    answer::to_the_end(async move {
        let key = ApiKey { key_id, producer_id, role, secret_hash: secret.hash, ends_in: None };
        deps.api_keys.add_key(&NewKey { key, name, created_at }).await?;
        Ok(answer::no_store(HttpResponse::Created()).json(KeyWithSecret { info, key: secret.text }))
    })
    .await
}

#[utoipa::path(
    get,
    path = "/v1/producers/{producerId}/keys",
    operation_id = "listKeys",
    tag = "Producers and keys",
    summary = "List the keys of a producer",
    description = "",
    params(("producerId" = scalars::Id, Path, description = "The producer"), paging::PageQuery),
    responses(
        (status = 200, description = "The keys", body = answers::KeyPage),
    ),
    extensions(("x-problems" = json!(["not-found"]))),
)]
async fn list(
    _: Admin,
    deps: Data<Deps>,
    producer: Path<String>,
    query: Query<paging::PageQuery>,
) -> Result<HttpResponse, Problem> {
    let limit = paging::limit(query.limit, PAGE, LONGEST_PAGE)?;
    let after = query.cursor.as_deref().map(paging::place_in_time).transpose()?;
    let after: Option<(Timestamp, KeyId)> = after.map(|(at, id)| (at, KeyId::from_uuid(id)));
    let page = deps.api_keys.keys(producer.parse()?, after, limit).await?;
    let more = page.items.last().filter(|_| page.more);
    let next = more.map(|last| paging::cursor_in_time(last.created_at, last.key_id.as_uuid()));
    Ok(answer::ok(&json!({ "items": page.items, "nextCursor": next })))
}

/// The key that a path names.
///
/// # Errors
/// `forbidden` for the key from the configuration: the next start would restore its secret.
fn named(which: &(String, String)) -> Result<(ProducerId, KeyId), Problem> {
    let (producer, key): (ProducerId, KeyId) = (which.0.parse()?, which.1.parse()?);
    if key == ADMIN_KEY {
        let detail = "this key comes from the configuration: set another PENSTOCK_ADMIN_KEY and restart; the old one is invalid then";
        return Err(Problem::new(ProblemType::Forbidden).detail(detail));
    }
    Ok((producer, key))
}

fn unknown() -> Problem {
    Problem::new(ProblemType::NotFound).detail("the producer has no such key, or it was revoked")
}

#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RotateKey {
    /// How long the old secret stays valid. Without it, it ends at once: the safe choice for a secret that leaked.
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(value_type = Option<u64>, maximum = 2_592_000, example = 3600)]
    overlap_seconds: u64,
}

impl Validate for RotateKey {
    fn validate(&self, violations: &mut Violations) {
        let allowed = self.overlap_seconds <= LONGEST_OVERLAP;
        violations.require(allowed, "overlapSeconds", format!("must be at most {LONGEST_OVERLAP} (30 days)"));
    }
}

#[utoipa::path(
    post,
    path = "/v1/producers/{producerId}/keys/{keyId}/rotate",
    operation_id = "rotateKey",
    tag = "Producers and keys",
    summary = "Give a key a new secret",
    description = "",
    params(("producerId" = scalars::Id, Path, description = "The producer"), ("keyId" = scalars::Id, Path, description = "The key")),
    request_body(content = Option<RotateKey>, content_type = "application/json", description = "There may be no body"),
    responses(
        (status = 200, description = "The key with its new secret", body = answers::Key),
    ),
    extensions(("x-problems" = json!(["not-found"]))),
)]
async fn rotate(
    _: Admin,
    deps: Data<Deps>,
    which: Path<(String, String)>,
    body: JsonBody<RotateKey>,
) -> Result<HttpResponse, Problem> {
    let (producer, key) = named(&which)?;
    let overlap = Duration::from_secs(body.read_or_default().await?.overlap_seconds);
    let secret = secret()?;
    answer::to_the_end(async move {
        let rotated = deps.api_keys.rotate_key(key, producer, &secret.hash, overlap).await;
        // Also when the database's answer was lost.
        deps.publisher.publish(Tag::Key(key)).await;
        let info = rotated?.ok_or_else(unknown)?;
        Ok(answer::ok(&KeyWithSecret { info, key: secret.text }))
    })
    .await
}

#[utoipa::path(
    delete,
    path = "/v1/producers/{producerId}/keys/{keyId}",
    operation_id = "revokeKey",
    tag = "Producers and keys",
    summary = "Revoke a key",
    description = "",
    params(("producerId" = scalars::Id, Path, description = "The producer"), ("keyId" = scalars::Id, Path, description = "The key")),
    responses(
        (status = 204, description = "The key is revoked"),
    ),
    extensions(("x-problems" = json!(["not-found"]))),
)]
async fn revoke(_: Admin, deps: Data<Deps>, which: Path<(String, String)>) -> Result<HttpResponse, Problem> {
    let (producer, key) = named(&which)?;
    answer::to_the_end(async move {
        let revoked = deps.api_keys.revoke_key(key, producer, deps.clock.now()).await;
        deps.publisher.publish(Tag::Key(key)).await;
        if !revoked? {
            return Err(unknown());
        }
        Ok(answer::no_store(HttpResponse::NoContent()).finish())
    })
    .await
}
