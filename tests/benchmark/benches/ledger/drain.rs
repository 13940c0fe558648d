//! Claim and complete, two round trips a batch, two workers.

use crate::Extent;
use crate::measure::{Counters, rate};
use crate::sides::{self, COLUMNS, Connection, SIDES, Side};
use crate::table::{External, Table};
use std::time::Instant;
use testdb::TestDb;
use uuid::Uuid;

const WORKERS: usize = 2;
/// (batch, jobs a round).
const BATCHES: [(usize, usize); 4] = [(1, 8_000), (10, 60_000), (100, 150_000), (500, 150_000)];
const ARCHIVED: usize = 1_000_000;
const MANY_KINDS: usize = 100;

/// What stands behind the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    Empty,
    /// A million jobs that are done.
    Archived,
    /// A hundred kinds, each with a row of its own in `job_kinds`.
    Kinds,
}

pub(crate) async fn run(setting: Setting, extent: Extent, external: &External) {
    let title = match setting {
        Setting::Empty => "Claim and complete",
        Setting::Archived => "Claim and complete, a million archived jobs behind",
        Setting::Kinds => "Claim and complete, a hundred kinds",
    };
    let mut costs = Vec::new();
    let table = Table::new(title, &COLUMNS, external);
    for (batch, count) in BATCHES {
        let count = extent.of(count, batch);
        let db = prepare(setting, extent).await;
        let mut rates = vec![Vec::new(); SIDES.len()];
        for round in 0..extent.rounds {
            for (index, side) in SIDES.into_iter().enumerate() {
                let (figure, cost) = drain(&db, side, setting, batch, count).await;
                rates[index].push(figure);
                if round == 0 && side != Side::Prepared {
                    costs.push(format!("| {} | {batch} | {cost} |", COLUMNS[index]));
                }
            }
        }
        table.row(&format!("drain, batch {batch}"), &rates);
    }
    println!("\n| | batch | HOT share of updates | dead tuples after | WAL, bytes a job | commits a job |");
    println!("|---|---|---|---|---|---|\n{}", costs.join("\n"));
}

async fn prepare(setting: Setting, extent: Extent) -> TestDb {
    let db = sides::database().await;
    let owner = db.owner().await;
    match setting {
        Setting::Empty => {}
        Setting::Archived => {
            let archived = ARCHIVED / extent.divide;
            for table in ["job_archive", "plain_archive"] {
                owner
                    .batch_execute(&format!(
                        "INSERT INTO {table} (id, kind, target_type, target_id, inputs_json, status, route, priority,
                            next_run_at, attempt, failures, max_failures, deferrals, claimed_at, rerun, requeues,
                            trace_context, created_at, version, result_json, finished_at)
                        SELECT gen_random_uuid(), 'work_0', 'discovery', gen_random_uuid(), '{{\"ok\": true}}', 'done',
                            'internal', 10, now(), 1, 0, 3, 0, now(), false, 0, NULL, now(), 3, '{{\"ok\": true}}', now()
                        FROM generate_series(1, {archived})"
                    ))
                    .await
                    .unwrap();
                owner.batch_execute(&format!("VACUUM ANALYZE {table}")).await.unwrap();
            }
        }
        Setting::Kinds => {
            for kind in sides::kinds(MANY_KINDS) {
                owner
                    .execute(
                        "INSERT INTO job_kinds (kind, route, enabled, max_failures, lease_seconds, base_seconds, cap_seconds)
                        VALUES ($1, 'internal', true, 3, 120, 30, 3600)",
                        &[&kind],
                    )
                    .await
                    .unwrap();
            }
            owner.batch_execute("ANALYZE job_kinds").await.unwrap();
        }
    }
    db
}

async fn drain(db: &TestDb, side: Side, setting: Setting, batch: usize, count: usize) -> (f64, String) {
    let kinds = sides::kinds(if setting == Setting::Kinds { MANY_KINDS } else { 1 });
    let ids = sides::fill(db, side, &kinds, count).await;
    let table = if side == Side::Ledger { "jobs" } else { "plain_jobs" };
    let before = Counters::read(db, table).await;
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(Connection::new(db, side, &kinds).await);
    }
    let started = Instant::now();
    let tasks: Vec<_> = workers
        .into_iter()
        .zip(ids.chunks(count.div_ceil(WORKERS)))
        .map(|(worker, share)| tokio::spawn(work(worker, share.to_vec(), batch)))
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await.unwrap();
    }
    let figure = rate(count, started);
    assert_eq!(done, count, "every job is drained once");
    (figure, Counters::read(db, table).await.since(&before, count))
}

async fn work(worker: Connection, ids: Vec<Uuid>, batch: usize) -> usize {
    let mut done = 0;
    for ids in ids.chunks(batch) {
        let held = worker.claim(ids).await;
        done += worker.complete(&held).await;
    }
    done
}
