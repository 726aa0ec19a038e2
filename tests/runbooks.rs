//! Checks that `docs/operations.md` quotes log lines, messages and names of metrics as the program has them: an operator
//! finds a runbook by them. And that the links of all documents lead to files and headings that exist.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::{fs, path::Path};

/// The operator's manual, without its commands.
fn manual() -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md")).unwrap();
    text.split("```").step_by(2).collect()
}

/// The text of each source file; a string that continues on the next line is one line.
fn sources() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut folders, mut texts) = (vec![root.join("src"), root.join("actors/src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(path).unwrap();
                let mut lines = text.split("\\\n");
                let first = lines.next().unwrap_or_default().to_owned();
                texts.push(lines.fold(first, |text, line| text + line.trim_start()));
            }
        }
    }
    texts
}

/// Quotations behind a marker: log: `this` or message: `this`.
fn quoted<'a>(text: &'a str, marker: &str) -> Vec<&'a str> {
    text.split(marker).skip(1).map(|rest| rest.split('`').next().unwrap_or_default()).collect()
}

/// Names of metrics in a text.
fn metrics(text: &str) -> Vec<&str> {
    let names = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    names.filter(|name| name.starts_with("penstock_")).collect()
}

#[test]
fn log_lines_and_messages_that_the_manual_quotes_are_in_the_program() {
    let (manual, sources) = (manual(), sources());
    let quotations = [quoted(&manual, "log: `"), quoted(&manual, "message: `")].concat();
    assert!(quotations.len() > 50, "only {} quotations were found", quotations.len());
    // ` .. ` stands for a value.
    let exists =
        |quotation: &&&str| sources.iter().any(|source| quotation.split(" .. ").all(|part| source.contains(part)));
    let unknown: Vec<_> = quotations.iter().filter(|quotation| !exists(quotation)).collect();
    assert!(unknown.is_empty(), "the program does not say these quotations of the manual: {unknown:#?}");
}

#[test]
fn metrics_that_the_manual_names_exist() {
    let (manual, sources) = (manual(), sources());
    let named = metrics(&manual);
    assert!(named.len() > 100, "only {} metrics are named", named.len());
    // `penstock_whole` is a materialized view.
    let exists =
        |name: &&&str| **name == "penstock_whole" || sources.iter().any(|text| text.contains(&format!("\"{name}\"")));
    let unknown: Vec<_> = named.iter().filter(|name| !exists(name)).collect();
    assert!(unknown.is_empty(), "these metrics of the manual do not exist: {unknown:#?}");
}

#[test]
fn every_metric_of_the_program_is_in_the_manual() {
    let (manual, sources) = (manual(), sources());
    let named = metrics(&manual);
    let quoted = sources.iter().flat_map(|source| source.split('"').filter(|text| metrics(text) == [*text]));
    // Functions that the node adds to SQLite, and the topic of the outputs that pay for receipts, are no metrics.
    const OTHERS: [&str; 3] = ["penstock_words", "penstock_texts", "penstock_receipts"];
    let missing: Vec<_> = quoted.filter(|name| !OTHERS.contains(name) && !named.contains(name)).collect();
    assert!(missing.is_empty(), "docs/operations.md does not say what these metrics mean: {missing:#?}");
}

/// A document without its blocks of code.
fn prose(path: &Path) -> String {
    let mut is_code = false;
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// The anchors of a document's headings, formed as GitHub does.
fn anchors(path: &Path) -> Vec<String> {
    let text = prose(path);
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let is_kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings
        .map(|heading| heading.to_lowercase().chars().filter(is_kept).collect::<String>().replace(' ', "-"))
        .collect()
}

/// Markdown links as text and target.
fn links(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.match_indices("](").filter_map(|(end, _)| {
        let words = text[..end].rsplit('[').next().unwrap_or_default();
        Some((words, text[end + 2..].split_once(')')?.0))
    })
}

#[test]
fn every_test_that_a_document_links_is_in_the_file_that_it_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut checked, mut missing) = (0, Vec::new());
    for file in ["README.md", "docs/security.md"].map(|name| root.join(name)) {
        let text = prose(&file);
        for (name, target) in links(&text).filter(|(name, target)| name.starts_with('`') && target.ends_with(".rs")) {
            let name = name.trim_matches('`');
            let source = fs::read_to_string(file.with_file_name(target)).unwrap_or_default();
            let is_test = [
                format!("fn {name}("),
                format!("fn {name}<"),
                format!("({name},"),
                format!("(\n    {name},"),
                format!("mod {name} {{"),
            ];
            if !is_test.iter().any(|form| source.contains(form)) {
                missing.push(format!("{}: {name} in {target}", file.display()));
            }
            checked += 1;
        }
    }
    assert!(checked > 40, "only {checked} tests are linked");
    assert!(missing.is_empty(), "these tests do not exist: {missing:#?}");
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [root.to_owned(), root.join("docs")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let (mut checked, mut broken) = (0, Vec::new());
    for file in files.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = prose(&file);
        for link in links(&text).map(|(_, link)| link).filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { file.clone() } else { file.with_file_name(path) };
            if !target.exists() || !(anchor.is_empty() || anchors(&target).iter().any(|known| known == anchor)) {
                broken.push(format!("{}: {link}", file.display()));
            }
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} links were found");
    assert!(broken.is_empty(), "these links lead nowhere: {broken:#?}");
}

#[test]
fn each_alert_names_a_runbook_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = fs::read_to_string(root.join("config/prometheus/penstock.rules.yml")).unwrap();
    let headings = anchors(&root.join("docs/operations.md"));
    let named = rules.split("docs/operations.md#").skip(1).filter_map(|rest| rest.split('"').next());
    let runbooks: Vec<_> = named.collect();
    assert_eq!(runbooks.len(), rules.matches("- alert:").count(), "each alert has a runbook");
    for runbook in runbooks {
        assert!(headings.iter().any(|heading| heading == runbook), "docs/operations.md has no heading #{runbook}");
    }
}
