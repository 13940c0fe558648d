//! Where an address leads: recorded once, never over what was submitted (§7.2).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod common;

use common::{Bench, URL, found, moved, posting, posting_with, result_at};
use domain::ids::DiscoveryId;
use domain::state::TrustLevel;
use kinds::{Attempt, ResultOrigin};
use serde_json::{Value, json};
use tokio_postgres::types::Type;

const SHORT: &str = "https://link.example/x1";

async fn resolved(bench: &Bench, discovery: DiscoveryId) -> (String, Option<String>) {
    let row = &bench
        .owner
        .query_typed(
            "SELECT normalized_url, resolved_normalized_url FROM discoveries WHERE id = $1",
            &[(&discovery.0, Type::UUID)],
        )
        .await
        .unwrap()[0];
    (row.get(0), row.get(1))
}

async fn aliases(bench: &Bench) -> Vec<(String, String)> {
    let rows = bench
        .owner
        .query_typed("SELECT role, normalized_url FROM candidate_urls ORDER BY role, normalized_url", &[])
        .await
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Runs one `resolve_url_redirects` job.
async fn resolve(bench: &Bench, discovery: DiscoveryId, inputs: Value, result: Value) -> Value {
    let job = bench.claim("resolve_url_redirects", discovery, inputs).await;
    moved(bench.settle(&job, Attempt::Done(result)).await).outcome
}

fn ended(hops: &[&str], status: u16) -> Value {
    let hops: Vec<Value> = hops.iter().map(|url| json!({"url": url, "status": 301})).collect();
    let end = hops.last().unwrap()["url"].clone();
    json!({"ended": {"final_url": end, "hops": hops, "final_status": status, "downgraded": false}})
}

#[tokio::test]
async fn extract_records_where_the_address_led_once_and_keeps_each_hop_as_an_alias() {
    let bench = Bench::new().await;
    let discovery = bench.discovery(bench.module("feed", "trusted").await, SHORT).await;
    let hop = "https://uni.example/go?id=42";
    bench.extract(discovery, result_at(&[SHORT, hop, URL], found(posting()))).await;
    assert_eq!(resolved(&bench, discovery).await, (SHORT.into(), Some(URL.into())));
    let (name, payload) = bench.event_payloads(discovery).await.remove(0);
    assert_eq!((name.as_str(), payload["resolution"].as_str()), ("redirect_resolved", Some("applied")));
    let expected = [("canonical", URL), ("resolved", hop), ("resolved", URL), ("submitted", SHORT)];
    let expected: Vec<(String, String)> =
        expected.iter().map(|(role, url)| ((*role).into(), (*url).into())).collect();
    assert_eq!(aliases(&bench).await, expected);
    // Elsewhere tomorrow: what was recorded stays.
    let elsewhere = "https://uni.example/jobs/77";
    bench.extract(discovery, result_at(&[SHORT, elsewhere], found(posting()))).await;
    assert_eq!(resolved(&bench, discovery).await.1.as_deref(), Some(URL));
}

#[tokio::test]
async fn who_was_sent_to_a_home_page_or_a_login_was_not_told_of_the_posting() {
    for end in ["https://uni.example/", "https://uni.example/login?next=/jobs/42"] {
        let bench = Bench::new().await;
        let discovery = bench.discovery(bench.module("feed", "trusted").await, URL).await;
        let read = found(posting_with(json!({"canonical_url": null})));
        bench.extract(discovery, result_at(&[URL, end], read)).await;
        assert_eq!(resolved(&bench, discovery).await.1, None);
        let status = bench.discovery_status(discovery).await;
        assert_eq!(status, ("unusable".into(), Some("redirected_away".into())));
        let (name, payload) = bench.event_payloads(discovery).await.remove(0);
        assert_eq!(name, "redirect_resolved");
        assert_eq!(payload["resolution"], "skipped_not_final");
    }
}

#[tokio::test]
async fn two_discoveries_of_a_module_that_end_at_one_page_share_its_candidate() {
    let bench = Bench::new().await;
    let module = bench.module("feed", "trusted").await;
    let first = bench.discovery(module, URL).await;
    bench.extract(first, result_at(&[URL], found(posting()))).await;
    let second = bench.discovery(module, SHORT).await;
    bench.extract(second, result_at(&[SHORT, URL], found(posting()))).await;
    assert_eq!(bench.candidate(second).await.unwrap().id, bench.candidate(first).await.unwrap().id);
    assert_eq!(resolved(&bench, second).await.1, None);
    let events = bench.events(second).await;
    assert_eq!(events, ["redirect_resolved", "redirect_resolution_conflict", "status_changed"]);
    assert_eq!(bench.count("SELECT count(*) FROM posting_candidates").await, 1);
    assert_eq!(bench.count("SELECT count(*) FROM candidate_discoveries").await, 2);
}

#[tokio::test]
async fn a_conflict_with_a_discovery_that_was_not_read_yet_links_both_to_one_candidate() {
    let bench = Bench::new().await;
    let module = bench.module("feed", "trusted").await;
    let direct = bench.discovery(module, URL).await;
    let short = bench.discovery(module, SHORT).await;
    bench.extract(short, result_at(&[SHORT, URL], found(posting()))).await;
    bench.extract(direct, result_at(&[URL], found(posting()))).await;
    assert_eq!(bench.candidate(direct).await.unwrap().id, bench.candidate(short).await.unwrap().id);
    assert_eq!(bench.discovery_status(direct).await.0, "extracted");
    assert_eq!(bench.count("SELECT count(*) FROM postings").await, 1);
}

#[tokio::test]
async fn a_downgrade_never_becomes_canonical() {
    let bench = Bench::new().await;
    let discovery = bench.discovery(bench.module("feed", "trusted").await, URL).await;
    let end = "http://uni.example/jobs/42b";
    let mut result = result_at(&[URL, end], found(posting_with(json!({"canonical_url": end}))));
    result["fetched"]["downgraded"] = json!(true);
    bench.extract(discovery, result).await;
    let row = bench.candidate(discovery).await.unwrap();
    assert_eq!(row.fields["canonical_url"], URL);
    assert_eq!(resolved(&bench, discovery).await.1, None);
}

#[tokio::test]
async fn the_job_that_only_follows_ends_with_each_outcome() {
    let bench = Bench::new().await;
    let module = bench.module("feed", "trusted").await;
    let other = bench.discovery(module, "https://uni.example/jobs/99").await;
    for (end, status, outcome) in [
        (URL, 404, "skipped_not_final"),
        ("https://uni.example/", 200, "skipped_not_final"),
        (SHORT, 200, "unchanged"),
        ("https://uni.example/jobs/99", 200, "conflict"),
        (URL, 200, "applied"),
    ] {
        let discovery =
            bench.discovery(module, &format!("{SHORT}?case={outcome}&end={status}{}", end.len())).await;
        let asked = resolved(&bench, discovery).await.0;
        let end = if outcome == "unchanged" { asked.as_str() } else { end };
        let answer = resolve(&bench, discovery, json!({}), ended(&[&asked, end], status)).await;
        assert_eq!(answer, json!({"resolution": outcome}));
        assert_eq!(resolved(&bench, discovery).await.1.is_some(), outcome == "applied", "{outcome}");
    }
    for (resolution, code) in [("skipped_refused", "fetch_refused"), ("skipped_not_final", "redirects")] {
        let skipped = json!({"skipped": {"resolution": resolution, "code": code}});
        assert_eq!(resolve(&bench, other, json!({}), skipped).await, json!({"resolution": resolution}));
    }
}

#[tokio::test]
async fn a_repeat_s_other_address_is_an_alias_only_if_it_ends_at_the_same_page() {
    let bench = Bench::new().await;
    let discovery = bench.discovery(bench.module("feed", "trusted").await, URL).await;
    bench.extract(discovery, result_at(&[URL], found(posting()))).await;
    let other = "https://uni.example/stellen/42";
    let answer = resolve(&bench, discovery, json!({"url": other}), ended(&[other, URL], 200)).await;
    assert_eq!(answer, json!({"resolution": "applied"}));
    assert!(aliases(&bench).await.contains(&("resolved".into(), other.into())));
    let stranger = "https://uni.example/stellen/50";
    let answer = resolve(&bench, discovery, json!({"url": stranger}), ended(&[stranger], 200)).await;
    assert_eq!(answer, json!({"resolution": "unchanged"}));
    assert!(!aliases(&bench).await.iter().any(|(_, url)| url == stranger));
    // What was submitted stays as it was.
    assert_eq!(resolved(&bench, discovery).await, (URL.into(), None));
}

#[tokio::test]
async fn only_a_trusted_processor_may_resolve() {
    let bench = Bench::new().await;
    let module = bench.module("feed", "trusted").await;
    let result = json!({"final_url": URL, "hops": [{"url": SHORT, "status": 301}], "final_status": 200});
    for (trust_level, is_accepted) in
        [(TrustLevel::Untrusted, false), (TrustLevel::SemiTrusted, false), (TrustLevel::Trusted, true)]
    {
        let discovery = bench.discovery(module, &format!("{SHORT}-{trust_level}")).await;
        let by = ResultOrigin::Module {
            id: domain::ids::ModuleDbId::new(),
            module_id: "resolver".into(),
            trust_level,
        };
        let job = bench.claim("resolve_url_redirects", discovery, json!({})).await;
        let settlement = moved(bench.settle_by(&job, Attempt::Done(result.clone()), &by).await);
        assert_eq!(settlement.errors.is_empty(), is_accepted);
        assert_eq!(resolved(&bench, discovery).await.1.is_some(), is_accepted);
    }
}
