//! Expired leases.

use crate::support::{Fixture, REPORT, WORK, job};
use jiff::{SignedDuration, Timestamp};
use ledger::{JobEventType, JobStatus, Scan, jobs_claim_external, jobs_reap};
use std::collections::HashSet;
use uuid::Uuid;

#[tokio::test]
async fn an_expired_lease_is_charged_and_queued_again_after_a_backoff() {
    let f = Fixture::new().await;
    let (expired, running) = (f.claimed().await, f.claimed().await);
    f.expire(expired.id).await;
    let reaped = jobs_reap(&f.app, &f.registry, 100, || 0.5).await.unwrap();
    assert_eq!(reaped.len(), 1);
    assert_eq!((reaped[0].id, reaped[0].failures), (expired.id, 1));
    let event = reaped[0].event.as_ref().unwrap();
    assert_eq!(event.event_type, JobEventType::LeaseRequeued);
    assert_eq!(event.payload["reason"], "lease_expired");
    let row = f.find(expired.id).await;
    assert_eq!((row.status, row.failures, row.attempt), (JobStatus::Queued, 1, 1));
    let pause = row.next_run_at.duration_since(Timestamp::now());
    assert!(pause > SignedDuration::from_secs(13) && pause < SignedDuration::from_secs(16), "{pause}");
    assert_eq!(f.find(running.id).await.status, JobStatus::Claimed);
    assert!(jobs_reap(&f.app, &f.registry, 100, || 0.5).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_poison_job_does_not_loop_for_ever() {
    let f = Fixture::new().await;
    let id = f.queued(WORK).await;
    let mut ends = Vec::new();
    for attempt in 0..3 {
        f.make_due(id).await;
        f.claim(id, attempt).await.unwrap();
        f.expire(id).await;
        ends.extend(jobs_reap(&f.app, &f.registry, 10, || 0.0).await.unwrap());
    }
    let statuses: Vec<_> = ends.iter().map(|end| end.status).collect();
    assert_eq!(statuses, vec![JobStatus::Queued, JobStatus::Queued, JobStatus::DeadLetter]);
    let last = ends.pop().unwrap();
    assert_eq!(last.event.unwrap().event_type, JobEventType::DeadLettered);
    assert_eq!(last.terminal.unwrap().code, "lease_expired");
    assert_eq!(f.find(id).await.status, JobStatus::DeadLetter);
}

#[tokio::test]
async fn an_expired_job_with_rerun_is_queued_without_it() {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    f.enqueue(job(WORK, claimed.target_id)).await;
    f.expire(claimed.id).await;
    let reaped = jobs_reap(&f.app, &f.registry, 10, || 0.0).await.unwrap();
    assert_eq!(reaped[0].rerun, None);
    assert!(!f.find(claimed.id).await.rerun);
    assert_eq!(f.count("jobs").await, 1);
}

#[tokio::test]
async fn a_modules_expired_lease_is_taken_back_as_well() {
    let f = Fixture::new().await;
    let id = f.queued(REPORT).await;
    let kinds = [REPORT.to_owned()];
    let module = Uuid::now_v7();
    jobs_claim_external(&f.app, &f.registry, &Scan::new(), module, &kinds, 5, None).await.unwrap();
    f.expire(id).await;
    let reaped = jobs_reap(&f.app, &f.registry, 10, || 0.0).await.unwrap();
    assert_eq!((reaped.len(), reaped[0].wake), (1, None));
    assert_eq!(f.find(id).await.locked_by_module_id, None);
}

#[tokio::test]
async fn the_oldest_expiry_goes_first_and_the_limit_holds() {
    let f = Fixture::new().await;
    let (young, old) = (f.claimed().await, f.claimed().await);
    f.set(young.id, "lease_expires_at = now() - interval '1 second'").await;
    f.set(old.id, "lease_expires_at = now() - interval '1 minute'").await;
    let reaped = jobs_reap(&f.app, &f.registry, 1, || 0.0).await.unwrap();
    assert_eq!(reaped.iter().map(|end| end.id).collect::<Vec<_>>(), vec![old.id]);
}

#[tokio::test]
async fn two_reapers_at_once_take_each_lease_back_once() {
    let f = Fixture::new().await;
    let mut ids = HashSet::new();
    for _ in 0..30 {
        let claimed = f.claimed().await;
        f.expire(claimed.id).await;
        ids.insert(claimed.id);
    }
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let (mut client, registry) = (f.db.app().await, f.registry.clone());
        tasks.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            loop {
                let tx = client.transaction().await.unwrap();
                let reaped = jobs_reap(&tx, &registry, 4, || 0.5).await.unwrap();
                tx.commit().await.unwrap();
                if reaped.is_empty() {
                    return taken;
                }
                taken.extend(reaped.into_iter().map(|end| end.id));
            }
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    assert_eq!(all.len(), 30);
    assert_eq!(all.into_iter().collect::<HashSet<_>>(), ids);
}
