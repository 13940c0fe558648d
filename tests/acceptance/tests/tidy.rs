//! The repository keeps its own promises: links lead somewhere, pages are indexed, files carry one idea.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A longer source file holds more than one idea (`docs/` and tables of data aside).
const LINES_MAX: usize = 900;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn tracked() -> Vec<PathBuf> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "this test runs in a git checkout");
    let names = String::from_utf8(output.stdout).unwrap();
    let files: Vec<PathBuf> = names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .filter(|name| root().join(name).exists())
        .collect();
    assert!(files.len() > 50, "git lists the files: {}", files.len());
    files
}

fn with_extension(extension: &str) -> Vec<(PathBuf, String)> {
    let is_wanted = |file: &PathBuf| file.extension().is_some_and(|found| found == extension);
    tracked()
        .into_iter()
        .filter(is_wanted)
        .map(|file| (file.clone(), std::fs::read_to_string(root().join(file)).unwrap()))
        .collect()
}

#[test]
fn every_relative_link_of_a_page_leads_to_a_file() {
    let mut broken = Vec::new();
    for (file, text) in with_extension("md") {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            let is_relative = !path.is_empty() && !path.contains("://") && !path.starts_with("mailto:");
            if is_relative && !root().join(file.parent().unwrap()).join(path).exists() {
                broken.push(format!("{}: {target}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_decision_is_in_the_index() {
    let index = std::fs::read_to_string(root().join("docs/decisions/README.md")).unwrap();
    let pages: Vec<PathBuf> = tracked()
        .into_iter()
        .filter(|file| file.starts_with("docs/decisions") && !file.ends_with("README.md"))
        .collect();
    assert!(!pages.is_empty());
    for page in pages {
        let name = page.file_name().unwrap().to_string_lossy().into_owned();
        assert!(index.contains(&name), "{name} is not in docs/decisions/README.md");
    }
}

#[test]
fn no_source_file_holds_more_than_one_idea() {
    let long: Vec<String> = with_extension("rs")
        .into_iter()
        .map(|(file, text)| (file, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(file, lines)| format!("{}: {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn sql_stands_only_where_sql_lives() {
    let allowed = ["shared/ledger", "shared/store", "tests", "local/postgres"];
    let mut strays = Vec::new();
    for (file, text) in with_extension("rs") {
        if allowed.iter().any(|folder| file.starts_with(folder))
            || file.components().any(|part| part.as_os_str() == "tests")
        {
            continue;
        }
        // A test module at the end of a file may look at rows.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            if ["\"SELECT ", "\"INSERT INTO ", "\"UPDATE ", "\"DELETE FROM "]
                .iter()
                .any(|word| line.contains(word))
            {
                strays.push(format!("{}: {}", file.display(), line.trim()));
            }
        }
    }
    assert!(strays.is_empty(), "{strays:#?}");
}

#[test]
fn every_metric_that_a_page_names_is_written_by_the_code() {
    let sources = with_extension("rs");
    for (file, text) in with_extension("md") {
        for name in text
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|word| word.starts_with("callboard.") && !word.contains('/'))
        {
            let quoted = format!("\"{name}\"");
            let is_written = sources.iter().any(|(_, code)| code.contains(&quoted));
            assert!(is_written, "{} names {name}, which nothing writes", file.display());
        }
    }
}
