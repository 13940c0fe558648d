//! The rules of extraction that only show on a whole page, as tables.

// A test's helpers may unwrap as its tests do.
#![allow(clippy::unwrap_used)]

use domain::extract::{
    ClosedBy, ExtractContext, Extraction, Page, ResultSource, Verdict, extract, extraction_confidence,
};
use domain::posting::{Hints, Via};
use domain::state::TrustLevel;
use domain::url::Rules;
use serde_json::json;

const URL: &str = "https://jobs.lindenau.example/vacancies/4711";

struct Asked<'a> {
    url: &'a str,
    status: u16,
    headers: &'a [(&'a str, &'a str)],
    content_type: Option<&'a str>,
    hints: Option<&'a Hints>,
    trust: TrustLevel,
}

impl Default for Asked<'_> {
    fn default() -> Self {
        Self {
            url: URL,
            status: 200,
            headers: &[],
            content_type: Some("text/html; charset=utf-8"),
            hints: None,
            trust: TrustLevel::Trusted,
        }
    }
}

fn read(body: &str, asked: &Asked<'_>) -> Extraction {
    let headers: Vec<_> =
        asked.headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let rules = Rules::builtin();
    extract(
        &Page {
            url: asked.url,
            submitted_url: asked.url,
            status: asked.status,
            headers: &headers,
            content_type: asked.content_type,
            body: body.as_bytes(),
        },
        &ExtractContext {
            now: "2026-11-25T12:00:00Z".parse().unwrap(),
            rules: &rules,
            hints: asked.hints,
            module_trust: asked.trust,
        },
    )
}

fn page(body: &str) -> Extraction {
    read(body, &Asked::default())
}

fn ld(posting: serde_json::Value) -> String {
    format!("<script type='application/ld+json'>{posting}</script>")
}

fn posting(title: &str, url: &str) -> serde_json::Value {
    json!({"@type": "JobPosting", "title": title, "url": url, "hiringOrganization": "Lindenau Institute"})
}

#[test]
fn a_page_is_judged_by_what_it_is() {
    let own = ld(posting("PhD in Optics", URL));
    let text = "<p>We are looking for a student. Requirements: a master's degree. Deadline: 1 March 2027</p>";
    for (name, body, verdict) in [
        ("markup", own.clone(), Verdict::Posting),
        ("a heading that names a kind", format!("<h1>PhD position</h1>{text}"), Verdict::Posting),
        ("a heading that names none, the text does", format!("<h1>Keeper of the greenhouse</h1>{text}"), Verdict::Posting),
        ("an error page", "<title>Page not found</title><h1>Page not found</h1>".to_owned(), Verdict::NotAPosting),
        ("an error page in German", "<h1>Seite nicht gefunden</h1>".to_owned(), Verdict::NotAPosting),
        ("a form", "<title>Log in</title><h1>Log in</h1>".to_owned(), Verdict::NotAPosting),
        ("nothing", String::new(), Verdict::NotAPosting),
        ("an article", "<meta property=og:type content=article><h1>New professor appointed</h1><p>She begins in May.</p>".to_owned(), Verdict::NotAPosting),
        ("several postings", ld(json!([posting("PhD A", "/a"), posting("PhD B", "/b")])), Verdict::Listing),
        ("a title of a list", "<h1>Open positions</h1><a href=/vacancies/phd-1>PhD position in A</a>".to_owned(), Verdict::Listing),
        ("a closed phrase in the heading", format!("<h1>PhD position</h1><h2>This position has been filled</h2>{text}"), Verdict::Closed),
        ("a closed phrase in a status", format!("{own}<h1>PhD in Optics</h1><p role=status>No longer accepting applications</p>"), Verdict::Closed),
        ("a closed mark in the title", format!("<title>[CLOSED] PhD position</title><h1>PhD position</h1>{text}"), Verdict::Closed),
        ("a closed phrase in the text only", format!("{own}<h1>PhD in Optics</h1><p>Our last call is closed; this one is open.</p>"), Verdict::Posting),
    ] {
        let extraction = page(&body);
        assert_eq!(extraction.verdict, verdict, "{name}: {extraction:#?}");
    }
}

#[test]
fn the_status_decides_before_the_page() {
    let own = ld(posting("PhD in Optics", URL));
    for (status, body, verdict) in [
        (404, "<h1>PhD position in Optics</h1>", Verdict::NotAPosting),
        (410, own.as_str(), Verdict::Closed),
        (500, own.as_str(), Verdict::NotAPosting),
        (200, own.as_str(), Verdict::Posting),
    ] {
        assert_eq!(read(body, &Asked { status, ..Asked::default() }).verdict, verdict, "{status}");
    }
}

#[test]
fn of_several_postings_the_pages_own_is_chosen_and_the_others_are_discovered() {
    let three = ld(json!([
        posting("PhD A", "/vacancies/1"),
        posting("PhD B", URL),
        posting("PhD C", "/vacancies/3")
    ]));
    let by_url = page(&three);
    assert_eq!(by_url.postings[0].fields.title.as_deref(), Some("PhD B"));
    assert_eq!(
        by_url.discovered_urls,
        ["https://jobs.lindenau.example/vacancies/1", "https://jobs.lindenau.example/vacancies/3"]
    );

    let elsewhere = ld(json!([
        posting("PhD in Acoustics", "/vacancies/1"),
        posting("Postdoc in Botany", "/vacancies/2")
    ]));
    let by_heading = page(&format!("{elsewhere}<h1>Postdoc in Botany</h1>"));
    assert_eq!(by_heading.postings[0].fields.title.as_deref(), Some("Postdoc in Botany"));
    assert_eq!(by_heading.discovered_urls, ["https://jobs.lindenau.example/vacancies/1"]);

    let twice = page(&format!("{}{}", ld(posting("PhD B", URL)), ld(posting("PhD B", URL))));
    assert_eq!((twice.verdict, twice.postings.len()), (Verdict::Posting, 1));
}

#[test]
fn a_deadline_that_is_over_closes_and_one_in_conflict_does_not() {
    let with = |valid: &str, visible: &str| {
        let mut posting = posting("PhD in Optics", URL);
        posting["validThrough"] = json!(valid);
        page(&format!("{}<h1>PhD in Optics</h1><p>Application deadline: {visible}</p>", ld(posting)))
    };
    let over = with("2026-11-01", "1 November 2026");
    assert_eq!((over.verdict, over.closed_by), (Verdict::Closed, Some(ClosedBy::StructuredDeadline)));
    // It is still the 24th somewhere.
    assert_eq!(with("2026-11-25", "25 November 2026").verdict, Verdict::Posting);
    let conflict = with("2026-11-01", "1 February 2027");
    assert_eq!((conflict.verdict, conflict.closed_by), (Verdict::Posting, None));
    assert_eq!(conflict.conflicts[0].field, "deadline");
    assert_eq!(conflict.conflicts[0].values, [json!("2026-11-02T11:59:59Z"), json!("2027-02-02T11:59:59Z")]);
    assert_eq!(conflict.postings[0].fields.deadline_date.unwrap().to_string(), "2026-11-01");
    let visible = page("<h1>PhD in Optics</h1><p>Application deadline: 1 November 2026</p>");
    assert_eq!((visible.verdict, visible.closed_by), (Verdict::Closed, Some(ClosedBy::VisibleDeadline)));
}

#[test]
fn each_field_is_of_the_first_layer_that_has_it() {
    let hints: Hints = serde_json::from_value(json!({
        "title_hint": "free", "organization_hint": "Free Org",
        "hints": {"title": "hinted", "sector": "Research", "city": "Linz"},
    }))
    .unwrap();
    let body = format!(
        "{}<meta property=og:title content='og'><meta property=og:site_name content='Lindenau'><meta property=og:description content='og text'>\
         <div itemscope itemtype='http://schema.org/JobPosting'><b itemprop=title>micro title</b><i itemprop=datePosted content=2026-10-01></i></div>\
         <h1>Heading title</h1><p>Location: Graz, Austria</p>",
        ld(
            json!({"@type": "JobPosting", "title": "json title", "datePosted": "", "description": null, "url": URL})
        )
    );
    let extraction = read(&body, &Asked { hints: Some(&hints), ..Asked::default() });
    let posting = &extraction.postings[0];
    let via = |field: &str| (posting.field_provenance[field].via, posting.field_provenance[field].confidence);
    assert_eq!(posting.fields.title.as_deref(), Some("json title"));
    assert_eq!(via("title"), (Via::JsonLd, 0.98));
    assert_eq!(via("date_posted"), (Via::Microdata, 0.95));
    assert_eq!(via("description_text"), (Via::Opengraph, 0.70));
    assert_eq!(via("organization_name"), (Via::Opengraph, 0.70));
    assert_eq!(via("city"), (Via::Html, 0.70));
    assert_eq!(via("sector"), (Via::Hints, 0.90));
    assert_eq!(extraction_confidence(posting, &[], ResultSource::Callboard), 0.896);
}

#[test]
fn hints_are_believed_by_the_trust_of_their_module() {
    let structured: Hints = serde_json::from_value(json!({"hints": {"title": "PhD in Optics"}})).unwrap();
    let free: Hints = serde_json::from_value(json!({"title_hint": "PhD in Optics"})).unwrap();
    for (hints, trust, confidence) in [
        (&structured, TrustLevel::Trusted, 0.90),
        (&structured, TrustLevel::SemiTrusted, 0.60),
        (&structured, TrustLevel::Untrusted, 0.60),
        (&free, TrustLevel::Trusted, 0.50),
    ] {
        let asked =
            Asked { hints: Some(hints), trust, content_type: Some("application/pdf"), ..Asked::default() };
        let extraction = read("%PDF-1.7", &asked);
        assert_eq!(extraction.postings[0].field_provenance["title"].confidence, confidence);
        assert_eq!(extraction.warnings[0].code, "not_html");
    }
    // Without hints there is nothing to read.
    let asked = Asked { content_type: Some("application/pdf"), ..Asked::default() };
    assert_eq!(read("%PDF-1.7", &asked).verdict, Verdict::NotAPosting);
}

#[test]
fn what_robots_are_asked_is_passed_on() {
    let own = ld(posting("PhD in Optics", URL));
    let asked =
        Asked { headers: &[("X-Robots-Tag", "noindex"), ("x-robots-tag", "noarchive")], ..Asked::default() };
    let extraction = read(&own, &asked);
    assert_eq!(
        (extraction.verdict, extraction.noindex, extraction.noarchive),
        (Verdict::Posting, true, true)
    );
}

#[test]
fn the_publishers_key_is_that_of_a_known_system_or_a_structured_identifier() {
    let mut own = posting("PhD in Optics", URL);
    own["identifier"] = json!({"value": "PHY-11"});
    assert_eq!(page(&ld(own)).postings[0].source_identity.as_deref(), Some("lindenau.example:PHY-11"));
    let url = "https://boards.greenhouse.io/lindenau/jobs/4102231";
    let extraction = read(&ld(posting("PhD in Optics", url)), &Asked { url, ..Asked::default() });
    assert_eq!(extraction.postings[0].source_identity.as_deref(), Some("greenhouse:lindenau:4102231"));
    // A number in the text alone is the publisher's for people, not a key.
    let visible = page("<h1>PhD in Optics</h1><p>Reference number: PHY-11</p>");
    assert_eq!(visible.postings[0].source_identity, None);
    assert_eq!(visible.postings[0].fields.identifier.as_deref(), Some("PHY-11"));
}

#[test]
fn a_country_is_never_guessed_from_the_address_of_the_site() {
    let url = "https://jobs.lindenau.de/vacancies/4711";
    let extraction =
        read("<h1>Doktorand in Optik</h1><p>Arbeitsort: Graz</p>", &Asked { url, ..Asked::default() });
    assert_eq!(extraction.postings[0].fields.country, None);
    assert_eq!(extraction.postings[0].fields.city.as_deref(), Some("Graz"));
}

#[test]
fn a_canonical_address_on_another_domain_is_only_a_claim() {
    let extraction = page(&format!(
        "{}<link rel=canonical href='https://other.example/x/1'>",
        ld(posting("PhD in Optics", URL))
    ));
    assert_eq!(extraction.postings[0].fields.canonical_url.as_deref(), Some(URL));
    assert_eq!(extraction.postings[0].claimed_urls, ["https://other.example/x/1"]);
}
