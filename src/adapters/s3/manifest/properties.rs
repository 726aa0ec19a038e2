//! What holds for every object in the place of a manifest.

use super::*;
use crate::adapters::leaf_list::properties::sealed;

/// # Panics
/// When bytes are taken for a manifest that this node would not write.
pub(crate) fn check(hash: ContentHash, head: &[u8], list: &[u8]) {
    for text in [sealed(&[head, list].concat()), sealed(&[head, &sealed(list)].concat())] {
        if let Ok(manifest) = Manifest::decode(&text, hash) {
            assert_eq!(manifest.encode(hash), text);
        }
    }
}
