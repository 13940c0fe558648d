//! Marking jobs as hinted, by id as a wake does and by a sweep, and sending the hints to a queue.

use crate::Extent;
use crate::measure::{Counters, rate};
use crate::sides::{self, Side};
use crate::table::{External, Table, count as shown, median};
use ledger::sqs::{HintQueue, HintSender};
use ledger::{Hint, JobId, MarkedJob, Scan, jobs_mark_by_id, jobs_mark_ready};
use std::time::{Duration, Instant};
use testdb::TestDb;
use tokio_postgres::types::Type;
use uuid::Uuid;

const WAKE: usize = 10;
const WAKE_JOBS: usize = 30_000;
const SWEEP: usize = 1_000;
const SWEEP_JOBS: usize = 100_000;
const SENT: usize = 10_000;
const QUEUES: [&str; 2] = ["JobsQueue", "DeadLetterQueue"];

const PLAIN_MARK: &str = "\
UPDATE plain_jobs
SET hinted_until = greatest(now(), next_run_at) + interval '2 minutes', updated_at = now(), version = version + 1
WHERE id = ANY ($1) AND status = 'queued' AND (hinted_until IS NULL OR hinted_until <= now())
    AND next_run_at <= now() + interval '1 minute'
RETURNING id, attempt, trace_context";

const PLAIN_SWEEP: &str = "\
WITH picked AS MATERIALIZED (
    SELECT id FROM plain_jobs
    WHERE route = 'internal' AND priority = 10 AND next_run_at <= now() + interval '1 minute' AND status = 'queued'
        AND (hinted_until IS NULL OR hinted_until <= now())
    ORDER BY next_run_at, id
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)
UPDATE plain_jobs AS j
SET hinted_until = greatest(now(), j.next_run_at) + interval '2 minutes', updated_at = now(), version = j.version + 1
FROM picked AS p
WHERE j.id = p.id
RETURNING j.id, j.attempt, j.trace_context";

pub(crate) async fn run(extent: Extent, external: &External) {
    let table = Table::new("Hints", &["ledger", "plain"], external);
    let sides = [Side::Ledger, Side::Plain];
    let mut wakes = vec![Vec::new(); sides.len()];
    let mut sweeps = vec![Vec::new(); sides.len()];
    let mut costs = Vec::new();
    for _ in 0..extent.rounds {
        for (index, side) in sides.into_iter().enumerate() {
            let (figure, cost) = mark(side, extent.of(WAKE_JOBS, WAKE), Some(WAKE)).await;
            wakes[index].push(figure);
            if side == Side::Ledger {
                costs.push(cost);
            }
            sweeps[index].push(mark(side, extent.of(SWEEP_JOBS, SWEEP), None).await.0);
        }
    }
    table.row("mark by id, ten a wake", &wakes);
    table.row("mark by a sweep, 1,000 a statement", &sweeps);
    println!("\n| | HOT share of updates | dead tuples after | WAL, bytes a job | commits a job |");
    println!("|---|---|---|---|---|\n| mark by id | {} |", costs[0]);
    let mut sent = Vec::new();
    for _ in 0..extent.rounds {
        sent.push(send_in_a_process(extent).await);
    }
    println!("\nHints sent to the local queue, ten a message batch: {} a second.", shown(median(&sent)));
}

/// Marks all jobs of a fresh database, by id in wakes of a size or by sweeps.
async fn mark(side: Side, count: usize, wake: Option<usize>) -> (f64, String) {
    let db = sides::database().await;
    let ids = sides::fill(&db, side, &sides::kinds(1), count).await;
    let table = if side == Side::Ledger { "jobs" } else { "plain_jobs" };
    let before = Counters::read(&db, table).await;
    let started = Instant::now();
    let marked = match wake {
        Some(size) => mark_by_id(&db, side, &ids, size).await,
        None => sweep(&db, side, count).await,
    };
    let figure = rate(count, started);
    assert_eq!(marked, count, "every job is marked once");
    (figure, Counters::read(&db, table).await.since(&before, count))
}

async fn mark_by_id(db: &TestDb, side: Side, ids: &[Uuid], size: usize) -> usize {
    let client = db.app().await;
    let mut marked = 0;
    for ids in ids.chunks(size) {
        marked += if side == Side::Ledger {
            let ids: Vec<JobId> = ids.iter().copied().map(JobId).collect();
            jobs_mark_by_id(&client, &ids).await.unwrap().len()
        } else {
            client.query_typed(PLAIN_MARK, &[(&ids, Type::UUID_ARRAY)]).await.unwrap().len()
        };
    }
    marked
}

async fn sweep(db: &TestDb, side: Side, count: usize) -> usize {
    let (client, scan) = (db.app().await, Scan::new());
    let mut marked = 0;
    while marked < count {
        let found = if side == Side::Ledger {
            jobs_mark_ready(&client, &scan, SWEEP).await.unwrap().len()
        } else {
            let limit = i64::try_from(SWEEP).unwrap();
            client.query_typed(PLAIN_SWEEP, &[(&limit, Type::INT8)]).await.unwrap().len()
        };
        assert!(found > 0, "a sweep finds what is not marked");
        marked += found;
    }
    marked
}

/// The AWS SDK reads its endpoint from the environment, so what sends is a process of its own, as dispatch is.
async fn send_in_a_process(extent: Extent) -> f64 {
    let specs = QUEUES.map(|name| local::template::QueueSpec {
        logical_id: name.to_owned(),
        visibility: Duration::from_secs(60),
        retention: Duration::from_secs(3_600),
        redrive: None,
    });
    let queues = local::queue::Queues::start(&specs).await.unwrap();
    let output = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["send", "--divide", &extent.divide.to_string()])
        .env("AWS_ENDPOINT_URL_SQS", queues.endpoint())
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_ACCESS_KEY_ID", "local")
        .env("AWS_SECRET_ACCESS_KEY", "local")
        .env("JOBS_QUEUE_URL", queues.url(QUEUES[0]))
        .env("DEAD_LETTER_QUEUE_URL", queues.url(QUEUES[1]))
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// Sends, and prints hints a second.
pub(crate) async fn send(extent: Extent) {
    let sender = HintSender::from_env().unwrap();
    let jobs: Vec<MarkedJob> = (0..extent.of(SENT, 10))
        .map(|_| MarkedJob {
            hint: Hint { job_id: JobId(Uuid::now_v7()), attempt: 0 },
            delay: Duration::ZERO,
            trace_context: None,
        })
        .collect();
    let started = Instant::now();
    let refused = sender.send(&jobs).await;
    assert!(refused.is_empty(), "the queue took all");
    println!("{}", rate(jobs.len(), started));
}
