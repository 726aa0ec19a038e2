//! The modules of this crate stand on floors, and no two of them need each other in a circle.
//!
//! The floors are the numbered list in the documentation of `src/lib.rs`. A folder may use folders on lower floors, and no others.
//! Inside a folder, modules beside each other form no circle; a module and the ones below it may use each other. Tests are exempt.
//!
//! This file needs no crate, so that `.ci/run` can build and run it within a second.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The path of a module from the root of the crate, which is empty.
type Module = Vec<String>;

/// The text of each module. Files that stand beside modules, such as pages, are none.
type Sources = BTreeMap<Module, String>;

fn read(folder: &Path, above: &[String], sources: &mut Sources) {
    for entry in fs::read_dir(folder).expect("the sources can be read") {
        let path = entry.expect("the sources can be read").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("names are plain").to_owned();
        // The binary beside a library is a crate of its own.
        if above.is_empty() && name == "main" && folder.join("lib.rs").exists() {
            continue;
        }
        let is_root = above.is_empty() && (name == "lib" || name == "main");
        let module = if is_root { Module::new() } else { [above, &[name]].concat() };
        if path.is_dir() {
            read(&path, &module, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.insert(module, fs::read_to_string(&path).expect("the sources can be read"));
        }
    }
}

/// The text without comments and without the inner module of tests at its end.
fn code(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let tests = lines
        .windows(2)
        .position(|two| two[0] == "#[cfg(test)]" && two[1].starts_with("mod ") && two[1].ends_with('{'));
    lines[..tests.unwrap_or(lines.len())].join("\n")
}

/// Modules in files of their own that only tests have.
fn test_modules(sources: &Sources) -> BTreeSet<Module> {
    let mut found = BTreeSet::from([vec!["testkit".to_owned()]]);
    for (module, text) in sources {
        let lines: Vec<_> = text.lines().collect();
        for two in lines.windows(2).filter(|two| two[0].starts_with("#[cfg(test)]")) {
            if let Some(name) = two[1].strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
                found.insert([module.as_slice(), &[name.to_owned()]].concat());
            }
        }
    }
    found
}

/// Words, `::`, and single other characters.
fn tokens(code: &str) -> Vec<&str> {
    let (mut found, mut rest) = (Vec::new(), code.trim_start());
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = if word > 0 {
            word
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        found.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    found
}

fn is_word(token: Option<&&str>) -> bool {
    token.is_some_and(|token| token.starts_with(|c: char| c.is_alphabetic() || c == '_'))
}

/// Reads a path, or a tree of them in braces, from `at` on.
fn tree(tokens: &[&str], at: &mut usize, mut path: Vec<String>, found: &mut Vec<Vec<String>>) {
    while is_word(tokens.get(*at)) {
        path.push(tokens[*at].to_owned());
        *at += 1;
        if tokens.get(*at) != Some(&"::") {
            return found.push(path);
        }
        *at += 1;
    }
    if tokens.get(*at) != Some(&"{") {
        return found.push(path);
    }
    *at += 1;
    while let Some(token) = tokens.get(*at).filter(|token| **token != "}") {
        match *token {
            "as" => *at += 2,
            _ if is_word(Some(token)) => tree(tokens, at, path.clone(), found),
            "*" => {
                found.push(path.clone());
                *at += 1;
            }
            _ => *at += 1,
        }
    }
    *at += 1;
}

/// The paths that a module names, from the root of the crate.
fn paths(module: &Module, code: &str) -> Vec<Vec<String>> {
    let tokens = tokens(code);
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let begins = matches!(tokens[at], "crate" | "self" | "super") && tokens.get(at + 1) == Some(&"::");
        if begins && (at == 0 || tokens[at - 1] != "::") {
            tree(&tokens, &mut at, Vec::new(), &mut found);
        } else {
            at += 1;
        }
    }
    let from_root = |path: Vec<String>| {
        let mut base = if path[0] == "crate" { Module::new() } else { module.clone() };
        for segment in path {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => drop(base.pop()),
                _ => base.push(segment),
            }
        }
        base
    };
    found.into_iter().map(from_root).collect()
}

/// Which module uses which, by the two that stand beside each other: `quota::cache::shard` that uses `ports::ledger` is `quota`
/// that uses `ports`.
fn arrows(sources: &Sources) -> BTreeMap<Module, BTreeSet<Module>> {
    let tests = test_modules(sources);
    let is_test = |module: &Module| (1..=module.len()).any(|length| tests.contains(&module[..length]));
    let mut found: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (module, text) in sources.iter().filter(|(module, _)| !is_test(module)) {
        for mut used in paths(module, &code(text)) {
            while !sources.contains_key(&used) {
                used.pop();
            }
            let shared = module.iter().zip(&used).take_while(|(one, other)| one == other).count();
            if shared < module.len() && shared < used.len() {
                found.entry(module[..=shared].to_vec()).or_default().insert(used[..=shared].to_vec());
            }
        }
    }
    found
}

/// The floor of each folder, counted from the top.
fn floors(tour: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for line in tour.lines().filter_map(|line| line.strip_prefix("//! ")) {
        let Some((number, rest)) = line.split_once(". ") else { continue };
        let (Ok(floor), Some((names, _))) = (number.parse(), rest.split_once(':')) else { continue };
        found.extend(names.split('`').skip(1).step_by(2).map(|name| (name.to_owned(), floor)));
    }
    found
}

/// Folders without a floor, and folders that use a floor that is not below theirs.
fn climbs(sources: &Sources) -> Vec<String> {
    let floors = floors(&sources[&Module::new()]);
    let tests = test_modules(sources);
    let is_folder = |module: &&Module| module.len() == 1 && !tests.contains(*module);
    let folders: BTreeSet<_> = sources.keys().filter(is_folder).map(|module| &module[0]).collect();
    let mut faults: Vec<_> = folders
        .iter()
        .filter(|name| !floors.contains_key(**name))
        .map(|name| format!("{name} is on no floor"))
        .collect();
    let gone = floors.keys().filter(|name| !folders.contains(name));
    faults.extend(gone.map(|name| format!("{name} is on a floor and not in the crate")));

    let arrows = arrows(sources);
    for (from, to) in arrows.iter().filter(|(from, _)| from.len() == 1) {
        for to in to.iter().filter(|to| floors.get(&to[0]) <= floors.get(&from[0])) {
            faults.push(format!("{} uses {}, which is on no lower floor", from[0], to[0]));
        }
    }
    faults
}

/// Modules in circles.
fn circles(sources: &Sources) -> Vec<String> {
    let (mut faults, mut arrows) = (Vec::new(), arrows(sources));
    // A module that uses none of those left, or that none of them uses, is in no circle.
    loop {
        let left: BTreeSet<_> = arrows.keys().cloned().collect();
        arrows.values_mut().for_each(|to| to.retain(|to| left.contains(to)));
        let used: BTreeSet<_> = arrows.values().flatten().cloned().collect();
        arrows.retain(|from, to| !to.is_empty() && used.contains(from));
        if arrows.len() == left.len() {
            break;
        }
    }
    for (from, to) in arrows {
        let to: Vec<_> = to.iter().map(|to| to.join("::")).collect();
        faults.push(format!("{} is in a circle, or between two: {}", from.join("::"), to.join(", ")));
    }
    faults
}

/// The modules of the crate that this file is built for.
fn this_crate() -> Sources {
    let mut sources = Sources::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &[], &mut sources);
    assert!(sources.len() > 10, "the sources are found");
    sources
}

#[test]
fn no_folder_uses_a_higher_floor() {
    let faults = climbs(&this_crate());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_modules_form_a_circle() {
    let faults = circles(&this_crate());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_climb_a_circle_and_a_folder_without_a_floor_are_found() {
    let faults = |sources: &Sources| [climbs(sources), circles(sources)].concat();
    let module = |path: &str| path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect::<Module>();
    let sources = |texts: &[(&str, &str)]| {
        let tour = [("", "//! 1. [`node`]: top.\n//! 2. [`ports`], [`ids`]: bottom.")];
        let plain = [("node", ""), ("ports", "use crate::y;"), ("ids", "")];
        let all = tour.iter().chain(&plain).chain(texts);
        all.map(|(path, text)| (module(path), (*text).to_owned())).collect::<Sources>()
    };
    let good =
        [("node::a", "use std::fmt;\nuse crate::{ids::{self, X}, ports::*};"), ("node::b", "use super::a::Y as Z;")];
    assert_eq!(faults(&sources(&good)), Vec::<String>::new());

    let only_in_tests = [("ids", "// crate::node\n#[cfg(test)]\nmod tests {\n    use crate::node;\n}")];
    assert_eq!(faults(&sources(&only_in_tests)), Vec::<String>::new());

    let climb = [("ports::a", "fn f() { crate::node::g() }")];
    assert_eq!(faults(&sources(&climb)), ["ports uses node, which is on no lower floor"]);
    let beside = [("ports::a", "use crate::{ids};")];
    assert_eq!(faults(&sources(&beside)), ["ports uses ids, which is on no lower floor"]);

    let circle = [("node::a", "use super::b::{B, C};"), ("node::b", "use crate::node::{a::A};")];
    let found = faults(&sources(&circle));
    assert_eq!(
        found,
        ["node::a is in a circle, or between two: node::b", "node::b is in a circle, or between two: node::a"]
    );

    assert_eq!(faults(&sources(&[("attic", "")])), ["attic is on no floor"]);
}
