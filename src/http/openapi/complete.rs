//! What holds for all calls alike, added to what the handlers say.

use serde_json::{Map, Value, json};

use super::{parts, refusals};
use crate::{
    http::{
        dashboard, docs,
        routes::{ROUTES, RouteEntry},
    },
    route_class::RouteClass,
};

/// The methods that may have a description.
const METHODS: [&str; 6] = ["get", "post", "put", "patch", "delete", "options"];

/// Calls whose HEAD clients need in its own right. It works wherever GET does.
const WITH_HEAD: [&str; 3] = ["/v1/streaming/data/{contentHash}", "/v1/data", "/v1/uploads/{uploadId}"];

/// The document of these calls, complete.
pub(super) fn completed(generated: &utoipa::openapi::OpenApi) -> Value {
    let mut document = json!(generated);
    document["openapi"] = "3.1.0".into();
    document["servers"] = json!([{ "url": "/" }]);
    document["components"]["securitySchemes"] = parts::security_schemes();
    document["components"]["headers"] = parts::headers();
    if let Some(paths) = document["paths"].as_object_mut() {
        for (path, media_type, _) in dashboard::FILES.iter().chain(docs::FILES) {
            paths.insert((*path).to_owned(), json!({ "get": page_file(path, media_type) }));
        }
        for (path, calls) in paths.iter_mut() {
            for method in METHODS {
                let route = ROUTES.iter().find(|route| route.path == path && route.method.eq_ignore_ascii_case(method));
                if let (Some(call), Some(route)) = (calls.get_mut(method), route) {
                    complete(call, route);
                }
            }
            if WITH_HEAD.contains(&path.as_str()) {
                calls["head"] = head_of(&calls["get"]);
            }
        }
    }
    document
}

/// A file of a page.
fn page_file(path: &str, media_type: &str) -> Value {
    let essence = media_type.split(';').next().unwrap_or_default();
    json!({
        "tags": ["Operators"],
        "operationId": format!("get{}", path.replace(['/', '.', '-'], "_")),
        "summary": format!("A file of a page: {path}"),
        "responses": { "200": { "description": "The file", "content": { essence: { "schema": { "type": "string" } } } } },
    })
}

fn complete(call: &mut Value, route: &RouteEntry) {
    // An operation without a text of its own has an empty one.
    let said = call["description"].as_str().unwrap_or_default();
    let who = parts::who(route.caller);
    call["description"] = if said.is_empty() { who.into() } else { format!("{said}\n\n{who}").into() };
    if let Some(security) = parts::security(route.caller) {
        call["security"] = security;
    }
    for parameter in call.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        never_null(&mut parameter["schema"]);
    }
    if let Some(body) = call.get_mut("requestBody") {
        bytes_without_form(&mut body["content"]);
    }
    let is_limited = RouteClass::of(route.path) != RouteClass::Operations;
    let problems = refusals::of(call, route, is_limited);
    if let Some(members) = call.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    let Some(responses) = call["responses"].as_object_mut() else { return };
    refusals::add(responses, &problems);
    for response in responses.values_mut() {
        if let Some(content) = response.get_mut("content") {
            bytes_without_form(content);
        }
        fields_of_each_answer(response, is_limited);
    }
}

/// HEAD answers as GET does, without a body.
fn head_of(get: &Value) -> Value {
    let mut head = get.clone();
    head["operationId"] = format!("{}Head", get["operationId"].as_str().unwrap_or_default()).into();
    head["summary"] = format!("{} (the head alone)", get["summary"].as_str().unwrap_or_default()).into();
    for response in head["responses"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Some(response) = response.as_object_mut() {
            response.remove("content");
        }
    }
    head
}

/// A parameter or a field that may be left out is never `null`.
fn never_null(schema: &mut Value) {
    if let Some(types) = schema["type"].as_array_mut() {
        types.retain(|word| word != "null");
        if let [one] = types.as_slice() {
            schema["type"] = one.clone();
        }
    }
    if let Some(choices) = schema["oneOf"].as_array_mut() {
        choices.retain(|choice| choice["type"] != "null");
        if let [one] = choices.as_slice() {
            *schema = one.clone();
            return;
        }
    }
    let schema = schema.as_object_mut();
    schema.into_iter().for_each(|schema| schema.retain(|_, value| !value.is_null()));
}

/// Bytes have a media type and no form (OpenAPI 3.1, "Considerations for File Uploads").
fn bytes_without_form(content: &mut Value) {
    for (media_type, media) in content.as_object_mut().into_iter().flatten() {
        if media_type == "*/*" || media_type == "application/offset+octet-stream" {
            *media = json!({});
        }
    }
}

fn fields_of_each_answer(response: &mut Value, is_limited: bool) {
    if response["headers"].is_null() {
        response["headers"] = json!({});
    }
    let Some(fields) = response["headers"].as_object_mut() else { return };
    for field in fields.values_mut().filter(|field| !field["schema"].is_null()) {
        let text = field["schema"].to_string();
        field["required"] = (!text.contains("\"null\"")).into();
        never_null(&mut field["schema"]);
    }
    fields.insert("X-Request-Id".to_owned(), json!({ "$ref": "#/components/headers/RequestId" }));
    fields.insert("X-Content-Type-Options".to_owned(), json!({ "$ref": "#/components/headers/NoSniff" }));
    if is_limited {
        for field in ["RateLimit", "RateLimit-Policy"] {
            fields.insert(field.to_owned(), json!({ "$ref": format!("#/components/headers/{field}") }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::{openapi::document, routes::Caller};

    #[test]
    fn the_document_has_the_calls_of_the_table_of_routes_and_no_others() {
        let described: BTreeSet<(String, String)> = document()["paths"]
            .as_object()
            .expect("paths")
            .iter()
            .flat_map(|(path, calls)| {
                let methods = calls.as_object().expect("calls").keys();
                methods.map(|method| (method.to_ascii_uppercase(), path.clone())).collect::<Vec<_>>()
            })
            .filter(|(method, _)| method != "HEAD")
            .collect();
        let routes: BTreeSet<_> = ROUTES.iter().map(|route| (route.method.to_owned(), route.path.to_owned())).collect();
        assert_eq!(described, routes);
    }

    #[test]
    fn each_call_has_a_name_of_its_own_and_says_who_may_call_it() {
        let mut names = BTreeSet::new();
        for call in document()["paths"]
            .as_object()
            .expect("paths")
            .values()
            .flat_map(|calls| calls.as_object().expect("calls").values())
        {
            let name = call["operationId"].as_str().expect("a name");
            assert!(names.insert(name), "{name} occurs twice");
            assert!(call["description"].as_str().is_some_and(|text| text.contains("Caller: ")), "{name}");
            assert!(call["summary"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        }
        let is_open = |caller| parts::security(caller).is_none();
        assert!(is_open(Caller::Anyone) && is_open(Caller::Holder) && !is_open(Caller::Owner));
    }

    #[test]
    fn what_the_document_refers_to_is_in_it() {
        fn check(part: &Value) {
            match part {
                Value::Object(members) => {
                    if let Some(at) = members.get("$ref").and_then(Value::as_str) {
                        let pointer = at.strip_prefix('#').expect("a part of the document");
                        assert!(document().pointer(pointer).is_some(), "{at}");
                    }
                    members.values().for_each(check);
                }
                Value::Array(items) => items.iter().for_each(check),
                _ => {}
            }
        }
        check(document());
    }
}
