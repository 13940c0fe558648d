//! The public list on a real database: every filter, every sort, every page.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use domain::ids::{CandidateId, ModuleDbId, PostingId};
use domain::posting::{OpportunityKind, PostingFields};
use domain::state::PostingStatus;
use domain::url::{Rules, UrlHash, normalize};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::collections::BTreeMap;
use store::candidates::links::candidate_discovery_link;
use store::candidates::{CandidateContent, candidate_insert};
use store::discoveries::{NewDiscovery, discoveries_take_in};
use store::modules::{Module, module_insert};
use store::posting_search::{Direction, Page, Position, PostingFilter, Sort, When, postings_search};
use store::postings::{PostingContent, posting_insert};
use testdb::TestDb;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// The instant of the newest posting; posting `n` is `n` minutes older.
fn epoch() -> Timestamp {
    "2026-11-01T12:00:00Z".parse().unwrap()
}

fn minutes_before(minutes: i64) -> Timestamp {
    epoch() - SignedDuration::from_mins(minutes)
}

struct Catalogue {
    _db: TestDb,
    client: Client,
    module: ModuleDbId,
    count: i64,
}

impl Catalogue {
    async fn new() -> Self {
        let db = TestDb::new().await;
        let client = db.owner().await;
        let module = Self::module(&client, "acme-feed").await;
        Self { _db: db, client, module, count: 0 }
    }

    async fn module(client: &Client, module_id: &str) -> ModuleDbId {
        let module = Module {
            id: ModuleDbId::new(),
            module_id: module_id.into(),
            name: module_id.into(),
            kind: "connector".into(),
            intake_mode: None,
            enabled: true,
            disabled_reason: None,
            scopes: vec![],
            trust_level: "trusted".into(),
            source_keys: vec![],
            job_kinds: vec![],
            config: json!({}),
            version: 1,
            created_at: epoch(),
            updated_at: epoch(),
        };
        module_insert(client, &module).await.unwrap().id
    }

    /// Publishes a posting, a minute older than the one before.
    async fn add(&mut self, fields: PostingFields) -> PostingId {
        self.count += 1;
        let at = minutes_before(self.count);
        self.add_at(fields, at).await
    }

    async fn add_at(&mut self, fields: PostingFields, at: Timestamp) -> PostingId {
        let candidate = CandidateId::new();
        let url = format!("https://example.org/{candidate}");
        let hash = UrlHash::of(&url).0;
        let content = CandidateContent {
            fields: fields.clone(),
            field_provenance: BTreeMap::new(),
            conflicts: vec![],
            extraction_confidence: 0.9,
            risk_flags: vec![],
            canonical_hash: hash,
            canonical_url: url.clone(),
            normalized_url: url.clone(),
            organization_key: String::new(),
            title_key: String::new(),
            source_identity: None,
            authority_rank: 3,
            authority_module_id: self.module,
        };
        candidate_insert(&self.client, candidate, "test", &content).await.unwrap();
        let posting = PostingId::new();
        let content = PostingContent {
            fields: &fields,
            canonical_url: &url,
            normalized_url: &url,
            canonical_hash: &hash,
            source_refs: &[],
        };
        posting_insert(&self.client, posting, candidate, &content, "test", at).await.unwrap();
        self.set(posting, "created_at = $2, updated_at = $2", at).await;
        posting
    }

    async fn set(&self, posting: PostingId, what: &str, at: Timestamp) {
        let sql = format!("UPDATE postings SET {what} WHERE id = $1");
        let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&posting.0, Type::UUID), (&at, Type::TIMESTAMPTZ)];
        self.client.execute_typed(&sql, &params).await.unwrap();
    }

    async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    async fn page(
        &self,
        filter: &PostingFilter,
        sort: Sort,
        direction: Direction,
        after: Option<Position>,
        limit: i64,
    ) -> Page {
        postings_search(&self.client, filter, sort, direction, after, epoch(), limit).await.unwrap()
    }

    /// The titles that a filter lets through, newest first.
    async fn titles(&self, filter: PostingFilter) -> Vec<String> {
        let page = self.page(&filter, Sort::PublishedAt, Direction::Desc, None, 100).await;
        page.items.into_iter().map(|item| item.title).collect()
    }

    async fn relevant(&self, q: &str) -> Vec<String> {
        let page = self.page(&words(q), Sort::Relevance, Direction::Desc, None, 100).await;
        page.items.into_iter().map(|item| item.title).collect()
    }

    /// Every page of `limit` rows, one after the other.
    async fn walk(
        &self,
        filter: &PostingFilter,
        sort: Sort,
        direction: Direction,
        limit: i64,
    ) -> Vec<PostingId> {
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let page = self.page(filter, sort, direction, after, limit).await;
            assert!(page.items.len() as i64 <= limit);
            ids.extend(page.items.iter().map(|item| item.id));
            after = page.next;
            if after.is_none() {
                return ids;
            }
        }
    }
}

fn live() -> PostingFilter {
    PostingFilter { statuses: vec![PostingStatus::Active, PostingStatus::Stale], ..PostingFilter::default() }
}

fn words(q: &str) -> PostingFilter {
    PostingFilter { q: Some(q.into()), ..live() }
}

fn posting(title: &str) -> PostingFields {
    PostingFields {
        title: Some(title.into()),
        organization_name: Some("Acme Institute".into()),
        ..PostingFields::default()
    }
}

fn of(title: &str, organization: &str) -> PostingFields {
    PostingFields { organization_name: Some(organization.into()), ..posting(title) }
}

#[tokio::test]
async fn each_filter_lets_through_what_it_names_without_case() {
    let mut catalogue = Catalogue::new().await;
    let deadline: Timestamp = "2026-12-01T12:00:00Z".parse().unwrap();
    catalogue
        .add(PostingFields {
            country: Some("DE".into()),
            region: Some("Nordrhein-Westfalen".into()),
            city: Some("Köln".into()),
            remote: Some(true),
            tags: vec!["Solar Physics".into(), "x".into()],
            areas: vec!["Astronomy".into()],
            opportunity_kind: Some(OpportunityKind::Phd),
            degree_level: Some("Master".into()),
            sector: Some("Public".into()),
            employment_type: vec!["FULL_TIME".into()],
            deadline: Some(deadline),
            ..of("one", "Universität zu Köln")
        })
        .await;
    catalogue
        .add(PostingFields {
            country: Some("FR".into()),
            tags: vec!["y".into()],
            areas: vec!["Biology".into()],
            opportunity_kind: Some(OpportunityKind::Postdoc),
            deadline: Some(deadline + SignedDuration::from_hours(1)),
            ..of("two", "CNRS")
        })
        .await;
    catalogue.add(of("three", "Köln Labs")).await;
    let later = deadline + SignedDuration::from_hours(1);
    let text = |value: &str| Some(value.to_owned());
    let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let cases: Vec<(&str, PostingFilter, &[&str])> = vec![
        ("none", live(), &["one", "two", "three"]),
        ("country", PostingFilter { countries: list(&["de"]), ..live() }, &["one"]),
        ("countries", PostingFilter { countries: list(&["de", "FR"]), ..live() }, &["one", "two"]),
        ("region", PostingFilter { region: text("nordrhein-westfalen"), ..live() }, &["one"]),
        ("city", PostingFilter { city: text("KÖLN"), ..live() }, &["one"]),
        ("city, exact", PostingFilter { city: text("Köl"), ..live() }, &[]),
        ("tag", PostingFilter { tags: list(&["solar physics"]), ..live() }, &["one"]),
        ("tags", PostingFilter { tags: list(&["X", "Y"]), ..live() }, &["one", "two"]),
        ("tag, exact", PostingFilter { tags: list(&["solar"]), ..live() }, &[]),
        ("area", PostingFilter { areas: list(&["BIOLOGY"]), ..live() }, &["two"]),
        ("kind", PostingFilter { opportunity_kinds: list(&["PhD"]), ..live() }, &["one"]),
        ("kinds", PostingFilter { opportunity_kinds: list(&["phd", "postdoc"]), ..live() }, &["one", "two"]),
        ("degree", PostingFilter { degree_level: text("master"), ..live() }, &["one"]),
        ("sector", PostingFilter { sector: text("PUBLIC"), ..live() }, &["one"]),
        ("employment", PostingFilter { employment_type: text("full_time"), ..live() }, &["one"]),
        ("remote", PostingFilter { remote: Some(true), ..live() }, &["one"]),
        ("on site", PostingFilter { remote: Some(false), ..live() }, &["two", "three"]),
        ("organisation", PostingFilter { organization_name: text("koln"), ..live() }, &["one", "three"]),
        ("organisation, short", PostingFilter { organization_name: text("Kö"), ..live() }, &["three"]),
        ("organisation, inside", PostingFilter { organization_name: text("NR"), ..live() }, &[]),
        ("deadline from", PostingFilter { deadline_after: Some(When::Instant(later)), ..live() }, &["two"]),
        ("deadline until", PostingFilter { deadline_before: Some(When::Instant(later)), ..live() }, &["one"]),
        ("published", PostingFilter { published_after: Some(minutes_before(2)), ..live() }, &["one", "two"]),
        (
            "all at once",
            PostingFilter {
                q: text("one"),
                countries: list(&["DE"]),
                tags: list(&["x"]),
                remote: Some(true),
                organization_name: text("universitat"),
                ..live()
            },
            &["one"],
        ),
        ("against each other", PostingFilter { countries: list(&["FR"]), tags: list(&["x"]), ..live() }, &[]),
    ];
    for (name, filter, expected) in cases {
        assert_eq!(catalogue.titles(filter).await, expected, "{name}");
    }
}

#[tokio::test]
async fn a_day_is_compared_with_the_publishers_day() {
    let mut catalogue = Catalogue::new().await;
    // The end of 30 November in UTC−12, which is noon of the next day in UTC.
    let end: Timestamp = "2026-12-01T11:59:59Z".parse().unwrap();
    let dated = Some("2026-11-30".parse().unwrap());
    catalogue.add(PostingFields { deadline: Some(end), deadline_date: dated, ..posting("dated") }).await;
    catalogue.add(PostingFields { deadline: Some(end), ..posting("timed") }).await;
    catalogue.add(posting("open-ended")).await;
    let day = |text: &str| Some(When::Day(text.parse().unwrap()));
    let after = |text: &str| PostingFilter { deadline_after: day(text), ..live() };
    let before = |text: &str| PostingFilter { deadline_before: day(text), ..live() };
    assert_eq!(catalogue.titles(after("2026-11-30")).await, ["dated", "timed"]);
    assert_eq!(catalogue.titles(after("2026-12-01")).await, ["timed"]);
    assert_eq!(catalogue.titles(before("2026-12-01")).await, ["dated"]);
    assert_eq!(catalogue.titles(before("2026-11-30")).await, Vec::<String>::new());
}

#[tokio::test]
async fn the_status_filter_shows_what_is_visible_and_nothing_hidden() {
    let mut catalogue = Catalogue::new().await;
    for title in ["active", "stale", "archived", "closed", "hidden"] {
        catalogue.add(posting(title)).await;
    }
    catalogue.run("UPDATE postings SET status = title WHERE title <> 'hidden'").await;
    catalogue.run("UPDATE postings SET status = 'archived', visible = false WHERE title = 'hidden'").await;
    assert_eq!(catalogue.titles(live()).await, ["active", "stale"]);
    for status in PostingStatus::ALL {
        let filter = PostingFilter { statuses: vec![*status], ..PostingFilter::default() };
        assert_eq!(catalogue.titles(filter).await, [status.as_str()]);
    }
}

#[tokio::test]
async fn the_source_filter_asks_for_a_discovery_that_was_not_taken_back() {
    let mut catalogue = Catalogue::new().await;
    let other = Catalogue::module(&catalogue.client, "other-feed").await;
    let first = catalogue.add(posting("first")).await;
    catalogue.add(posting("second")).await;
    let url = "https://example.org/1";
    let discovery = NewDiscovery::of_page(url, &normalize(url, &Rules::builtin()).unwrap(), epoch());
    let id = discovery.id;
    discoveries_take_in(&catalogue.client, other, 0, None, None, &[discovery]).await.unwrap();
    let row = catalogue
        .client
        .query_typed("SELECT candidate_id FROM postings WHERE id = $1", &[(&first.0, Type::UUID)])
        .await
        .unwrap();
    candidate_discovery_link(&catalogue.client, CandidateId(row[0].get(0)), id).await.unwrap();
    let from = |module: &str| PostingFilter { source: Some(module.into()), ..live() };
    assert_eq!(catalogue.titles(from("other-feed")).await, ["first"]);
    assert_eq!(catalogue.titles(from("acme-feed")).await, Vec::<String>::new());
    catalogue.run("UPDATE discoveries SET status = 'withdrawn'").await;
    assert_eq!(catalogue.titles(from("other-feed")).await, Vec::<String>::new());
}

#[tokio::test]
async fn wildcards_are_literal() {
    let mut catalogue = Catalogue::new().await;
    catalogue.add(of("percent", "100% Science")).await;
    catalogue.add(of("plain", "1000 Sciences")).await;
    catalogue.add(of("the_under", "a_b Institute")).await;
    catalogue.add(of("thexunder", "axb Institute")).await;
    let named = |name: &str| PostingFilter { organization_name: Some(name.into()), ..live() };
    assert_eq!(catalogue.titles(named("100%")).await, ["percent"]);
    assert_eq!(catalogue.titles(named("%")).await, Vec::<String>::new());
    assert_eq!(catalogue.titles(named("a_b")).await, ["the_under"]);
    assert_eq!(catalogue.titles(named("_")).await, Vec::<String>::new());
    assert_eq!(catalogue.titles(named("\\")).await, Vec::<String>::new());
    // Words that English drops fall back to a prefix, whose wildcards are literal too.
    assert_eq!(catalogue.titles(words("the_")).await, ["the_under"]);
    assert_eq!(catalogue.titles(words("%")).await, Vec::<String>::new());
}

#[tokio::test]
async fn words_match_title_organisation_tags_areas_kind_and_description() {
    let mut catalogue = Catalogue::new().await;
    catalogue.add(posting("Research in plasma")).await;
    catalogue.add(of("second", "Plasma Centre")).await;
    catalogue.add(PostingFields { tags: vec!["plasma".into()], ..posting("third") }).await;
    catalogue.add(PostingFields { areas: vec!["plasma".into()], ..posting("fourth") }).await;
    catalogue.add(PostingFields { description_text: Some("on plasmas".into()), ..posting("fifth") }).await;
    catalogue
        .add(PostingFields { opportunity_kind: Some(OpportunityKind::ResearchStaff), ..posting("sixth") })
        .await;
    catalogue.add(posting("seventh")).await;
    let titles = catalogue.titles(words("plasma")).await;
    assert_eq!(titles, ["Research in plasma", "second", "third", "fourth", "fifth"]);
    assert_eq!(catalogue.titles(words("research staff")).await, ["sixth"]);
    assert_eq!(catalogue.titles(words("\"research in plasma\"")).await, ["Research in plasma"]);
    assert_eq!(catalogue.titles(words("plasma -centre")).await.len(), 4);
    assert_eq!(catalogue.titles(words("seventh or sixth")).await, ["sixth", "seventh"]);
    assert_eq!(catalogue.titles(words("plasma nonsense")).await, Vec::<String>::new());
}

#[tokio::test]
async fn only_the_beginning_of_a_long_description_is_searched() {
    let mut catalogue = Catalogue::new().await;
    let description = format!("early {} late", "filler ".repeat(1_000));
    catalogue.add(PostingFields { description_text: Some(description), ..posting("long") }).await;
    assert_eq!(catalogue.titles(words("early")).await, ["long"]);
    assert_eq!(catalogue.titles(words("late")).await, Vec::<String>::new());
}

#[tokio::test]
async fn each_language_is_searched_in_its_own_configuration() {
    let mut catalogue = Catalogue::new().await;
    let german = |title: &str| PostingFields { language: Some("de".into()), ..posting(title) };
    catalogue.add(german("Wissenschaftliche Stellen in Zürich")).await;
    catalogue
        .add(PostingFields { language: Some("en-GB".into()), ..posting("Open positions in Zurich") })
        .await;
    assert_eq!(catalogue.titles(words("position")).await, ["Open positions in Zurich"]);
    assert_eq!(catalogue.titles(words("stelle")).await, Vec::<String>::new());
    assert_eq!(catalogue.titles(words("stellen")).await, ["Wissenschaftliche Stellen in Zürich"]);
    assert_eq!(catalogue.titles(words("zurich")).await.len(), 2, "accents do not matter");
    assert_eq!(catalogue.titles(words("ZÜRICH")).await.len(), 2);
    // What is negated is looked for in the language of the document.
    assert_eq!(catalogue.titles(words("zurich -positions")).await, ["Wissenschaftliche Stellen in Zürich"]);
}

#[tokio::test]
async fn words_that_are_all_dropped_match_as_the_beginning_of_title_or_organisation() {
    let mut catalogue = Catalogue::new().await;
    catalogue.add(posting("The Where and How of Stars")).await;
    catalogue.add(of("Stars", "The Who Institute")).await;
    catalogue.add(posting("Where the Stars are")).await;
    assert_eq!(catalogue.titles(words("the")).await, ["The Where and How of Stars", "Stars"]);
    assert_eq!(catalogue.titles(words("THE WHO")).await, ["Stars"]);
    assert_eq!(catalogue.relevant("the").await, ["The Where and How of Stars", "Stars"]);
}

#[tokio::test]
async fn tiers_order_what_matches_and_the_newest_of_a_tier_comes_first() {
    let mut catalogue = Catalogue::new().await;
    // Added from the newest to the oldest, so that only the tiers can bring the last to the front.
    catalogue
        .add(PostingFields { description_text: Some("dark matter".into()), ..posting("Anything") })
        .await;
    catalogue.add(of("Z", "Centre of Dark Matter")).await;
    catalogue.add(of("Z", "Dark Matter Centre")).await;
    catalogue.add(of("Z", "dark  matter")).await;
    catalogue.add(posting("On Dark Matter")).await;
    catalogue.add(posting("Dark Matter Fellowship")).await;
    catalogue.add(posting("Dark Matter")).await;
    let page = catalogue.page(&words("Dark matter"), Sort::Relevance, Direction::Desc, None, 100).await;
    let found: Vec<(&str, &str)> =
        page.items.iter().map(|item| (item.title.as_str(), item.organization_name.as_str())).collect();
    assert_eq!(
        found,
        [
            ("Dark Matter", "Acme Institute"),
            ("Dark Matter Fellowship", "Acme Institute"),
            ("On Dark Matter", "Acme Institute"),
            ("Z", "dark  matter"),
            ("Z", "Dark Matter Centre"),
            ("Z", "Centre of Dark Matter"),
            ("Anything", "Acme Institute"),
        ]
    );
    let up = catalogue.page(&words("Dark matter"), Sort::Relevance, Direction::Asc, None, 100).await;
    let mut reversed = up.items;
    reversed.reverse();
    assert_eq!(reversed, page.items);
    // Same tier, same rank: the newer first.
    catalogue.add(posting("Dark Matter")).await;
    let twins = catalogue.page(&words("dark matter"), Sort::Relevance, Direction::Desc, None, 2).await;
    assert!(twins.items[0].published_at > twins.items[1].published_at);
}

#[tokio::test]
async fn within_a_tier_the_rank_decides() {
    let mut catalogue = Catalogue::new().await;
    let described = |text: &str| PostingFields { description_text: Some(text.into()), ..posting("Z") };
    let far = catalogue.add(described("quantum and a lot of other words before gravity")).await;
    let near = catalogue.add(described("quantum gravity")).await;
    let page = catalogue.page(&words("quantum gravity"), Sort::Relevance, Direction::Desc, None, 10).await;
    let ids: Vec<PostingId> = page.items.iter().map(|item| item.id).collect();
    assert_eq!(ids, [near, far]);
}

#[tokio::test]
async fn every_sort_walks_through_everything_once_in_both_directions() {
    let mut catalogue = Catalogue::new().await;
    let deadline: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
    let mut ids = Vec::new();
    for number in 0..13i64 {
        let fields = PostingFields {
            // Ties and gaps: three share a deadline, three have none.
            deadline: (number % 4 != 0).then(|| deadline + SignedDuration::from_hours(number / 3)),
            ..posting("shared word")
        };
        // Pairs share an instant, so that the id has to decide.
        let id = catalogue.add_at(fields, minutes_before(number / 2)).await;
        catalogue.set(id, "updated_at = $2", minutes_before((number * 7) % 13 / 2)).await;
        ids.push(id);
    }
    let key = |sort: Sort, item: &store::posting_search::PostingItem| match sort {
        Sort::PublishedAt | Sort::Relevance => Some(item.published_at),
        Sort::CreatedAt => Some(item.created_at),
        Sort::UpdatedAt => Some(item.updated_at),
        Sort::Deadline => item.deadline,
    };
    for sort in [Sort::PublishedAt, Sort::CreatedAt, Sort::UpdatedAt, Sort::Deadline, Sort::Relevance] {
        for direction in [Direction::Asc, Direction::Desc] {
            let filter = words("shared");
            let page = catalogue.page(&filter, sort, direction, None, 100).await;
            let mut expected = page.items.clone();
            // The reference order: nulls last in both directions, ties by id in the same direction.
            expected.sort_by(|a, b| {
                let (left, right) = (key(sort, a), key(sort, b));
                let nulls = left.is_none().cmp(&right.is_none());
                let rest = (left, a.id).cmp(&(right, b.id));
                nulls.then(if direction == Direction::Asc { rest } else { rest.reverse() })
            });
            assert_eq!(page.items, expected, "{sort:?} {direction:?}");
            assert_eq!(page.items.len(), ids.len());
            let all: Vec<PostingId> = page.items.iter().map(|item| item.id).collect();
            for limit in [1, 2, 5, 13, 14] {
                assert_eq!(
                    catalogue.walk(&filter, sort, direction, limit).await,
                    all,
                    "{sort:?} {direction:?} {limit}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_walk_is_not_disturbed_by_what_is_published_meanwhile() {
    let mut catalogue = Catalogue::new().await;
    let mut before = Vec::new();
    for _ in 0..6 {
        before.push(catalogue.add(posting("common word")).await);
    }
    for sort in [Sort::PublishedAt, Sort::Relevance] {
        let filter = words("common");
        let first = catalogue.page(&filter, sort, Direction::Desc, None, 2).await;
        // Newer than anything, and above it in every tier.
        let later = epoch() + SignedDuration::from_secs(1);
        let intruder = catalogue.add_at(posting("common"), later).await;
        let mut seen: Vec<PostingId> = first.items.iter().map(|item| item.id).collect();
        let mut after = first.next;
        while let Some(position) = after {
            let now = epoch() + SignedDuration::from_secs(2);
            let page =
                postings_search(&catalogue.client, &filter, sort, Direction::Desc, Some(position), now, 2)
                    .await
                    .unwrap();
            seen.extend(page.items.iter().map(|item| item.id));
            after = page.next;
        }
        assert_eq!(seen, before, "{sort:?}");
        catalogue.run(&format!("DELETE FROM postings WHERE id = '{intruder}'")).await;
    }
}

#[tokio::test]
async fn the_window_is_the_newest_matches_and_the_exact_ones_of_any_age() {
    let mut catalogue = Catalogue::new().await;
    // The oldest of all, and the only exact ones.
    let title = catalogue.add_at(posting("neutrino"), minutes_before(100_000)).await;
    let organization = catalogue.add_at(of("Z", "Neutrino"), minutes_before(100_001)).await;
    let model = catalogue.add_at(posting("model of neutrino work"), minutes_before(1)).await;
    // The rest by copying: 600 rows of the same words, minute by minute older.
    catalogue
        .run(&format!(
            "INSERT INTO posting_candidates SELECT (jsonb_populate_record(candidate, jsonb_build_object('id', gen_random_uuid()))).*
             FROM posting_candidates AS candidate, generate_series(2, 601)
             WHERE candidate.id = (SELECT candidate_id FROM postings WHERE id = '{model}');
             WITH fresh AS (
                 SELECT id, row_number() OVER () AS number
                 FROM posting_candidates
                 WHERE NOT EXISTS (SELECT FROM postings WHERE candidate_id = posting_candidates.id)
             )
             INSERT INTO postings (id, candidate_id, title, canonical_url, normalized_url, canonical_hash, organization_name,
                 title_fold, organization_fold, status, status_reason, visible, published_at)
             SELECT gen_random_uuid(), fresh.id, title, canonical_url, normalized_url, sha256(fresh.id::text::bytea),
                 organization_name, title_fold, organization_fold, status, status_reason, visible,
                 published_at - make_interval(mins => fresh.number::integer)
             FROM postings, fresh
             WHERE postings.id = '{model}'"
        ))
        .await;
    let found = catalogue.walk(&words("neutrino"), Sort::Relevance, Direction::Desc, 100).await;
    assert_eq!(found.len(), 502, "500 newest, one exact title, one exact organisation");
    assert_eq!(found[0], title);
    assert!(found.contains(&organization));
    let all = catalogue.walk(&words("neutrino"), Sort::PublishedAt, Direction::Desc, 100).await;
    assert_eq!(all.len(), 603, "other sorts have no window");
}

#[tokio::test]
async fn an_item_shows_what_the_list_promises() {
    let mut catalogue = Catalogue::new().await;
    let id = catalogue
        .add(PostingFields {
            summary: Some("s".repeat(300)),
            country: Some("DE".into()),
            deadline_date: Some("2026-12-01".parse().unwrap()),
            application_url: Some("https://example.org/apply".into()),
            ..posting("Title")
        })
        .await;
    catalogue
        .run(&format!(
            "INSERT INTO posting_checks (posting_id, is_live, last_confirmed_at, last_seen_at, next_check_at)
             VALUES ('{id}', true, '2026-11-02Z', '2026-11-02Z', '2026-11-03Z')"
        ))
        .await;
    let page = catalogue.page(&live(), Sort::PublishedAt, Direction::Desc, None, 1).await;
    assert_eq!(page.next, None, "the last page says so");
    let item = &page.items[0];
    assert_eq!((item.id, item.status, item.remote), (id, PostingStatus::Active, false));
    assert_eq!(item.summary.as_ref().map(String::len), Some(280));
    assert_eq!(item.last_confirmed_at, Some("2026-11-02T00:00:00Z".parse().unwrap()));
    assert_eq!(item.deadline_date, Some("2026-12-01".parse().unwrap()));
    assert_eq!(item.published_at, minutes_before(1));
}
