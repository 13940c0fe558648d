//! The public list and one posting (http-api.md §3).

use crate::support::{Api, Credentials, pointers};
use domain::ids::{CandidateId, ModuleDbId, PostingId};
use domain::posting::{FieldProvenance, Location, OpportunityKind, PostingFields, Salary, SalaryUnit, Via};
use domain::url::UrlHash;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use store::candidates::{CandidateContent, candidate_insert};
use store::postings::{PostingContent, posting_insert};
use tokio_postgres::types::Type;

fn anyone() -> Credentials {
    Credentials::none()
}

/// Publishes a posting as of some minutes ago, by the module `acme-feed`.
async fn publish(api: &Api, fields: PostingFields, minutes_ago: i64) -> PostingId {
    let owner = api.db.owner().await;
    if api.count("SELECT count(*) FROM modules WHERE module_id = 'acme-feed'").await == 0 {
        api.connector("acme-feed", "trusted").await;
    }
    let row = owner.query_one("SELECT id FROM modules WHERE module_id = 'acme-feed'", &[]).await.unwrap();
    let module = ModuleDbId(row.get(0));
    let candidate = CandidateId::new();
    let url = fields.canonical_url.clone().unwrap_or_else(|| format!("https://example.org/{candidate}"));
    let hash = UrlHash::of(&url).0;
    let provenance = FieldProvenance {
        via: Via::JsonLd,
        confidence: 0.98,
        evidence_id: Some(uuid::Uuid::now_v7()),
        discovery_id: Some(uuid::Uuid::nil()),
        captured_at: Some("2026-11-01T10:00:00Z".parse().unwrap()),
    };
    let content = CandidateContent {
        fields: fields.clone(),
        field_provenance: BTreeMap::from([("title".to_owned(), provenance)]),
        conflicts: vec![],
        extraction_confidence: 0.98,
        risk_flags: vec![],
        canonical_hash: hash,
        canonical_url: url.clone(),
        normalized_url: url.clone(),
        organization_key: String::new(),
        title_key: String::new(),
        source_identity: None,
        authority_rank: 3,
        authority_module_id: module,
    };
    candidate_insert(&owner, candidate, "test", &content).await.unwrap();
    let posting = PostingId::new();
    let content = PostingContent {
        fields: &fields,
        canonical_url: &url,
        normalized_url: &url,
        canonical_hash: &hash,
        source_refs: &[],
    };
    let at = api.now() - SignedDuration::from_mins(minutes_ago);
    let at = Timestamp::from_microsecond(at.as_microsecond()).unwrap();
    posting_insert(&owner, posting, candidate, &content, "test", at).await.unwrap();
    posting
}

fn posting(title: &str) -> PostingFields {
    PostingFields {
        title: Some(title.into()),
        organization_name: Some("Acme Institute".into()),
        ..PostingFields::default()
    }
}

async fn set(api: &Api, id: PostingId, what: &str) {
    let sql = format!("UPDATE postings SET {what} WHERE id = $1");
    api.db.owner().await.execute_typed(&sql, &[(&id.0, Type::UUID)]).await.unwrap();
}

fn titles(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["title"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_empty_catalogue_is_an_empty_list() {
    let api = Api::new().await;
    let page = api.get("/postings", &anyone()).await.expect(200);
    assert_eq!(page, json!({"items": [], "next_cursor": null}));
    let page = api.get("/postings?q=anything&country=de", &anyone()).await.expect(200);
    assert_eq!(page["items"], json!([]));
}

#[tokio::test]
async fn an_item_has_the_members_of_the_contract_and_no_others() {
    let api = Api::new().await;
    let deadline = Some("2026-12-01T12:00:00Z".parse().unwrap());
    publish(&api, PostingFields { deadline, ..posting("One") }, 1).await;
    let page = api.get("/postings", &anyone()).await.expect(200);
    let item = page["items"][0].as_object().unwrap();
    let names: Vec<&str> = item.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "id",
            "title",
            "organization_name",
            "canonical_url",
            "application_url",
            "status",
            "country",
            "region",
            "city",
            "remote",
            "tags",
            "areas",
            "opportunity_kind",
            "degree_level",
            "deadline",
            "deadline_date",
            "published_at",
            "updated_at",
            "created_at",
            "last_confirmed_at",
            "summary"
        ]
    );
    assert_eq!(item["deadline"], "2026-12-01T12:00:00Z");
    assert_eq!(item["status"], "active");
    assert!(item["published_at"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn a_walk_by_cursor_and_by_link_shows_everything_once() {
    let api = Api::new().await;
    for number in 0..5 {
        publish(&api, posting(&format!("physics {number}")), number).await;
    }
    for list in ["/postings?limit=2", "/postings?q=physics&limit=2", "/postings?sort_by=deadline&limit=2"] {
        let (mut path, mut seen) = (list.to_owned(), Vec::new());
        loop {
            let answer = api.get(&path, &anyone()).await;
            let page = answer.expect(200);
            seen.extend(titles(&page).into_iter().map(str::to_owned));
            let Some(cursor) = page["next_cursor"].as_str() else {
                assert_eq!(answer.header("link"), None);
                break;
            };
            path = format!("{list}&cursor={cursor}");
            assert_eq!(answer.header("link"), Some(format!("<{path}>; rel=\"next\"").as_str()));
        }
        seen.sort_unstable();
        assert_eq!(seen, ["physics 0", "physics 1", "physics 2", "physics 3", "physics 4"], "{list}");
    }
}

#[tokio::test]
async fn a_cursor_of_other_filters_or_of_yesterday_is_refused() {
    let api = Api::new().await;
    for number in 0..3 {
        publish(&api, posting("physics"), number).await;
    }
    let page = api.get("/postings?limit=1&q=physics", &anyone()).await.expect(200);
    let cursor = page["next_cursor"].as_str().unwrap().to_owned();
    for other in
        ["", "q=physic", "q=physics&remote=false", "q=physics&sort_dir=asc", "q=physics&sort_by=published_at"]
    {
        let path = format!("/postings?{other}&cursor={cursor}");
        api.get(&path, &anyone()).await.problem("invalid-cursor");
    }
    api.get("/postings?cursor=nonsense", &anyone()).await.problem("invalid-cursor");
    let path = format!("/postings?q=physics&limit=2&cursor={cursor}");
    api.get(&path, &anyone()).await.expect(200);
    api.advance(SignedDuration::from_hours(24));
    api.get(&path, &anyone()).await.problem("invalid-cursor");
}

#[tokio::test]
async fn what_was_just_published_is_found_at_once() {
    let api = Api::new().await;
    publish(&api, posting("Dark matter"), 0).await;
    let page = api.get("/postings?q=dark+matter", &anyone()).await.expect(200);
    assert_eq!(titles(&page), ["Dark matter"]);
}

#[tokio::test]
async fn a_parameter_that_does_not_fit_is_named() {
    let api = Api::new().await;
    let answer = api.get("/postings?limit=101&sort_by=relevance&colour=red", &anyone()).await;
    let problem = answer.problem("validation");
    assert_eq!(pointers(&problem), ["#/query/sort_by", "#/query/limit", "#/query/colour"]);
}

#[tokio::test]
async fn an_unchanged_list_is_304_and_a_changed_one_is_not() {
    let api = Api::new().await;
    for number in 0..3 {
        publish(&api, posting("physics"), number).await;
    }
    for path in ["/postings?limit=2", "/postings?q=physics&limit=2"] {
        let first = api.get(path, &anyone()).await;
        assert_eq!(first.header("cache-control"), Some("public, max-age=60, stale-while-revalidate=300"));
        assert_eq!(first.header("access-control-allow-origin"), Some("*"));
        let again = api.get(path, &anyone().with("if-none-match", first.header("etag").unwrap())).await;
        // The cursor's end moves on every five minutes; a test that meets that instant asks once more.
        let again = match again.status.as_u16() {
            304 => again,
            _ => api.get(path, &anyone().with("if-none-match", again.header("etag").unwrap())).await,
        };
        assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""), "{path}");
    }
    let before = api.get("/postings", &anyone()).await;
    publish(&api, posting("physics"), 0).await;
    let known = anyone().with("if-none-match", before.header("etag").unwrap());
    assert_eq!(api.get("/postings", &known).await.status, 200);
}

fn rich() -> PostingFields {
    PostingFields {
        canonical_url: Some("https://example.org/jobs/1".into()),
        description_text: Some("First & last.\n<b>bold</b>".into()),
        summary: Some("First".into()),
        country: Some("DE".into()),
        city: Some("Bonn".into()),
        remote: Some(true),
        locations: vec![
            Location { country: Some("DE".into()), city: Some("Bonn".into()), region: None },
            Location { country: Some("FR".into()), city: None, region: None },
        ],
        applicant_countries: vec!["DE".into(), "AT".into()],
        salary: Some(Salary {
            min: Some(50_000.0),
            max: Some(60_000.0),
            currency: Some("EUR".into()),
            unit: Some(SalaryUnit::Year),
        }),
        application_url: Some("https://example.org/apply".into()),
        deadline: Some("2026-12-01T12:00:00Z".parse().unwrap()),
        deadline_date: Some("2026-11-30".parse().unwrap()),
        date_posted: Some("2026-10-01".parse().unwrap()),
        employment_type: vec!["FULL_TIME".into()],
        identifier: Some("R-1".into()),
        language: Some("en".into()),
        sector: Some("Physics".into()),
        degree_level: Some("Master".into()),
        tags: vec!["solar".into()],
        areas: vec!["Astronomy".into()],
        opportunity_kind: Some(OpportunityKind::Phd),
        ..posting("PhD in solar physics")
    }
}

#[tokio::test]
async fn a_posting_shows_every_field_and_where_it_came_from_but_no_evidence() {
    let api = Api::new().await;
    let id = publish(&api, rich(), 1).await;
    let answer = api.get(&format!("/postings/{id}"), &anyone()).await;
    let body = answer.expect(200);
    assert_eq!(answer.header("cache-control"), Some("public, max-age=60, stale-while-revalidate=300"));
    for name in "candidate_id title canonical_url normalized_url canonical_hash organization_name sector \
                 degree_level opportunity_kind country region city remote tags areas description_text \
                 application_url deadline source_refs status published_at updated_at created_at summary locations \
                 applicant_countries salary deadline_date date_posted employment_type identifier language \
                 last_confirmed_at last_seen_at next_check_at provenance"
        .split_whitespace()
    {
        assert!(body.get(name).is_some(), "{name}");
    }
    assert_eq!(body["canonical_hash"], UrlHash::of("https://example.org/jobs/1").to_string());
    assert_eq!(body["salary"], json!({"min": 50000.0, "max": 60000.0, "currency": "EUR", "unit": "YEAR"}));
    assert_eq!(
        body["provenance"],
        json!({"title": {
            "via": "json-ld",
            "discovery_id": uuid::Uuid::nil(),
            "captured_at": "2026-11-01T10:00:00Z",
            "confidence": 0.98,
        }})
    );
    assert!(!answer.text.contains("evidence"));
    let known = anyone().with("if-none-match", answer.header("etag").unwrap());
    assert_eq!(api.get(&format!("/postings/{id}"), &known).await.status, 304);
}

#[tokio::test]
async fn absent_hidden_merged_and_withdrawn_postings_answer_each_in_its_way() {
    let api = Api::new().await;
    let primary = publish(&api, posting("primary"), 1).await;
    let hidden = publish(&api, posting("hidden"), 2).await;
    let merged = publish(&api, posting("merged"), 3).await;
    let withdrawn = publish(&api, posting("withdrawn"), 4).await;
    set(&api, hidden, "status = 'archived', visible = false").await;
    set(&api, merged, &format!("status = 'archived', visible = false, superseded_by = '{primary}'")).await;
    set(&api, withdrawn, "status = 'archived', visible = false, withdrawn_at = now()").await;

    let absent = api.get(&format!("/postings/{}", PostingId::new()), &anyone()).await.problem("not-found");
    let mut of_hidden = api.get(&format!("/postings/{hidden}"), &anyone()).await.problem("not-found");
    for name in ["instance", "request_id"] {
        of_hidden[name] = absent[name].clone();
    }
    assert_eq!(of_hidden, absent, "no difference");
    api.get("/postings/not-an-id", &anyone()).await.problem("not-found");
    api.get(&format!("/postings/{withdrawn}"), &anyone()).await.problem("withdrawn");
    let moved = api.get(&format!("/postings/{merged}"), &anyone()).await;
    assert_eq!(moved.status, 308);
    assert_eq!(moved.header("location"), Some(format!("/postings/{primary}").as_str()));
    let page = api.get("/postings", &anyone()).await.expect(200);
    assert_eq!(titles(&page), ["primary"]);
    let page = api.get("/postings?status=archived", &anyone()).await.expect(200);
    assert_eq!(page["items"], json!([]), "no status shows what is hidden");
}

#[tokio::test]
async fn a_posting_is_schema_org_for_who_asks_for_it() {
    let api = Api::new().await;
    let id = publish(&api, rich(), 1).await;
    let path = format!("/postings/{id}");
    let answer = api.get(&path, &anyone().with("accept", "application/ld+json")).await;
    assert_eq!(answer.header("content-type"), Some("application/ld+json"));
    assert!(answer.headers.get_all("vary").iter().any(|vary| vary == "accept"));
    let place = |address: Value| json!({"@type": "Place", "address": address});
    assert_eq!(
        answer.expect(200),
        json!({
            "@context": "https://schema.org",
            "@type": "JobPosting",
            "title": "PhD in solar physics",
            "description": "<p>First &amp; last.</p><p>&lt;b&gt;bold&lt;/b&gt;</p>",
            "datePosted": "2026-10-01",
            "validThrough": "2026-12-01T12:00:00Z",
            "hiringOrganization": {"@type": "Organization", "name": "Acme Institute"},
            "jobLocation": [
                place(json!({"@type": "PostalAddress", "addressLocality": "Bonn", "addressCountry": "DE"})),
                place(json!({"@type": "PostalAddress", "addressCountry": "FR"})),
            ],
            "jobLocationType": "TELECOMMUTE",
            "applicantLocationRequirements": [
                {"@type": "Country", "name": "DE"},
                {"@type": "Country", "name": "AT"},
            ],
            "employmentType": ["FULL_TIME"],
            "baseSalary": {
                "@type": "MonetaryAmount",
                "currency": "EUR",
                "value": {
                    "@type": "QuantitativeValue", "minValue": 50000.0, "maxValue": 60000.0, "unitText": "YEAR",
                },
            },
            "identifier": {"@type": "PropertyValue", "name": "Acme Institute", "value": "R-1"},
            "industry": "Physics",
            "inLanguage": "en",
            "url": "https://example.org/jobs/1",
        })
    );
    let usual = api.get(&path, &anyone().with("accept", "application/json")).await;
    assert_eq!(usual.header("content-type"), Some("application/json"));
    assert_ne!(usual.header("etag"), answer.header("etag"));
}

#[tokio::test]
async fn what_was_not_read_is_not_in_the_markup_and_what_is_over_is_not_indexed() {
    let api = Api::new().await;
    let id = publish(&api, posting("Bare"), 1).await;
    let path = format!("/postings/{id}");
    let markup = anyone().with("accept", "application/ld+json");
    let answer = api.get(&path, &markup).await;
    let body = answer.expect(200);
    for name in ["validThrough", "description", "jobLocation", "baseSalary", "jobLocationType"] {
        assert!(body.get(name).is_none(), "{name}");
    }
    assert_eq!(answer.header("x-robots-tag"), None);
    set(&api, id, "status = 'closed'").await;
    assert_eq!(api.get(&path, &markup).await.header("x-robots-tag"), Some("noindex"));
}

#[tokio::test]
async fn a_head_has_the_headers_of_its_get() {
    let api = Api::new().await;
    let id = publish(&api, posting("One"), 1).await;
    for path in ["/postings".to_owned(), format!("/postings/{id}")] {
        let get = api.get(&path, &anyone()).await;
        let head = api.call(Method::HEAD, &path, &anyone(), None).await;
        assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
        assert_eq!(head.header("etag"), get.header("etag"));
    }
}
