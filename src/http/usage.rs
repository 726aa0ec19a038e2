//! Usage rows of a receipt, page by page.

use std::sync::Arc;

use actix_web::{
    HttpResponse,
    web::{Data, Query, ServiceConfig},
};
use penstock_actors::{
    ids::UsageId,
    ports::{Assets, Receipts},
};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{Problem, ReceiptReader, answer, auth::Producer, paging, receipts::must_own, routing};
use crate::http::schemas::{answers, scalars};

/// Rows per page by default: about 25 KiB of JSON.
const PAGE: u32 = 100;

/// The largest page: about 250 KiB of JSON, and a read of as many index entries.
const MAX_PAGE: u32 = 1000;

/// The dependencies of the routes of this module.
#[derive(Clone)]
pub struct Deps {
    pub assets: Arc<dyn Assets>,
    pub receipts: Arc<dyn Receipts>,
    pub reader: Arc<ReceiptReader>,
}

/// What the document says of these calls.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list))]
pub(super) struct Calls;

pub fn configure(cfg: &mut ServiceConfig, deps: Deps) {
    cfg.app_data(Data::new(deps)).service(routing::resource("/v1/streaming/usage").route(routing::read().to(list)));
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct UsageQuery {
    /// The receipt
    #[param(value_type = scalars::ReceiptName)]
    receipt_id: String,
    /// The `nextCursor` of the page before
    #[param(value_type = Option<scalars::Cursor>)]
    cursor: Option<String>,
    /// Items per page
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

#[utoipa::path(
    get,
    path = "/v1/streaming/usage",
    operation_id = "listUsage",
    tag = "Receipts",
    summary = "List the usage of a receipt",
    description = "",
    params(UsageQuery),
    responses(
        (status = 200, description = "The usage", body = answers::UsagePage),
    ),
    extensions(("x-problems" = json!(["unknown-receipt"]))),
)]
async fn list(producer: Producer, deps: Data<Deps>, which: Query<UsageQuery>) -> Result<HttpResponse, Problem> {
    let id = deps.reader.open_for_key_holder(&which.receipt_id)?;
    let after = which.cursor.as_deref().map(read_cursor).transpose()?;
    let limit = paging::limit(which.limit, PAGE, MAX_PAGE)?;
    must_own(&producer, &*deps.assets, &*deps.receipts, id).await?;
    let mut page = deps.receipts.usage(id, after, limit).await?;
    // For the operator, who answers for the node; a producer has no need to tell viewers apart.
    if producer.scope().is_some() {
        page.items.iter_mut().for_each(|row| row.client = None);
    }
    let next = page.items.last().filter(|_| page.more).map(|row| write_cursor(row.usage_id));
    Ok(answer::ok(&json!({ "items": page.items, "nextCursor": next })))
}

/// The cursor holds the last row's id.
pub(super) fn write_cursor(last: UsageId) -> String {
    paging::cursor(last.as_uuid().as_bytes())
}

pub(super) fn read_cursor(text: &str) -> Result<UsageId, Problem> {
    paging::place(text, |id| Uuid::from_slice(&id).ok().map(UsageId::from_uuid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_and_a_made_up_one_is_refused() {
        let id = UsageId::next();
        assert_eq!(read_cursor(&write_cursor(id)).ok(), Some(id));
        assert!(read_cursor("AAAA").is_err());
        assert!(read_cursor("not base64!").is_err());
    }
}
