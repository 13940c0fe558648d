//! Claiming an SQS batch.

use crate::support::{Fixture, REPORT, WORK, job};
use ledger::{Hint, JobStatus, KindSettings, Route, job_claim_batch, job_enqueue, job_kind_put, job_release};
use std::collections::HashSet;
use std::time::Duration;
use uuid::Uuid;

const LEASE: Duration = Duration::from_secs(55);

#[tokio::test]
async fn a_claim_counts_the_attempt_and_makes_a_token_and_a_lease() {
    let f = Fixture::new().await;
    let id = f.queued(WORK).await;
    f.set(id, "hinted_until = now() + interval '2 minutes'").await;
    let claimed = f.claim(id, 0).await.unwrap();
    assert_eq!((claimed.attempt, claimed.failures, claimed.max_failures), (1, 0, 3));
    let row = f.find(id).await;
    assert_eq!((row.status, row.hinted_until), (JobStatus::Claimed, None));
    assert_eq!(row.lease_expires_at, Some(claimed.lease_expires_at));
    let lease = claimed.lease_expires_at.duration_since(row.claimed_at.unwrap());
    assert_eq!(lease.as_secs(), 55);
}

#[tokio::test]
async fn an_internal_lease_is_never_longer_than_a_minute() {
    let f = Fixture::new().await;
    let id = f.queued(WORK).await;
    let hints = [Hint { job_id: id, attempt: 0 }];
    let claimed = job_claim_batch(&f.app, &hints, Duration::from_secs(800)).await.unwrap().remove(0);
    let row = f.find(id).await;
    assert_eq!(claimed.lease_expires_at.duration_since(row.claimed_at.unwrap()).as_secs(), 60);
}

#[tokio::test]
async fn a_late_or_doubled_hint_finds_nothing_to_claim() {
    let f = Fixture::new().await;
    let id = f.queued(WORK).await;
    let doubled = [Hint { job_id: id, attempt: 0 }, Hint { job_id: id, attempt: 0 }];
    assert_eq!(job_claim_batch(&f.app, &doubled, LEASE).await.unwrap().len(), 1);
    let before = f.row(id).await;
    for attempt in [-1, 0, 1, 2] {
        assert_eq!(f.claim(id, attempt).await, None, "attempt {attempt}");
    }
    assert!(f.claim(ledger::JobId::new(), 0).await.is_none());
    assert_eq!(f.row(id).await, before);
}

#[tokio::test]
async fn only_what_is_due_within_a_second_is_claimed() {
    let f = Fixture::new().await;
    let (soon, later) = (f.queued(WORK).await, f.queued(WORK).await);
    f.set(soon, "next_run_at = now() + interval '800 milliseconds'").await;
    f.set(later, "next_run_at = now() + interval '30 seconds'").await;
    assert!(f.claim(soon, 0).await.is_some());
    assert!(f.claim(later, 0).await.is_none());
}

#[tokio::test]
async fn an_external_job_is_never_claimed_by_a_hint() {
    let f = Fixture::new().await;
    let id = f.queued(REPORT).await;
    assert!(f.claim(id, 0).await.is_none());
}

#[tokio::test]
async fn a_disabled_kind_is_not_claimed_and_its_running_attempts_go_on() {
    let f = Fixture::new().await;
    let running = f.claimed().await;
    let waiting = f.queued(WORK).await;
    let mut settings = KindSettings {
        route: Route::Internal,
        enabled: false,
        max_failures: 3,
        lease_seconds: 120,
        base_seconds: 30,
        cap_seconds: 3_600,
    };
    job_kind_put(&f.app, &f.registry, WORK, &settings).await.unwrap();
    assert!(f.claim(waiting, 0).await.is_none());
    assert!(ledger::fence(&f.app, &running.holder()).await.is_ok());
    settings.enabled = true;
    job_kind_put(&f.app, &f.registry, WORK, &settings).await.unwrap();
    assert!(f.claim(waiting, 0).await.is_some());
}

#[tokio::test]
async fn two_claimers_of_one_batch_get_each_job_once() {
    let f = Fixture::new().await;
    let jobs: Vec<_> = (0..60).map(|_| job(WORK, Uuid::new_v4())).collect();
    let made = job_enqueue(&f.app, &f.registry, &jobs).await.unwrap();
    let mut hints: Vec<Hint> = made.iter().map(|made| Hint { job_id: made.id, attempt: 0 }).collect();
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let client = f.db.app().await;
        hints.rotate_left(17);
        let hints = hints.clone();
        tasks.push(tokio::spawn(async move { job_claim_batch(&client, &hints, LEASE).await.unwrap() }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    assert_eq!(all.len(), 60);
    assert_eq!(all.iter().map(|job| job.id).collect::<HashSet<_>>().len(), 60);
    assert_eq!(all.iter().map(|job| job.lease_token).collect::<HashSet<_>>().len(), 60);
}

#[tokio::test]
async fn a_batch_waits_for_a_row_that_an_enqueue_holds() {
    let f = Fixture::new().await;
    let target = Uuid::now_v7();
    let id = f.enqueue(job(WORK, target)).await.id;
    let (mut enqueuer, claimer) = (f.db.app().await, f.db.app().await);
    let holder = enqueuer.transaction().await.unwrap();
    job_enqueue(&holder, &f.registry, &[job(WORK, target)]).await.unwrap();
    let claim = tokio::spawn(async move {
        job_claim_batch(&claimer, &[Hint { job_id: id, attempt: 0 }], LEASE).await.unwrap()
    });
    f.wait_until_somebody_is_blocked().await;
    holder.commit().await.unwrap();
    assert_eq!(claim.await.unwrap().len(), 1, "a skipped row would have lost its hint");
}

#[tokio::test]
async fn every_attempt_has_a_token_of_its_own() {
    let f = Fixture::new().await;
    let id = f.queued(WORK).await;
    let mut tokens = HashSet::new();
    for attempt in 0..3 {
        let claimed = f.claim(id, attempt).await.unwrap();
        assert!(tokens.insert(claimed.lease_token), "{tokens:?}");
        let fenced = f.fenced(&claimed).await;
        job_release(&f.app, &fenced, None, &f.registry, 0.5).await.unwrap();
    }
}

#[tokio::test]
async fn a_hint_of_an_earlier_attempt_claims_nothing() {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    let fenced = f.fenced(&claimed).await;
    job_release(&f.app, &fenced, None, &f.registry, 0.5).await.unwrap();
    assert!(f.claim(claimed.id, 0).await.is_none());
    assert!(f.claim(claimed.id, 2).await.is_none());
    assert!(f.claim(claimed.id, 1).await.is_some());
}

#[tokio::test]
async fn a_claim_that_waited_for_another_finds_nothing() {
    let f = Fixture::new().await;
    let id = f.queued(WORK).await;
    let (mut first, second) = (f.db.app().await, f.db.app().await);
    let hints = [Hint { job_id: id, attempt: 0 }];
    let tx = first.transaction().await.unwrap();
    assert_eq!(job_claim_batch(&tx, &hints, LEASE).await.unwrap().len(), 1);
    let waiting = tokio::spawn(async move { job_claim_batch(&second, &hints, LEASE).await.unwrap() });
    f.wait_until_somebody_is_blocked().await;
    tx.commit().await.unwrap();
    assert_eq!(waiting.await.unwrap(), vec![]);
    assert_eq!(f.find(id).await.attempt, 1);
}
