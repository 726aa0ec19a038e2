//! The bill of materials that `.ci/sbom` makes: it is valid, and it has each crate that is in the binary.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs,
    path::Path,
    process::Command,
};

use jsonschema::{Retrieve, Uri};
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// In builds of tests alone: a crate that only tests use turns on a feature of another.
const OF_TESTS: [&str; 1] = ["terminal_size"];

/// The schemas in `schemas/cyclonedx`, under the names by which they refer to each other.
struct Bundled;

impl Retrieve for Bundled {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let name = uri.path().as_str().rsplit('/').next().unwrap_or_default().to_owned();
        Ok(serde_json::from_slice(&fs::read(Path::new(ROOT).join("schemas/cyclonedx").join(name))?)?)
    }
}

fn made() -> Value {
    let run = Command::new(Path::new(ROOT).join(".ci/sbom")).output().expect("bash runs it");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).expect("JSON")
}

fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("{value} has no {member}")).to_owned()
}

/// The checksums of Cargo.lock, by name and version; empty for the crates of the workspace.
fn locked() -> BTreeMap<(String, String), String> {
    let lock = fs::read_to_string(Path::new(ROOT).join("Cargo.lock")).unwrap();
    let packages = lock.split("[[package]]").skip(1).map(|package| {
        let value = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
            line.map(|rest| rest.trim_end_matches('"').to_owned()).unwrap_or_default()
        };
        ((value("name"), value("version")), value("checksum"))
    });
    packages.collect()
}

/// The crates whose source files the binary names, as `NAME-VERSION`.
fn named_in_the_binary() -> BTreeSet<String> {
    const REGISTRY: &[u8] = b"registry/src/";
    let binary = fs::read(env!("CARGO_BIN_EXE_penstock")).unwrap();
    let mut names = BTreeSet::new();
    let mut rest = &binary[..];
    while let Some(at) = rest.windows(REGISTRY.len()).position(|window| window == REGISTRY) {
        rest = &rest[at + REGISTRY.len()..];
        // The index, the crate, a file.
        let mut parts = rest.get(..200).unwrap_or(rest).split(|byte| *byte == b'/');
        if let (Some(_), Some(name), Some(_)) = (parts.next(), parts.next(), parts.next())
            && let Ok(name) = std::str::from_utf8(name)
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
        {
            names.insert(name.to_owned());
        }
    }
    names
}

#[test]
fn the_bill_of_materials_is_valid_and_has_each_crate_of_the_binary() {
    let made = made();
    let schema: Value =
        serde_json::from_slice(&fs::read(Path::new(ROOT).join("schemas/cyclonedx/bom-1.5.schema.json")).unwrap())
            .unwrap();
    let validator = jsonschema::options().with_retriever(Bundled).build(&schema).expect("a schema");
    let faults: Vec<_> = validator.iter_errors(&made).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{faults:?}");

    let locked = locked();
    let components = made["components"].as_array().expect("components");
    let mut listed = BTreeSet::new();
    for component in components {
        let key = (text(component, "name"), text(component, "version"));
        let checksum = locked.get(&key).unwrap_or_else(|| panic!("{key:?} is not in Cargo.lock"));
        if !checksum.is_empty() {
            assert_eq!(text(&component["hashes"][0], "content"), *checksum, "{key:?}");
            assert!(component["licenses"][0]["expression"].is_string(), "{component}");
        }
        assert!(listed.insert(format!("{}-{}", key.0, key.1)), "{key:?} is there twice");
    }
    assert_eq!(text(&made["metadata"]["component"], "name"), "penstock");

    let named = named_in_the_binary();
    assert!(named.len() > 200, "{} crates were found", named.len());
    let is_of_tests = |name: &&String| OF_TESTS.iter().any(|of_tests| name.starts_with(of_tests));
    let missing: Vec<_> = named.difference(&listed).filter(|name| !is_of_tests(name)).collect();
    assert!(missing.is_empty(), "in the binary, but not listed: {missing:?}");

    // Each is reached from the binary's own crate.
    let edges: BTreeMap<_, _> =
        made["dependencies"].as_array().expect("edges").iter().map(|of| (text(of, "ref"), of)).collect();
    let (mut reached, mut next) = (BTreeSet::new(), vec![text(&made["metadata"]["component"], "bom-ref")]);
    while let Some(at) = next.pop() {
        if reached.insert(at.clone()) {
            next.extend(
                edges[&at]["dependsOn"].as_array().expect("a list").iter().map(|on| on.as_str().unwrap().to_owned()),
            );
        }
    }
    assert_eq!(reached.len(), components.len() + 1);
}
