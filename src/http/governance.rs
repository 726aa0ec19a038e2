//! Governance: policies as versioned documents, the evaluation of an asset by a policy, and the results. The node's own
//! policy is evaluated in [`gate`].

use std::sync::Arc;

use actix_web::{
    HttpResponse,
    web::{self, Data, Path, Query, ServiceConfig},
};
use penstock_actors::{
    clock::Clock,
    governance::{Facts, Flaw, GovernancePolicy},
    ids::{GovernancePolicyId, PolicyRunId, VersionId},
    policy_evaluator::PolicyEvaluator,
    ports::{Assets, GovernancePolicies, PortError, RunMark, StoredGovernancePolicy, Tag},
};
use serde::Deserialize;
use serde_json::json;

use self::document::Document;

use super::{
    ChangePublisher, JsonBody, Problem, ProblemType, answer,
    auth::Admin,
    paging,
    problem::Violation,
    routing,
    validation::{Validate, Violations},
};
use crate::http::schemas::{answers, scalars};

pub(crate) mod document;
pub(super) mod gate;

/// Items per page by default.
const PAGE: u32 = 20;

/// The largest page. A run takes about 1 KiB; one with every reason and all possible evidence 300 KiB.
const MAX_PAGE: u32 = 100;

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub policies: Arc<dyn GovernancePolicies>,
    pub assets: Arc<dyn Assets>,
    pub publisher: Arc<ChangePublisher>,
    pub evaluator: Arc<PolicyEvaluator>,
    pub clock: Arc<dyn Clock>,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list, show, put, evaluate, runs))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps))
        .service(routing::resource("/v1/policies").route(routing::read().to(list)))
        .service(routing::resource("/v1/policies/{policyId}").route(routing::read().to(show)).route(web::put().to(put)))
        .service(routing::resource("/v1/policies/{policyId}/evaluate").route(web::post().to(evaluate)))
        .service(routing::resource("/v1/policies/{policyId}/runs").route(routing::read().to(runs)));
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PolicyListQuery {
    /// The `nextCursor` of the page before
    #[param(value_type = Option<scalars::Cursor>)]
    cursor: Option<String>,
    /// Items per page
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

#[utoipa::path(
    get,
    path = "/v1/policies",
    operation_id = "listPolicies",
    tag = "Governance",
    summary = "List governance policies",
    description = "",
    params(PolicyListQuery),
    responses(
        (status = 200, description = "The policies", body = answers::PolicyPage),
    ),
)]
async fn list(_: Admin, deps: Data<Deps>, which: Query<PolicyListQuery>) -> Result<HttpResponse, Problem> {
    let after = which.cursor.as_deref().map(read_list_cursor).transpose()?;
    let page = deps.policies.documents(after.as_ref(), paging::limit(which.limit, PAGE, MAX_PAGE)?).await?;
    let next = page.items.last().filter(|_| page.more).map(|last| paging::cursor(last.policy_id.as_str()));
    Ok(answer::ok(&json!({ "items": page.items, "nextCursor": next })))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct VersionQuery {
    /// By default the current one
    #[param(minimum = 1)]
    version: Option<u32>,
}

#[utoipa::path(
    get,
    path = "/v1/policies/{policyId}",
    operation_id = "showPolicy",
    tag = "Governance",
    summary = "Show a governance policy",
    description = "",
    params(("policyId" = scalars::PlainName, Path, description = "The policy"), VersionQuery),
    responses(
        (status = 200, description = "The policy", body = answers::StoredPolicy),
    ),
    extensions(("x-problems" = json!(["unknown-policy"]))),
)]
async fn show(
    _: Admin,
    deps: Data<Deps>,
    id: Path<String>,
    which: Query<VersionQuery>,
) -> Result<HttpResponse, Problem> {
    let id: GovernancePolicyId = id.parse()?;
    let stored = match which.version {
        Some(version) => deps.policies.document_version(&id, version).await.map_err(unreadable)?,
        None => {
            deps.policies.document(&id).await.map_err(unreadable)?.map(|stored| StoredGovernancePolicy::clone(&stored))
        }
    };
    Ok(answer::ok(&stored.ok_or(ProblemType::UnknownPolicy)?))
}

/// A document that this version of the program cannot read is a fault of the node, not of stored content.
fn unreadable(error: PortError) -> Problem {
    match error {
        PortError::Corrupt(why) => Problem::new(ProblemType::Internal).caused_by(why),
        error => error.into(),
    }
}

#[utoipa::path(
    put,
    path = "/v1/policies/{policyId}",
    operation_id = "putPolicy",
    tag = "Governance",
    summary = "Create or replace a governance policy",
    description = "docs/policies.md describes the language.",
    params(("policyId" = scalars::PlainName, Path, description = "The policy")),
    request_body(content = crate::http::schemas::PolicyDocument, content_type = "application/json"),
    responses(
        (status = 200, description = "The version that is in force", body = answers::StoredPolicy),
        (status = 201, description = "The policy is new", body = answers::StoredPolicy, headers(("Location" = String, description = "The address of the new resource"))),
    ),
)]
async fn put(_: Admin, deps: Data<Deps>, id: Path<String>, body: JsonBody<Document>) -> Result<HttpResponse, Problem> {
    let policy_id: GovernancePolicyId = id.parse()?;
    let policy = GovernancePolicy::read(body.read().await?.0).map_err(flawed)?;
    answer::to_the_end(async move {
        let put = deps.policies.put_document(&policy_id, &policy, deps.clock.now()).await?;
        deps.publisher.publish(Tag::Governance(policy_id.clone())).await;
        let location = format!("/v1/policies/{policy_id}");
        let stored = StoredGovernancePolicy { policy_id, version: put.version, created_at: put.created_at, policy };
        Ok(if put.new { answer::created(&location, &stored) } else { answer::ok(&stored) })
    })
    .await
}

fn flawed(flaws: Vec<Flaw>) -> Problem {
    let violations = flaws.into_iter().map(|flaw| Violation { path: flaw.path, detail: flaw.detail.into() });
    violations.collect::<Vec<_>>().into()
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Evaluate {
    #[schema(value_type = scalars::Id)]
    version_id: VersionId,
}

impl Validate for Evaluate {
    fn validate(&self, _: &mut Violations) {}
}

#[utoipa::path(
    post,
    path = "/v1/policies/{policyId}/evaluate",
    operation_id = "evaluatePolicy",
    tag = "Governance",
    summary = "Evaluate an asset by a policy",
    description = "",
    params(("policyId" = scalars::PlainName, Path, description = "The policy")),
    request_body = Evaluate,
    responses(
        (status = 200, description = "The judgement", body = answers::PolicyRun),
    ),
    extensions(("x-problems" = json!(["unknown-policy", "unknown-asset"]))),
)]
async fn evaluate(
    _: Admin,
    deps: Data<Deps>,
    id: Path<String>,
    body: JsonBody<Evaluate>,
) -> Result<HttpResponse, Problem> {
    let id: GovernancePolicyId = id.parse()?;
    let asset = deps.assets.asset(body.read().await?.version_id).await?.ok_or(ProblemType::UnknownAsset)?;
    let run = deps.evaluator.evaluate(&id, Facts::from(&asset)).await.map_err(unreadable)?;
    Ok(answer::ok(&run.ok_or(ProblemType::UnknownPolicy)?))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RunsQuery {
    /// The asset
    #[param(value_type = scalars::Id)]
    version_id: String,
    /// The `nextCursor` of the page before
    #[param(value_type = Option<scalars::Cursor>)]
    cursor: Option<String>,
    /// Items per page
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

#[utoipa::path(
    get,
    path = "/v1/policies/{policyId}/runs",
    operation_id = "listPolicyRuns",
    tag = "Governance",
    summary = "List the runs of a policy for an asset",
    description = "",
    params(("policyId" = scalars::PlainName, Path, description = "The policy"), RunsQuery),
    responses(
        (status = 200, description = "The runs", body = answers::PolicyRunPage),
    ),
    extensions(("x-problems" = json!(["unknown-policy"]))),
)]
async fn runs(_: Admin, deps: Data<Deps>, id: Path<String>, which: Query<RunsQuery>) -> Result<HttpResponse, Problem> {
    let id: GovernancePolicyId = id.parse()?;
    let after = which.cursor.as_deref().map(read_run_cursor).transpose()?;
    let (asset, limit) = (which.version_id.parse()?, paging::limit(which.limit, PAGE, MAX_PAGE)?);
    let page = deps.policies.policy_runs(&id, asset, after, limit).await?;
    if page.items.is_empty() && deps.policies.document(&id).await.is_ok_and(|found| found.is_none()) {
        return Err(ProblemType::UnknownPolicy.into());
    }
    let next = page.items.last().filter(|_| page.more).map(|last| write_run_cursor(last.into()));
    Ok(answer::ok(&json!({ "items": page.items, "nextCursor": next })))
}

fn read_list_cursor(text: &str) -> Result<GovernancePolicyId, Problem> {
    paging::place(text, |id| String::from_utf8(id).ok()?.parse().ok())
}

fn write_run_cursor(last: RunMark) -> String {
    paging::cursor_in_time(last.evaluated_at, last.run_id.as_uuid())
}

fn read_run_cursor(text: &str) -> Result<RunMark, Problem> {
    let (evaluated_at, id) = paging::place_in_time(text)?;
    Ok(RunMark { evaluated_at, run_id: PolicyRunId::from_uuid(id) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_and_a_made_up_one_is_refused() {
        let evaluated_at = "2027-03-04T05:06:07.000008Z".parse().expect("a time");
        let mark = RunMark { evaluated_at, run_id: PolicyRunId::next() };
        assert_eq!(read_run_cursor(&write_run_cursor(mark)).ok(), Some(mark));
        for bad in ["", "AAAA", "not base64!", &paging::cursor([0xff; 23]), &"f".repeat(32)] {
            assert!(read_run_cursor(bad).is_err(), "{bad:?}");
        }
        assert!(read_list_cursor(&paging::cursor("open-data")).is_ok());
        assert!(read_list_cursor(&paging::cursor("Open Data")).is_err());
    }
}
