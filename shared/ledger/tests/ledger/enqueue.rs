//! What enqueueing does to a target that has a job already.

use crate::support::{Fixture, REPORT, WORK, job};
use jiff::{SignedDuration, Timestamp};
use ledger::{Error, JobStatus, NewJob, Route, job_enqueue};
use serde_json::json;
use uuid::Uuid;

#[tokio::test]
async fn a_new_job_is_queued_with_its_kinds_constants() {
    let f = Fixture::new().await;
    let made = f.enqueue(job(WORK, Uuid::now_v7())).await;
    assert!(made.inserted && made.due_soon);
    let row = f.find(made.id).await;
    assert_eq!((row.status, row.route, row.priority), (JobStatus::Queued, Route::Internal, 10));
    assert_eq!((row.attempt, row.failures, row.max_failures, row.deferrals), (0, 0, 3, 0));
    assert_eq!(row.inputs_json, json!({"n": 1}));
}

#[tokio::test]
async fn an_external_job_and_a_later_one_are_not_due_soon() {
    let f = Fixture::new().await;
    assert!(!f.enqueue(job(REPORT, Uuid::now_v7())).await.due_soon);
    let later = Timestamp::now() + SignedDuration::from_mins(2);
    let made = f.enqueue(NewJob { run_at: Some(later), ..job(WORK, Uuid::now_v7()) }).await;
    assert!(made.inserted && !made.due_soon);
    let soon = Timestamp::now() + SignedDuration::from_secs(30);
    assert!(f.enqueue(NewJob { run_at: Some(soon), ..job(WORK, Uuid::now_v7()) }).await.due_soon);
}

#[tokio::test]
async fn a_queued_target_keeps_its_job_with_the_earlier_instant_and_the_higher_priority() {
    let f = Fixture::new().await;
    let target = Uuid::now_v7();
    let later = Timestamp::now() + SignedDuration::from_mins(10);
    let first = f.enqueue(NewJob { run_at: Some(later), ..job(WORK, target) }).await;
    f.set(first.id, "hinted_until = now() + interval '2 minutes'").await;
    let before = f.find(first.id).await;
    // Later and lower: nothing but the version.
    let even_later = later + SignedDuration::from_mins(10);
    let again = f.enqueue(NewJob { run_at: Some(even_later), priority: Some(0), ..job(WORK, target) }).await;
    assert_eq!((again.id, again.inserted), (first.id, false));
    let row = f.find(first.id).await;
    assert_eq!(row.priority, 10);
    assert_eq!((row.next_run_at, row.hinted_until), (before.next_run_at, before.hinted_until));
    // Sooner and higher: both are taken, and the hint for the old instant no longer counts.
    let sooner = f.enqueue(NewJob { priority: Some(20), ..job(WORK, target) }).await;
    assert!(sooner.due_soon && !sooner.inserted);
    let row = f.find(first.id).await;
    assert_eq!(row.priority, 20);
    assert!(row.next_run_at < later && row.hinted_until.is_none());
    assert_eq!(f.count("jobs").await, 1);
}

#[tokio::test]
async fn a_claimed_target_gets_rerun_and_nothing_else() {
    let f = Fixture::new().await;
    let target = Uuid::now_v7();
    let first = f.enqueue(job(WORK, target)).await;
    let claimed = f.claim(first.id, 0).await.unwrap();
    let before = f.find(first.id).await;
    let again = f.enqueue(NewJob { priority: Some(20), inputs: json!({"n": 2}), ..job(WORK, target) }).await;
    assert_eq!((again.id, again.inserted, again.due_soon), (first.id, false, false));
    let after = f.find(first.id).await;
    assert!(after.rerun && !before.rerun);
    assert_eq!((after.priority, after.next_run_at), (before.priority, before.next_run_at));
    assert_eq!((after.inputs_json, after.attempt), (before.inputs_json, claimed.attempt));
    assert_eq!(after.lease_expires_at, Some(claimed.lease_expires_at));
}

#[tokio::test]
async fn many_jobs_take_one_statement_and_answer_in_the_given_order() {
    let f = Fixture::new().await;
    let mut targets: Vec<Uuid> = (0..200).map(|_| Uuid::new_v4()).collect();
    targets.push(targets[7]);
    let jobs: Vec<_> = targets.iter().map(|target| job(WORK, *target)).collect();
    let made = job_enqueue(&f.app, &f.registry, &jobs).await.unwrap();
    assert_eq!(made.len(), 201);
    assert_eq!(made[200].id, made[7].id, "two of one key are one job");
    for (target, made) in targets.iter().zip(&made) {
        assert_eq!(f.find(made.id).await.target_id, *target);
    }
    assert_eq!(f.count("jobs").await, 200);
    assert!(job_enqueue(&f.app, &f.registry, &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn two_transactions_that_enqueue_the_same_targets_wait_and_do_not_deadlock() {
    let f = Fixture::new().await;
    let targets: Vec<Uuid> = (0..50).map(|_| Uuid::new_v4()).collect();
    let mut tasks = Vec::new();
    for n in 0..4 {
        let (client, registry) = (f.db.app().await, f.registry.clone());
        let mut targets = targets.clone();
        targets.rotate_left(n * 11);
        tasks.push(tokio::spawn(async move {
            for _ in 0..10 {
                let jobs: Vec<_> = targets.iter().map(|target| job(WORK, *target)).collect();
                job_enqueue(&client, &registry, &jobs).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(f.count("jobs").await, 50);
}

#[tokio::test]
async fn what_the_ledger_cannot_keep_is_refused_before_anything_is_written() {
    let f = Fixture::new().await;
    let with = |inputs| NewJob { inputs, ..job(WORK, Uuid::nil()) };
    let refused = |job| async { job_enqueue(&f.app, &f.registry, &[job]).await.unwrap_err() };
    assert!(matches!(refused(job("unheard-of", Uuid::nil())).await, Error::UnknownKind(_)));
    let error = refused(with(json!("x".repeat(64 * 1024)))).await;
    assert!(matches!(error, Error::TooLarge { what: "inputs", bytes: 65_538, .. }), "{error}");
    assert!(matches!(refused(with(json!({"a": ["\0"]}))).await, Error::Invalid(_)));
    let error = refused(NewJob { priority: Some(7), ..job(WORK, Uuid::nil()) }).await;
    assert!(matches!(error, Error::Invalid(_)));
    assert_eq!(f.count("jobs").await, 0);
}
