//! What keeps the tables in shape: partitions ahead and behind, and rows past their retention.

use crate::sweep::Report;
use crate::{Dispatch, Error};
use jiff::Timestamp;
use ledger::retention::PartitionedTable;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Partitions are made three months ahead, and the shortest retention is a day: once an hour is often enough.
const EVERY: Duration = Duration::from_secs(3_600);
/// Rows deleted in one statement, so that none holds locks for long.
const CHUNK: i64 = 1_000;

/// When this environment last did it. Two environments that do it at once do no harm.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    done_at: Mutex<Option<Instant>>,
}

impl Upkeep {
    fn is_due(&self) -> bool {
        let done_at = self.done_at.lock().unwrap_or_else(PoisonError::into_inner);
        done_at.is_none_or(|done_at| done_at.elapsed() >= EVERY)
    }

    fn done(&self) {
        *self.done_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// Runs at an environment's first sweep, then once an hour. A failure is tried again by the next sweep.
pub(crate) async fn run_if_due(
    dispatch: &Dispatch,
    stop_at: Instant,
    report: &mut Report,
) -> Result<(), Error> {
    if !dispatch.upkeep.is_due() {
        return Ok(());
    }
    let client = dispatch.pool.get().await?;
    for table in PartitionedTable::ALL {
        let made = ledger::partitions_ensure(&**client, table).await?;
        let dropped = ledger::partitions_drop(&**client, table).await?;
        if !made.is_empty() || !dropped.is_empty() {
            tracing::info!(table = table.as_str(), ?made, ?dropped, "partitions changed");
        }
    }
    let mut is_finished = true;
    is_finished &= until_few(stop_at, || ledger::dead_jobs_purge(&**client, Timestamp::now(), CHUNK)).await?;
    is_finished &= until_few(stop_at, || store::idempotency::idempotency_purge(&**client, CHUNK)).await?;
    is_finished &=
        until_few(stop_at, || store::ingest_counters::ingest_counters_fold(&**client, CHUNK)).await?;
    if is_finished {
        dispatch.upkeep.done();
    }
    report.upkeep = true;
    Ok(())
}

/// Repeats a bounded deletion until it finds less than its bound; `false`: the time was up before.
async fn until_few<F, E>(stop_at: Instant, mut step: impl FnMut() -> F) -> Result<bool, Error>
where
    F: Future<Output = Result<u64, E>>,
    Error: From<E>,
{
    while Instant::now() < stop_at {
        if step().await? < CHUNK.unsigned_abs() {
            return Ok(true);
        }
    }
    Ok(false)
}
