//! Files that operators mount, with what an operator would change in them.

#![allow(dead_code, reason = "shared by test binaries that each use a part of it")]

use std::{fs, path::Path};

/// A file of `config/`, with changes; each must have something to change.
pub(crate) fn shipped(name: &str, changes: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    let mut text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (from, to) in changes {
        assert!(text.contains(from), "{name} has no {from:?}");
        text = text.replace(from, to);
    }
    text
}
