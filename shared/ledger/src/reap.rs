//! Expired leases: what a dead or sleeping worker held goes back to the queue, charged.

use crate::Statement;
use crate::error::Error;
use crate::policy::{PRIORITIES, Registry};
use crate::row;
use crate::settle::Failure;
use crate::turn;
use crate::types::{JobEventType, JobStatus, Transition};
use telemetry::db::GenericClient;
use tokio_postgres::types::Type;

/// The most rows of one call.
pub const REAP_LIMIT_MAX: i64 = 1_000;

/// By the due part of index `jobs_ready`, where every claimed row lies (a claim keeps `next_run_at`). A row whose
/// holder is committing is locked, and skipped: it keeps what it holds. On the instant of expiry the lease is over.
const EXPIRED: &str = concat!(
    "\
SELECT ",
    row::held_columns!(),
    "
FROM jobs AS j
LEFT JOIN job_kinds AS k ON k.kind = j.kind
WHERE j.route = ANY (ARRAY['internal', 'external'])
    AND j.priority = ANY ($2)
    AND j.next_run_at <= now() + interval '1 second'
    AND j.status = 'claimed'
    AND j.lease_expires_at <= clock_timestamp()
ORDER BY j.lease_expires_at, j.id
LIMIT $1
FOR UPDATE OF j SKIP LOCKED"
);

pub(crate) const STATEMENTS: &[Statement] =
    &[Statement { name: "jobs_reap", sql: EXPIRED, types: &[Type::INT8, Type::INT2_ARRAY] }];

/// Takes back up to `limit` (≤ [`REAP_LIMIT_MAX`]) expired leases, oldest expiry first. Each is charged: queued again
/// after a backoff (event `lease_requeued`), or dead if its budget is spent (event `dead_lettered`).
///
/// Anybody may call it, at any time, side by side. The rows stay locked until the caller's transaction ends, which
/// also inserts the events and applies the terminal effects. `jitter` gives numbers uniform in [0, 1).
///
/// # Errors
/// The database's.
pub async fn jobs_reap(
    tx: &impl GenericClient,
    registry: &Registry,
    limit: i64,
    mut jitter: impl FnMut() -> f64 + Send,
) -> Result<Vec<Transition>, Error> {
    let limit = limit.clamp(0, REAP_LIMIT_MAX);
    let rows =
        tx.query_typed(EXPIRED, &[(&limit, Type::INT8), (&PRIORITIES.as_slice(), Type::INT2_ARRAY)]).await?;
    let mut expired = Vec::with_capacity(rows.len());
    for row in &rows {
        let job = row::fenced_job(row)?;
        let failure = Failure {
            code: "lease_expired".into(),
            message: format!("attempt {} did not report before {}", job.attempt, job.lease_expires_at),
            permanent: false,
            retry_after: None,
        };
        let verdict = turn::judge(&job, &failure, JobEventType::LeaseRequeued, registry, jitter())?;
        expired.push((job, verdict));
    }
    let turns: Vec<_> = expired.iter().map(|(job, verdict)| (job, verdict.clone(), None)).collect();
    turn::all(tx, &turns, JobStatus::Claimed).await
}
