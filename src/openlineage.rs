//! OpenLineage events as they arrive: validated against the published schema, then parsed.
//!
//! The schema (2-0-2, bundled in `schemas/`) defines what an event must contain. It is open: unknown facets are kept
//! unchanged, and nothing is ever fetched to look them up. [`event`], which parses events, defines what a node
//! accepts beyond the schema (names, times, numbers).

use anyhow::anyhow;
use jiff::Timestamp;
use jsonschema::{
    JsonType, Validator,
    error::{TypeKind, ValidationError, ValidationErrorKind},
};
use penstock_actors::{
    lineage::event::{self, EventBounds, EventViolation, FAULTS},
    model::{EventKind, LineageEvent, json_path::push_member},
};
use serde_json::{Value, json};

use crate::words;

/// The schema that OpenLineage publishes.
const SCHEMA: &str = include_str!("../schemas/openlineage/2-0-2/OpenLineage.json");

/// Reads events. Created once, shared by all workers.
pub struct EventReader {
    run: Validator,
    job: Validator,
    dataset: Validator,
    bounds: EventBounds,
}

impl EventReader {
    /// # Errors
    /// When the bundled schema is invalid.
    pub fn new(bounds: EventBounds) -> anyhow::Result<Self> {
        let validator = |definition: &str| {
            let mut schema: Value = serde_json::from_str(SCHEMA)?;
            // The schema is one of three definitions. The right one is known beforehand, so that faults are reported
            // for that definition and not for all of them.
            let members = schema.as_object_mut().ok_or_else(|| anyhow!("the schema is not an object"))?;
            members.remove("oneOf");
            members.insert("$ref".into(), json!(format!("#/$defs/{definition}")));
            let options = jsonschema::options().should_validate_formats(true).offline();
            options.build(&schema).map_err(|error| anyhow!("the OpenLineage schema cannot be used: {error}"))
        };
        let (run, job, dataset) = (validator("RunEvent")?, validator("JobEvent")?, validator("DatasetEvent")?);
        Ok(Self { run, job, dataset, bounds })
    }

    pub const fn bounds(&self) -> &EventBounds {
        &self.bounds
    }

    /// Reads the text of one event.
    ///
    /// # Errors
    /// The faults, by path.
    pub fn read(&self, text: &str, now: Timestamp) -> Result<LineageEvent, Vec<EventViolation>> {
        let value: Value = serde_json::from_str(text).map_err(|error| {
            let limit = words::of_limit(&error).map(str::to_owned);
            vec![EventViolation::new("", limit.unwrap_or_else(|| words::of_json(&error)))]
        })?;
        let kind = kind_of(&value);
        let validator = match kind {
            EventKind::Run => &self.run,
            EventKind::Job => &self.job,
            EventKind::Dataset => &self.dataset,
        };
        let mut faults = Vec::new();
        for error in validator.iter_errors(&value) {
            tell(&error, &mut faults);
        }
        if faults.is_empty() {
            return event::read(kind, &value, text.to_owned(), &self.bounds, now);
        }
        Err(faults)
    }
}

/// The kind of an event: by the definition that its `schemaURL` names, or else by its members, because clients of old
/// versions name no definition.
fn kind_of(value: &Value) -> EventKind {
    let named = value["schemaURL"].as_str().and_then(|url| url.rsplit_once('/')).map(|(_, definition)| definition);
    match named {
        Some("RunEvent") => EventKind::Run,
        Some("JobEvent") => EventKind::Job,
        Some("DatasetEvent") => EventKind::Dataset,
        _ if value.get("run").is_some() => EventKind::Run,
        _ if value.get("dataset").is_some() => EventKind::Dataset,
        _ if value.get("job").is_some() => EventKind::Job,
        _ => EventKind::Run,
    }
}

/// Reports an error; for an alternative, why it did not match. Values are not repeated, because they may be long.
fn tell(error: &ValidationError<'_>, faults: &mut Vec<EventViolation>) {
    if faults.len() >= FAULTS {
        return;
    }
    let mut path = path_of(error);
    let detail = match error.kind() {
        // The schema's alternatives have one member each.
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            return context.iter().flatten().for_each(|error| tell(error, faults));
        }
        ValidationErrorKind::Required { property } => {
            push_member(&mut path, property.as_str().unwrap_or_default());
            "is missing".to_owned()
        }
        ValidationErrorKind::Format { format } => format!("must be a {format}"),
        ValidationErrorKind::Enum { options } => format!("must be one of {options}"),
        ValidationErrorKind::Not { .. } => "has members of an event of another kind".to_owned(),
        ValidationErrorKind::Type { kind: TypeKind::Single(wanted) } => format!("must be {}", kind_in_words(*wanted)),
        _ => "is not as the published schema has it".to_owned(),
    };
    let fault = EventViolation::new(path, detail);
    // One member may break one rule in several branches of the schema.
    if !faults.contains(&fault) {
        faults.push(fault);
    }
}

fn kind_in_words(kind: JsonType) -> &'static str {
    match kind {
        JsonType::Array => "a list",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number",
        JsonType::Null => "null",
        JsonType::Number => "a number",
        JsonType::Object => "an object",
        JsonType::String => "a text",
    }
}

fn path_of(error: &ValidationError<'_>) -> String {
    let mut path = String::new();
    for segment in error.instance_path() {
        match segment {
            jsonschema::paths::LocationSegment::Property(member) => push_member(&mut path, &member),
            jsonschema::paths::LocationSegment::Index(number) => path.push_str(&format!("[{number}]")),
        }
    }
    path
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;

#[cfg(test)]
mod tests;
