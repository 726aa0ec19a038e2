//! What holds for every name of a job or a dataset.

use super::*;

/// # Panics
/// When a text means too much, or a node is not found under the text that this node writes for it.
pub(crate) fn check(text: &str) {
    let Ok(nodes) = candidates(text) else { return };
    assert!((1..=2 * COLONS).contains(&nodes.len()));
    for node in nodes {
        assert!(!node.namespace.is_empty() && !node.name.is_empty());
        let meant = candidates(&node.to_string()).unwrap_or_default();
        assert!(meant.contains(&node), "{node} means {meant:?}");
        let path = path_of_node(&node);
        assert!(path.bytes().all(|byte| byte.is_ascii_graphic()), "{path}");
        let segments: Vec<_> = path.rsplit('/').take(2).map(decoded).collect();
        assert_eq!(segments, [Some(node.name), Some(node.namespace)]);
    }
}
