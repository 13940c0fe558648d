//! Who still holds a job: nothing that a stale attempt does changes anything.

use crate::clock;
use crate::support::{Fixture, WORK, job, stranger, transient};
use jiff::{SignedDuration, Timestamp, Unit};
use ledger::{
    ClaimedJob, Error, FencedJob, Holder, JobStatus, fence, job_complete, job_enqueue, job_fail,
    job_heartbeat, job_release, jobs_complete_batch, jobs_reap,
};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

#[tokio::test]
async fn the_holder_passes_the_fence_and_nobody_else_does() {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    let fenced = f.fenced(&claimed).await;
    assert_eq!(fenced.job, claimed);
    let before = f.row(claimed.id).await;
    let holders = [
        stranger(&claimed),
        Holder { attempt: 0, ..claimed.holder() },
        Holder { attempt: 2, ..claimed.holder() },
        Holder { job_id: ledger::JobId::new(), ..claimed.holder() },
    ];
    for holder in holders {
        assert!(matches!(fence(&f.app, &holder).await, Err(Error::Stale)), "{holder:?}");
        assert!(matches!(job_heartbeat(&f.app, &holder, Duration::from_secs(60)).await, Err(Error::Stale)));
    }
    assert_eq!(f.row(claimed.id).await, before);
}

#[tokio::test]
async fn on_the_instant_of_expiry_the_lease_is_over_and_the_reaper_has_the_job() {
    let mut f = Fixture::new().await;
    let claimed = f.claimed().await;
    f.expire(claimed.id).await;
    assert!(matches!(fence(&f.app, &claimed.holder()).await, Err(Error::Stale)));
    assert!(matches!(
        job_heartbeat(&f.app, &claimed.holder(), Duration::from_secs(60)).await,
        Err(Error::Stale)
    ));
    let registry = f.registry.clone();
    let tx = f.app.transaction().await.unwrap();
    assert_eq!(jobs_reap(&tx, &registry, 10, || 0.5).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_late_completion_changes_nothing() {
    let f = Fixture::new().await;
    let slept = f.claimed().await;
    f.expire(slept.id).await;
    jobs_reap(&f.app, &f.registry, 10, || 0.0).await.unwrap();
    f.make_due(slept.id).await;
    let second = f.claim(slept.id, 1).await.unwrap();
    let before = f.row(slept.id).await;
    assert!(matches!(fence(&f.app, &slept.holder()).await, Err(Error::Stale)));
    let batch = [(slept.holder(), json!({"late": true}))];
    let completed = ledger::jobs_complete_batch(&f.app, &batch).await.unwrap();
    assert_eq!((completed.done.len(), completed.stale), (0, vec![slept.holder()]));
    assert_eq!(f.row(slept.id).await, before);
    assert_eq!(f.count("job_archive").await, 0);
    // The one that has the job is not disturbed.
    let fenced = f.fenced(&second).await;
    let done = job_complete(&f.app, &fenced, &json!({"by": 2}), None).await.unwrap();
    assert_eq!(done.status, JobStatus::Done);
    assert!(matches!(fence(&f.app, &slept.holder()).await, Err(Error::Stale)));
    assert_eq!(f.find(slept.id).await.result_json, Some(json!({"by": 2})));
}

#[tokio::test]
async fn who_holds_the_row_may_commit_after_the_expiry_and_the_reaper_passes_it_by() {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    let mut other = f.db.app().await;
    let tx = other.transaction().await.unwrap();
    f.set(claimed.id, "lease_expires_at = clock_timestamp() + interval '200 milliseconds'").await;
    let fenced = fence(&tx, &claimed.holder()).await.unwrap();
    loop {
        let is_over = "SELECT lease_expires_at <= clock_timestamp() FROM jobs";
        if f.owner.query_one(is_over, &[]).await.unwrap().get(0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(jobs_reap(&f.app, &f.registry, 10, || 0.5).await.unwrap().is_empty());
    job_complete(&tx, &fenced, &json!({}), None).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(f.find(claimed.id).await.status, JobStatus::Done);
}

#[tokio::test]
async fn a_heartbeat_extends_to_a_lease_from_now_and_never_past_a_quarter_of_an_hour() {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    let expiry = job_heartbeat(&f.app, &claimed.holder(), Duration::from_secs(120)).await.unwrap();
    let row = f.find(claimed.id).await;
    assert_eq!(row.lease_expires_at, Some(expiry));
    let gained = expiry.duration_since(claimed.lease_expires_at);
    assert!(gained > SignedDuration::from_secs(60) && gained < SignedDuration::from_secs(70), "{gained}");
    assert_eq!(row.attempt, claimed.attempt, "a heartbeat is not an attempt");
    f.set(
        claimed.id,
        "claimed_at = now() - interval '14 minutes', lease_expires_at = now() + interval '10 s'",
    )
    .await;
    let last = job_heartbeat(&f.app, &claimed.holder(), Duration::from_secs(900)).await.unwrap();
    let row = f.find(claimed.id).await;
    assert_eq!(last.duration_since(row.claimed_at.unwrap()), SignedDuration::from_mins(15));
}

#[tokio::test]
async fn a_rolled_back_completion_leaves_the_attempt_as_it_was() {
    let mut f = Fixture::new().await;
    let claimed = f.claimed().await;
    let before = f.row(claimed.id).await;
    let tx = f.app.transaction().await.unwrap();
    let fenced = fence(&tx, &claimed.holder()).await.unwrap();
    job_complete(&tx, &fenced, &json!({}), None).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(f.row(claimed.id).await, before);
    assert!(fence(&f.app, &claimed.holder()).await.is_ok());
}

#[tokio::test]
async fn a_requeue_goes_on_with_the_fence_of_before() {
    let f = Fixture::new().await;
    let target = Uuid::now_v7();
    let id = f.enqueue(job(WORK, target)).await.id;
    let first = f.claim(id, 0).await.unwrap();
    let fenced = f.fenced(&first).await;
    let failure = ledger::Failure { permanent: true, ..transient("gone") };
    job_fail(&f.app, &fenced, &failure, None, &f.registry, 0.5).await.unwrap();
    ledger::job_requeue(&f.app, id).await.unwrap();
    let second = f.claim(id, 1).await.unwrap();
    assert_eq!((second.id, second.attempt), (first.id, 2));
    assert!(matches!(fence(&f.app, &first.holder()).await, Err(Error::Stale)));
    // A hint of before the requeue would be void as well.
    assert!(f.claim(id, 0).await.is_none());
    job_enqueue(&f.app, &f.registry, &[job(WORK, target)]).await.unwrap();
    assert!(f.find(id).await.rerun);
}

/// With a clock that stands on the very microsecond at which the lease of the job ends.
async fn on_the_instant() -> (Fixture, ClaimedJob) {
    let mut f = Fixture::new().await;
    clock::install_of_session(&f.db, &f.owner).await;
    f.app = f.db.session().await;
    // Later than the ids that are made, and within the archive's partitions.
    let start = Timestamp::now().round(Unit::Second).unwrap() + SignedDuration::from_hours(240);
    clock::set(&f.app, start).await;
    let claimed = f.claimed().await;
    clock::set(&f.app, claimed.lease_expires_at).await;
    (f, claimed)
}

#[tokio::test]
async fn on_the_very_instant_the_holder_is_stale_and_the_reaper_takes_the_job() {
    let (f, claimed) = on_the_instant().await;
    let holder = claimed.holder();
    assert!(matches!(fence(&f.app, &holder).await, Err(Error::Stale)));
    assert!(matches!(job_heartbeat(&f.app, &holder, Duration::from_secs(9)).await, Err(Error::Stale)));
    let batch = jobs_complete_batch(&f.app, &[(holder, json!({}))]).await.unwrap();
    assert_eq!(batch.stale, vec![holder]);
    let reaped = jobs_reap(&f.app, &f.registry, 10, || 0.5).await.unwrap();
    assert_eq!(reaped.len(), 1);
}

#[tokio::test]
async fn a_microsecond_before_the_instant_the_holder_is_let_in_and_the_reaper_is_not() {
    let (f, claimed) = on_the_instant().await;
    let before = claimed.lease_expires_at - SignedDuration::from_micros(1);
    clock::set(&f.app, before).await;
    assert!(jobs_reap(&f.app, &f.registry, 10, || 0.5).await.unwrap().is_empty());
    assert!(fence(&f.app, &claimed.holder()).await.is_ok());
    job_heartbeat(&f.app, &claimed.holder(), Duration::from_secs(9)).await.unwrap();
    let batch = jobs_complete_batch(&f.app, &[(claimed.holder(), json!({}))]).await.unwrap();
    assert_eq!(batch.done, vec![claimed.id]);
}

/// Runs a statement of the holder while another has its row locked, and lets go only after the lease is over.
async fn waits_past_the_expiry<T: Send + 'static>(
    call: impl AsyncFnOnce(&tokio_postgres::Client, Holder) -> T,
) -> (Fixture, ClaimedJob, String, T) {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    f.set(claimed.id, "lease_expires_at = clock_timestamp() + interval '300 milliseconds'").await;
    let before = f.row(claimed.id).await;
    let (mut locker, waiter) = (f.db.app().await, f.db.app().await);
    let lock = locker.transaction().await.unwrap();
    let sql = format!("SELECT id FROM jobs WHERE id = '{}' FOR UPDATE", claimed.id);
    lock.execute(sql.as_str(), &[]).await.unwrap();
    let release = async {
        f.wait_until_somebody_is_blocked().await;
        while !f
            .owner
            .query_one("SELECT lease_expires_at <= clock_timestamp() FROM jobs", &[])
            .await
            .unwrap()
            .get::<_, bool>(0)
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        lock.rollback().await.unwrap();
    };
    let (answer, ()) = futures::join!(call(&waiter, claimed.holder()), release);
    (f, claimed, before, answer)
}

#[tokio::test]
async fn a_fence_that_waited_past_the_expiry_is_stale() {
    let (f, claimed, before, answer) =
        waits_past_the_expiry(async |client, holder| fence(client, &holder).await).await;
    assert!(matches!(answer, Err(Error::Stale)), "{answer:?}");
    assert_eq!(f.row(claimed.id).await, before);
}

#[tokio::test]
async fn a_heartbeat_that_waited_past_the_expiry_is_stale() {
    let (f, claimed, before, answer) = waits_past_the_expiry(async |client, holder| {
        job_heartbeat(client, &holder, Duration::from_secs(60)).await
    })
    .await;
    assert!(matches!(answer, Err(Error::Stale)), "{answer:?}");
    assert_eq!(f.row(claimed.id).await, before);
}

#[tokio::test]
async fn a_batch_that_waited_past_the_expiry_is_stale() {
    let (f, claimed, before, answer) = waits_past_the_expiry(async |client, holder| {
        jobs_complete_batch(client, &[(holder, json!({}))]).await
    })
    .await;
    assert_eq!(answer.unwrap().stale, vec![claimed.holder()]);
    assert_eq!(f.row(claimed.id).await, before);
}

/// An attempt that was fenced in a transaction that is over: its lease has ended since, and another holds the job.
async fn outlived() -> (Fixture, FencedJob, String) {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    let fenced = f.fenced(&claimed).await;
    f.expire(claimed.id).await;
    jobs_reap(&f.app, &f.registry, 10, || 0.0).await.unwrap();
    f.make_due(claimed.id).await;
    f.claim(claimed.id, 1).await.unwrap();
    let row = f.row(claimed.id).await;
    (f, fenced, row)
}

#[tokio::test]
async fn what_was_fenced_in_a_transaction_that_is_over_changes_nothing() {
    let (f, fenced, before) = outlived().await;
    let permanent = ledger::Failure { permanent: true, ..transient("gone") };
    for failure in [transient("busy"), permanent] {
        let answer = job_fail(&f.app, &fenced, &failure, None, &f.registry, 0.5).await;
        assert!(matches!(answer, Err(Error::Stale)), "{answer:?}");
    }
    let answer = job_release(&f.app, &fenced, None, &f.registry, 0.5).await;
    assert!(matches!(answer, Err(Error::Stale)), "{answer:?}");
    let answer = job_complete(&f.app, &fenced, &json!({}), None).await;
    assert!(matches!(answer, Err(Error::Stale)), "{answer:?}");
    assert_eq!(f.row(fenced.id).await, before);
    assert_eq!((f.count("job_archive").await, f.count("job_dead").await), (0, 0));
}

#[tokio::test]
async fn a_returned_job_is_not_returned_again() {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    let fenced = f.fenced(&claimed).await;
    job_release(&f.app, &fenced, None, &f.registry, 0.5).await.unwrap();
    let before = f.row(claimed.id).await;
    let answer = job_fail(&f.app, &fenced, &transient("busy"), None, &f.registry, 0.5).await;
    assert!(matches!(answer, Err(Error::Stale)), "{answer:?}");
    assert_eq!(f.row(claimed.id).await, before);
}

/// The checks of the state and of the attempt stand by themselves: the constraints that keep a token on claimed rows only, and
/// the secrecy of the token, are a second line.
#[tokio::test]
async fn a_token_that_was_left_on_a_queued_row_lets_nobody_in() {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    f.owner.batch_execute("ALTER TABLE jobs DROP CONSTRAINT jobs_claim_has_its_lease").await.unwrap();
    f.set(claimed.id, "status = 'queued'").await;
    let before = f.row(claimed.id).await;
    let holder = claimed.holder();
    assert!(matches!(fence(&f.app, &holder).await, Err(Error::Stale)));
    assert!(matches!(job_heartbeat(&f.app, &holder, Duration::from_secs(60)).await, Err(Error::Stale)));
    let batch = jobs_complete_batch(&f.app, &[(holder, json!({}))]).await.unwrap();
    assert_eq!(batch.stale, vec![holder]);
    f.set(claimed.id, "lease_expires_at = now() - interval '1 second'").await;
    assert!(jobs_reap(&f.app, &f.registry, 10, || 0.5).await.unwrap().is_empty());
    // Nor does it stand in the way of one that is to be taken back.
    let expired = f.claimed().await;
    f.set(expired.id, "lease_expires_at = now()").await;
    let reaped = jobs_reap(&f.app, &f.registry, 1, || 0.5).await.unwrap();
    assert_eq!(reaped.iter().map(|transition| transition.id).collect::<Vec<_>>(), [expired.id]);
    f.set(claimed.id, &format!("lease_expires_at = '{}'", claimed.lease_expires_at)).await;
    assert_eq!(f.row(claimed.id).await, before);
}

#[tokio::test]
async fn a_batch_with_the_wrong_attempt_or_token_is_stale() {
    let f = Fixture::new().await;
    let claimed = f.claimed().await;
    let before = f.row(claimed.id).await;
    for holder in [stranger(&claimed), Holder { attempt: 2, ..claimed.holder() }] {
        let batch = jobs_complete_batch(&f.app, &[(holder, json!({}))]).await.unwrap();
        assert_eq!((batch.done.len(), batch.stale), (0, vec![holder]));
    }
    assert_eq!(f.row(claimed.id).await, before);
}
