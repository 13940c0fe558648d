//! The whole way of a backlog (a sweep marks, workers claim by hint and complete) while a snapshot is held elsewhere.
//!
//! Dead rows cannot be removed then. What decides is whether a scan walks over them again and again: the plain side claims
//! with `SKIP LOCKED` from the front, as a plain queue does.

use crate::Extent;
use crate::measure::rate;
use crate::sides::{self, Connection, LEASE, Side};
use crate::table::{External, Table};
use ledger::{Scan, job_claim_batch, jobs_mark_ready};
use std::sync::Arc;
use std::time::Instant;
use testdb::TestDb;
use tokio::sync::{Mutex, mpsc};
use tokio_postgres::types::Type;
use uuid::Uuid;

const WORKERS: usize = 2;
const BATCH: usize = 10;
const JOBS: usize = 200_000;
/// As many as dispatch marks in one statement.
const MARKED_AT_ONCE: usize = 1_000;
/// Of the plain side, which would take minutes to drain them all.
const PLAIN_JOBS: usize = 30_000;

const PLAIN_CLAIM: &str = "\
WITH picked AS MATERIALIZED (
    SELECT id FROM plain_jobs
    WHERE route = 'internal' AND priority = 10 AND next_run_at <= now() AND status = 'queued'
    ORDER BY next_run_at, id
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)
UPDATE plain_jobs AS j
SET status = 'claimed', attempt = attempt + 1, lease_token = gen_random_uuid(), claimed_at = now(),
    lease_expires_at = now() + interval '55 seconds'
FROM picked AS p
WHERE j.id = p.id
RETURNING j.id, j.attempt, j.lease_token, j.inputs_json, j.trace_context";

pub(crate) async fn run(extent: Extent, external: &External) {
    let table =
        Table::new("A backlog drained, batch 10, under a held snapshot", &["held", "not held"], external);
    let mut marked = [Vec::new(), Vec::new()];
    let mut plain = [Vec::new(), Vec::new()];
    for _ in 0..extent.rounds {
        for (index, is_held) in [true, false].into_iter().enumerate() {
            marked[index].push(once(is_held, Side::Ledger, extent.of(JOBS, MARKED_AT_ONCE)).await);
            plain[index].push(once(is_held, Side::Plain, extent.of(PLAIN_JOBS, BATCH)).await);
        }
    }
    table.row("ledger: mark, claim, complete", &marked);
    table.row("plain: SKIP LOCKED from the front, complete", &plain);
}

/// A fresh database each time: what the last one left dead must not count.
async fn once(is_held: bool, side: Side, count: usize) -> f64 {
    let db = sides::database().await;
    sides::fill(&db, side, &sides::kinds(1), count).await;
    let holder = db.owner().await;
    if is_held {
        holder
            .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM jobs")
            .await
            .unwrap();
    }
    match side {
        Side::Ledger => drain_ledger(&db, count).await,
        _ => drain_plain(&db, count).await,
    }
}

async fn drain_ledger(db: &TestDb, count: usize) -> f64 {
    let (sender, receiver) = mpsc::channel(MARKED_AT_ONCE * 2 / BATCH);
    let receiver = Arc::new(Mutex::new(receiver));
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(Connection::new(db, Side::Ledger, &sides::kinds(1)).await);
    }
    let sweeper = db.app().await;
    let started = Instant::now();
    let sweep = tokio::spawn(async move {
        let (scan, mut marked) = (Scan::new(), 0);
        while marked < count {
            let jobs = jobs_mark_ready(&sweeper, &scan, MARKED_AT_ONCE).await.unwrap();
            marked += jobs.len();
            for batch in jobs.chunks(BATCH) {
                let hints: Vec<_> = batch.iter().map(|job| job.hint).collect();
                sender.send(hints).await.unwrap();
            }
        }
    });
    let tasks: Vec<_> = workers
        .into_iter()
        .map(|worker| {
            let receiver = Arc::clone(&receiver);
            tokio::spawn(async move {
                let mut done = 0;
                loop {
                    let next = receiver.lock().await.recv().await;
                    let Some(hints) = next else { return done };
                    let claimed = job_claim_batch(&worker.client, &hints, LEASE).await.unwrap();
                    let held: Vec<_> = claimed.iter().map(ledger::ClaimedJob::holder).collect();
                    done += worker.complete(&held).await;
                }
            })
        })
        .collect();
    sweep.await.unwrap();
    let mut done = 0;
    for task in tasks {
        done += task.await.unwrap();
    }
    assert_eq!(done, count, "every job is drained once");
    rate(count, started)
}

async fn drain_plain(db: &TestDb, count: usize) -> f64 {
    let mut tasks = Vec::new();
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(Connection::new(db, Side::Plain, &[]).await);
    }
    let started = Instant::now();
    for worker in workers {
        tasks.push(tokio::spawn(async move {
            let mut done = 0;
            loop {
                let limit = i64::try_from(BATCH).unwrap();
                let rows = worker.client.query_typed(PLAIN_CLAIM, &[(&limit, Type::INT8)]).await.unwrap();
                if rows.is_empty() {
                    return done;
                }
                let held: Vec<_> = rows
                    .iter()
                    .map(|row| ledger::Holder {
                        job_id: ledger::JobId(row.get::<_, Uuid>("id")),
                        attempt: row.get("attempt"),
                        lease_token: row.get("lease_token"),
                    })
                    .collect();
                done += worker.complete(&held).await;
            }
        }));
    }
    let mut done = 0;
    for task in tasks {
        done += task.await.unwrap();
    }
    assert_eq!(done, count, "every job is drained once");
    rate(count, started)
}
