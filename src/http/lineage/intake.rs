//! Ingest of events: read within limits, checked outside the worker threads, stored by the ingest.

use std::{io::Read as _, sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{self, BytesMut, Data},
};
use flate2::read::MultiGzDecoder;
use futures::StreamExt as _;
use jiff::Timestamp;
use penstock_actors::{
    flow::admission::Permit,
    lineage::{Lineage, event::EventViolation},
    model::{EventHash, EventKind, LineageEvent},
    ports::EventOutcome,
};
use serde_json::{Value, json, value::RawValue};

use super::{
    super::{
        Problem, ProblemType, answer,
        auth::Producer,
        body::{check_media_type, unreadable_json},
        middleware::signed_body::unreadable,
        problem::Violation,
    },
    Deps,
    node_id::{path_of_node, path_of_run},
};
use crate::http::schemas::{answers, scalars};
use crate::{openlineage::EventReader, words};

/// How long a body may take: 8 MiB in this time are 280 KB/s, and clients of lineage are servers.
const DEADLINE: Duration = Duration::from_secs(30);

/// Faults reported per batch, beyond the first fault of each event: enough to see what is wrong with a producer. A body
/// of 8 MiB may have more than a million faults.
const BATCH_FAULTS: usize = 1000;

/// Bodies up to this size are checked on the worker thread: that takes well under a millisecond.
const SMALL: usize = 16 * 1024;

/// `POST /api/v1/lineage`: one event.
#[utoipa::path(
    post,
    path = "/api/v1/lineage",
    operation_id = "sendEvent",
    tag = "Lineage",
    summary = "Send an OpenLineage event",
    description = "A RunEvent, JobEvent or DatasetEvent, checked against the published schema 2-0-2.",
    request_body(content = crate::http::schemas::LineageEventDocument, content_type = "application/json"),
    responses(
        (status = 200, description = "The event was known", body = answers::KeptEvent),
        (status = 201, description = "The event is kept", body = answers::KeptEvent, headers(("Location" = String, description = "The address of the new resource"))),
    ),
    extensions(("x-problems" = json!(["unsupported-media-type", "upload-too-large", "request-timeout", "validation-failed", "upload-incomplete"]))),
)]
pub(super) async fn one(
    _: Producer,
    request: HttpRequest,
    deps: Data<Deps>,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let (body, permit) = ReceivedBody::receive(&request, body, deps.settings.max_event, &deps.lineage).await?;
    let (reader, settings) = (Arc::clone(&deps.reader), deps.settings);
    let now = deps.clock.now();
    let event = off_worker(body.bytes.len(), move || {
        let text = body.text(settings.max_event)?;
        serde_json::from_str::<&RawValue>(&text).map_err(|error| unreadable_json(&error))?;
        reader.read(&text, now).map_err(|faults| Problem::from(violations(faults)))
    })
    .await?;
    let (hash, location) = (event.hash, location_of(&event));
    let kept = deps.lineage.ingest.keep(vec![event], permit).await?;
    match kept.first() {
        Some(EventOutcome::New) => {
            Ok(answer::created(&location, &json!({ "eventHash": hash.to_string(), "outcome": "created" })))
        }
        Some(EventOutcome::Known) => Ok(answer::ok(&json!({ "eventHash": hash.to_string(), "outcome": "known" }))),
        Some(EventOutcome::Left) => Err(violations(vec![left()]).into()),
        None => Err(Problem::new(ProblemType::Internal).caused_by("an event has no outcome")),
    }
}

/// `POST /api/v1/lineage/batch`: a list of events, each with a result of its own.
#[utoipa::path(
    post,
    path = "/api/v1/lineage/batch",
    operation_id = "sendEvents",
    tag = "Lineage",
    summary = "Send a list of OpenLineage events",
    description = "Each event has a result of its own, whatever becomes of the others.",
    request_body(content = Vec<scalars::Json>, content_type = "application/json"),
    responses(
        (status = 200, description = "The results, in the order of the events", body = answers::BatchReport),
    ),
    extensions(("x-problems" = json!(["unsupported-media-type", "upload-too-large", "request-timeout", "validation-failed", "upload-incomplete"]))),
)]
pub(super) async fn batch(
    _: Producer,
    request: HttpRequest,
    deps: Data<Deps>,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let (body, permit) = ReceivedBody::receive(&request, body, deps.settings.max_batch, &deps.lineage).await?;
    let (reader, settings) = (Arc::clone(&deps.reader), deps.settings);
    let now = deps.clock.now();
    let read = off_worker(body.bytes.len(), move || {
        let text = body.text(settings.max_batch)?;
        let events: Vec<&RawValue> = serde_json::from_str(&text).map_err(|error| no_list(&error))?;
        if events.len() > settings.max_batch_events {
            let detail = format!("has {} events, and may have at most {}", events.len(), settings.max_batch_events);
            return Err(violations(vec![EventViolation::new("", detail)]).into());
        }
        let mut more = BATCH_FAULTS;
        let read = |event: &RawValue| read_one(&reader, event.get(), settings.max_event, now);
        Ok(events.into_iter().map(|event| read(event).map_err(|faults| few(faults, &mut more))).collect::<Vec<_>>())
    })
    .await?;
    let mut good = Vec::new();
    let places: Vec<Result<EventHash, Vec<EventViolation>>> = read
        .into_iter()
        .map(|event| {
            event.map(|event| {
                let hash = event.hash;
                good.push(event);
                hash
            })
        })
        .collect();
    let kept = if good.is_empty() { Vec::new() } else { deps.lineage.ingest.keep(good, permit).await? };
    Ok(answer::ok(&report(places, &mut kept.into_iter())))
}

fn read_one(
    reader: &EventReader,
    text: &str,
    most: usize,
    now: Timestamp,
) -> Result<LineageEvent, Vec<EventViolation>> {
    if text.len() > most {
        let detail = format!("has {} bytes, and may have at most {most}", text.len());
        return Err(vec![EventViolation::new("", detail)]);
    }
    reader.read(text, now)
}

/// The first fault, and as many of the others as the batch may still report.
fn few(mut faults: Vec<EventViolation>, more: &mut usize) -> Vec<EventViolation> {
    faults.truncate(1 + *more);
    *more -= faults.len().saturating_sub(1);
    faults
}

/// The fields of the specification for batches (`status`, `summary`, `failed_events`), and a result for each event.
fn report(places: Vec<Result<EventHash, Vec<EventViolation>>>, kept: &mut impl Iterator<Item = EventOutcome>) -> Value {
    let (mut results, mut failed) = (Vec::with_capacity(places.len()), Vec::new());
    for (index, place) in places.into_iter().enumerate() {
        let (hash, faults) = match place {
            Ok(hash) => match kept.next() {
                Some(EventOutcome::New) => {
                    results.push(json!({ "index": index, "outcome": "created", "eventHash": hash.to_string() }));
                    continue;
                }
                Some(EventOutcome::Known) => {
                    results.push(json!({ "index": index, "outcome": "known", "eventHash": hash.to_string() }));
                    continue;
                }
                Some(EventOutcome::Left) | None => (Some(hash.to_string()), vec![left()]),
            },
            Err(faults) => (None, faults),
        };
        let errors: Vec<Value> =
            faults.iter().map(|fault| json!({ "path": fault.path, "detail": fault.detail })).collect();
        let reason = faults.first().map_or_else(String::new, |fault| format!("{} {}", fault.path, fault.detail));
        failed.push(json!({ "index": index, "reason": reason.trim_start(), "retriable": false }));
        results.push(json!({ "index": index, "outcome": "invalid", "eventHash": hash, "errors": errors }));
    }
    json!({
        "status": if failed.is_empty() { "success" } else { "partial_success" },
        "summary": {
            "received": results.len(),
            "successful": results.len() - failed.len(),
            "failed": failed.len(),
            "retriable": 0,
            "non_retriable": failed.len(),
        },
        "failed_events": failed,
        "results": results,
    })
}

/// The address where the subject of an event can be read.
fn location_of(event: &LineageEvent) -> String {
    match event.run {
        Some(run) if event.kind == EventKind::Run => path_of_run(run),
        _ => path_of_node(&event.subject().name),
    }
}

fn left() -> EventViolation {
    let detail = "is older than the events that the window still holds of this namespace, which has reached its limit";
    EventViolation::new("eventTime", detail)
}

fn violations(faults: Vec<EventViolation>) -> Vec<Violation> {
    faults.into_iter().map(|fault| Violation { path: fault.path, detail: fault.detail.into() }).collect()
}

fn no_list(error: &serde_json::Error) -> Problem {
    if error.is_data() {
        return violations(vec![EventViolation::new("", words::of_fault(&error.to_string()))]).into();
    }
    unreadable_json(error)
}

/// Runs work that takes more than a moment on a blocking thread.
async fn off_worker<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    if bytes <= SMALL {
        return work();
    }
    web::block(work).await.map_err(|error| Problem::new(ProblemType::Internal).caused_by(error))?
}

/// A received body.
struct ReceivedBody {
    bytes: BytesMut,
    gzip: bool,
}

impl ReceivedBody {
    /// Receives a body of at most `most` bytes. Room for it is reserved first, because the total of all bodies is
    /// bounded.
    async fn receive(
        request: &HttpRequest,
        mut payload: web::Payload,
        most: usize,
        lineage: &Lineage,
    ) -> Result<(Self, Permit), Problem> {
        check_media_type(request)?;
        let gzip = match request.headers().get(header::CONTENT_ENCODING).map(header::HeaderValue::as_bytes) {
            None => false,
            Some(coding) if coding.eq_ignore_ascii_case(b"identity") => false,
            Some(coding) if coding.eq_ignore_ascii_case(b"gzip") => true,
            Some(_) => {
                let detail = "send the body without a content coding or with gzip";
                return Err(Problem::new(ProblemType::UnsupportedMediaType).detail(detail));
            }
        };
        let too_large = || Problem::new(ProblemType::UploadTooLarge).with("limit", most);
        let length = request.headers().get(header::CONTENT_LENGTH);
        let declared = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|declared| declared > most) {
            return Err(too_large());
        }
        // The decompressed size is not known beforehand.
        let room = declared.filter(|_| !gzip).unwrap_or(most).max(1);
        let permit = lineage.ingest.admit(u32::try_from(room).unwrap_or(u32::MAX)).ok_or(ProblemType::Overloaded)?;
        let receiving = async {
            let mut bytes = BytesMut::new();
            while let Some(part) = payload.next().await {
                let part = part.map_err(|error| unreadable(&error))?;
                if bytes.len() + part.len() > most {
                    return Err(too_large());
                }
                bytes.extend_from_slice(&part);
            }
            Ok(bytes)
        };
        let bytes = tokio::time::timeout(DEADLINE, receiving)
            .await
            .map_err(|_| Problem::from(ProblemType::RequestTimeout))??;
        Ok((Self { bytes, gzip }, permit))
    }

    /// The text, at most `most` bytes, whatever a compressed body would expand to.
    fn text(&self, most: usize) -> Result<String, Problem> {
        let bytes = if self.gzip {
            let mut bytes = Vec::new();
            let read = MultiGzDecoder::new(&*self.bytes).take(most as u64 + 1).read_to_end(&mut bytes);
            read.map_err(|_| Problem::malformed("the body is not gzip"))?;
            if bytes.len() > most {
                return Err(Problem::new(ProblemType::UploadTooLarge).with("limit", most));
            }
            bytes
        } else {
            self.bytes.to_vec()
        };
        String::from_utf8(bytes).map_err(|_| Problem::malformed("the body is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_result_for_each_event_in_its_place() {
        let fault = || vec![EventViolation::new("job.name", "is missing")];
        let hash = |byte| Ok(EventHash([byte; 32]));
        let places = vec![hash(1), Err(fault()), hash(2), hash(3)];
        let report = report(places, &mut [EventOutcome::New, EventOutcome::Known, EventOutcome::Left].into_iter());
        let outcomes: Vec<_> =
            report["results"].as_array().expect("a list").iter().map(|r| r["outcome"].clone()).collect();
        assert_eq!(outcomes, ["created", "invalid", "known", "invalid"]);
        assert_eq!(report["status"], "partial_success");
        assert_eq!((&report["summary"]["successful"], &report["summary"]["failed"]), (&json!(2), &json!(2)));
        assert_eq!(
            report["failed_events"][0],
            json!({ "index": 1, "reason": "job.name is missing", "retriable": false })
        );
        assert_eq!(report["failed_events"][1]["index"], 3);
    }

    #[test]
    fn a_coded_body_grows_no_further_than_it_may() {
        use std::io::Write as _;
        let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        coder.write_all(&vec![b' '; 10 << 20]).expect("coded");
        let body = ReceivedBody { bytes: coder.finish().expect("coded").as_slice().into(), gzip: true };
        assert!(body.bytes.len() < 20_000);
        assert_eq!(body.text(1 << 20).expect_err("too large").kind(), ProblemType::UploadTooLarge);
        assert_eq!(body.text(10 << 20).expect("just enough").len(), 10 << 20);
        let broken = ReceivedBody { bytes: BytesMut::from(&b"{}"[..]), gzip: true };
        assert_eq!(broken.text(100).expect_err("no gzip").kind(), ProblemType::MalformedRequest);
    }
}
