//! The names of jobs and datasets in URLs. Namespaces and names may contain anything, `/`, `:` and `%` included.
//!
//! In a path, each of the two is one segment, percent-encoded once. In a query, a node is `KIND:NAMESPACE:NAME`, where
//! `%` and `:` in the two are percent-encoded ([`NodeName`] writes it so), and the whole is then encoded like any value
//! of a query.
//!
//! People also write `dataset:postgres://db:5432:public.users`. Such a text has more than one colon and may mean
//! several nodes; it is resolved to the one of them that exists, and refused only if several exist. A node that is
//! written exactly so takes precedence: the node always understands the names that it writes.

use penstock_actors::{
    ids::RunId,
    model::{NodeKind, NodeName},
    ports::LineageStore,
};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::super::{Problem, ProblemType};

/// Colons of an ambiguous text: each needs one look-up.
const COLONS: usize = 16;

/// The characters that are encoded in a segment of a path: those with a meaning there, and `%`.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

pub(super) fn path_of_run(run: RunId) -> String {
    format!("/v1/openlineage/runs/{run}")
}

pub(super) fn path_of_node(node: &NodeName) -> String {
    let (namespace, name) = (utf8_percent_encode(&node.namespace, SEGMENT), utf8_percent_encode(&node.name, SEGMENT));
    match node.kind {
        NodeKind::Job => format!("/v1/openlineage/jobs/{namespace}/{name}"),
        NodeKind::Dataset => format!("/v1/openlineage/nodes/dataset/{namespace}/{name}"),
    }
}

/// The node that a text names.
///
/// # Errors
/// `malformed-request` when the text names no node, or several that exist; `unknown-lineage` when none exists.
pub(super) async fn resolve(text: &str, store: &dyn LineageStore) -> Result<NodeName, Problem> {
    let mut candidates = candidates(text)?;
    if candidates.len() > 1 {
        let keys: Vec<_> = candidates.iter().map(NodeName::key).collect();
        let mut known = store.nodes(&keys).await?;
        if let Some(place) = known.iter().position(|node| node.name.to_string() == text) {
            return Ok(known.swap_remove(place).name);
        }
        if known.len() > 1 {
            let names: Vec<String> = known.iter().map(|node| node.name.to_string()).collect();
            return Err(Problem::malformed(format!("node may mean {}", names.join(" or "))));
        }
        candidates = known.into_iter().map(|node| node.name).collect();
    }
    candidates.pop().ok_or_else(unknown)
}

pub(super) fn unknown() -> Problem {
    ProblemType::UnknownLineage.into()
}

/// All nodes that a text may mean.
fn candidates(text: &str) -> Result<Vec<NodeName>, Problem> {
    let form = || Problem::malformed("node is of the form dataset:NAMESPACE:NAME or job:NAMESPACE:NAME");
    let (kind, rest) = text.split_once(':').ok_or_else(form)?;
    let kind = NodeKind::parse(kind).ok_or_else(form)?;
    let colons: Vec<usize> = rest.match_indices(':').map(|(place, _)| place).collect();
    if colons.len() > COLONS {
        return Err(Problem::malformed(
            "node has too many colons: encode those of the namespace and of the name as %3A",
        ));
    }
    let mut nodes: Vec<NodeName> = Vec::new();
    for place in colons {
        let (namespace, name) = (&rest[..place], &rest[place + 1..]);
        let decoded = decoded(namespace).zip(decoded(name));
        let plain = (namespace.to_owned(), name.to_owned());
        for (namespace, name) in decoded.into_iter().chain([plain]) {
            let node = NodeName { kind, namespace, name };
            if !node.namespace.is_empty() && !node.name.is_empty() && !nodes.contains(&node) {
                nodes.push(node);
            }
        }
    }
    if nodes.is_empty() { Err(form()) } else { Ok(nodes) }
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_node_as_it_is_written_is_among_what_its_text_may_mean(namespace in "[a:%/é]{1,6}", name in "[a:%/é]{1,6}") {
            let node = NodeName::dataset(namespace, name);
            let meant = candidates(&node.to_string()).expect("a node");
            prop_assert!(meant.contains(&node), "{meant:?}");
            let path = path_of_node(&node);
            prop_assert_eq!(path.matches('/').count(), 6, "two segments, whatever is in them");
            let mut segments = path.rsplit('/');
            prop_assert_eq!(decoded(segments.next().expect("a name")), Some(node.name));
            prop_assert_eq!(decoded(segments.next().expect("a namespace")), Some(node.namespace));
        }

        #[test]
        fn no_text_is_too_much(text in "\\PC{0,100}") {
            if let Ok(nodes) = candidates(&text) {
                prop_assert!((1..=2 * COLONS).contains(&nodes.len()));
            }
        }
    }

    #[test]
    fn a_text_without_a_doubt_means_one_node() {
        let meant = |text| candidates(text).ok();
        assert_eq!(meant("job:etl:load"), Some(vec![NodeName::job("etl", "load")]));
        assert_eq!(
            meant("dataset:s3%3A//bucket:a b").map(|nodes| nodes[0].clone()),
            Some(NodeName::dataset("s3://bucket", "a b"))
        );
        let several = meant("dataset:pg://db:5432:t").expect("nodes");
        assert!(several.contains(&NodeName::dataset("pg://db:5432", "t")) && several.len() == 3);
        for bad in ["", "job", "job:", "job:a", "job::a", "job:a:", "run:a:b", ":a:b"] {
            assert_eq!(meant(bad), None, "{bad:?}");
        }
        assert!(meant(&format!("job:{}", ":a".repeat(COLONS + 1))).is_none());
    }
}
