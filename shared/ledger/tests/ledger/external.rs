//! Claims over HTTP.

use crate::support::{Fixture, REPORT, WORK, job};
use jiff::SignedDuration;
use ledger::{
    Error, JobId, JobStatus, KindSettings, NotClaimed, Route, Scan, fence, job_claim_external, job_enqueue,
    job_kind_put, jobs_claim_external, jobs_list_claimable, module_leases_end,
};
use std::collections::HashSet;
use std::time::Duration;
use uuid::Uuid;

fn kinds() -> Vec<String> {
    vec![REPORT.to_owned()]
}

async fn claim(f: &Fixture, id: JobId, kinds: &[String]) -> Result<ledger::ClaimedJob, NotClaimed> {
    job_claim_external(&f.app, &f.registry, Uuid::now_v7(), kinds, id, None).await.unwrap()
}

#[tokio::test]
async fn a_module_claims_one_job_with_the_kinds_lease() {
    let f = Fixture::new().await;
    let id = f.queued(REPORT).await;
    let module = Uuid::now_v7();
    let claimed = job_claim_external(&f.app, &f.registry, module, &kinds(), id, None).await.unwrap().unwrap();
    let row = f.find(id).await;
    assert_eq!((row.status, row.locked_by_module_id), (JobStatus::Claimed, Some(module)));
    let lease = claimed.lease_expires_at.duration_since(row.claimed_at.unwrap());
    assert_eq!(lease, SignedDuration::from_secs(120));
    assert!(fence(&f.app, &claimed.holder()).await.is_ok());
}

#[tokio::test]
async fn a_lease_asked_for_is_kept_between_ten_seconds_and_a_quarter_of_an_hour() {
    let f = Fixture::new().await;
    for (asked_s, given_s) in [(1, 10), (300, 300), (5_000, 900)] {
        let id = f.queued(REPORT).await;
        let lease = Some(Duration::from_secs(asked_s));
        let claimed = job_claim_external(&f.app, &f.registry, Uuid::now_v7(), &kinds(), id, lease)
            .await
            .unwrap()
            .unwrap();
        let given = claimed.lease_expires_at.duration_since(f.find(id).await.claimed_at.unwrap());
        assert_eq!(given, SignedDuration::from_secs(given_s), "{asked_s}");
    }
}

#[tokio::test]
async fn why_a_job_is_not_given_is_told() {
    let f = Fixture::new().await;
    assert_eq!(claim(&f, JobId::new(), &kinds()).await, Err(NotClaimed::NotFound));
    let id = f.queued(REPORT).await;
    assert_eq!(claim(&f, id, &[WORK.to_owned()]).await, Err(NotClaimed::WrongKind));
    let internal = f.queued(WORK).await;
    let both = [WORK.to_owned(), REPORT.to_owned()];
    assert!(matches!(claim(&f, internal, &both).await, Err(NotClaimed::NotClaimable(_))));
    f.set(id, "next_run_at = now() + interval '1 minute'").await;
    assert!(matches!(claim(&f, id, &kinds()).await, Err(NotClaimed::NotClaimable(_))));
    f.make_due(id).await;
    assert!(claim(&f, id, &kinds()).await.is_ok());
    let Err(NotClaimed::NotClaimable(job)) = claim(&f, id, &kinds()).await else {
        panic!("it is claimed already");
    };
    assert_eq!(job.status, JobStatus::Claimed);
}

#[tokio::test]
async fn a_batch_comes_in_the_order_of_work_and_two_modules_share_nothing() {
    let f = Fixture::new().await;
    let targets: Vec<Uuid> = (0..40).map(|_| Uuid::new_v4()).collect();
    let jobs: Vec<_> = targets.iter().map(|target| job(REPORT, *target)).collect();
    let made = job_enqueue(&f.app, &f.registry, &jobs).await.unwrap();
    f.set(made[5].id, "next_run_at = now() - interval '1 minute'").await;
    f.set(made[9].id, "priority = 20").await;
    let scan = Scan::new();
    let first =
        jobs_claim_external(&f.app, &f.registry, &scan, Uuid::now_v7(), &kinds(), 3, None).await.unwrap();
    assert_eq!(first.len(), 3);
    assert_eq!((first[0].id, first[1].id), (made[9].id, made[5].id));
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let (client, registry) = (f.db.app().await, f.registry.clone());
        tasks.push(tokio::spawn(async move {
            let scan = Scan::new();
            let mut all = Vec::new();
            loop {
                let module = Uuid::now_v7();
                let some =
                    jobs_claim_external(&client, &registry, &scan, module, &kinds(), 5, None).await.unwrap();
                if some.is_empty() {
                    return all;
                }
                all.extend(some.into_iter().map(|job| job.id));
            }
        }));
    }
    let mut all: Vec<JobId> = first.iter().map(|job| job.id).collect();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    assert_eq!(all.len(), all.iter().collect::<HashSet<_>>().len());
    assert_eq!(all.len(), 40);
}

#[tokio::test]
async fn the_list_shows_what_could_be_claimed() {
    let f = Fixture::new().await;
    let (due, later, claimed) = (f.queued(REPORT).await, f.queued(REPORT).await, f.queued(REPORT).await);
    f.queued(WORK).await;
    f.set(later, "next_run_at = now() + interval '1 minute'").await;
    claim(&f, claimed, &kinds()).await.unwrap();
    let listed = jobs_list_claimable(&f.app, &kinds(), 20).await.unwrap();
    assert_eq!(listed.iter().map(|job| job.id).collect::<Vec<_>>(), vec![due]);
    assert!(jobs_list_claimable(&f.app, &[], 20).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_admins_row_overrides_the_lease_and_stops_claims() {
    let f = Fixture::new().await;
    let mut settings = KindSettings {
        route: Route::External,
        enabled: true,
        max_failures: 2,
        lease_seconds: 30,
        base_seconds: 1,
        cap_seconds: 5,
    };
    job_kind_put(&f.app, &f.registry, REPORT, &settings).await.unwrap();
    let id = f.queued(REPORT).await;
    let claimed = claim(&f, id, &kinds()).await.unwrap();
    assert_eq!(claimed.max_failures, 2);
    let lease = claimed.lease_expires_at.duration_since(f.find(id).await.claimed_at.unwrap());
    assert_eq!(lease, SignedDuration::from_secs(30));
    settings.enabled = false;
    job_kind_put(&f.app, &f.registry, REPORT, &settings).await.unwrap();
    let next = f.queued(REPORT).await;
    assert!(matches!(claim(&f, next, &kinds()).await, Err(NotClaimed::NotClaimable(_))));
    let some =
        jobs_claim_external(&f.app, &f.registry, &Scan::new(), Uuid::now_v7(), &kinds(), 5, None).await;
    assert!(some.unwrap().is_empty());
    assert!(jobs_list_claimable(&f.app, &kinds(), 5).await.unwrap().is_empty());
}

#[tokio::test]
async fn disabling_a_module_ends_its_leases_uncharged_and_nobody_elses() {
    let f = Fixture::new().await;
    let (a, b) = (f.queued(REPORT).await, f.queued(REPORT).await);
    let (module, other) = (Uuid::now_v7(), Uuid::now_v7());
    let mine = job_claim_external(&f.app, &f.registry, module, &kinds(), a, None).await.unwrap().unwrap();
    let theirs = job_claim_external(&f.app, &f.registry, other, &kinds(), b, None).await.unwrap().unwrap();
    let ended = module_leases_end(&f.app, &f.registry, module).await.unwrap();
    assert_eq!(ended.len(), 1);
    assert_eq!((ended[0].id, ended[0].failures, &ended[0].event), (a, 0, &None));
    let row = f.find(a).await;
    assert_eq!((row.status, row.failures, row.deferrals), (JobStatus::Queued, 0, 0));
    assert!(matches!(fence(&f.app, &mine.holder()).await, Err(Error::Stale)));
    assert!(fence(&f.app, &theirs.holder()).await.is_ok());
    assert!(claim(&f, a, &kinds()).await.is_ok(), "it is due at once");
}

async fn claim_batch(f: &Fixture, kinds: &[String]) -> Vec<JobId> {
    let (scan, module) = (Scan::new(), Uuid::now_v7());
    let some = jobs_claim_external(&f.app, &f.registry, &scan, module, kinds, 10, None).await.unwrap();
    some.into_iter().map(|job| job.id).collect()
}

#[tokio::test]
async fn an_internal_job_is_never_claimed_from_outside() {
    let f = Fixture::new().await;
    f.queued(WORK).await;
    assert!(claim_batch(&f, &[WORK.to_owned(), REPORT.to_owned()]).await.is_empty());
}

#[tokio::test]
async fn what_is_not_due_or_held_is_not_in_a_batch() {
    let f = Fixture::new().await;
    let (due, later, held) = (f.queued(REPORT).await, f.queued(REPORT).await, f.queued(REPORT).await);
    f.set(later, "next_run_at = now() + interval '1 minute'").await;
    claim(&f, held, &kinds()).await.unwrap();
    let before = (f.row(later).await, f.row(held).await);
    assert_eq!(claim_batch(&f, &kinds()).await, vec![due]);
    assert_eq!((f.row(later).await, f.row(held).await), before);
}

#[tokio::test]
async fn a_claim_from_outside_passes_by_what_another_holds() {
    let f = Fixture::new().await;
    let target = Uuid::now_v7();
    let held = f.enqueue(job(REPORT, target)).await.id;
    let free = f.queued(REPORT).await;
    let mut other = f.db.app().await;
    let tx = other.transaction().await.unwrap();
    job_enqueue(&tx, &f.registry, &[job(REPORT, target)]).await.unwrap();
    assert!(matches!(claim(&f, held, &kinds()).await, Err(NotClaimed::NotClaimable(_))));
    assert_eq!(claim_batch(&f, &kinds()).await, vec![free]);
    tx.commit().await.unwrap();
    assert_eq!(claim_batch(&f, &kinds()).await, vec![held]);
}
