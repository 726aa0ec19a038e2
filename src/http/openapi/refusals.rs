//! The refusals of a call: those that its handler names, and those that the nature of the call brings with it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::http::{
    ProblemType,
    problem::{MEDIA_TYPE, Retry},
    routes::{Caller, RouteEntry},
};

/// The member in which the annotation of a handler names problem types.
const NAMED: &str = "x-problems";

/// The problem types of a call. The member that names those of the handler is taken out.
pub(super) fn of(call: &mut Value, route: &RouteEntry, is_limited: bool) -> Vec<ProblemType> {
    let named = call.as_object_mut().and_then(|call| call.remove(NAMED)).unwrap_or_default();
    let named: Vec<&str> = named.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let (reads, takes_json) = (
        !call["parameters"].is_null() || !call["requestBody"].is_null(),
        !call["requestBody"]["content"]["application/json"].is_null(),
    );
    let all = ProblemType::ALL.iter().copied();
    all.filter(|kind| {
        named.contains(&kind.name())
            || match kind {
                ProblemType::HeadersTooLarge
                | ProblemType::Internal
                | ProblemType::Overloaded
                | ProblemType::DependencyUnavailable => true,
                ProblemType::MalformedRequest => reads,
                ProblemType::RateLimited => is_limited,
                ProblemType::Unauthorized => !matches!(route.caller, Caller::Anyone | Caller::Holder),
                ProblemType::SignatureRefused => {
                    !matches!(route.caller, Caller::Anyone | Caller::Holder | Caller::Local)
                }
                // A session without its CSRF token, or a page of another origin that uses one, is refused too.
                ProblemType::Forbidden | ProblemType::OriginNotAllowed => {
                    !matches!(route.caller, Caller::Anyone | Caller::Holder)
                }
                ProblemType::ValidationFailed
                | ProblemType::UnsupportedMediaType
                | ProblemType::UploadTooLarge
                | ProblemType::RequestTimeout
                | ProblemType::UploadIncomplete => takes_json,
                _ => false,
            }
    })
    .collect()
}

/// Adds one response for each status.
pub(super) fn add(responses: &mut Map<String, Value>, problems: &[ProblemType]) {
    let mut by_status = BTreeMap::<u16, Vec<ProblemType>>::new();
    for kind in problems {
        by_status.entry(kind.status().as_u16()).or_default().push(*kind);
    }
    for (status, kinds) in by_status {
        let response = responses.entry(status.to_string()).or_insert_with(|| json!({ "description": "" }));
        let listed: Vec<_> = kinds.iter().map(|kind| format!("`{}`: {}", kind.name(), kind.title())).collect();
        let before = response["description"].as_str().unwrap_or_default();
        let lines = [before.to_owned(), listed.join("\n\n")];
        response["description"] =
            lines.iter().filter(|line| !line.is_empty()).cloned().collect::<Vec<_>>().join("\n\n").into();
        let urns: Vec<_> = kinds.iter().map(|kind| kind.urn()).collect();
        response["content"][MEDIA_TYPE] = json!({
            "schema": {
                "allOf": [
                    { "$ref": "#/components/schemas/Problem" },
                    { "properties": { "type": { "enum": urns }, "status": { "const": status } } },
                ],
            },
            "examples": kinds.iter().map(|kind| (kind.name().to_owned(), json!({ "value": example(*kind) }))).collect::<Map<_, _>>(),
        });
        if kinds.iter().any(|kind| kind.retry() != Retry::Never) {
            response["headers"]["Retry-After"] = json!({ "$ref": "#/components/headers/RetryAfter" });
        }
        match status {
            401 => response["headers"]["WWW-Authenticate"] = json!({ "$ref": "#/components/headers/Authenticate" }),
            416 => {
                let size = json!({ "description": "`bytes */SIZE`", "schema": { "type": "string" } });
                response["headers"]["Content-Range"] = size;
            }
            _ => {}
        }
    }
}

/// A document as the node gives it, without what depends on the request.
fn example(kind: ProblemType) -> Value {
    let mut document = json!({ "type": kind.urn(), "title": kind.title(), "status": kind.status().as_u16() });
    if let Retry::After(seconds) = kind.retry() {
        document["retryAfter"] = seconds.into();
    }
    document
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn handlers_name_problem_types_that_exist() {
        let known: BTreeSet<_> = ProblemType::ALL.iter().map(|kind| kind.name()).collect();
        let document = json!(crate::http::openapi::generated());
        for call in document["paths"]
            .as_object()
            .into_iter()
            .flatten()
            .flat_map(|(_, calls)| calls.as_object().expect("calls").values())
        {
            for name in call[NAMED].as_array().into_iter().flatten().filter_map(Value::as_str) {
                assert!(known.contains(name), "{name}");
            }
        }
    }
}
