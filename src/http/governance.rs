//! Governance: policies as versioned documents, judging an asset by one, and what came of it. The policy that the node itself
//! obeys is asked in [`gate`].

use actix_web::{
    HttpResponse,
    web::{self, Data, Path, Query, ServiceConfig},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use penstock_actors::{
    clock::Clock,
    governance::{Facts, Flaw, Policy},
    governor::Governor,
    ids::{PolicyId, PolicyRunId, VersionId},
    ports::{Catalog, Policies, RunMark, StoredPolicy, Tag},
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Announcer, JsonBody, Problem, ProblemType, answer,
    auth::Admin,
    problem::Violation,
    routing,
    validation::{Validate, Violations},
};

pub(super) mod gate;

/// Items of a page unless the caller says otherwise.
const PAGE: u32 = 20;

/// The largest page. A run takes some 1 KiB, one with every reason and all the evidence that there may be 300 KiB.
const MAX_PAGE: u32 = 100;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/v1/policies").route(routing::read().to(list)))
        .service(web::resource("/v1/policies/{policyId}").route(routing::read().to(show)).route(web::put().to(put)))
        .service(web::resource("/v1/policies/{policyId}/evaluate").route(web::post().to(evaluate)))
        .service(web::resource("/v1/policies/{policyId}/runs").route(routing::read().to(runs)));
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    cursor: Option<String>,
    limit: Option<u32>,
}

async fn list(_: Admin, policies: Data<dyn Policies>, which: Query<Which>) -> Result<HttpResponse, Problem> {
    let after = which.cursor.as_deref().map(read_list_cursor).transpose()?;
    let page = policies.documents(after.as_ref(), limit(which.limit)?).await?;
    let next = page.items.last().filter(|_| page.more).map(|last| URL_SAFE_NO_PAD.encode(last.policy_id.as_str()));
    Ok(answer::ok(&json!({ "items": page.items, "nextCursor": next })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichVersion {
    version: Option<u32>,
}

async fn show(
    _: Admin,
    policies: Data<dyn Policies>,
    id: Path<String>,
    which: Query<WhichVersion>,
) -> Result<HttpResponse, Problem> {
    let id: PolicyId = id.parse()?;
    let stored = match which.version {
        Some(version) => policies.document_version(&id, version).await.map_err(unreadable)?,
        None => policies.document(&id).await.map_err(unreadable)?.map(|stored| StoredPolicy::clone(&stored)),
    };
    Ok(answer::ok(&stored.ok_or(ProblemType::UnknownPolicy)?))
}

/// A document that this version of the program cannot read is a fault of the node, and not one of stored content.
fn unreadable(error: penstock_actors::ports::PortError) -> Problem {
    match error {
        penstock_actors::ports::PortError::Corrupt(why) => Problem::new(ProblemType::Internal).caused_by(why),
        error => error.into(),
    }
}

/// A document in the language of policies.
#[derive(Deserialize)]
#[serde(transparent)]
struct Document(Value);

impl Validate for Document {
    /// The language has its own reader, which tells all flaws with their paths.
    fn validate(&self, _: &mut Violations) {}
}

async fn put(
    _: Admin,
    (policies, announcer): (Data<dyn Policies>, Data<Announcer>),
    clock: Data<dyn Clock>,
    id: Path<String>,
    body: JsonBody<Document>,
) -> Result<HttpResponse, Problem> {
    let policy_id: PolicyId = id.parse()?;
    let policy = Policy::read(body.read().await?.0).map_err(flawed)?;
    answer::to_the_end(async move {
        let put = policies.put_document(&policy_id, &policy, clock.now()).await?;
        announcer.publish(Tag::Governance(policy_id.clone())).await;
        let location = format!("/v1/policies/{policy_id}");
        let stored = StoredPolicy { policy_id, version: put.version, created_at: put.created_at, policy };
        Ok(if put.new { answer::created(&location, &stored) } else { answer::ok(&stored) })
    })
    .await
}

fn flawed(flaws: Vec<Flaw>) -> Problem {
    let violations = flaws.into_iter().map(|flaw| Violation { path: flaw.path, detail: flaw.detail.into() });
    violations.collect::<Vec<_>>().into()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Evaluate {
    version_id: VersionId,
}

impl Validate for Evaluate {
    fn validate(&self, _: &mut Violations) {}
}

async fn evaluate(
    _: Admin,
    (governor, catalog): (Data<Governor>, Data<dyn Catalog>),
    id: Path<String>,
    body: JsonBody<Evaluate>,
) -> Result<HttpResponse, Problem> {
    let id: PolicyId = id.parse()?;
    let asset = catalog.asset(body.read().await?.version_id).await?.ok_or(ProblemType::UnknownAsset)?;
    let run = governor.evaluate(&id, Facts::from(&asset)).await.map_err(unreadable)?;
    Ok(answer::ok(&run.ok_or(ProblemType::UnknownPolicy)?))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WhichRuns {
    version_id: String,
    cursor: Option<String>,
    limit: Option<u32>,
}

async fn runs(
    _: Admin,
    policies: Data<dyn Policies>,
    id: Path<String>,
    which: Query<WhichRuns>,
) -> Result<HttpResponse, Problem> {
    let id: PolicyId = id.parse()?;
    let after = which.cursor.as_deref().map(read_run_cursor).transpose()?;
    let (asset, limit) = (which.version_id.parse()?, limit(which.limit)?);
    let page = policies.policy_runs(&id, asset, after, limit).await?;
    if page.items.is_empty() && policies.document(&id).await.is_ok_and(|found| found.is_none()) {
        return Err(ProblemType::UnknownPolicy.into());
    }
    let next = page.items.last().filter(|_| page.more).map(|last| write_run_cursor(last.into()));
    Ok(answer::ok(&json!({ "items": page.items, "nextCursor": next })))
}

fn limit(asked: Option<u32>) -> Result<u32, Problem> {
    let limit = asked.unwrap_or(PAGE);
    if (1..=MAX_PAGE).contains(&limit) {
        return Ok(limit);
    }
    Err(Problem::new(ProblemType::MalformedRequest).detail(format!("limit must be 1 to {MAX_PAGE}")))
}

fn read_list_cursor(text: &str) -> Result<PolicyId, Problem> {
    let id = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    id.and_then(|id| id.parse().ok()).ok_or_else(foreign_cursor)
}

/// A cursor is opaque: base64url of the last run's time and id today, whatever is needed tomorrow.
fn write_run_cursor(last: RunMark) -> String {
    let mut bytes = last.evaluated_at.as_microsecond().to_be_bytes().to_vec();
    bytes.extend_from_slice(last.run_id.as_uuid().as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn read_run_cursor(text: &str) -> Result<RunMark, Problem> {
    let bytes: Option<[u8; 24]> = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    let mark = bytes.and_then(|bytes| {
        let (time, id) = bytes.split_first_chunk::<8>()?;
        let evaluated_at = Timestamp::from_microsecond(i64::from_be_bytes(*time)).ok()?;
        Some(RunMark { evaluated_at, run_id: PolicyRunId::from_uuid(Uuid::from_slice(id).ok()?) })
    });
    mark.ok_or_else(foreign_cursor)
}

fn foreign_cursor() -> Problem {
    Problem::new(ProblemType::MalformedRequest).detail("the cursor is not one that this node gave")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_and_a_made_up_one_is_refused() {
        let evaluated_at = "2027-03-04T05:06:07.000008Z".parse().expect("a time");
        let mark = RunMark { evaluated_at, run_id: PolicyRunId::next() };
        assert_eq!(read_run_cursor(&write_run_cursor(mark)).ok(), Some(mark));
        for bad in ["", "AAAA", "not base64!", &URL_SAFE_NO_PAD.encode([0xff; 23]), &"f".repeat(32)] {
            assert!(read_run_cursor(bad).is_err(), "{bad:?}");
        }
        assert!(read_list_cursor(&URL_SAFE_NO_PAD.encode("open-data")).is_ok());
        assert!(read_list_cursor(&URL_SAFE_NO_PAD.encode("Open Data")).is_err());
    }
}
