//! What people do to jobs.

use crate::support::{Fixture, REPORT, URGENT, WORK, job, permanent, transient};
use jiff::{SignedDuration, Timestamp};
use ledger::{
    ClaimedJob, DeadFilter, Error, JobEventType, JobId, JobStatus, KindSettings, NewJob, Route, job_cancel,
    job_complete, job_enqueue, job_fail, job_kind_put, job_kinds_list, job_requeue, job_retry_now,
    jobs_cancel_for_target, jobs_requeue_dead,
};
use serde_json::json;
use uuid::Uuid;

const SETTINGS: KindSettings = KindSettings {
    route: Route::Internal,
    enabled: true,
    max_failures: 4,
    lease_seconds: 60,
    base_seconds: 2,
    cap_seconds: 10,
};

async fn end(f: &Fixture, job: &ClaimedJob, code: &str) {
    let fenced = f.fenced(job).await;
    job_fail(&f.app, &fenced, &permanent(code), None, &f.registry, 0.5).await.unwrap();
}

/// A dead letter: its budget is spent at the first failure.
async fn dead_letter(f: &Fixture, code: &str) -> JobId {
    let claimed = f.claimed().await;
    f.set(claimed.id, "failures = 2").await;
    let fenced = f.fenced(&claimed).await;
    let end = job_fail(&f.app, &fenced, &transient(code), None, &f.registry, 0.5).await.unwrap();
    assert_eq!(end.status, JobStatus::DeadLetter);
    claimed.id
}

#[tokio::test]
async fn a_queued_job_is_cancelled_with_its_reason_and_its_terminal_effect() {
    let f = Fixture::new().await;
    let id = f.queued(WORK).await;
    let cancelled = job_cancel(&f.app, id, "not wanted").await.unwrap();
    assert_eq!((cancelled.status, cancelled.failures), (JobStatus::Failed, 0));
    let event = cancelled.event.unwrap();
    assert_eq!(event.event_type, JobEventType::Cancelled);
    assert_eq!(
        (event.payload["from"].as_str(), event.payload["to"].as_str()),
        (Some("queued"), Some("failed"))
    );
    assert_eq!(event.payload["message"], "not wanted");
    assert_eq!(cancelled.terminal.unwrap().code, "cancelled");
    let row = f.find(id).await;
    let error = row.error_json.unwrap();
    assert_eq!((error["code"].as_str(), error["message"].as_str()), (Some("cancelled"), Some("not wanted")));
    assert!(f.claim(id, 0).await.is_none(), "its hint finds nothing");
}

#[tokio::test]
async fn only_a_queued_job_is_cancelled() {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    let error = job_cancel(&f.app, claimed.id, "r").await.unwrap_err();
    assert!(matches!(error, Error::InvalidTransition { from: JobStatus::Claimed, .. }), "{error}");
    let fenced = f.fenced(&claimed).await;
    job_complete(&f.app, &fenced, &json!({}), None).await.unwrap();
    let error = job_cancel(&f.app, claimed.id, "r").await.unwrap_err();
    assert!(matches!(error, Error::InvalidTransition { from: JobStatus::Done, .. }), "{error}");
    assert!(matches!(job_cancel(&f.app, JobId::new(), "r").await, Err(Error::NotFound)));
}

#[tokio::test]
async fn a_merge_cancels_the_queued_jobs_of_its_secondary_and_no_others() {
    let f = Fixture::new().await;
    let target = Uuid::now_v7();
    let queued = f.enqueue(job(WORK, target)).await.id;
    let kept = f.enqueue(job(URGENT, target)).await.id;
    let report = f.enqueue(job(REPORT, target)).await.id;
    let stranger = f.queued(WORK).await;
    f.claim(kept, 0).await.unwrap();
    let kinds = [WORK, URGENT, REPORT];
    let cancelled = jobs_cancel_for_target(&f.app, &kinds, "thing", target, "merged").await.unwrap();
    let mut ids: Vec<_> = cancelled.iter().map(|end| end.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, vec![queued, report]);
    assert_eq!(f.find(kept).await.status, JobStatus::Claimed);
    assert_eq!(f.find(stranger).await.status, JobStatus::Queued);
}

#[tokio::test]
async fn a_requeued_job_comes_back_with_its_id_and_attempt_and_a_new_budget() {
    let f = Fixture::new().await;
    let id = dead_letter(&f, "flaky").await;
    let back = job_requeue(&f.app, id).await.unwrap();
    assert_eq!((back.id, back.status, back.attempt, back.failures), (id, JobStatus::Queued, 1, 0));
    assert_eq!(back.wake, Some(id));
    let event = back.event.unwrap();
    assert_eq!(event.event_type, JobEventType::Requeued);
    assert_eq!(event.payload["from"], "dead_letter");
    assert!(event.trace_context.is_some());
    let row = f.find(id).await;
    assert_eq!((row.requeues, row.failures, row.deferrals, row.attempt), (1, 0, 0, 1));
    assert_eq!(row.last_error.unwrap()["code"], "flaky");
    assert_eq!((f.count("jobs").await, f.count("job_dead").await), (1, 0));
    assert!(f.claim(id, 1).await.is_some(), "it is due at once");
}

#[tokio::test]
async fn a_requeue_is_refused_while_the_target_has_a_pending_job() {
    let f = Fixture::new().await;
    let target = Uuid::now_v7();
    let id = f.enqueue(job(WORK, target)).await.id;
    let claimed = f.claim(id, 0).await.unwrap();
    end(&f, &claimed, "gone").await;
    let pending = f.enqueue(job(WORK, target)).await.id;
    let error = job_requeue(&f.app, id).await.unwrap_err();
    assert!(matches!(error, Error::PendingJobExists { job_id } if job_id == pending), "{error}");
    assert_eq!(f.find(id).await.status, JobStatus::Failed);
    assert!(matches!(job_requeue(&f.app, JobId::new()).await, Err(Error::NotFound)));
    let error = job_requeue(&f.app, pending).await.unwrap_err();
    assert!(matches!(error, Error::InvalidTransition { from: JobStatus::Queued, .. }), "{error}");
}

#[tokio::test]
async fn retry_makes_a_queued_job_due_and_brings_a_dead_one_back_and_refuses_others() {
    let f = Fixture::new().await;
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    let id = f.enqueue(NewJob { run_at: Some(later), ..job(WORK, Uuid::now_v7()) }).await.id;
    f.set(id, "hinted_until = now() + interval '2 minutes'").await;
    let retried = job_retry_now(&f.app, id).await.unwrap();
    assert_eq!((retried.status, retried.event, retried.wake), (JobStatus::Queued, None, Some(id)));
    assert_eq!(f.find(id).await.hinted_until, None);
    let claimed = f.claim(id, 0).await.unwrap();
    let error = job_retry_now(&f.app, id).await.unwrap_err();
    assert!(matches!(error, Error::InvalidTransition { from: JobStatus::Claimed, .. }), "{error}");
    end(&f, &claimed, "gone").await;
    assert_eq!(job_retry_now(&f.app, id).await.unwrap().event.unwrap().event_type, JobEventType::Requeued);
    let again = f.claim(id, 1).await.unwrap();
    let fenced = f.fenced(&again).await;
    job_complete(&f.app, &fenced, &json!({}), None).await.unwrap();
    let error = job_retry_now(&f.app, id).await.unwrap_err();
    assert!(matches!(error, Error::InvalidTransition { from: JobStatus::Done, .. }), "{error}");
}

#[tokio::test]
async fn dead_letters_are_requeued_by_filter_and_those_with_a_pending_twin_are_skipped() {
    let f = Fixture::new().await;
    let (a, b, other) =
        (dead_letter(&f, "flaky").await, dead_letter(&f, "flaky").await, dead_letter(&f, "dns").await);
    let claimed = f.claimed().await;
    end(&f, &claimed, "flaky").await;
    f.enqueue(job(WORK, f.find(b).await.target_id)).await;
    let filter = DeadFilter { error_code: Some("flaky".into()), kind: Some(WORK.into()), before: None };
    let requeued = jobs_requeue_dead(&f.app, &filter, 100).await.unwrap();
    assert_eq!(requeued.requeued.iter().map(|back| back.id).collect::<Vec<_>>(), vec![a]);
    assert_eq!(requeued.skipped, vec![b]);
    assert_eq!(f.find(other).await.status, JobStatus::DeadLetter);
    assert_eq!(f.find(claimed.id).await.status, JobStatus::Failed, "only dead letters");
    let before = DeadFilter {
        before: Some(Timestamp::now() - SignedDuration::from_hours(1)),
        ..DeadFilter::default()
    };
    assert!(jobs_requeue_dead(&f.app, &before, 100).await.unwrap().requeued.is_empty());
    assert_eq!(jobs_requeue_dead(&f.app, &DeadFilter::default(), 1).await.unwrap().skipped, vec![b]);
}

#[tokio::test]
async fn a_kind_without_a_row_has_its_constants_and_a_row_overrides_them() {
    let f = Fixture::new().await;
    let kinds = job_kinds_list(&f.app, &f.registry).await.unwrap();
    assert_eq!(kinds.len(), 3);
    let work = kinds.iter().find(|kind| kind.kind == WORK).unwrap();
    assert_eq!((work.version, work.settings.max_failures, work.settings.base_seconds), (0, 3, 30));
    let put = job_kind_put(&f.app, &f.registry, WORK, &SETTINGS).await.unwrap();
    assert_eq!((put.version, put.settings), (1, SETTINGS));
    assert_eq!(job_kind_put(&f.app, &f.registry, WORK, &SETTINGS).await.unwrap().version, 2);
    let claimed = f.claimed().await;
    assert_eq!(claimed.max_failures, 4);
    let fenced = f.fenced(&claimed).await;
    let transition = job_fail(&f.app, &fenced, &transient("busy"), None, &f.registry, 1.0).await.unwrap();
    let pause = transition.next_run_at.unwrap().duration_since(Timestamp::now());
    assert!(pause <= SignedDuration::from_secs(2), "the row's backoff: {pause}");
}

#[tokio::test]
async fn settings_out_of_range_or_of_an_unknown_kind_are_refused() {
    let f = Fixture::new().await;
    let error = job_kind_put(&f.app, &f.registry, "unheard-of", &SETTINGS).await.unwrap_err();
    assert!(matches!(error, Error::UnknownKind(_)));
    let broken = [
        KindSettings { max_failures: 21, ..SETTINGS },
        KindSettings { lease_seconds: 9, ..SETTINGS },
        KindSettings { base_seconds: 0, ..SETTINGS },
        KindSettings { cap_seconds: 86_401, ..SETTINGS },
    ];
    for settings in broken {
        let error = job_kind_put(&f.app, &f.registry, WORK, &settings).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{settings:?}");
    }
    assert_eq!(f.count("job_kinds").await, 0);
}

#[tokio::test]
async fn a_change_of_route_moves_the_queued_jobs_and_the_claimed_ones_when_they_return() {
    let f = Fixture::new().await;
    let queued = f.queued(WORK).await;
    f.set(queued, "hinted_until = now() + interval '2 minutes'").await;
    let claimed = f.claimed().await;
    let external = KindSettings { route: Route::External, ..SETTINGS };
    job_kind_put(&f.app, &f.registry, WORK, &external).await.unwrap();
    let row = f.find(queued).await;
    assert_eq!((row.route, row.hinted_until), (Route::External, None));
    assert_eq!(f.find(claimed.id).await.route, Route::Internal);
    let fenced = f.fenced(&claimed).await;
    let back = job_fail(&f.app, &fenced, &transient("busy"), None, &f.registry, 0.0).await.unwrap();
    assert_eq!(back.wake, None, "external jobs are never hinted");
    assert_eq!(f.find(claimed.id).await.route, Route::External);
    assert_eq!(f.find(f.queued(WORK).await).await.route, Route::External);
}

/// Else another requeue could bring the job back, and it be done, while this one waits with an older look at the dead.
#[tokio::test]
async fn a_requeue_holds_its_dead_letter_while_it_waits_for_the_target() {
    let f = Fixture::new().await;
    let id = dead_letter(&f, "flaky").await;
    let (mut other, waiter) = (f.db.app().await, f.db.app().await);
    let tx = other.transaction().await.unwrap();
    job_enqueue(&tx, &f.registry, &[job(WORK, f.find(id).await.target_id)]).await.unwrap();
    let waiting = tokio::spawn(async move { job_requeue(&waiter, id).await });
    f.wait_until_somebody_is_blocked().await;
    let free = f.owner.query("SELECT id FROM job_dead FOR UPDATE SKIP LOCKED", &[]).await.unwrap();
    assert!(free.is_empty(), "nobody else can take it");
    tx.rollback().await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!((f.count("jobs").await, f.count("job_dead").await), (1, 0));
}

#[tokio::test]
async fn two_requeues_at_once_bring_a_job_back_once() {
    let f = Fixture::new().await;
    let id = dead_letter(&f, "flaky").await;
    let (mut first, second) = (f.db.app().await, f.db.app().await);
    let tx = first.transaction().await.unwrap();
    job_requeue(&tx, id).await.unwrap();
    let waiting = tokio::spawn(async move { job_requeue(&second, id).await });
    f.wait_until_somebody_is_blocked().await;
    tx.commit().await.unwrap();
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::InvalidTransition { from: JobStatus::Queued, .. }), "{error:?}");
    assert_eq!(f.find(id).await.requeues, 1);
    assert_eq!((f.count("jobs").await, f.count("job_dead").await), (1, 0));
}
