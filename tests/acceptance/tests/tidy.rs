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

/// What needs one and the same connection from one statement to the next. tokio-postgres's plain `query` and `execute`
/// prepare a statement with a name; `query_typed` and `execute_typed` do not.
const NEEDS_A_SESSION: [&str; 21] = [
    ".query(",
    ".query_one(",
    ".query_opt(",
    ".query_raw(",
    ".execute(",
    ".execute_raw(",
    ".prepare(",
    ".prepare_typed(",
    ".prepare_cached(",
    ".prepare_typed_cached(",
    "RecyclingMethod::Clean",
    "RecyclingMethod::Verified",
    "pg_advisory_lock",
    "pg_try_advisory_lock",
    "set_config(",
    "\"SET ",
    "\"LISTEN ",
    "\"PREPARE ",
    "\"DECLARE ",
    "WITH HOLD",
    " TEMP TABLE",
];

/// The migrations' own connection goes past the pooler.
const PAST_THE_POOLER: [&str; 2] = ["shared/store/src/migrations.rs", "functions/migrate"];

fn needs_a_session(line: &str) -> Option<&'static str> {
    // `url.query()` asks a URL.
    NEEDS_A_SESSION.into_iter().find(|word| line.replace(".query()", "").contains(word))
}

#[test]
fn nothing_in_functions_or_shared_relies_on_its_session() {
    let mut found = Vec::new();
    let mut seen = 0;
    for (file, text) in with_extension("rs") {
        let is_deployed = (file.starts_with("shared") || file.starts_with("functions"))
            && !PAST_THE_POOLER.iter().any(|path| file.starts_with(path))
            && !file
                .components()
                .any(|part| ["tests", "benches"].iter().any(|name| part.as_os_str() == *name));
        if !is_deployed {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            seen += usize::from(line.contains("query_typed("));
            if !line.trim_start().starts_with("//")
                && let Some(word) = needs_a_session(line)
            {
                found.push(format!("{}:{}: {word}", file.display(), number + 1));
            }
        }
    }
    assert!(seen > 50, "the statements are looked at: {seen}");
    assert!(found.is_empty(), "behind a transaction pooler there is no session: {found:#?}");
}

#[test]
fn what_needs_a_session_is_told_from_what_does_not() {
    for line in [
        "client.query(FIND, &[&id]).await?",
        "let statement = client.prepare_typed(FIND, &[]).await?;",
        "tx.batch_execute(\"SET LOCAL lock_timeout = 5\")",
        "client.batch_execute(\"LISTEN jobs\")",
        "const LOCK: &str = \"SELECT pg_advisory_lock($1)\";",
    ] {
        assert!(needs_a_session(line).is_some(), "{line}");
    }
    for line in [
        "client.query_typed(FIND, &[])",
        "uri.query().is_some()",
        "pg_advisory_xact_lock(key)",
        "SET status = 'done'",
    ] {
        assert!(needs_a_session(line).is_none(), "{line}");
    }
}

/// A statement that goes past the measured client is in no metric and no trace.
#[test]
fn statements_go_through_the_measured_client() {
    // They open connections, or begin and commit.
    let own_connection = ["pool.rs", "pipelined.rs", "migrations.rs"];
    let mut strays = Vec::new();
    let mut files = 0;
    for (file, text) in with_extension("rs") {
        if !["shared/ledger/src", "shared/store/src"].iter().any(|folder| file.starts_with(folder)) {
            continue;
        }
        files += 1;
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for rest in code.join("\n").split("tokio_postgres::").skip(1) {
            let list = match rest.strip_prefix('{') {
                Some(list) => list.split('}').next().unwrap_or_default(),
                None => rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default(),
            };
            for name in list.split(|c: char| !c.is_alphanumeric() && c != '_') {
                let is_own = file.starts_with("shared/store/src")
                    && own_connection.iter().any(|own| file.ends_with(own));
                if name == "GenericClient" || (!is_own && ["Client", "Transaction"].contains(&name)) {
                    strays.push(format!("{}: tokio_postgres::{name}", file.display()));
                }
            }
        }
    }
    assert!(files > 20, "the sources are found: {files}");
    assert!(strays.is_empty(), "telemetry::db::GenericClient measures them: {strays:#?}");
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
