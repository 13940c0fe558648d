//! What a second extraction may change: by rank, behind the takeover guard, never a moderator's word (§10.4).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod common;

use common::{Bench, URL, found, posting, posting_with, provenance, result, result_at};
use domain::ids::{CandidateId, DiscoveryId};
use serde_json::{Map, Value, json};
use tokio_postgres::types::Type;

/// A published posting of a module of that trust.
async fn published(bench: &Bench, trust: &str) -> (DiscoveryId, CandidateId) {
    let discovery = bench.discovery(bench.module("feed", trust).await, URL).await;
    bench.extract(discovery, result(found(posting()))).await;
    let candidate = bench.candidate(discovery).await.unwrap();
    assert_eq!(candidate.state, "published");
    (discovery, candidate.id)
}

/// Another module's discovery that a merge has linked to a candidate.
async fn linked(bench: &Bench, trust: &str, candidate: CandidateId) -> DiscoveryId {
    let module = bench.module(&format!("other-{trust}"), trust).await;
    let discovery = bench.discovery(module, "https://board.example/ads/7").await;
    bench
        .execute(
            "UPDATE discoveries SET candidate_id = $2, status = 'extracted' WHERE id = $1",
            &[(&discovery.0, Type::UUID), (&candidate.0, Type::UUID)],
        )
        .await;
    discovery
}

async fn proposed(bench: &Bench) -> Vec<Value> {
    let rows = bench
        .owner
        .query_typed("SELECT fields FROM posting_revisions WHERE state = 'proposed' ORDER BY id", &[])
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// The applied revisions of a candidate, one over the other.
async fn replayed(bench: &Bench, candidate: CandidateId) -> Map<String, Value> {
    let rows = bench
        .owner
        .query_typed(
            "SELECT fields FROM posting_revisions WHERE candidate_id = $1 AND state = 'applied' ORDER BY id",
            &[(&candidate.0, Type::UUID)],
        )
        .await
        .unwrap();
    let mut fields = Map::new();
    for row in &rows {
        for (name, value) in row.get::<_, Value>(0).as_object().unwrap() {
            if value.is_null() {
                fields.remove(name);
            } else {
                fields.insert(name.clone(), value.clone());
            }
        }
    }
    fields
}

#[tokio::test]
async fn the_authority_s_changes_reach_the_live_posting_and_replay_to_the_present() {
    let bench = Bench::new().await;
    let (discovery, candidate) = published(&bench, "trusted").await;
    let changed = posting_with(json!({"city": "Basel", "deadline": null, "summary": "Soil."}));
    bench.extract(discovery, result(found(changed))).await;

    let posting = bench.posting(candidate).await.unwrap();
    assert_eq!((posting.status.as_str(), posting.visible), ("active", true));
    assert_eq!(bench.events(posting.id).await, ["projected", "fields_changed"]);
    let client = bench.cx.pool.get().await.unwrap();
    let detail = store::postings::detail::posting_detail(&**client, posting.id).await.unwrap().unwrap();
    assert_eq!(detail.fields.city.as_deref(), Some("Basel"));
    assert_eq!(detail.fields.deadline, None);
    let mut shown = kinds::publication::fields_map(&detail.fields);
    if shown.get("remote") == Some(&json!(false)) {
        shown.remove("remote");
    }
    let mut replayed = replayed(&bench, candidate).await;
    replayed.remove("remote");
    assert_eq!(replayed, shown);
}

#[tokio::test]
async fn the_same_page_again_writes_no_version_and_no_event() {
    let bench = Bench::new().await;
    let (discovery, candidate) = published(&bench, "trusted").await;
    let before = bench.count("SELECT count(*) FROM provenance_events").await;
    let versions = "SELECT (SELECT version FROM posting_candidates) * 1000 + (SELECT version FROM postings)";
    let version = bench.count(versions).await;
    bench.extract(discovery, result(found(posting()))).await;
    assert_eq!(bench.count("SELECT count(*) FROM provenance_events").await, before);
    assert_eq!(bench.count(versions).await, version);
    assert_eq!(bench.posting(candidate).await.unwrap().status, "active");
}

#[tokio::test]
async fn a_takeover_is_proposed_and_the_live_posting_stays() {
    for (change, sign) in [
        (json!({"title": "Sales representative, remote, no experience needed"}), "title"),
        (json!({"organization_name": "Quick Cash Ltd"}), "organization"),
        (json!({"application_url": "https://evil.example.net/apply"}), "application_domain"),
    ] {
        let bench = Bench::new().await;
        let (discovery, candidate) = published(&bench, "trusted").await;
        let taken = result(found(posting_with(change)));
        bench.extract(discovery, taken.clone()).await;
        // The same again is the same proposal.
        bench.extract(discovery, taken).await;
        let posting = bench.posting(candidate).await.unwrap();
        assert_eq!((posting.title.as_str(), posting.visible), ("Doctoral position in soil physics", true));
        assert_eq!(bench.events(posting.id).await, ["projected", "revision_proposed"]);
        assert_eq!(bench.event_payloads(posting.id).await[1].1["signs"], json!([sign]));
        assert_eq!(proposed(&bench).await.len(), 1);
        let row = bench.candidate(discovery).await.unwrap();
        assert_eq!(
            (row.state.as_str(), row.flags.as_slice()),
            ("published", &["content_change_review".to_owned()][..])
        );
        assert_eq!(row.fields["title"], "Doctoral position in soil physics");
    }
}

#[tokio::test]
async fn a_lower_rank_changes_nothing_and_a_higher_one_takes_over() {
    for (trust, expected) in [("untrusted", "Bern"), ("semi_trusted", "Bern"), ("trusted", "Basel")] {
        let bench = Bench::new().await;
        let (_, candidate) = published(&bench, "semi_trusted").await;
        let other = linked(&bench, trust, candidate).await;
        let changed = posting_with(json!({"city": "Basel", "canonical_url": null}));
        bench.extract(other, result_at(&["https://board.example/ads/7"], found(changed))).await;
        assert_eq!(bench.candidate(other).await.unwrap().fields["city"], expected, "{trust}");
    }
}

#[tokio::test]
async fn callboard_s_own_fetch_of_the_canonical_page_counts_among_equals() {
    let bench = Bench::new().await;
    let (_, candidate) = published(&bench, "semi_trusted").await;
    let other = linked(&bench, "semi_trusted", candidate).await;
    let changed =
        result_at(&["https://board.example/ads/7", URL], found(posting_with(json!({"city": "Basel"}))));
    bench.extract(other, changed).await;
    assert_eq!(bench.candidate(other).await.unwrap().fields["city"], "Basel");
}

#[tokio::test]
async fn a_locked_field_stays_and_another_source_s_field_is_not_unsaid_by_silence() {
    let bench = Bench::new().await;
    let (discovery, candidate) = published(&bench, "trusted").await;
    bench
        .execute(
            "UPDATE posting_candidates SET locked_fields = '{city, region}', \
             fields = fields || '{\"city\": \"Thun\", \"sector\": \"science\"}', \
             field_provenance = field_provenance || '{\"sector\": {\"via\": \"html\", \"confidence\": 0.7, \
             \"discovery_id\": \"01930000-0000-7000-8000-00000000000f\"}}'",
            &[],
        )
        .await;
    let changed = posting_with(json!({"city": "Basel", "region": "BS", "tags": null}));
    bench.extract(discovery, result(found(changed))).await;
    let fields = bench.candidate(discovery).await.unwrap().fields;
    assert_eq!(fields["city"], "Thun");
    assert_eq!(fields.get("region"), None);
    assert_eq!(fields["sector"], "science");
    assert_eq!(fields.get("tags"), None);
    assert_eq!(bench.posting(candidate).await.unwrap().status, "active");
}

#[tokio::test]
async fn callboard_s_own_reading_closes_a_live_posting_for_sure_signs_only() {
    let over = json!({"deadline": "2020-01-01T00:00:00Z"});
    for (extraction, status, reason) in [
        (json!({"verdict": "closed", "postings": [posting()], "closed_by": "gone"}), "closed", "gone"),
        (json!({"verdict": "closed", "closed_by": "gone"}), "closed", "gone"),
        (found(posting_with(over)), "closed", "deadline_passed"),
        // A phrase is a strike, which freshness counts.
        (
            json!({"verdict": "closed", "postings": [posting()], "closed_by": "phrase"}),
            "active",
            "trusted_auto_publish",
        ),
    ] {
        let bench = Bench::new().await;
        let (discovery, candidate) = published(&bench, "trusted").await;
        bench.extract(discovery, result(extraction)).await;
        let posting = bench.posting(candidate).await.unwrap();
        assert_eq!((posting.status.as_str(), posting.reason.as_str()), (status, reason));
        assert!(posting.visible);
        let is_live = bench.count("SELECT count(*) FROM posting_checks WHERE is_live").await == 1;
        assert_eq!(is_live, status == "active");
        let state = if status == "active" { "published" } else { "closed" };
        assert_eq!(bench.candidate(discovery).await.unwrap().state, state);
    }
}

#[tokio::test]
async fn what_is_closed_and_comes_back_changed_is_suggested_to_a_moderator_and_not_reopened() {
    let bench = Bench::new().await;
    let (discovery, candidate) = published(&bench, "trusted").await;
    bench.extract(discovery, result(json!({"verdict": "closed", "closed_by": "gone"}))).await;
    // Unchanged: nothing.
    bench.extract(discovery, result(found(posting()))).await;
    assert_eq!(bench.candidate(discovery).await.unwrap().state, "closed");
    let extended = posting_with(json!({"deadline": "2090-12-31T00:00:00Z"}));
    bench.extract(discovery, result(found(extended))).await;
    let row = bench.candidate(discovery).await.unwrap();
    assert_eq!((row.state.as_str(), row.reason.as_deref()), ("needs_review", Some("content_changed")));
    assert!(bench.events(candidate).await.contains(&"reopen_suggested".to_owned()));
    let posting = bench.posting(candidate).await.unwrap();
    assert_eq!((posting.status.as_str(), posting.visible), ("closed", true));
}

#[tokio::test]
async fn a_candidate_under_review_takes_new_fields_and_stays_with_the_moderators() {
    let bench = Bench::new().await;
    let discovery = bench.discovery(bench.module("feed", "trusted").await, URL).await;
    let weak = posting_with(json!({"field_provenance": provenance(&["title", "organization_name"], 0.5)}));
    bench.extract(discovery, result(found(weak))).await;
    assert_eq!(bench.candidate(discovery).await.unwrap().reason.as_deref(), Some("below_min_confidence"));
    bench.extract(discovery, result(found(posting_with(json!({"city": "Basel"}))))).await;
    let row = bench.candidate(discovery).await.unwrap();
    assert_eq!((row.state.as_str(), row.fields["city"].as_str()), ("needs_review", Some("Basel")));
    assert!(bench.posting(row.id).await.is_none());
}

#[tokio::test]
async fn an_incomplete_candidate_is_published_once_the_missing_field_is_there() {
    let bench = Bench::new().await;
    let discovery = bench.discovery(bench.module("feed", "trusted").await, URL).await;
    bench.extract(discovery, result(found(posting_with(json!({"organization_name": null}))))).await;
    assert_eq!(bench.candidate(discovery).await.unwrap().state, "processed");
    bench.extract(discovery, result(found(posting()))).await;
    let row = bench.candidate(discovery).await.unwrap();
    assert_eq!(row.state, "published");
    assert_eq!(bench.posting(row.id).await.unwrap().status, "active");
}

#[tokio::test]
async fn a_new_address_that_another_posting_has_is_left_out_of_the_change() {
    let bench = Bench::new().await;
    let (discovery, _) = published(&bench, "trusted").await;
    let other_url = "https://uni.example/jobs/43";
    let other = bench.discovery(bench.module("other", "trusted").await, other_url).await;
    let read = posting_with(json!({"title": "Postdoc in plasma physics", "canonical_url": other_url}));
    bench.extract(other, result_at(&[other_url], found(read))).await;
    let moved = posting_with(json!({"canonical_url": other_url, "city": "Basel"}));
    bench.extract(discovery, result(found(moved))).await;
    let row = bench.candidate(discovery).await.unwrap();
    assert_eq!(
        (row.fields["city"].as_str(), row.fields["canonical_url"].as_str()),
        (Some("Basel"), Some(URL))
    );
}

/// Invariants 2, 3, 7 over everything that the other tests do to one database.
#[tokio::test]
async fn events_replay_to_the_present_and_nothing_under_review_is_visible() {
    let bench = Bench::new().await;
    let (discovery, _) = published(&bench, "trusted").await;
    bench.extract(discovery, result(found(posting_with(json!({"city": "Basel"}))))).await;
    bench.extract(discovery, result(json!({"verdict": "closed", "closed_by": "gone"}))).await;
    bench.extract(discovery, result(found(posting_with(json!({"city": "Chur"}))))).await;
    for (name, trust, extraction) in [
        ("bb", "untrusted", found(posting())),
        ("cc", "trusted", found(posting_with(json!({"organization_name": null})))),
        ("dd", "semi_trusted", found(posting())),
    ] {
        let url = format!("https://uni.example/jobs/{name}");
        let discovery = bench.discovery(bench.module(name, trust).await, &url).await;
        let mut extraction = extraction;
        extraction["postings"][0]["canonical_url"] = json!(url);
        bench.extract(discovery, result_at(&[&url], extraction)).await;
    }
    let replay = |entity: &str, table: &str, column: &str, events: &str| {
        format!(
            "SELECT count(*) FROM {table} t WHERE t.{column} IS DISTINCT FROM (SELECT payload ->> 'to' \
             FROM provenance_events e WHERE e.entity_type = '{entity}' AND e.entity_id = t.id::text \
             AND e.event_type IN ({events}) ORDER BY e.id DESC LIMIT 1)"
        )
    };
    for (entity, table, column, events) in [
        ("candidate", "posting_candidates", "state", "'materialised', 'state_changed'"),
        ("posting", "postings", "status", "'projected', 'status_changed'"),
        ("discovery", "discoveries", "status", "'status_changed'"),
    ] {
        assert_eq!(bench.count(&replay(entity, table, column, events)).await, 0, "{entity}");
    }
    let live_under_review = "SELECT count(*) FROM postings p JOIN posting_candidates c ON c.id = p.candidate_id \
         WHERE p.status IN ('active', 'stale') AND c.state <> 'published'";
    assert_eq!(bench.count(live_under_review).await, 0);
    let no_actor = "SELECT count(*) FROM provenance_events WHERE actor_id = ''";
    assert_eq!(bench.count(no_actor).await, 0);
    let traced = "SELECT count(*) FROM provenance_events WHERE trace_id IS DISTINCT FROM '0af7651916cd43dd8448eb211c80319c'";
    assert_eq!(bench.count(traced).await, 0);
    assert_eq!(bench.count("SELECT count(*) FROM posting_candidates WHERE state = 'published'").await, 1);
    assert_eq!(bench.count("SELECT count(*) FROM posting_candidates WHERE state = 'processed'").await, 1);
}
