//! What is read from every page of the bundled site, as golden files, and that the site's own manifest agrees.
//!
//! After a change that is meant: `UPDATE_GOLDEN=1 cargo test -p domain --test site_pages`, then read the difference.

// A test's helpers may unwrap as its tests do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use domain::extract::{ExtractContext, Extraction, Page, Verdict, extract, page_hash, visible_text};
use domain::posting::Hints;
use domain::state::TrustLevel;
use domain::url::Rules;
use serde_json::Value;

// The file that fills in the site's pages, so that it cannot fill them in otherwise here.
#[allow(unreachable_pub)]
#[path = "../../../local/src/site/render.rs"]
mod render;

const BASE: &str = "http://127.0.0.1:4000";
const NOW: &str = "2026-11-25T12:00:00Z";

struct SitePage {
    path: String,
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    file: String,
}

fn site() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../local/site")
}

fn manifest() -> Value {
    serde_json::from_slice(&fs::read(site().join("site.json")).unwrap()).unwrap()
}

fn pages(manifest: &Value) -> Vec<SitePage> {
    let pages = manifest["pages"].as_array().unwrap().iter().filter(|page| page.get("file").is_some());
    pages
        .map(|page| {
            let file = page["file"].as_str().unwrap();
            let body = fs::read(site().join("pages").join(file)).unwrap();
            SitePage {
                path: page["path"].as_str().unwrap().to_owned(),
                status: page.get("status").and_then(Value::as_u64).unwrap_or(200) as u16,
                headers: page["headers"]
                    .as_object()
                    .unwrap()
                    .iter()
                    .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
                    .collect(),
                body: render::render(&body, BASE, NOW.parse().unwrap()),
                file: file.to_owned(),
            }
        })
        .filter(|page| !page.file.ends_with(".txt"))
        .collect()
}

fn read(page: &SitePage, hints: Option<&Hints>) -> Extraction {
    let url = format!("{BASE}{}", page.path);
    let rules = Rules::builtin();
    extract(
        &Page {
            url: &url,
            submitted_url: &url,
            status: page.status,
            headers: &page.headers,
            content_type: None,
            body: &page.body,
        },
        &ExtractContext {
            now: NOW.parse().unwrap(),
            rules: &rules,
            hints,
            module_trust: TrustLevel::Trusted,
        },
    )
}

fn hints_by_path(manifest: &Value) -> BTreeMap<String, Hints> {
    let discoveries = manifest["discoveries"].as_array().unwrap().iter();
    discoveries
        .filter_map(|discovery| {
            let hints: Hints = serde_json::from_value(discovery.get("hints")?.clone()).unwrap();
            assert_eq!(hints.validate(), [], "{discovery}");
            Some((discovery["path"].as_str()?.to_owned(), hints))
        })
        .collect()
}

#[test]
fn every_page_is_read_as_its_golden_file_says() {
    let manifest = manifest();
    let hints = hints_by_path(&manifest);
    let mut wrong = Vec::new();
    for page in pages(&manifest) {
        let extraction = read(&page, hints.get(&page.path));
        let text = serde_json::to_string_pretty(&extraction).unwrap() + "\n";
        let golden =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{}.json", page.file));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, text).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != text {
            wrong.push((page.file, text));
        }
    }
    assert!(wrong.is_empty(), "these differ from their golden files: {wrong:#?}");
}

#[test]
fn results_survive_the_way_through_the_ledger() {
    for page in pages(&manifest()) {
        let extraction = read(&page, None);
        let json = serde_json::to_value(&extraction).unwrap();
        let back: Extraction = serde_json::from_value(json).unwrap();
        assert_eq!(back, extraction, "{}", page.file);
        if let Some(posting) = extraction.postings.first() {
            assert_eq!(page_hash(&posting.fields), page_hash(&back.postings[0].fields), "{}", page.file);
        }
    }
}

#[test]
fn the_manifest_expects_what_extraction_finds() {
    let manifest = manifest();
    let hints = hints_by_path(&manifest);
    let pages: BTreeMap<String, SitePage> =
        pages(&manifest).into_iter().map(|page| (page.path.clone(), page)).collect();
    for discovery in manifest["discoveries"].as_array().unwrap() {
        let path = discovery["path"].as_str().unwrap();
        let Some(page) = pages.get(path.split('?').next().unwrap()) else {
            continue;
        };
        if discovery["expect"]["reason"] == "robots_disallowed" {
            continue;
        }
        let extraction = read(page, hints.get(path));
        let expected: &[Verdict] = match discovery["expect"]["candidate_state"].as_str() {
            None => &[Verdict::NotAPosting, Verdict::Listing],
            Some("closed") => &[Verdict::Closed],
            Some(_) => &[Verdict::Posting],
        };
        assert!(expected.contains(&extraction.verdict), "{path}: {extraction:#?}");
        if let Some(title) = discovery["expect"]["title"].as_str() {
            assert_eq!(extraction.postings[0].fields.title.as_deref(), Some(title), "{path}");
        }
    }
}

#[test]
fn no_placeholder_is_left_in_any_page() {
    for page in pages(&manifest()) {
        let text = String::from_utf8_lossy(&page.body);
        assert!(!text.contains("{{"), "{}: a placeholder was not understood", page.file);
    }
}

#[test]
fn the_text_for_the_evidence_is_what_a_reader_sees() {
    let manifest = manifest();
    let page = pages(&manifest).into_iter().find(|page| page.file == "windows-1252.html").unwrap();
    let text = visible_text(&Page {
        url: BASE,
        submitted_url: BASE,
        status: 200,
        headers: &page.headers,
        content_type: Some("text/html"),
        body: &page.body,
    });
    assert!(text.starts_with("Doktorand*in Gewässerökologie (m/w/d)"), "{text}");
    assert!(text.contains("Vergütung: 2.650 € monatlich"), "{text}");
    assert!(!text.contains('<'), "{text}");
}
