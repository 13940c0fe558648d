//! What claim, heartbeat and hint write stays on its page.
//!
//! A process and a server of its own: a transaction that is open in any database of a server keeps old row versions from
//! being removed in all of them, and the other tests hold some open on purpose.

#![allow(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

#[path = "ledger/support.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod support;

use ledger::{
    ClaimedJob, Hint, JobId, NewJob, Scan, job_claim_batch, job_enqueue, job_heartbeat, jobs_complete_batch,
    jobs_mark_ready,
};
use serde_json::json;
use std::time::Duration;
use support::{Fixture, WORK, job};
use uuid::Uuid;

const HOT_PERCENT_MIN: i64 = 95;

#[tokio::test]
async fn claims_heartbeats_and_hints_are_hot_updates() {
    let f = filled().await;
    let scan = Scan::new();
    loop {
        let marked = jobs_mark_ready(&f.app, &scan, 10).await.unwrap();
        if marked.is_empty() {
            break;
        }
        let hints: Vec<Hint> = marked.iter().map(|marked| marked.hint).collect();
        let claimed = job_claim_batch(&f.app, &hints, Duration::from_secs(55)).await.unwrap();
        assert_eq!(claimed.len(), hints.len());
        job_heartbeat(&f.app, &claimed[0].holder(), Duration::from_secs(60)).await.unwrap();
        complete(&f, &claimed).await;
    }
    assert_eq!(f.count("job_archive").await, 1_000);
    check(&f, 2_100).await;
    drop(f);

    // Nothing can be pruned in the midst of a statement: a page must have room for new versions of all its rows, with the
    // lease that they get.
    let f = filled().await;
    let hints: Vec<Hint> = f
        .owner
        .query("SELECT id FROM jobs ORDER BY ctid", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| Hint { job_id: JobId(row.get(0)), attempt: 0 })
        .collect();
    for hints in hints.chunks(500) {
        let claimed = job_claim_batch(&f.app, hints, Duration::from_secs(55)).await.unwrap();
        assert_eq!(claimed.len(), 500);
        complete(&f, &claimed).await;
    }
    check(&f, 1_000).await;
}

/// A thousand queued jobs.
async fn filled() -> Fixture {
    let f = Fixture::new().await;
    let targets: Vec<Uuid> = (0..1_000).map(|_| Uuid::new_v4()).collect();
    for chunk in targets.chunks(100) {
        let jobs: Vec<NewJob<'_>> = chunk.iter().map(|target| job(WORK, *target)).collect();
        job_enqueue(&f.app, &f.registry, &jobs).await.unwrap();
    }
    f
}

async fn complete(f: &Fixture, claimed: &[ClaimedJob]) {
    let done: Vec<_> = claimed.iter().map(|job| (job.holder(), json!({}))).collect();
    assert!(jobs_complete_batch(&f.app, &done).await.unwrap().stale.is_empty());
}

/// At least so many updates were counted, and nearly all of them were HOT.
async fn check(f: &Fixture, updates_min: i64) {
    // A session's own counts reach the others when it reports them, at the latest when it ends.
    let stats = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'jobs'";
    f.app.batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
    let limit = std::time::Instant::now() + Duration::from_secs(10);
    let (updates, hot) = loop {
        f.app.batch_execute("SELECT 1").await.unwrap();
        let row = f.owner.query_one(stats, &[]).await.unwrap();
        let counts: (i64, i64) = (row.get(0), row.get(1));
        if counts.0 >= updates_min || std::time::Instant::now() > limit {
            break counts;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(updates >= updates_min, "{updates} updates were counted");
    assert!(hot * 100 >= updates * HOT_PERCENT_MIN, "{hot} of {updates} updates were HOT");
}
