//! Assets and their prices.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, EntityTag, Header as _, IfNoneMatch},
    web::{self, Data, Path, ServiceConfig},
};
use penstock_actors::{
    clock::Clock,
    ids::{ContentHash, VersionId},
    model::{Asset, NewAsset},
    policy_evaluator::PolicyEvaluator,
    ports::{Assets, ContentIndex, NewAssetError, Tag},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    ChangePublisher, JsonBody, Problem, ProblemType, answer,
    auth::Producer,
    body,
    governance::gate,
    routing,
    validation::{Validate, Violations},
};
use crate::http::schemas::{answers, scalars};

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub assets: Arc<dyn Assets>,
    pub index: Arc<dyn ContentIndex>,
    pub publisher: Arc<ChangePublisher>,
    pub evaluator: Arc<PolicyEvaluator>,
    pub clock: Arc<dyn Clock>,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(create, show, set_price))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps))
        .service(routing::resource("/v1/assets").route(web::post().to(create)))
        .service(routing::resource("/v1/assets/{versionId}").route(routing::read().to(show)))
        .service(routing::resource("/v1/assets/{versionId}/price").route(web::put().to(set_price)));
}

/// The request to create an asset.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateAsset {
    #[schema(min_length = 1, max_length = 256, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$", example = "film.mp4")]
    name: String,
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(value_type = Option<String>, max_length = 8192, pattern = "^[^\\u0000]*$", example = "A film in 4K")]
    description: String,
    #[schema(value_type = scalars::Hash)]
    content_hash: ContentHash,
    /// By default that of the upload
    #[schema(
        max_length = 255,
        pattern = "^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(;[ -~]*)?$",
        example = "video/mp4"
    )]
    media_type: Option<String>,
    #[schema(min_length = 1, max_length = 256, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$", example = "films")]
    dataset_id: Option<String>,
    /// What policies judge; at most 32 KiB
    #[schema(value_type = Option<scalars::Object>)]
    policy_meta: Option<Value>,
    #[serde(default, deserialize_with = "body::or_default")]
    /// The price of one receipt
    #[schema(value_type = Option<u64>, maximum = 2_100_000_000_000_000u64, example = 1000)]
    price_satoshis: u64,
}

impl Validate for CreateAsset {
    fn validate(&self, violations: &mut Violations) {
        violations.line("name", &self.name, 1..=256);
        violations.text("description", &self.description, 8 * 1024);
        if let Some(media_type) = &self.media_type {
            violations.media_type("mediaType", media_type);
        }
        if let Some(dataset) = &self.dataset_id {
            violations.line("datasetId", dataset, 1..=256);
        }
        if let Some(policy_meta) = &self.policy_meta {
            violations.object("policyMeta", policy_meta, 32 * 1024);
        }
        violations.satoshis("priceSatoshis", self.price_satoshis);
    }
}

#[utoipa::path(
    post,
    path = "/v1/assets",
    operation_id = "publishAsset",
    tag = "Assets",
    summary = "Publish an asset",
    description = "An asset offers one content for sale.",
    request_body = CreateAsset,
    responses(
        (status = 201, description = "The asset", body = answers::Asset, headers(("Location" = String, description = "The address of the new resource"))),
    ),
    extensions(("x-problems" = json!(["policy-blocked", "policy-missing", "not-found"]))),
)]
async fn create(producer: Producer, deps: Data<Deps>, body: JsonBody<CreateAsset>) -> Result<HttpResponse, Problem> {
    let given = body.read().await?;
    let asset = NewAsset {
        version_id: VersionId::next(),
        content_hash: given.content_hash,
        name: given.name,
        description: given.description,
        media_type: given.media_type,
        dataset_id: given.dataset_id,
        policy_meta: given.policy_meta.unwrap_or_else(|| Value::Object(Map::new())),
        producer_id: producer.producer_id,
        price_satoshis: given.price_satoshis,
        created_at: deps.clock.now(),
    };
    answer::to_the_end(async move {
        // Before anything else tells that the content exists. The hash is no proof that the producer has the bytes.
        if let Some(own) = producer.scope()
            && !deps.index.has_uploaded(asset.content_hash, own).await?
        {
            return Err(NewAssetError::ContentNotStored.into());
        }
        let passed = gate::before_publishing(&deps.evaluator, &*deps.index, &asset).await?;
        let asset = deps.assets.create_asset(&asset).await?;
        // So that lists on other instances show it too.
        deps.publisher.publish(Tag::Asset(asset.version_id)).await;
        Ok(answer::created(&format!("/v1/assets/{}", asset.version_id), &passed.with(asset)))
    })
    .await
}

#[utoipa::path(
    get,
    path = "/v1/assets/{versionId}",
    operation_id = "showAsset",
    tag = "Assets",
    summary = "Show an asset",
    description = "",
    params(("versionId" = scalars::Id, Path, description = "The asset"), ("If-None-Match" = Option<String>, Header, description = "The tag of the version that the client has")),
    responses(
        (status = 200, description = "The asset", body = answers::Asset, headers(("ETag" = String, description = "The version of this document"), ("Cache-Control" = String, description = "`public, no-cache`"))),
        (status = 304, description = "The client has this version", headers(("ETag" = String, description = "The version of this document"))),
    ),
    extensions(("x-problems" = json!(["unknown-asset"]))),
)]
async fn show(request: HttpRequest, deps: Data<Deps>, version_id: Path<String>) -> Result<HttpResponse, Problem> {
    let asset = deps.assets.asset(version_id.parse()?).await?.ok_or(ProblemType::UnknownAsset)?;
    Ok(validated(&request, &asset))
}

/// An answer that caches may store but must revalidate each time, because the price changes.
fn validated(request: &HttpRequest, asset: &Asset) -> HttpResponse {
    let body = json!(asset).to_string();
    // Half of the hash distinguishes versions as well as all of it.
    let tag = EntityTag::new_strong(blake3::hash(body.as_bytes()).to_hex()[..32].to_owned());
    let known = match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
        Ok(IfNoneMatch::Any) => request.headers().contains_key(header::IF_NONE_MATCH),
        Err(_) => false,
    };
    let mut answer = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer.insert_header((header::CACHE_CONTROL, "public, no-cache")).insert_header(header::ETag(tag));
    if known { answer.finish() } else { answer.content_type("application/json").body(body) }
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct SetPrice {
    #[schema(maximum = 2_100_000_000_000_000u64, example = 1500)]
    satoshis: u64,
}

impl Validate for SetPrice {
    fn validate(&self, violations: &mut Violations) {
        violations.satoshis("satoshis", self.satoshis);
    }
}

#[utoipa::path(
    put,
    path = "/v1/assets/{versionId}/price",
    operation_id = "setPrice",
    tag = "Assets",
    summary = "Change the price of an asset",
    description = "",
    params(("versionId" = scalars::Id, Path, description = "The asset")),
    request_body = SetPrice,
    responses(
        (status = 200, description = "The new price", body = answers::Price),
    ),
    extensions(("x-problems" = json!(["unknown-asset", "forbidden"]))),
)]
async fn set_price(
    producer: Producer,
    deps: Data<Deps>,
    version_id: Path<String>,
    body: JsonBody<SetPrice>,
) -> Result<HttpResponse, Problem> {
    let id: VersionId = version_id.parse()?;
    let satoshis = body.read().await?.satoshis;
    answer::to_the_end(async move {
        if !deps.assets.set_price(id, satoshis, producer.scope(), deps.clock.now()).await? {
            let asset = deps.assets.asset(id).await?.ok_or(ProblemType::UnknownAsset)?;
            producer.must_own(asset.producer_id)?;
            return Err(Problem::from(ProblemType::UnknownAsset));
        }
        deps.publisher.publish(Tag::Asset(id)).await;
        Ok(answer::ok(&json!({ "versionId": id, "priceSatoshis": satoshis })))
    })
    .await
}
