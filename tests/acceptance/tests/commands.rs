//! The commands that need no running instance, and the demonstration.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use acceptance::callboard_output;
use serde_json::Value;

fn lines(arguments: &[&str], input: &str) -> Vec<Value> {
    let data = tempfile::tempdir().unwrap();
    let output = callboard_output(data.path(), arguments, input);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn url_answers_each_line_in_order_and_echoes_it() {
    let input =
        "HTTP://Example.ORG:80/a/?utm_source=x&b=2&a=1#top\nmailto:a@b.c\n\"http://example.org/\\t\"\n";
    let answers = lines(&["url"], input);
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[0]["input"], "HTTP://Example.ORG:80/a/?utm_source=x&b=2&a=1#top");
    assert_eq!(answers[0]["normalized"], "http://example.org/a?a=1&b=2");
    assert_eq!(answers[0]["hash"].as_str().unwrap().len(), 64);
    assert!(!answers[1]["error"].is_null(), "{}", answers[1]);
    assert_eq!(answers[2]["input"], "http://example.org/\t");
}

#[test]
fn fetch_check_refuses_inside_addresses_and_names_them_apart_from_names_that_are_gone() {
    let data = tempfile::tempdir().unwrap();
    let resolver = data.path().join("names.json");
    let names = serde_json::json!({
        "mixed.callboard-check.org": ["93.184.215.14", "10.0.0.1"],
        "good.callboard-check.org": ["93.184.215.14"],
        "gone.callboard-check.org": [],
    });
    std::fs::write(&resolver, names.to_string()).unwrap();
    let input = [
        "http://127.0.0.1/",
        "http://[::ffff:169.254.169.254]/",
        "http://mixed.callboard-check.org/",
        "http://good.callboard-check.org/",
        "http://localhost/",
        "http://gone.callboard-check.org/",
    ];
    let answers = lines(&["fetch-check", "--resolver", &resolver.to_string_lossy()], &input.join("\n"));
    let verdicts: Vec<&str> = answers.iter().map(|answer| answer["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["block", "block", "block", "allow", "block", "retry"]);
}

#[test]
fn extract_reads_a_page_from_a_file_as_the_worker_would() {
    let data = tempfile::tempdir().unwrap();
    let page = data.path().join("page.html");
    let html = acceptance::posting_page("Doctoral student in moss genomics", "Norrsken University");
    std::fs::write(&page, html).unwrap();
    let page = page.to_string_lossy();
    let url = "https://jobs.norrsken.example/1";
    let arguments =
        ["extract", &page, "--url", url, "--content-type", "text/html", "--now", "2026-11-25T12:00:00Z"];
    let output = callboard_output(data.path(), &arguments, "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let extraction: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(extraction["verdict"], "posting");
    let posting = &extraction["postings"][0];
    assert_eq!(posting["title"], "Doctoral student in moss genomics");
    assert_eq!(posting["country"], "SE");
    assert_eq!(posting["field_provenance"]["title"]["via"], "json-ld");
}

#[test]
fn a_command_without_an_instance_says_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let output = callboard_output(data.path(), &["token", "--role", "admin"], "");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("callboard up"), "{said}");
}

#[test]
fn the_demonstration_ends_every_page_of_the_site_in_the_state_that_it_should() {
    let data = tempfile::tempdir().unwrap();
    let output = callboard_output(data.path(), &["demo", "--data", &data.path().to_string_lossy()], "");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    for word in ["published", "needs_review", "unusable", "failed"] {
        assert!(printed.contains(word), "the table names no page that is {word}:\n{printed}");
    }
}
