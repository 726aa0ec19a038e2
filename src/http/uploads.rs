//! Resumable uploads: the tus protocol, version 1.0, with the extensions of [`fields::EXTENSIONS`].
//!
//! Handlers read the fields of the protocol and pass the bytes to [`ResumableIngest`]. The body of a request is read in a task of its
//! own, so that bytes that arrived before a client left are kept.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{Method, header},
    middleware::DefaultHeaders,
    web::{self, Data, Path, Payload, ServiceConfig},
};
use penstock_actors::{
    content::resumable::{Append, NewUpload, ResumableIngest},
    ids::UploadId,
    model::{ResumableUpload, UploadKind},
    node::Node,
};
use serde_json::json;
use tokio::sync::oneshot;

mod checksum;
mod fields;

use self::{
    checksum::Checksum,
    fields::{Concat, TUS_RESUMABLE, VERSION},
};
use super::{
    Problem, ProblemType, Readiness, answer, auth::Producer, body::check_coding, credentials::is_signed_request,
    middleware::signed_body::unreadable, paced_body::PacedBody, routing,
};
use crate::http::schemas::{answers, scalars};

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub node: Arc<Node>,
    pub readiness: Arc<Readiness>,
    /// How long a client may send nothing, or next to nothing.
    pub idle_timeout: Duration,
}

impl Deps {
    fn uploads(&self) -> &ResumableIngest {
        &self.node.resumable
    }
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(options, create, show, append, remove, overridden))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    let tus = || DefaultHeaders::new().add((TUS_RESUMABLE, VERSION));
    cfg.app_data(Data::new(deps))
        .service(
            routing::resource("/v1/uploads")
                .wrap(tus())
                .route(web::method(Method::OPTIONS).to(options))
                .route(web::post().to(create)),
        )
        .service(
            routing::resource("/v1/uploads/{uploadId}")
                .wrap(tus())
                .route(routing::read().to(show))
                .route(web::patch().to(append))
                .route(web::delete().to(remove))
                .route(web::post().to(overridden)),
        );
}

/// What this server can do. It needs neither a key nor the field of the version.
#[utoipa::path(
    options,
    path = "/v1/uploads",
    operation_id = "describeUploads",
    tag = "Uploads",
    summary = "Name the version, the extensions and the bounds of resumable uploads",
    description = "The protocol is tus 1.0 (https://tus.io/protocols/resumable-upload).",
    responses(
        (status = 204, description = "What this node can do", headers(("Tus-Resumable" = String, description = "The version of the protocol"), ("Tus-Version" = String, description = "The versions"), ("Tus-Extension" = String, description = "The extensions"), ("Tus-Max-Size" = u64, description = "The largest content in bytes"), ("Tus-Checksum-Algorithm" = String, description = "The algorithms of `Upload-Checksum`"))),
    ),
)]
async fn options(deps: Data<Deps>) -> HttpResponse {
    HttpResponse::NoContent()
        .insert_header(("tus-version", VERSION))
        .insert_header(("tus-extension", fields::EXTENSIONS))
        .insert_header(("tus-max-size", deps.uploads().max_bytes()))
        .insert_header(("tus-checksum-algorithm", checksum::ALGORITHMS))
        .finish()
}

#[utoipa::path(
    post,
    path = "/v1/uploads",
    operation_id = "createUpload",
    tag = "Uploads",
    summary = "Begin a resumable upload",
    description = "",
    params(("Tus-Resumable" = inline(scalars::TusVersion), Header, description = "The version of the protocol"), ("Upload-Length" = Option<u64>, Header, description = "The size of the content; not for a final upload"), ("Upload-Metadata" = Option<String>, Header, description = "Names and values in Base64; `filetype` is the media type, `contentHash` the hash that the content must have"), ("Upload-Concat" = Option<String>, Header, description = "`partial`, or `final;` and the addresses of partial uploads"), ("Upload-Checksum" = Option<String>, Header, description = "A checksum of the body: `sha1` or `sha256`, and the hash in Base64")),
    request_body(content = Option<Vec<u8>>, content_type = "application/offset+octet-stream", description = "The first bytes; there may be none"),
    responses(
        (status = 201, description = "The upload has begun", headers(("Tus-Resumable" = String, description = "The version of the protocol"), ("Upload-Offset" = Option<u64>, description = "The bytes that the node has; absent for a final upload that is not complete"), ("Upload-Expires" = String, description = "When the unfinished upload is removed"), ("X-Content-Hash" = Option<String>, description = "The hash of the content, once it is complete"), ("Location" = String, description = "The address of the new resource"))),
    ),
    extensions(("x-problems" = json!(["unknown-upload", "precondition-failed", "unsupported-media-type", "upload-offset", "upload-busy", "upload-too-large", "checksum-mismatch", "digest-mismatch", "upload-incomplete", "storage-full", "shutting-down", "request-timeout", "too-many-uploads", "upload-not-complete", "forbidden"]))),
)]
async fn create(
    producer: Producer,
    request: HttpRequest,
    deps: Data<Deps>,
    body: Payload,
) -> Result<HttpResponse, Problem> {
    fields::check_version(request.headers())?;
    refuse_when_draining(&deps)?;
    let headers = request.headers();
    let metadata = fields::metadata(headers)?;
    let concat = fields::concat(headers)?;
    let kind = if matches!(concat, Some(Concat::Partial)) { UploadKind::Partial } else { UploadKind::Whole };
    let length_bytes = if matches!(concat, Some(Concat::Final(_))) { 0 } else { fields::length(headers)? };
    let new = NewUpload {
        producer_id: producer.producer_id,
        kind,
        length_bytes,
        media_type: metadata.media_type,
        declared_hash: metadata.content_hash,
        metadata: metadata.text,
    };
    if let Some(Concat::Final(of)) = concat {
        let text = fields::text(headers, fields::CONCAT)?.unwrap_or_default().to_owned();
        let concatenate = async move { Ok(deps.uploads().concatenate(new, &of, text).await?) };
        return Ok(created(&answer::to_the_end(concatenate).await?));
    }
    let begun = answer::to_the_end({
        let deps = deps.clone();
        async move { Ok(deps.uploads().begin(new).await?) }
    })
    .await?;
    if !fields::has_bytes(headers) || begun.is_complete() {
        return Ok(created(&begun));
    }
    let now = receive(&request, &deps, begun.upload_id, 0, body).await?;
    Ok(created(&now))
}

#[utoipa::path(
    patch,
    path = "/v1/uploads/{uploadId}",
    operation_id = "appendToUpload",
    tag = "Uploads",
    summary = "Append bytes to an upload",
    description = "",
    params(("uploadId" = scalars::Id, Path, description = "The upload"), ("Tus-Resumable" = inline(scalars::TusVersion), Header, description = "The version of the protocol"), ("Upload-Offset" = u64, Header, description = "Where the bytes go: the end of the upload"), ("Upload-Checksum" = Option<String>, Header, description = "A checksum of the body")),
    request_body(content = [u8], content_type = "application/offset+octet-stream", description = "The bytes from the offset on"),
    responses(
        (status = 204, description = "The bytes are kept", headers(("Tus-Resumable" = String, description = "The version of the protocol"), ("Upload-Offset" = Option<u64>, description = "The bytes that the node has; absent for a final upload that is not complete"), ("Upload-Expires" = String, description = "When the unfinished upload is removed"), ("X-Content-Hash" = Option<String>, description = "The hash of the content, once it is complete"))),
    ),
    extensions(("x-problems" = json!(["unknown-upload", "precondition-failed", "unsupported-media-type", "upload-offset", "upload-busy", "upload-too-large", "checksum-mismatch", "digest-mismatch", "upload-incomplete", "storage-full", "shutting-down", "request-timeout"]))),
)]
async fn append(
    producer: Producer,
    request: HttpRequest,
    id: Path<String>,
    deps: Data<Deps>,
    body: Payload,
) -> Result<HttpResponse, Problem> {
    fields::check_version(request.headers())?;
    refuse_when_draining(&deps)?;
    let id = upload_id(&id)?;
    // Before the body: another producer's upload looks as if there were none.
    deps.uploads().find(id, producer.scope()).await?;
    if !fields::has_bytes(request.headers()) {
        let problem = Problem::new(ProblemType::UnsupportedMediaType);
        return Err(problem.detail("send the bytes as application/offset+octet-stream"));
    }
    let offset = fields::offset(request.headers())?;
    let now = receive(&request, &deps, id, offset, body).await?;
    Ok(state(HttpResponse::NoContent(), &now).finish())
}

/// Where the upload ends; GET tells more of it, such as the hash of the content.
#[utoipa::path(
    get,
    path = "/v1/uploads/{uploadId}",
    operation_id = "showUpload",
    tag = "Uploads",
    summary = "Show where an upload ends",
    description = "HEAD answers with the same fields and no document.",
    params(("uploadId" = scalars::Id, Path, description = "The upload"), ("Tus-Resumable" = inline(scalars::TusVersion), Header, description = "The version of the protocol")),
    responses(
        (status = 200, description = "The state", body = answers::UploadState, headers(("Tus-Resumable" = String, description = "The version of the protocol"), ("Upload-Offset" = Option<u64>, description = "The bytes that the node has; absent for a final upload that is not complete"), ("Upload-Expires" = String, description = "When the unfinished upload is removed"), ("X-Content-Hash" = Option<String>, description = "The hash of the content, once it is complete"), ("Upload-Length" = u64, description = "The size of the content"), ("Upload-Metadata" = Option<String>, description = "The metadata"), ("Upload-Concat" = Option<String>, description = "Whether the upload is partial or final"))),
    ),
    extensions(("x-problems" = json!(["unknown-upload", "precondition-failed"]))),
)]
async fn show(
    producer: Producer,
    request: HttpRequest,
    id: Path<String>,
    deps: Data<Deps>,
) -> Result<HttpResponse, Problem> {
    fields::check_version(request.headers())?;
    let upload = deps.uploads().find(upload_id(&id)?, producer.scope()).await?;
    let mut answer = state(HttpResponse::Ok(), &upload);
    answer.insert_header(("upload-length", upload.length_bytes));
    if !upload.metadata.is_empty() {
        answer.insert_header((fields::METADATA, upload.metadata.as_str()));
    }
    let concat = match upload.kind {
        UploadKind::Whole => None,
        UploadKind::Partial => Some("partial"),
        UploadKind::Final => Some(upload.concat.as_str()),
    };
    if let Some(concat) = concat {
        answer.insert_header((fields::CONCAT, concat));
    }
    Ok(answer.json(json!({
        "uploadId": upload.upload_id,
        "offset": upload.offset_bytes,
        "length": upload.length_bytes,
        "isComplete": upload.is_complete(),
        "contentHash": upload.content_hash,
        "expiresAt": upload.expires_at,
    })))
}

#[utoipa::path(
    delete,
    path = "/v1/uploads/{uploadId}",
    operation_id = "removeUpload",
    tag = "Uploads",
    summary = "Remove an unfinished upload",
    description = "",
    params(("uploadId" = scalars::Id, Path, description = "The upload"), ("Tus-Resumable" = inline(scalars::TusVersion), Header, description = "The version of the protocol")),
    responses(
        (status = 204, description = "The upload is removed", headers(("Tus-Resumable" = String, description = "The version of the protocol"))),
    ),
    extensions(("x-problems" = json!(["unknown-upload", "precondition-failed", "upload-busy"]))),
)]
async fn remove(
    producer: Producer,
    request: HttpRequest,
    id: Path<String>,
    deps: Data<Deps>,
) -> Result<HttpResponse, Problem> {
    fields::check_version(request.headers())?;
    let id = upload_id(&id)?;
    let remove = async move { Ok(deps.uploads().remove(id, producer.scope()).await?) };
    answer::to_the_end(remove).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The method that the client names, for clients that can only send POST.
#[utoipa::path(
    post,
    path = "/v1/uploads/{uploadId}",
    operation_id = "overrideUploadMethod",
    tag = "Uploads",
    summary = "Append to an upload or remove it, for clients that can only send POST",
    description = "",
    params(("uploadId" = scalars::Id, Path, description = "The upload"), ("Tus-Resumable" = inline(scalars::TusVersion), Header, description = "The version of the protocol"), ("X-HTTP-Method-Override" = inline(scalars::MeantMethod), Header, description = "The method"), ("Upload-Offset" = Option<u64>, Header, description = "As for PATCH")),
    request_body(content = Option<Vec<u8>>, content_type = "application/offset+octet-stream", description = "As for PATCH"),
    responses(
        (status = 204, description = "As for the method", headers(("Tus-Resumable" = String, description = "The version of the protocol"))),
    ),
    extensions(("x-problems" = json!(["unknown-upload", "precondition-failed", "unsupported-media-type", "upload-offset", "upload-busy", "upload-too-large", "checksum-mismatch", "digest-mismatch", "upload-incomplete", "storage-full", "shutting-down", "request-timeout"]))),
)]
async fn overridden(
    producer: Producer,
    request: HttpRequest,
    id: Path<String>,
    deps: Data<Deps>,
    body: Payload,
) -> Result<HttpResponse, Problem> {
    match fields::text(request.headers(), "x-http-method-override")? {
        Some("PATCH") => append(producer, request, id, deps, body).await,
        Some("DELETE") => remove(producer, request, id, deps).await,
        _ => Err(Problem::malformed("X-HTTP-Method-Override names neither PATCH nor DELETE")),
    }
}

fn refuse_when_draining(deps: &Deps) -> Result<(), Problem> {
    if deps.readiness.is_draining() { Err(ProblemType::ShuttingDown.into()) } else { Ok(()) }
}

fn upload_id(text: &str) -> Result<UploadId, Problem> {
    text.parse().map_err(|_| ProblemType::UnknownUpload.into())
}

fn created(upload: &ResumableUpload) -> HttpResponse {
    let place = format!("/v1/uploads/{}", upload.upload_id);
    state(HttpResponse::Created(), upload).insert_header((header::LOCATION, place)).finish()
}

/// An answer with the state of an upload.
fn state(mut answer: HttpResponseBuilder, upload: &ResumableUpload) -> HttpResponseBuilder {
    // The protocol gives a final upload no offset before it is complete.
    if upload.kind != UploadKind::Final || upload.is_complete() {
        answer.insert_header((fields::OFFSET, upload.offset_bytes));
    }
    if let Some(hash) = upload.content_hash {
        answer.insert_header(("x-content-hash", hash.to_string()));
    }
    answer.insert_header(("upload-expires", fields::date(upload.expires_at)));
    answer::no_store(answer)
}

/// Appends the body of a request to an upload, and goes on to the end when the client leaves.
async fn receive(
    request: &HttpRequest,
    deps: &Data<Deps>,
    id: UploadId,
    offset: u64,
    body: Payload,
) -> Result<ResumableUpload, Problem> {
    check_coding(request)?;
    let checksum = Checksum::of(request.headers())?;
    // A signed body is compared with its digest at its end.
    let held = checksum.is_some() || is_signed_request(request.headers());
    let append = deps.uploads().append(id, None, offset, held).await?;
    let body = PacedBody::new(body, deps.idle_timeout);
    let (here, gone) = oneshot::channel::<()>();
    let received = answer::to_the_end(take(body, append, checksum, gone)).await;
    // Until now the client was here.
    drop(here);
    received
}

async fn take(
    mut body: PacedBody,
    mut append: Append,
    mut checksum: Option<Checksum>,
    mut gone: oneshot::Receiver<()>,
) -> Result<ResumableUpload, Problem> {
    let broken_off = loop {
        let part = tokio::select! {
            biased;
            part = body.next() => part,
            _ = &mut gone => break Problem::from(ProblemType::UploadIncomplete),
        };
        match part {
            Ok(Some(Ok(part))) => {
                if let Some(checksum) = &mut checksum {
                    checksum.update(&part);
                }
                if let Err(error) = append.write(part).await {
                    append.discard();
                    return Err(error.into());
                }
            }
            Ok(None) => {
                if checksum.is_some_and(|checksum| !checksum.holds()) {
                    append.discard();
                    return Err(ProblemType::ChecksumMismatch.into());
                }
                return Ok(append.end().await?);
            }
            Ok(Some(Err(error))) => break unreadable(&error),
            Err(too_slow) => break too_slow,
        }
    };
    append.broken_off().await?;
    Err(broken_off)
}
