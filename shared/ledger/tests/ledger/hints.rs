//! Hints: who is marked, for how long, and who is not.

use crate::support::{Fixture, REPORT, URGENT, WORK, job, transient};
use jiff::{SignedDuration, Timestamp};
use ledger::{
    Hint, JobId, KindSettings, NewJob, Route, Scan, job_enqueue, job_fail, job_kind_put, jobs_mark_by_id,
    jobs_mark_ready, jobs_unmark, jobs_unmark_by_id,
};
use std::time::Duration;
use uuid::Uuid;

async fn ready(f: &Fixture) -> Vec<JobId> {
    let marked = jobs_mark_ready(&f.app, &Scan::new(), 100).await.unwrap();
    marked.into_iter().map(|marked| marked.hint.job_id).collect()
}

async fn hinted_for(f: &Fixture, id: JobId) -> SignedDuration {
    f.find(id).await.hinted_until.unwrap().duration_since(Timestamp::now())
}

#[tokio::test]
async fn a_ready_job_is_hinted_once_and_again_when_its_mark_ends() {
    let f = Fixture::new().await;
    let id = f.queued(WORK).await;
    let marked = jobs_mark_ready(&f.app, &Scan::new(), 100).await.unwrap();
    assert_eq!(marked.len(), 1);
    assert_eq!(marked[0].hint, Hint { job_id: id, attempt: 0 });
    assert_eq!(marked[0].delay, Duration::ZERO);
    assert!(marked[0].trace_context.as_deref().unwrap().starts_with("00-4bf9"));
    let mark = hinted_for(&f, id).await;
    assert!(mark > SignedDuration::from_secs(110) && mark <= SignedDuration::from_secs(120), "{mark}");
    assert!(ready(&f).await.is_empty(), "no sweep repeats a young hint");
    f.set(id, "hinted_until = now()").await;
    assert_eq!(ready(&f).await, vec![id], "a lost one is sent again");
}

#[tokio::test]
async fn what_is_due_within_a_minute_is_hinted_with_its_delay_rounded_up() {
    let f = Fixture::new().await;
    let (soon, later) = (f.queued(WORK).await, f.queued(WORK).await);
    f.set(soon, "next_run_at = now() + interval '20.5 seconds'").await;
    f.set(later, "next_run_at = now() + interval '70 seconds'").await;
    let marked = jobs_mark_ready(&f.app, &Scan::new(), 100).await.unwrap();
    assert_eq!(marked.len(), 1);
    assert_eq!(marked[0].hint.job_id, soon);
    assert!((20..=21).contains(&marked[0].delay.as_secs()), "{:?}", marked[0].delay);
    // Two minutes after it is due.
    let mark = hinted_for(&f, soon).await;
    assert!(mark > SignedDuration::from_secs(130) && mark < SignedDuration::from_secs(142), "{mark}");
}

#[tokio::test]
async fn external_claimed_and_disabled_jobs_are_not_hinted() {
    let f = Fixture::new().await;
    let external = f.queued(REPORT).await;
    let claimed = f.claimed().await.id;
    let disabled = f.queued(URGENT).await;
    let settings = KindSettings {
        route: Route::Internal,
        enabled: false,
        max_failures: 3,
        lease_seconds: 120,
        base_seconds: 30,
        cap_seconds: 3_600,
    };
    job_kind_put(&f.app, &f.registry, URGENT, &settings).await.unwrap();
    assert!(ready(&f).await.is_empty());
    let ids = [external, claimed, disabled, JobId::new()];
    assert!(jobs_mark_by_id(&f.app, &ids).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_order_of_work_is_priority_then_instant_and_the_limit_holds() {
    let f = Fixture::new().await;
    let (old, young) = (f.queued(WORK).await, f.queued(WORK).await);
    let urgent = f.queued(URGENT).await;
    let low = f.enqueue(NewJob { priority: Some(0), ..job(WORK, Uuid::now_v7()) }).await.id;
    f.set(old, "next_run_at = now() - interval '1 hour'").await;
    let scan = Scan::new();
    let first = jobs_mark_ready(&f.app, &scan, 2).await.unwrap();
    let ids = |marked: Vec<ledger::MarkedJob>| -> Vec<JobId> {
        marked.into_iter().map(|marked| marked.hint.job_id).collect()
    };
    assert_eq!(ids(first), vec![urgent, old]);
    assert_eq!(ids(jobs_mark_ready(&f.app, &scan, 2).await.unwrap()), vec![young, low]);
}

#[tokio::test]
async fn a_job_that_came_in_below_the_position_is_found_within_a_second() {
    let f = Fixture::new().await;
    let scan = Scan::new();
    f.queued(WORK).await;
    assert_eq!(jobs_mark_ready(&f.app, &scan, 10).await.unwrap().len(), 1);
    let below = f.queued(WORK).await;
    f.set(below, "next_run_at = now() - interval '1 hour'").await;
    let started = std::time::Instant::now();
    loop {
        let marked = jobs_mark_ready(&f.app, &scan, 10).await.unwrap();
        if marked.iter().any(|marked| marked.hint.job_id == below) {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(5), "no look begins at the front");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_wake_marks_by_id_what_a_sweep_would_mark_and_once() {
    let f = Fixture::new().await;
    let (due, later) = (f.queued(WORK).await, f.queued(WORK).await);
    f.set(later, "next_run_at = now() + interval '5 minutes'").await;
    let marked = jobs_mark_by_id(&f.app, &[due, later, due]).await.unwrap();
    assert_eq!(marked.iter().map(|marked| marked.hint.job_id).collect::<Vec<_>>(), vec![due]);
    assert!(jobs_mark_by_id(&f.app, &[due]).await.unwrap().is_empty());
    assert!(jobs_mark_by_id(&f.app, &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn marking_skips_what_another_holds_and_does_not_wait() {
    let f = Fixture::new().await;
    let target = Uuid::now_v7();
    let held = f.enqueue(job(WORK, target)).await.id;
    let free = f.queued(WORK).await;
    let mut other = f.db.app().await;
    let tx = other.transaction().await.unwrap();
    job_enqueue(&tx, &f.registry, &[job(WORK, target)]).await.unwrap();
    assert_eq!(ready(&f).await, vec![free]);
    assert!(jobs_mark_by_id(&f.app, &[held]).await.unwrap().is_empty());
    tx.commit().await.unwrap();
    assert_eq!(ready(&f).await, vec![held]);
}

#[tokio::test]
async fn what_sqs_refused_is_unmarked_while_its_attempt_is_the_same() {
    let f = Fixture::new().await;
    let (id, claimed) = (f.queued(WORK).await, f.queued(WORK).await);
    ready(&f).await;
    f.claim(claimed, 0).await.unwrap();
    let hints = [
        Hint { job_id: id, attempt: 0 },
        Hint { job_id: claimed, attempt: 0 },
        Hint { job_id: JobId::new(), attempt: 0 },
    ];
    assert_eq!(jobs_unmark(&f.app, &[Hint { attempt: 3, ..hints[0] }]).await.unwrap(), 0);
    assert_eq!(jobs_unmark(&f.app, &hints).await.unwrap(), 1);
    assert_eq!(ready(&f).await, vec![id]);
}

#[tokio::test]
async fn a_dead_letters_job_is_unmarked_if_it_is_pending() {
    let f = Fixture::new().await;
    let id = f.queued(WORK).await;
    ready(&f).await;
    assert_eq!(jobs_unmark_by_id(&f.app, &[id, JobId::new()]).await.unwrap(), 1);
    assert_eq!(jobs_unmark_by_id(&f.app, &[]).await.unwrap(), 0);
    assert_eq!(ready(&f).await, vec![id]);
}

#[tokio::test]
async fn every_return_to_the_queue_clears_the_mark() {
    let f = Fixture::new().await;
    let id = f.queued(WORK).await;
    ready(&f).await;
    let claimed = f.claim(id, 0).await.unwrap();
    let fenced = f.fenced(&claimed).await;
    job_fail(&f.app, &fenced, &transient("busy"), None, &f.registry, 0.9).await.unwrap();
    let marked = jobs_mark_ready(&f.app, &Scan::new(), 10).await.unwrap();
    assert_eq!(marked[0].hint, Hint { job_id: id, attempt: 1 });
    assert!(marked[0].delay > Duration::from_secs(20), "it starts on its second: {:?}", marked[0].delay);
}

#[tokio::test]
async fn a_mark_that_ended_is_no_mark() {
    let f = Fixture::new().await;
    let id = f.queued(WORK).await;
    assert_eq!(jobs_mark_by_id(&f.app, &[id]).await.unwrap().len(), 1);
    f.set(id, "hinted_until = now()").await;
    assert_eq!(jobs_mark_by_id(&f.app, &[id]).await.unwrap().len(), 1);
    // Nor does it keep an enqueue from being told that a wake message is due.
    f.set(id, "hinted_until = now()").await;
    let target = f.find(id).await.target_id;
    assert!(f.enqueue(job(WORK, target)).await.due_soon);
}

#[tokio::test]
async fn a_mark_ends_two_minutes_after_its_job_is_due() {
    let f = Fixture::new().await;
    let id = f.queued(WORK).await;
    f.set(id, "next_run_at = now() + interval '30 seconds'").await;
    let marked = jobs_mark_by_id(&f.app, &[id]).await.unwrap();
    assert!((29..=30).contains(&marked[0].delay.as_secs()), "{:?}", marked[0].delay);
    let mark = hinted_for(&f, id).await;
    assert!(mark > SignedDuration::from_secs(140) && mark <= SignedDuration::from_secs(150), "{mark}");
}
