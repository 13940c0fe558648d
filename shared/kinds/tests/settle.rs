//! How attempts end: fenced, charged, or dead; and what is left behind when something goes wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod common;

use common::{Bench, URL, found, moved, posting, result};
use kinds::{Attempt, Settled};
use ledger::JobStatus;
use serde_json::json;
use std::time::Duration;
use tokio_postgres::types::Type;

async fn tables_are_empty(bench: &Bench) -> bool {
    let counts = "SELECT (SELECT count(*) FROM posting_candidates) + (SELECT count(*) FROM postings) \
                  + (SELECT count(*) FROM evidence) + (SELECT count(*) FROM candidate_urls) \
                  + (SELECT count(*) FROM posting_revisions)";
    bench.count(counts).await == 0
}

#[tokio::test]
async fn an_attempt_that_lost_its_lease_leaves_nothing() {
    let bench = Bench::new().await;
    let discovery = bench.discovery(bench.module("feed", "trusted").await, URL).await;
    let job = bench.claim("extract", discovery, json!({})).await;
    let expire = "UPDATE jobs SET lease_expires_at = now() - interval '1 second'";
    bench.execute(expire, &[]).await;
    for attempt in [
        Attempt::Done(result(found(posting()))),
        Attempt::retry("timeout", "the site did not answer"),
        Attempt::Dead { code: "fetch_refused".into(), message: "refused".into() },
    ] {
        assert_eq!(bench.settle(&job, attempt).await, Settled::Stale);
    }
    assert!(tables_are_empty(&bench).await);
    assert_eq!(bench.count("SELECT count(*) FROM provenance_events").await, 0);
    assert_eq!(bench.discovery_status(discovery).await.0, "received");
    assert_eq!(bench.count("SELECT failures::bigint FROM jobs").await, 0);
}

#[tokio::test]
async fn a_result_that_breaks_the_schema_is_charged_and_changes_nothing() {
    let bench = Bench::new().await;
    let discovery = bench.discovery(bench.module("feed", "trusted").await, URL).await;
    let job = bench.claim("extract", discovery, json!({})).await;
    let mut broken = result(found(posting()));
    broken["canonical_hash"] = json!("00");
    let settlement = moved(bench.settle(&job, Attempt::Done(broken)).await);
    assert_eq!((settlement.transition.status, settlement.transition.failures), (JobStatus::Queued, 1));
    assert_eq!(settlement.errors.len(), 1);
    assert!(tables_are_empty(&bench).await);
    assert_eq!(bench.events(job.id).await, ["retry_scheduled"]);
    let error = bench.owner.query_typed("SELECT last_error ->> 'code' FROM jobs", &[]).await.unwrap();
    assert_eq!(error[0].get::<_, &str>(0), "invalid_result");
}

#[tokio::test]
async fn an_error_in_the_middle_of_the_effects_rolls_all_of_them_back_and_is_charged() {
    let bench = Bench::new().await;
    let discovery = bench.discovery(bench.module("feed", "trusted").await, URL).await;
    // The last table of the way refuses: everything before it has been written by then.
    bench.execute("ALTER TABLE posting_revisions ADD CONSTRAINT poison CHECK (reason = 'none')", &[]).await;
    let mut attempt = 0;
    let mut last = None;
    let job_id = bench.claim("extract", discovery, json!({})).await.id;
    bench
        .execute(
            "UPDATE jobs SET status = 'queued', lease_token = NULL, lease_expires_at = NULL, claimed_at = NULL, attempt = 0",
            &[],
        )
        .await;
    while let Some(job) = bench.claim_again(job_id, attempt).await {
        attempt = job.attempt;
        let settlement = moved(bench.settle(&job, Attempt::Done(result(found(posting())))).await);
        assert!(tables_are_empty(&bench).await);
        last = Some(settlement.transition);
    }
    let last = last.unwrap();
    assert_eq!((last.status, last.failures), (JobStatus::DeadLetter, 5));
    // The budget is spent: the discovery's end is written by the same transaction.
    assert_eq!(bench.discovery_status(discovery).await, ("failed".into(), Some("apply_failed".into())));
    let events = bench.events(job_id).await;
    assert_eq!(
        events,
        ["retry_scheduled", "retry_scheduled", "retry_scheduled", "retry_scheduled", "dead_lettered"]
    );
}

#[tokio::test]
async fn a_permanent_error_ends_the_job_and_its_discovery_with_the_same_word() {
    for code in ["fetch_refused", "robots_disallowed", "redirects", "too_large"] {
        let bench = Bench::new().await;
        let discovery = bench.discovery(bench.module("feed", "trusted").await, URL).await;
        let job = bench.claim("extract", discovery, json!({})).await;
        let dead = Attempt::Dead { code: code.into(), message: "not to be had".into() };
        assert_eq!(moved(bench.settle(&job, dead).await).transition.status, JobStatus::Failed);
        assert_eq!(bench.discovery_status(discovery).await, ("failed".into(), Some(code.into())));
        assert_eq!(bench.events(job.id).await, ["failed"]);
        let (name, payload) = bench.event_payloads(discovery).await.pop().unwrap();
        assert_eq!(name, "status_changed");
        assert_eq!(payload, json!({"from": "received", "to": "failed", "reason": code}));
    }
}

#[tokio::test]
async fn a_retry_is_charged_and_waits_at_least_as_long_as_the_site_asked() {
    let bench = Bench::new().await;
    let discovery = bench.discovery(bench.module("feed", "trusted").await, URL).await;
    let job = bench.claim("extract", discovery, json!({})).await;
    let retry = Attempt::Retry {
        after: Some(Duration::from_secs(7200)),
        code: "http_429".into(),
        message: "too many requests".into(),
    };
    let transition = moved(bench.settle(&job, retry).await).transition;
    assert_eq!((transition.status, transition.failures), (JobStatus::Queued, 1));
    let pause = transition.next_run_at.unwrap().duration_since(jiff::Timestamp::now()).as_secs();
    assert!((7190..=7200).contains(&pause), "{pause}");
    assert_eq!(bench.discovery_status(discovery).await.0, "received");
}

#[tokio::test]
async fn a_wait_for_the_host_is_not_charged_and_a_near_one_is_woken_for() {
    let bench = Bench::new().await;
    let discovery = bench.discovery(bench.module("feed", "trusted").await, URL).await;
    let job = bench.claim("extract", discovery, json!({})).await;
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(5);
    let settlement = moved(bench.settle(&job, Attempt::Defer { until, counted: false }).await);
    assert_eq!(settlement.transition.failures, 0);
    assert_eq!(settlement.wake, [job.id]);
    assert_eq!(bench.count("SELECT deferrals::bigint FROM jobs").await, 0);
    assert!(bench.events(job.id).await.is_empty());
}

#[tokio::test]
async fn an_extraction_that_was_asked_for_again_meanwhile_runs_again_and_leaves_the_end_to_that() {
    let bench = Bench::new().await;
    let discovery = bench.discovery(bench.module("feed", "trusted").await, URL).await;
    let job = bench.claim("extract", discovery, json!({})).await;
    bench.execute("UPDATE jobs SET rerun = true WHERE id = $1", &[(&job.id.0, Type::UUID)]).await;
    let dead = Attempt::Dead { code: "too_large".into(), message: "2 MiB".into() };
    let settlement = moved(bench.settle(&job, dead).await);
    assert_eq!(settlement.transition.status, JobStatus::Failed);
    let fresh = settlement.transition.rerun.unwrap();
    assert_eq!(settlement.wake, [fresh.id]);
    assert_eq!(bench.discovery_status(discovery).await.0, "received");
}

#[test]
fn two_kinds_of_one_name_do_not_start() {
    let twice: Vec<Box<dyn kinds::Kind>> =
        vec![Box::new(kinds::extract::Extract), Box::new(kinds::extract::Extract)];
    assert!(kinds::Kinds::new(twice).is_err());
    assert!(kinds::Kinds::new(kinds::all()).is_ok());
}
