//! What an extraction becomes: unusable, a candidate under review, or a posting.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod common;

use common::{Bench, URL, found, moved, posting, posting_with, provenance, result};
use kinds::Attempt;
use serde_json::{Value, json};
use tokio_postgres::types::Type;

#[tokio::test]
async fn a_trusted_module_s_posting_is_published_with_everything_that_belongs_to_it() {
    let bench = Bench::new().await;
    let module = bench.module("feed", "trusted").await;
    let discovery = bench.discovery(module, URL).await;
    let settlement = bench.extract(discovery, result(found(posting()))).await;

    assert_eq!(bench.discovery_status(discovery).await, ("extracted".into(), None));
    let candidate = bench.candidate(discovery).await.unwrap();
    assert_eq!(
        (candidate.state.as_str(), candidate.reason.as_deref()),
        ("published", Some("trusted_auto_publish"))
    );
    let shown = bench.posting(candidate.id).await.unwrap();
    assert_eq!((shown.status.as_str(), shown.visible), ("active", true));
    assert_eq!(shown.title, "Doctoral position in soil physics");
    assert_eq!(settlement.outcome, json!({"verdict": "posting", "candidates": [candidate.id]}));

    assert_eq!(
        bench.events(candidate.id).await,
        ["materialised", "trust_policy_applied", "state_changed", "state_changed"]
    );
    assert_eq!(bench.events(shown.id).await, ["projected"]);
    assert_eq!(bench.events(discovery).await, ["status_changed"]);
    let payloads = bench.event_payloads(candidate.id).await;
    assert_eq!(payloads[1].1["reason"], "trusted_auto_publish");
    assert_eq!(payloads[1].1["confidence"], 0.98);
    assert_eq!(payloads[2].1["to"], "publishable");
    assert_eq!(payloads[3].1["to"], "published");

    let client = bench.cx.pool.get().await.unwrap();
    let detail = store::postings::detail::posting_detail(&**client, shown.id).await.unwrap().unwrap();
    assert_eq!(detail.fields.city.as_deref(), Some("Bern"));
    assert_eq!(detail.source_refs[0].module_id, "feed");
    assert_eq!(detail.source_refs[0].url, URL);
    let title = &detail.provenance["title"];
    assert_eq!(title.discovery_id, Some(discovery.0));
    assert!(title.evidence_id.is_some() && title.captured_at.is_some());
    let (confirmed, next) = (detail.last_confirmed_at.unwrap(), detail.next_check_at.unwrap());
    assert_eq!(confirmed.to_string(), "2026-11-25T10:00:00Z");
    let hours = next.duration_since(detail.published_at).as_secs_f64() / 3600.0;
    assert!((21.6..23.53).contains(&hours), "{hours}");
    let evidence =
        "SELECT count(*) FROM evidence JOIN candidate_evidence ON evidence_id = id WHERE inline_text <> ''";
    assert_eq!(bench.count(evidence).await, 1);
    assert_eq!(bench.count("SELECT count(*) FROM job_archive").await, 1);
    let aliases = "SELECT count(*) FROM candidate_urls WHERE role IN ('submitted', 'canonical')";
    assert_eq!(bench.count(aliases).await, 2);
}

/// What is decided about one extraction of a module of some trust: state, reason, flag that must be there.
async fn decided(trust: &str, extraction: Value) -> (String, String, Vec<String>, bool) {
    let bench = Bench::new().await;
    let module = bench.module("feed", trust).await;
    let discovery = bench.discovery(module, URL).await;
    bench.extract(discovery, result(extraction)).await;
    let candidate = bench.candidate(discovery).await.unwrap();
    let is_published = bench.posting(candidate.id).await.is_some();
    (candidate.state, candidate.reason.unwrap_or_default(), candidate.flags, is_published)
}

#[tokio::test]
async fn what_may_not_be_published_waits_and_has_no_posting() {
    let weak = provenance(&["title", "organization_name"], 0.5);
    let cases = [
        ("untrusted", found(posting()), "needs_review", "untrusted_requires_moderation"),
        (
            "trusted",
            found(posting_with(json!({"field_provenance": weak}))),
            "needs_review",
            "below_min_confidence",
        ),
        (
            "trusted",
            found(posting_with(json!({"organization_name": null}))),
            "processed",
            "insufficient_projection_data",
        ),
    ];
    for (trust, extraction, state, reason) in cases {
        let (is, why, _, is_published) = decided(trust, extraction).await;
        assert_eq!((is.as_str(), why.as_str(), is_published), (state, reason, false));
    }
}

#[tokio::test]
async fn conflicts_and_noindex_are_flags_that_wait_for_a_moderator() {
    let conflict = json!({"field": "deadline", "values": ["2020-01-01", "2090-01-31"]});
    let disputed = json!({
        "verdict": "posting",
        // Neither date closes anything while they contradict each other.
        "postings": [posting_with(json!({"deadline": "2020-01-01T00:00:00Z"}))],
        "conflicts": [conflict],
    });
    let (state, reason, flags, is_published) = decided("trusted", disputed).await;
    assert_eq!((state.as_str(), reason.as_str(), is_published), ("needs_review", "conflict_flag", false));
    assert!(flags.contains(&"conflict_deadline_sources".to_owned()), "{flags:?}");

    let hidden = json!({"verdict": "posting", "postings": [posting()], "noindex": true});
    let (state, reason, flags, is_published) = decided("trusted", hidden).await;
    assert_eq!((state.as_str(), reason.as_str(), is_published), ("needs_review", "conflict_flag", false));
    assert_eq!(flags, ["noindex"]);
}

#[tokio::test]
async fn what_is_closed_or_past_its_deadline_becomes_a_closed_candidate_without_posting() {
    let over = posting_with(json!({"deadline": "2020-01-01T00:00:00Z"}));
    let cases = [
        (json!({"verdict": "closed", "postings": [posting()], "closed_by": "phrase"}), "closed_by_publisher"),
        (
            json!({"verdict": "closed", "postings": [over], "closed_by": "structured_deadline"}),
            "deadline_passed",
        ),
        (found(posting_with(json!({"deadline": "2020-01-01T00:00:00Z"}))), "deadline_passed"),
    ];
    for (extraction, reason) in cases {
        let (state, why, _, is_published) = decided("trusted", extraction).await;
        assert_eq!((state.as_str(), why.as_str(), is_published), ("closed", reason, false));
    }
}

#[tokio::test]
async fn a_page_without_posting_leaves_an_unusable_discovery_and_no_candidate() {
    for (extraction, reason) in [
        (json!({"verdict": "not_a_posting"}), "not_a_posting"),
        (json!({"verdict": "closed", "closed_by": "gone"}), "closed"),
        (found(posting_with(json!({"title": null}))), "no_title"),
    ] {
        let bench = Bench::new().await;
        let module = bench.module("feed", "trusted").await;
        let discovery = bench.discovery(module, URL).await;
        bench.extract(discovery, result(extraction)).await;
        assert_eq!(bench.discovery_status(discovery).await, ("unusable".into(), Some(reason.into())));
        assert_eq!(bench.candidate(discovery).await, None);
        assert_eq!(bench.events(discovery).await, ["status_changed"]);
        // The page is evidence all the same.
        assert_eq!(bench.count("SELECT count(*) FROM evidence").await, 1);
    }
}

#[tokio::test]
async fn a_source_key_that_the_module_may_not_name_is_flagged() {
    let bench = Bench::new().await;
    let module = bench.module("feed", "trusted").await;
    let discovery = bench.discovery_with(module, URL, json!({"source_key": "somebody-else"})).await;
    bench.extract(discovery, result(found(posting()))).await;
    let candidate = bench.candidate(discovery).await.unwrap();
    assert_eq!(candidate.flags, ["source_key_not_allowed"]);
    assert_eq!(candidate.state, "published");
}

#[tokio::test]
async fn what_was_once_taken_down_is_not_published_by_a_machine_again() {
    let bench = Bench::new().await;
    let module = bench.module("feed", "trusted").await;
    let first = bench.discovery(module, URL).await;
    bench.extract(first, result(found(posting()))).await;
    bench
        .execute("UPDATE postings SET visible = false, status = 'archived', withdrawn_at = now()", &[])
        .await;
    let other = bench.module("other", "trusted").await;
    let second = bench.discovery(other, URL).await;
    bench.extract(second, result(found(posting()))).await;
    let candidate = bench.candidate(second).await.unwrap();
    assert_eq!(
        (candidate.state.as_str(), candidate.reason.as_deref()),
        ("needs_review", Some("conflict_flag"))
    );
    assert_eq!(candidate.flags, ["withdrawn_before"]);
}

#[tokio::test]
async fn a_second_discovery_of_a_visible_page_waits_because_the_posting_exists() {
    let bench = Bench::new().await;
    let first = bench.discovery(bench.module("one", "trusted").await, URL).await;
    bench.extract(first, result(found(posting()))).await;
    let second = bench.discovery(bench.module("two", "trusted").await, URL).await;
    bench.extract(second, result(found(posting()))).await;
    let candidate = bench.candidate(second).await.unwrap();
    assert_eq!(
        (candidate.state.as_str(), candidate.reason.as_deref()),
        ("needs_review", Some("posting_exists"))
    );
    assert_eq!(bench.count("SELECT count(*) FROM postings").await, 1);
}

#[tokio::test]
async fn workers_that_read_the_same_page_at_once_publish_it_once() {
    let bench = Bench::new().await;
    let mut jobs = Vec::new();
    for name in ["one", "two", "three", "four"] {
        let module = bench.module(name, "trusted").await;
        let discovery = bench.discovery(module, URL).await;
        jobs.push(bench.claim("extract", discovery, json!({})).await);
    }
    let settled = futures::future::join_all(
        jobs.iter().map(|job| bench.settle(job, Attempt::Done(result(found(posting()))))),
    )
    .await;
    for settled in settled {
        assert_eq!(moved(settled).transition.status, ledger::JobStatus::Done);
    }
    assert_eq!(bench.count("SELECT count(*) FROM postings WHERE visible").await, 1);
    let waiting = "SELECT count(*) FROM posting_candidates WHERE state_reason = 'posting_exists'";
    assert_eq!(bench.count(waiting).await, 3);
}

#[tokio::test]
async fn the_daily_limit_of_a_module_holds_back_the_rest() {
    let bench = Bench::new().await;
    let module = bench.module("feed", "trusted").await;
    bench
        .execute(
            "INSERT INTO source_trust_policy (id, source_key, trust_level, auto_publish, requires_moderation, rules_json) \
             VALUES (gen_random_uuid(), 'module:feed', 'trusted', true, false, '{\"max_daily_auto_publish\": 2}')",
            &[],
        )
        .await;
    let mut jobs = Vec::new();
    for number in 0..4 {
        let discovery = bench.discovery(module, &format!("https://uni.example/jobs/{number}")).await;
        jobs.push((number, bench.claim("extract", discovery, json!({})).await));
    }
    let attempts = jobs.iter().map(|(number, job)| {
        let url = format!("https://uni.example/jobs/{number}");
        let read = found(posting_with(json!({"canonical_url": url})));
        let result = common::result_at(&[&url], read);
        bench.settle(job, Attempt::Done(result))
    });
    futures::future::join_all(attempts).await;
    assert_eq!(bench.count("SELECT count(*) FROM postings").await, 2);
    let held = "SELECT count(*) FROM posting_candidates WHERE state_reason = 'daily_limit'";
    assert_eq!(bench.count(held).await, 2);
}

#[tokio::test]
async fn nothing_of_a_disabled_module_is_published_and_nothing_of_a_withdrawn_discovery_is_done() {
    let bench = Bench::new().await;
    let module = bench.module("feed", "trusted").await;
    let discovery = bench.discovery(module, URL).await;
    bench.execute("UPDATE modules SET enabled = false WHERE id = $1", &[(&module, Type::UUID)]).await;
    bench.extract(discovery, result(found(posting()))).await;
    let candidate = bench.candidate(discovery).await.unwrap();
    assert_eq!(
        (candidate.state.as_str(), candidate.reason.as_deref()),
        ("needs_review", Some("policy_disabled"))
    );

    let other = bench.discovery(module, "https://uni.example/jobs/43").await;
    bench
        .execute("UPDATE discoveries SET status = 'withdrawn' WHERE id = $1", &[(&other.0, Type::UUID)])
        .await;
    let settlement = bench.extract(other, result(found(posting()))).await;
    assert_eq!(settlement.outcome["candidates"], json!([]));
    assert_eq!(bench.candidate(other).await, None);
}

#[tokio::test]
async fn a_stored_policy_that_cannot_be_read_blocks() {
    let bench = Bench::new().await;
    let module = bench.module("feed", "trusted").await;
    bench
        .execute(
            "UPDATE source_trust_policy SET rules_json = '{\"min_confidense\": 0.1}' WHERE source_key = 'default:trusted'",
            &[],
        )
        .await;
    let discovery = bench.discovery(module, URL).await;
    bench.extract(discovery, result(found(posting()))).await;
    assert_eq!(bench.candidate(discovery).await.unwrap().reason.as_deref(), Some("policy_disabled"));
}

#[tokio::test]
async fn a_listing_hands_in_what_it_names_for_its_module_and_what_it_named_is_followed_no_further() {
    let bench = Bench::new().await;
    let module = bench.module("feed", "trusted").await;
    let list = "https://uni.example/jobs";
    let discovery = bench.discovery(module, list).await;
    // A posting that is known already is seen again; the listing itself, a double and a bad address are nothing.
    let known = bench.discovery(module, "https://uni.example/jobs/1").await;
    let urls = [
        "https://uni.example/jobs/1",
        "https://uni.example/jobs/2",
        "https://uni.example/jobs/2?utm_source=list",
        "https://uni.example/jobs/3",
        list,
        "ftp://uni.example/x",
    ];
    let listing = json!({"verdict": "listing", "discovered_urls": urls});
    let settlement = bench.extract(discovery, common::result_at(&[list], listing.clone())).await;
    assert_eq!(bench.discovery_status(discovery).await, ("unusable".into(), Some("listing".into())));
    assert_eq!(bench.events(known).await, ["resighted"]);
    assert_eq!(bench.count("SELECT count(*) FROM discoveries WHERE depth = 1").await, 2);
    assert_eq!(bench.count("SELECT count(*) FROM jobs WHERE kind = 'extract'").await, 2);
    assert_eq!(settlement.wake.len(), 2);
    let by_the_kind = "SELECT count(*) FROM provenance_events WHERE event_type = 'ingested' AND actor_id = 'extract' \
                       AND trace_id = '0af7651916cd43dd8448eb211c80319c'";
    assert_eq!(bench.count(by_the_kind).await, 2);
    assert_eq!(bench.count("SELECT count(*) FROM sightings").await, 3);

    let below = domain::ids::DiscoveryId(
        bench.owner.query_typed("SELECT id FROM discoveries WHERE url LIKE '%/jobs/3'", &[]).await.unwrap()
            [0]
        .get(0),
    );
    let nested = json!({"verdict": "listing", "discovered_urls": ["https://uni.example/jobs/4"]});
    bench.extract(below, common::result_at(&["https://uni.example/jobs/3"], nested)).await;
    assert_eq!(bench.discovery_status(below).await.0, "unusable");
    assert_eq!(bench.count("SELECT count(*) FROM discoveries").await, 4);
}

#[tokio::test]
async fn a_processor_s_word_counts_no_more_than_its_trust_and_sets_no_identity() {
    let bench = Bench::new().await;
    let module = bench.module("feed", "trusted").await;
    let by = |trust_level| kinds::ResultOrigin::Module {
        id: domain::ids::ModuleDbId::new(),
        module_id: "reader".into(),
        trust_level,
    };
    for (trust, state, reason) in [
        (domain::state::TrustLevel::Trusted, "published", "trusted_auto_publish"),
        (domain::state::TrustLevel::Untrusted, "needs_review", "untrusted_requires_moderation"),
    ] {
        let url = format!("https://uni.example/jobs/{trust}");
        let discovery = bench.discovery(module, &url).await;
        let job = bench.claim("extract", discovery, json!({})).await;
        // Its canonical address is another domain's: the discovery's own stands.
        let read = found(posting_with(json!({"canonical_url": "https://elsewhere.example/x"})));
        let settlement = moved(bench.settle_by(&job, Attempt::Done(read), &by(trust)).await);
        assert_eq!(settlement.errors, []);
        let candidate = bench.candidate(discovery).await.unwrap();
        assert_eq!((candidate.state.as_str(), candidate.reason.as_deref()), (state, Some(reason)));
        assert_eq!(candidate.fields["canonical_url"], url);
        assert_eq!(bench.event_payloads(candidate.id).await[0].0, "materialised");
    }
    let by_the_module =
        "SELECT count(*) FROM provenance_events WHERE actor_id = 'reader' AND event_type = 'materialised'";
    assert_eq!(bench.count(by_the_module).await, 2);
    let discovery = bench.discovery(module, "https://uni.example/jobs/7").await;
    let job = bench.claim("extract", discovery, json!({})).await;
    let mut greedy = found(posting());
    greedy["dedupe_confidence"] = json!(1);
    let settlement =
        moved(bench.settle_by(&job, Attempt::Done(greedy), &by(domain::state::TrustLevel::Trusted)).await);
    assert_eq!(settlement.errors[0].pointer, "/dedupe_confidence");
    assert_eq!(bench.candidate(discovery).await, None);
}
