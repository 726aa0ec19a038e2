//! A query in PostgreSQL's form: the text of a `tsquery` over the lexemes of migration V10.
//!
//! Words contain no character that needs an escape (a property test of the parser asserts that), and each is quoted. A
//! prefix is left open, as `{^}`, `{}` or `{=}`: the function that runs the query fills in the words that begin with
//! it.

use penstock_actors::search::{Alternative, Term, TextQuery};

/// Where all wanted words of an alternative must occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SearchScope {
    Name,
    NameOrDescription,
    Anywhere,
}

/// `None` when nothing can match there: a query that only excludes has no matches of its own in any field.
pub(super) fn tsquery(query: &TextQuery, place: SearchScope) -> Option<String> {
    let alternatives: Vec<_> = query.alternatives().iter().filter_map(|one| alternative(one, place)).collect();
    (!alternatives.is_empty()).then(|| alternatives.join(" | "))
}

fn alternative(one: &Alternative, place: SearchScope) -> Option<String> {
    let mut parts: Vec<_> = one.wanted.iter().map(|wanted| term(wanted, place)).collect();
    if parts.is_empty() {
        if place != SearchScope::Anywhere {
            return None;
        }
        parts.push("'*'".to_owned());
    }
    parts.extend(one.unwanted.iter().map(|unwanted| format!("!{}", term(unwanted, SearchScope::Anywhere))));
    Some(format!("({})", parts.join(" & ")))
}

fn term(term: &Term, place: SearchScope) -> String {
    match place {
        SearchScope::Name => format!("({})", phrase(term, "^")),
        SearchScope::NameOrDescription => format!("({})", phrase(term, "")),
        SearchScope::Anywhere => format!("({} | {})", phrase(term, ""), phrase(term, "=")),
    }
}

fn phrase(term: &Term, mark: &str) -> String {
    let last = term.words.len() - 1;
    let words = term.words.iter().enumerate().map(|(place, word)| {
        if term.prefix && place == last { format!("({{{mark}}})") } else { format!("'{mark}{word}'") }
    });
    words.collect::<Vec<_>>().join(" <-> ")
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typed: &str, place: SearchScope) -> Option<String> {
        tsquery(&TextQuery::parse(typed).expect("a query"), place)
    }

    #[test]
    fn every_part_of_the_syntax_has_its_form() {
        for (typed, name, anywhere) in [
            ("tide tab", "(('^tide') & (({^})))", "(('tide' | '=tide') & (({}) | ({=})))"),
            ("\"a b\"", "(('^a' <-> '^b'))", "(('a' <-> 'b' | '=a' <-> '=b'))"),
            ("the-no", "(('^the' <-> ({^})))", "(('the' <-> ({}) | '=the' <-> ({=})))"),
            ("x or y -z", "(('^x')) | (('^y') & !('z' | '=z'))", "(('x' | '=x')) | (('y' | '=y') & !('z' | '=z'))"),
        ] {
            assert_eq!(read(typed, SearchScope::Name).as_deref(), Some(name));
            assert_eq!(read(typed, SearchScope::Anywhere).as_deref(), Some(anywhere));
        }
    }

    #[test]
    fn what_only_excludes_is_looked_for_everywhere() {
        assert_eq!(read("-x", SearchScope::Name), None);
        assert_eq!(read("-x", SearchScope::NameOrDescription), None);
        assert_eq!(read("-x", SearchScope::Anywhere).as_deref(), Some("('*' & !('x' | '=x'))"));
        assert_eq!(read("-x or y", SearchScope::NameOrDescription).as_deref(), Some("(('y'))"));
    }
}
