//! How attempts end: each row of the state machine that a holder can cause.

use crate::support::{Fixture, WORK, job, permanent, transient};
use jiff::{SignedDuration, Timestamp};
use ledger::{
    ClaimedJob, Error, Failure, JobEventType, JobStatus, KindSettings, Replay, Report, Route, Transition,
    job_complete, job_defer, job_fail, job_kind_put, job_release, job_replay, jobs_complete_batch,
};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

async fn fail(f: &Fixture, job: &ClaimedJob, failure: &Failure) -> Transition {
    let fenced = f.fenced(job).await;
    job_fail(&f.app, &fenced, failure, None, &f.registry, 0.5).await.unwrap()
}

/// Fails the job until it is dead; it has three failures.
async fn kill(f: &Fixture, mut job: ClaimedJob) -> Transition {
    loop {
        let transition = fail(f, &job, &transient("flaky")).await;
        if transition.status != JobStatus::Queued {
            return transition;
        }
        f.make_due(job.id).await;
        job = f.claim(job.id, job.attempt).await.unwrap();
    }
}

#[tokio::test]
async fn a_done_job_moves_to_the_archive_with_its_result_and_without_an_event() {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    let fenced = f.fenced(&claimed).await;
    let done = job_complete(&f.app, &fenced, &json!({"candidates": [1]}), None).await.unwrap();
    assert_eq!((done.status, done.attempt), (JobStatus::Done, 1));
    assert_eq!((done.event, done.terminal, done.rerun, done.wake), (None, None, None, None));
    assert_eq!((f.count("jobs").await, f.count("job_archive").await), (0, 1));
    let row = f.find(claimed.id).await;
    assert_eq!((row.status, row.result_json), (JobStatus::Done, Some(json!({"candidates": [1]}))));
    assert!(row.finished_at.is_some() && row.lease_expires_at.is_none() && row.claimed_at.is_some());
    // The target is free for the next job.
    assert!(f.enqueue(job(WORK, claimed.target_id)).await.inserted);
}

#[tokio::test]
async fn a_transient_failure_is_queued_again_after_a_backoff_with_its_event() {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    f.set(claimed.id, "rerun = true").await;
    let transition = fail(&f, &claimed, &transient("timeout")).await;
    assert_eq!((transition.status, transition.failures), (JobStatus::Queued, 1));
    assert_eq!(transition.terminal, None);
    let row = f.find(claimed.id).await;
    assert_eq!((row.status, row.failures, row.deferrals, row.attempt), (JobStatus::Queued, 1, 0, 1));
    assert_eq!((row.lease_expires_at, row.claimed_at, row.hinted_until), (None, None, None));
    assert!(!row.rerun, "it runs again anyway");
    // Jitter ½ of [1 s, 30 s].
    let pause = row.next_run_at.duration_since(Timestamp::now());
    assert!(pause > SignedDuration::from_secs(13) && pause < SignedDuration::from_secs(16), "{pause}");
    assert_eq!(transition.wake, Some(claimed.id));
    let error = row.last_error.unwrap();
    assert_eq!(
        (error["code"].as_str(), error["failures"].as_i64(), error["attempt"].as_i64()),
        (Some("timeout"), Some(1), Some(1))
    );
    let event = transition.event.unwrap();
    assert_eq!(event.event_type, JobEventType::RetryScheduled);
    assert_eq!(event.trace_context, claimed.trace_context);
    let payload = event.payload;
    assert_eq!((payload["from"].as_str(), payload["to"].as_str()), (Some("claimed"), Some("queued")));
    assert_eq!(payload["reason"], "timeout");
}

#[tokio::test]
async fn retry_after_is_a_floor_of_the_backoff() {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    let failure = Failure { retry_after: Some(Duration::from_secs(600)), ..transient("rate_limited") };
    let transition = fail(&f, &claimed, &failure).await;
    let pause = transition.next_run_at.unwrap().duration_since(Timestamp::now());
    assert!(pause > SignedDuration::from_secs(595) && pause <= SignedDuration::from_secs(601), "{pause}");
    assert_eq!(transition.wake, None, "a sweep will be in time");
}

#[tokio::test]
async fn the_last_failure_makes_a_dead_letter() {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    let transition = kill(&f, claimed.clone()).await;
    assert_eq!((transition.status, transition.failures), (JobStatus::DeadLetter, 3));
    let terminal = transition.terminal.unwrap();
    assert_eq!((terminal.status, terminal.code.as_str()), (JobStatus::DeadLetter, "flaky"));
    assert_eq!((terminal.target_id, terminal.attempt), (claimed.target_id, 3));
    assert_eq!(transition.event.unwrap().event_type, JobEventType::DeadLettered);
    let row = f.find(claimed.id).await;
    assert_eq!((row.status, row.failures, row.attempt), (JobStatus::DeadLetter, 3, 3));
    assert_eq!(row.error_json.unwrap()["code"], "flaky");
    assert_eq!((f.count("jobs").await, f.count("job_dead").await), (0, 1));
}

#[tokio::test]
async fn a_permanent_failure_ends_the_job_at_once() {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    let transition = fail(&f, &claimed, &permanent("fetch_refused")).await;
    assert_eq!(transition.status, JobStatus::Failed);
    assert_eq!(transition.event.unwrap().event_type, JobEventType::Failed);
    assert_eq!(transition.terminal.unwrap().code, "fetch_refused");
    assert_eq!(f.find(claimed.id).await.status, JobStatus::Failed);
}

#[tokio::test]
async fn a_release_is_not_charged_but_counted_and_has_no_event() {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    let fenced = f.fenced(&claimed).await;
    let transition = job_release(&f.app, &fenced, None, &f.registry, 0.5).await.unwrap();
    assert_eq!((transition.status, transition.event, transition.terminal), (JobStatus::Queued, None, None));
    assert_eq!(transition.wake, Some(claimed.id));
    let row = f.find(claimed.id).await;
    assert_eq!((row.failures, row.deferrals, row.last_error), (0, 1, None));
    assert!(f.claim(claimed.id, 1).await.is_some(), "it is due at once");
}

#[tokio::test]
async fn a_deferral_for_pace_is_not_even_counted() {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    let fenced = f.fenced(&claimed).await;
    let turn = Timestamp::now() + SignedDuration::from_secs(7);
    let transition = job_defer(&f.app, &fenced, turn, false, &f.registry, 0.5).await.unwrap();
    assert_eq!(transition.event, None);
    let row = f.find(claimed.id).await;
    assert_eq!((row.failures, row.deferrals), (0, 0));
    assert_eq!(row.next_run_at.as_microsecond(), turn.as_microsecond(), "it keeps its turn");
}

#[tokio::test]
async fn deferrals_are_charged_from_the_twentieth_on_and_end_the_job_some_day() {
    let f = Fixture::new().await;
    let id = f.queued(WORK).await;
    let mut last = None;
    for n in 1..=22 {
        let claimed = f.claim(id, n - 1).await.unwrap();
        let fenced = f.fenced(&claimed).await;
        let until = Timestamp::now() + SignedDuration::from_secs(5);
        let transition = job_defer(&f.app, &fenced, until, true, &f.registry, 0.0).await.unwrap();
        let expected = (n - 19).max(0);
        assert_eq!(transition.failures, expected, "deferral {n}");
        assert_eq!(transition.event.is_some(), expected > 0, "deferral {n}");
        if expected < 3 {
            let row = f.find(id).await;
            assert_eq!((row.deferrals, row.failures), (n, expected));
            let pause = row.next_run_at.duration_since(Timestamp::now());
            assert!(pause > SignedDuration::from_secs(3), "the wish is a floor: {pause}");
            f.make_due(id).await;
        }
        last = Some(transition);
    }
    let last = last.unwrap();
    assert_eq!(last.status, JobStatus::DeadLetter);
    assert_eq!(last.terminal.unwrap().code, "deferred_too_often");
}

#[tokio::test]
async fn pace_is_never_charged_however_often() {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    f.set(claimed.id, "deferrals = 25").await;
    let fenced = f.fenced(&claimed).await;
    let transition = job_defer(&f.app, &fenced, Timestamp::now(), false, &f.registry, 0.5).await.unwrap();
    assert_eq!((transition.failures, transition.event), (0, None));
}

#[tokio::test]
async fn a_terminal_transition_with_rerun_makes_a_fresh_job_that_takes_the_terminal_effect_over() {
    let f = Fixture::new().await;
    // Done.
    let claimed = f.claimed().await;
    f.enqueue(job(WORK, claimed.target_id)).await;
    let fenced = f.fenced(&claimed).await;
    let done = job_complete(&f.app, &fenced, &json!({}), None).await.unwrap();
    let fresh = done.rerun.unwrap();
    assert_eq!((done.wake, fresh.due_soon), (Some(fresh.id), true));
    let row = f.find(fresh.id).await;
    assert_eq!((row.status, row.attempt, row.failures, row.rerun), (JobStatus::Queued, 0, 0, false));
    assert_eq!((row.inputs_json, row.target_id), (json!({"n": 1}), claimed.target_id));
    assert_eq!(row.trace_context, claimed.trace_context);
    assert!(!f.find(claimed.id).await.rerun);
    // Failed.
    let second = f.claim(fresh.id, 0).await.unwrap();
    f.enqueue(job(WORK, claimed.target_id)).await;
    let failed = fail(&f, &second, &permanent("gone")).await;
    assert_eq!((failed.status, failed.terminal), (JobStatus::Failed, None));
    assert!(failed.event.is_some());
    assert_eq!(f.find(failed.rerun.unwrap().id).await.status, JobStatus::Queued);
    assert_eq!((f.count("jobs").await, f.count("job_dead").await), (1, 1));
}

#[tokio::test]
async fn a_batch_completes_each_row_by_its_own_fence() {
    let f = Fixture::new().await;
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.push(f.claimed().await);
    }
    f.expire(jobs[1].id).await;
    f.enqueue(job(WORK, jobs[2].target_id)).await;
    let batch: Vec<(_, Value)> = jobs.iter().map(|job| (job.holder(), json!({"id": job.id}))).collect();
    let completed = jobs_complete_batch(&f.app, &batch).await.unwrap();
    assert_eq!(completed.done.len(), 4);
    assert_eq!(completed.stale, vec![jobs[1].holder()]);
    assert_eq!(f.count("job_archive").await, 4);
    assert_eq!(completed.wake.len(), 1);
    assert_eq!(f.find(completed.wake[0]).await.target_id, jobs[2].target_id);
    assert_eq!(f.find(jobs[1].id).await.status, JobStatus::Claimed);
    assert_eq!(f.find(jobs[4].id).await.result_json, Some(json!({"id": jobs[4].id})));
    // Again: all are stale, and nothing happens.
    assert_eq!(jobs_complete_batch(&f.app, &batch).await.unwrap().stale.len(), 5);
}

#[tokio::test]
async fn a_result_that_cannot_be_kept_leaves_the_attempt_to_be_failed() {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    let fenced = f.fenced(&claimed).await;
    let too_large = json!("x".repeat(256 * 1024));
    let error = job_complete(&f.app, &fenced, &too_large, None).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { what: "result", .. }));
    assert!(matches!(job_complete(&f.app, &fenced, &json!("\0"), None).await, Err(Error::Invalid(_))));
    let message = format!("\0{}", "é".repeat(3_000));
    let failure = Failure { message, ..transient("invalid_result") };
    job_fail(&f.app, &fenced, &failure, None, &f.registry, 0.5).await.unwrap();
    let error = f.find(claimed.id).await.last_error.unwrap();
    assert_eq!(error["message"].as_str().unwrap().chars().count(), 2_000);
}

fn report(claimed: &ClaimedJob, byte: u8) -> Report {
    Report { token: claimed.lease_token, digest: [byte; 32] }
}

#[tokio::test]
async fn a_repeated_report_is_recognised_and_one_with_another_body_is_refused() {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    let (this, other) = (report(&claimed, 1), report(&claimed, 2));
    assert_eq!(job_replay(&f.app, claimed.id, &this).await.unwrap(), Replay::New);
    let fenced = f.fenced(&claimed).await;
    job_complete(&f.app, &fenced, &json!({"verdict": "posting"}), Some(&this)).await.unwrap();
    let Replay::Same(record) = job_replay(&f.app, claimed.id, &this).await.unwrap() else {
        panic!("the report was accepted before");
    };
    assert_eq!((record.status, record.result_json), (JobStatus::Done, Some(json!({"verdict": "posting"}))));
    assert_eq!(job_replay(&f.app, claimed.id, &other).await.unwrap(), Replay::Other);
    let stranger = Report { token: Uuid::new_v4(), ..this };
    assert_eq!(job_replay(&f.app, claimed.id, &stranger).await.unwrap(), Replay::New);
    let error = job_replay(&f.app, ledger::JobId::new(), &stranger).await.unwrap_err();
    assert!(matches!(error, Error::NotFound));
}

#[tokio::test]
async fn a_reported_failure_is_recognised_after_its_job_was_claimed_again() {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    let this = report(&claimed, 1);
    let fenced = f.fenced(&claimed).await;
    job_fail(&f.app, &fenced, &transient("busy"), Some(&this), &f.registry, 0.5).await.unwrap();
    f.make_due(claimed.id).await;
    let second = f.claim(claimed.id, 1).await.unwrap();
    let Replay::Same(record) = job_replay(&f.app, claimed.id, &this).await.unwrap() else {
        panic!("the report was accepted before");
    };
    let error = record.last_error.clone().unwrap();
    assert_eq!((error["failures"].as_i64(), error["attempt"].as_i64()), (Some(1), Some(1)));
    assert!(error["next_run_at"].is_string(), "the answer can be given again");
    // The next accepted report takes its place.
    let fenced = f.fenced(&second).await;
    let next = report(&second, 3);
    job_fail(&f.app, &fenced, &permanent("gone"), Some(&next), &f.registry, 0.5).await.unwrap();
    assert_eq!(job_replay(&f.app, claimed.id, &this).await.unwrap(), Replay::New);
    assert!(matches!(job_replay(&f.app, claimed.id, &next).await.unwrap(), Replay::Same(_)));
}

#[tokio::test]
async fn a_rerun_goes_where_its_kind_goes_now() {
    let f = Fixture::new().await;
    let (completed, failed) = (f.claimed().await, f.claimed().await);
    for claimed in [&completed, &failed] {
        f.enqueue(job(WORK, claimed.target_id)).await;
    }
    let external = KindSettings {
        route: Route::External,
        enabled: true,
        max_failures: 7,
        lease_seconds: 120,
        base_seconds: 30,
        cap_seconds: 3_600,
    };
    job_kind_put(&f.app, &f.registry, WORK, &external).await.unwrap();
    let fenced = f.fenced(&completed).await;
    let done = job_complete(&f.app, &fenced, &json!({}), None).await.unwrap();
    let buried = fail(&f, &failed, &permanent("gone")).await;
    for transition in [done, buried] {
        let fresh = transition.rerun.unwrap();
        assert_eq!((fresh.due_soon, transition.wake), (false, None));
        let row = f.find(fresh.id).await;
        assert_eq!((row.route, row.max_failures), (Route::External, 7));
    }
}
