//! A search request in FTS5's form: the text of a MATCH over the columns and tags of migration V7.
//!
//! It contains nothing of the typed text but words, each in quotes, and no word contains a quote (a property test of
//! the parser asserts that), so it is never a syntax error. A property test here asks SQLite itself.

use penstock_actors::{
    ports::{Media, SearchFilter},
    search::{Alternative, MatchedField, Term, TextQuery},
};

/// The MATCH text for assets that match in this place and in no better one, or anywhere; `None` when every asset
/// matches (a request without words and tags) or none can (its words cannot occur there).
pub(super) fn match_text(filter: &SearchFilter, found: Option<MatchedField>) -> Option<String> {
    let text = match &filter.text {
        Some(text) => Some(words(text, found)?),
        None => None,
    };
    let tags = tags(filter).map(|tags| format!("tags : ({tags})"));
    match (text, tags) {
        (Some(text), Some(tags)) => Some(format!("({text}) AND {tags}")),
        (text, tags) => text.or(tags),
    }
}

fn words(text: &TextQuery, found: Option<MatchedField>) -> Option<String> {
    match found {
        None => in_columns(text, ANYWHERE),
        Some(MatchedField::Name) => in_columns(text, NAME),
        Some(MatchedField::Description) => but(in_columns(text, NAME_OR_DESCRIPTION), in_columns(text, NAME)),
        Some(MatchedField::PolicyMeta) => but(in_columns(text, ANYWHERE), in_columns(text, NAME_OR_DESCRIPTION)),
    }
}

fn but(all: Option<String>, better: Option<String>) -> Option<String> {
    let all = all?;
    Some(better.map_or_else(|| all.clone(), |better| format!("({all}) NOT ({better})")))
}

const NAME: &str = "{name}";
const NAME_OR_DESCRIPTION: &str = "{name description}";
const ANYWHERE: &str = "{name description policy_meta}";

/// `None` when nothing can match there: a query that only excludes has no matches of its own in any field.
fn in_columns(text: &TextQuery, columns: &str) -> Option<String> {
    let alternatives = text.alternatives().iter().filter_map(|one| alternative(one, columns));
    let alternatives: Vec<_> = alternatives.map(|one| format!("({one})")).collect();
    (!alternatives.is_empty()).then(|| alternatives.join(" OR "))
}

fn alternative(one: &Alternative, columns: &str) -> Option<String> {
    let wanted: Vec<_> = one.wanted.iter().map(term).collect();
    let wanted = match wanted.is_empty() {
        false => format!("{columns} : ({})", wanted.join(" AND ")),
        true if columns == ANYWHERE => "tags : \"¦all\"".to_owned(),
        true => return None,
    };
    if one.unwanted.is_empty() {
        return Some(wanted);
    }
    let unwanted: Vec<_> = one.unwanted.iter().map(term).collect();
    Some(format!("({wanted}) NOT ({ANYWHERE} : ({}))", unwanted.join(" OR ")))
}

fn term(term: &Term) -> String {
    let phrase = format!("\"{}\"", term.words.join(" "));
    if term.prefix { phrase + " *" } else { phrase }
}

fn tags(filter: &SearchFilter) -> Option<String> {
    let producer = filter.producer_id.map(|id| tag('p', id.as_uuid().as_bytes()));
    let dataset = filter.dataset_id.as_ref().map(|id| tag('d', id.as_bytes()));
    let media = filter.media.as_ref().map(|media| match media {
        Media::Type(essence) => tag('m', essence.as_bytes()),
        Media::Family(family) => tag('f', family.as_bytes()),
    });
    let tags: Vec<_> = [producer, dataset, media].into_iter().flatten().collect();
    (!tags.is_empty()).then(|| tags.join(" AND "))
}

fn tag(kind: char, value: &[u8]) -> String {
    let digits: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"¦{kind}{digits}\"")
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(typed: &str) -> SearchFilter {
        SearchFilter { text: TextQuery::parse(typed).ok(), ..SearchFilter::default() }
    }

    #[test]
    fn every_part_of_the_syntax_has_its_form() {
        let video = Some(Media::Family("v".into()));
        for (filter, matched) in [
            (filter("tide tab"), r#"({name} : ("tide" AND "tab" *))"#),
            (filter(r#""a b""#), r#"({name} : ("a b"))"#),
            (filter("the-no"), r#"({name} : ("the no" *))"#),
            (
                filter("x or y -z"),
                r#"({name} : ("x")) OR (({name} : ("y")) NOT ({name description policy_meta} : ("z")))"#,
            ),
            (SearchFilter { media: video.clone(), ..filter("x") }, r#"(({name} : ("x"))) AND tags : ("¦f76")"#),
            (SearchFilter { media: video, ..SearchFilter::default() }, r#"tags : ("¦f76")"#),
        ] {
            assert_eq!(match_text(&filter, Some(MatchedField::Name)).as_deref(), Some(matched));
        }
        assert_eq!(match_text(&filter("-x"), Some(MatchedField::Name)), None);
        assert_eq!(match_text(&SearchFilter::default(), None), None);
    }

    proptest! {
        #[test]
        fn whatever_is_typed_is_never_a_syntax_error(
            typed in "\\PC{0,120}|[a-c\"\\- \\x00or&|!()*:<>^'{}+]{0,120}",
            dataset in proptest::option::of("\\PC{0,20}"),
        ) {
            properties::check(&SearchFilter { dataset_id: dataset, ..filter(&typed) });
        }
    }
}
