//! The ledger beside plain SQL of the same round trips, on one server in one run.
//!
//! `cargo bench -p ledger` (or, without optimising the client, `cargo bench -p ledger --profile dev`). The plain side has
//! the same columns, constraints and indexes, a token and an archive; it has no kinds, no reruns, and waits for nobody in order.
//! Rates are jobs a second, of two workers for the drain and ten connections for the enqueue; each is the median of
//! [`ROUNDS`] rounds in which the two sides take turns.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop")]

use ledger::{
    ClaimedJob, Hint, Holder, JobId, KindPolicy, NewJob, Registry, Route, job_claim_batch, job_enqueue,
    jobs_complete_batch,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use testdb::TestDb;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

const ROUNDS: usize = 3;
const DRAINERS: usize = 2;
const ENQUEUERS: usize = 10;
const ENQUEUES: usize = 4_000;

const PLAIN_TABLES: &str = "
CREATE TABLE plain_jobs (LIKE jobs INCLUDING ALL) WITH (fillfactor = 50);
CREATE TABLE plain_archive (LIKE job_archive INCLUDING ALL);
GRANT ALL ON plain_jobs, plain_archive TO callboard_app";

const PLAIN_INSERT: &str = "\
INSERT INTO plain_jobs (id, kind, target_type, target_id, inputs_json, route, priority, max_failures, trace_context)
VALUES ($1, $2, $3, $4, $5, 'internal', 10, 3, $6)
RETURNING id";

const PLAIN_CLAIM: &str = "\
UPDATE plain_jobs
SET status = 'claimed', attempt = attempt + 1, lease_token = gen_random_uuid(), claimed_at = now(),
    lease_expires_at = now() + interval '55 seconds'
WHERE id = ANY ($1) AND status = 'queued' AND next_run_at <= now()
RETURNING id, kind, target_type, target_id, inputs_json, attempt, lease_token, lease_expires_at, failures,
    max_failures, deferrals, trace_context, created_at";

const PLAIN_COMPLETE: &str = "\
WITH done AS (
    DELETE FROM plain_jobs AS j
    USING unnest($1::uuid[], $2::int4[], $3::uuid[], $4::text[]) AS r(id, attempt, token, result)
    WHERE j.id = r.id AND j.attempt = r.attempt AND j.lease_token = r.token AND j.lease_expires_at > now()
    RETURNING j.*, r.result
)
INSERT INTO plain_archive
    (id, kind, target_type, target_id, inputs_json, status, route, priority, next_run_at, attempt, failures,
    max_failures, deferrals, claimed_at, rerun, requeues, trace_context, created_at, version, result_json, finished_at)
SELECT id, kind, target_type, target_id, inputs_json, 'done', route, priority, next_run_at, attempt, failures,
    max_failures, deferrals, claimed_at, rerun, requeues, trace_context, created_at, version, result::jsonb, now()
FROM done
RETURNING id";

fn registry() -> Registry {
    Registry::new([KindPolicy {
        kind: "work",
        route: Route::Internal,
        max_failures: 3,
        lease: Duration::from_secs(120),
        base: Duration::from_secs(30),
        cap: Duration::from_secs(3_600),
        priority: 10,
    }])
    .unwrap()
}

fn new_job(target: Uuid) -> NewJob<'static> {
    NewJob {
        kind: "work",
        target_type: "discovery",
        target_id: target,
        inputs: json!({"discovery_id": target}),
        priority: None,
        run_at: None,
        trace_context: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Ledger,
    Plain,
}

async fn insert_plain(client: &Client, target: Uuid) -> Uuid {
    let job = new_job(target);
    let id = Uuid::now_v7();
    let rows = client
        .query_typed(
            PLAIN_INSERT,
            &[
                (&id, Type::UUID),
                (&job.kind, Type::TEXT),
                (&job.target_type, Type::TEXT),
                (&target, Type::UUID),
                (&job.inputs, Type::JSONB),
                (&job.trace_context, Type::TEXT),
            ],
        )
        .await
        .unwrap();
    rows[0].get(0)
}

/// One row a transaction, over ten connections.
async fn enqueue(db: &TestDb, side: Side) -> f64 {
    let registry = Arc::new(registry());
    let mut clients = Vec::new();
    for _ in 0..ENQUEUERS {
        clients.push(db.app().await);
    }
    let started = Instant::now();
    let mut tasks = Vec::new();
    for client in clients {
        let registry = Arc::clone(&registry);
        tasks.push(tokio::spawn(async move {
            for _ in 0..ENQUEUES / ENQUEUERS {
                let target = Uuid::new_v4();
                match side {
                    Side::Ledger => {
                        job_enqueue(&client, &registry, &[new_job(target)]).await.unwrap();
                    }
                    Side::Plain => {
                        insert_plain(&client, target).await;
                    }
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    rate(ENQUEUES, started)
}

fn rate(count: usize, started: Instant) -> f64 {
    f64::from(u32::try_from(count).unwrap()) / started.elapsed().as_secs_f64()
}

async fn fill(db: &TestDb, side: Side, count: usize) -> Vec<JobId> {
    let (app, owner, registry) = (db.app().await, db.owner().await, registry());
    let mut ids = Vec::with_capacity(count);
    let targets: Vec<Uuid> = (0..count).map(|_| Uuid::new_v4()).collect();
    for chunk in targets.chunks(500) {
        let jobs: Vec<_> = chunk.iter().map(|target| new_job(*target)).collect();
        ids.extend(job_enqueue(&app, &registry, &jobs).await.unwrap().into_iter().map(|made| made.id));
    }
    if side == Side::Plain {
        owner.batch_execute("INSERT INTO plain_jobs SELECT * FROM jobs; TRUNCATE jobs").await.unwrap();
    }
    ids
}

/// Claim and complete, two round trips a batch.
async fn drain(db: &TestDb, side: Side, batch: usize, count: usize) -> f64 {
    let ids = fill(db, side, count).await;
    let owner = db.owner().await;
    for table in ["jobs", "plain_jobs"] {
        owner.batch_execute(&format!("VACUUM ANALYZE {table}")).await.unwrap();
    }
    let mut clients = Vec::new();
    for _ in 0..DRAINERS {
        clients.push(db.app().await);
    }
    let started = Instant::now();
    let mut tasks = Vec::new();
    for (client, share) in clients.into_iter().zip(ids.chunks(count.div_ceil(DRAINERS))) {
        let share = share.to_vec();
        tasks.push(tokio::spawn(async move {
            let mut done = 0;
            for ids in share.chunks(batch) {
                done += match side {
                    Side::Ledger => drain_ledger(&client, ids).await,
                    Side::Plain => drain_plain(&client, ids).await,
                };
            }
            done
        }));
    }
    let mut done = 0;
    for task in tasks {
        done += task.await.unwrap();
    }
    assert_eq!(done, count, "every job is drained once");
    rate(count, started)
}

async fn drain_ledger(client: &Client, ids: &[JobId]) -> usize {
    let hints: Vec<Hint> = ids.iter().map(|id| Hint { job_id: *id, attempt: 0 }).collect();
    let claimed = job_claim_batch(client, &hints, Duration::from_secs(55)).await.unwrap();
    let done: Vec<(Holder, Value)> =
        claimed.iter().map(|job: &ClaimedJob| (job.holder(), json!({"ok": true}))).collect();
    jobs_complete_batch(client, &done).await.unwrap().done.len()
}

async fn drain_plain(client: &Client, ids: &[JobId]) -> usize {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let claimed = client.query_typed(PLAIN_CLAIM, &[(&ids, Type::UUID_ARRAY)]).await.unwrap();
    let ids: Vec<Uuid> = claimed.iter().map(|row| row.get("id")).collect();
    let attempts: Vec<i32> = claimed.iter().map(|row| row.get("attempt")).collect();
    let tokens: Vec<Uuid> = claimed.iter().map(|row| row.get("lease_token")).collect();
    let results: Vec<String> = claimed.iter().map(|_| json!({"ok": true}).to_string()).collect();
    let done = client
        .query_typed(
            PLAIN_COMPLETE,
            &[
                (&ids, Type::UUID_ARRAY),
                (&attempts, Type::INT4_ARRAY),
                (&tokens, Type::UUID_ARRAY),
                (&results, Type::TEXT_ARRAY),
            ],
        )
        .await
        .unwrap();
    done.len()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn print(name: &str, ledger: Vec<f64>, plain: Vec<f64>) {
    let (ledger, plain) = (median(ledger), median(plain));
    println!("{name:<22} {ledger:>10.0} {plain:>10.0} {:>7.2}", ledger / plain);
}

#[tokio::main]
async fn main() {
    // `cargo test --benches` runs it with --test: then it only proves that it runs.
    let is_test = std::env::args().any(|argument| argument == "--test");
    let rounds = if is_test { 1 } else { ROUNDS };
    let db = TestDb::new().await;
    db.owner().await.batch_execute(PLAIN_TABLES).await.unwrap();
    println!("{:<22} {:>10} {:>10} {:>7}", "jobs a second", "ledger", "plain", "ratio");
    let (mut ledger, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ledger.push(enqueue(&db, Side::Ledger).await);
        plain.push(enqueue(&db, Side::Plain).await);
    }
    print("enqueue, one a time", ledger, plain);
    db.owner().await.batch_execute("TRUNCATE jobs, plain_jobs").await.unwrap();
    for (batch, count) in [(1, 2_000), (10, 20_000), (100, 40_000), (500, 40_000)] {
        let count = if is_test { batch * 4 } else { count };
        let (mut ledger, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ledger.push(drain(&db, Side::Ledger, batch, count).await);
            plain.push(drain(&db, Side::Plain, batch, count).await);
        }
        print(&format!("drain, batch {batch}"), ledger, plain);
    }
}
