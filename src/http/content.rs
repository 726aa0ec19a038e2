//! Uploads of content.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{self, Data, Payload, Query, ServiceConfig},
};
use penstock_actors::{
    content::upload::{Ingest, IngestError, Upload},
    ids::ContentHash,
    node::Node,
};
use serde::Deserialize;
use serde_json::json;

pub(crate) mod said;

use self::said::UploadDeclaration;
use super::{
    Problem, ProblemType, Readiness, answer,
    auth::Producer,
    digest::sha256_in,
    middleware::signed_body::{SignedBody, unreadable},
    paced_body::PacedBody,
    routing,
};
use crate::http::schemas::{answers, scalars};

/// Settings of uploads.
#[derive(Debug, Clone, Copy)]
pub struct UploadSettings {
    /// How long a client may send nothing, or next to nothing.
    pub idle_timeout: Duration,
}

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub node: Arc<Node>,
    pub readiness: Arc<Readiness>,
    pub settings: UploadSettings,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(upload))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps)).service(routing::resource("/v1/content").route(web::post().to(upload)));
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct UploadQuery {
    /// The hash that the bytes must have
    #[param(value_type = Option<scalars::Hash>)]
    content_hash: Option<String>,
}

#[utoipa::path(
    post,
    path = "/v1/content",
    operation_id = "uploadContent",
    tag = "Content",
    summary = "Upload content",
    description = "Counts and hashes the bytes as they arrive, compares them with the digest, if there is one, and stores nothing if they differ.",
    params(UploadQuery, ("Repr-Digest" = Option<String>, Header, description = "The digest that the bytes must have: `sha-256=:BASE64:` (RFC 9530)")),
    request_body(content = [u8], content_type = "*/*", description = "The bytes, as they are"),
    responses(
        (status = 200, description = "This producer has uploaded the same bytes before", body = answers::UploadedContent),
        (status = 201, description = "The content is stored", body = answers::UploadedContent, headers(("Location" = String, description = "The address of the new resource"))),
    ),
    extensions(("x-problems" = json!(["digest-mismatch", "upload-too-large", "upload-incomplete", "unsupported-media-type", "too-many-uploads", "storage-full", "shutting-down", "request-timeout"]))),
)]
async fn upload(
    producer: Producer,
    request: HttpRequest,
    query: Query<UploadQuery>,
    deps: Data<Deps>,
    body: Payload,
) -> Result<HttpResponse, Problem> {
    if deps.readiness.is_draining() {
        return Err(ProblemType::ShuttingDown.into());
    }
    let expected = expected_hash(&request, query.content_hash.as_deref())?;
    let mut said = UploadDeclaration::read(&request, expected.is_some())?;
    refuse_declared_excess(&request, &deps.node.ingest)?;
    let mut upload = deps.node.ingest.begin(producer.producer_id).await?;
    receive(PacedBody::new(body, deps.settings.idle_timeout), &mut upload, &mut said).await?;
    // All bytes have arrived: the rest is done whether the client waits for the answer or not.
    let finish = async move { Ok(upload.finish(expected, said.media_type, producer.producer_id).await?) };
    let ingested = answer::to_the_end(finish).await?;
    let meta = &ingested.meta;
    let document = json!({
        "contentHash": meta.content_hash,
        "sizeBytes": meta.size_bytes,
        "mediaType": meta.media_type,
        "created": ingested.created,
    });
    if ingested.created {
        return Ok(answer::created(&format!("/v1/streaming/data/{}", meta.content_hash), &document));
    }
    Ok(answer::ok(&document))
}

/// Passes the body on, part by part, as fast as the disk takes it.
async fn receive(mut body: PacedBody, upload: &mut Upload, said: &mut UploadDeclaration) -> Result<(), Problem> {
    loop {
        match body.next().await? {
            Some(Ok(part)) => {
                said.look_at(&part)?;
                upload.write(part).await?;
            }
            Some(Err(error)) => return Err(unreadable(&error)),
            None => return said.end(),
        }
    }
}

/// The hash that the client declares for its bytes: in the query, in `Repr-Digest` (RFC 9530), in its signature, or in
/// several of them alike.
fn expected_hash(request: &HttpRequest, in_query: Option<&str>) -> Result<Option<ContentHash>, Problem> {
    let in_query = in_query.map(str::parse::<ContentHash>).transpose()?;
    let in_header = sha256_in(request.headers(), "repr-digest")?;
    // For a signed request, the signed digest. The ingest, which hashes all content, compares it.
    let signed = SignedBody::claim(request);
    let given: Vec<_> = [in_query, in_header, signed].into_iter().flatten().collect();
    if given.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(Problem::malformed("contentHash and the digests in the head differ"));
    }
    Ok(given.first().copied())
}

/// Refuses a body whose declared length is too large before it is sent. A body without a declared length is counted.
fn refuse_declared_excess(request: &HttpRequest, ingest: &Ingest) -> Result<(), Problem> {
    let declared =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match declared {
        Some(declared) if declared > ingest.max_bytes() => {
            Err(IngestError::TooLarge { limit: ingest.max_bytes() }.into())
        }
        _ => Ok(()),
    }
}
