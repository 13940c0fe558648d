//! What people (and merges) do to jobs: cancel, retry now, requeue the dead, end a module's leases.

use crate::Statement;
use crate::error::Error;
use crate::policy::Registry;
use crate::read::{job_find, job_pending_find};
use crate::row;
use crate::turn::{self, Cause, Verdict};
use crate::types::{JobEvent, JobEventType, JobId, JobStatus, Route, Transition};
use jiff::Timestamp;
use serde_json::json;
use telemetry::db::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// Which dead letters to bring back; `None` is any.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeadFilter {
    /// Of that kind.
    pub kind: Option<String>,
    /// Ended with that code.
    pub error_code: Option<String>,
    /// Ended before.
    pub before: Option<Timestamp>,
}

/// What [`jobs_requeue_dead`] did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Requeued {
    /// The jobs that are queued again.
    pub requeued: Vec<Transition>,
    /// Those whose target has a pending job already.
    pub skipped: Vec<JobId>,
}

/// A queued row has no lease: its columns are filled so that it reads as a held one. By the primary key.
macro_rules! queued_columns {
    () => {
        "j.id, j.kind, j.target_type, j.target_id, j.inputs_json, j.attempt, \
         '00000000-0000-0000-0000-000000000000'::uuid AS lease_token, now() AS lease_expires_at, \
         j.failures, j.max_failures, j.deferrals, j.trace_context, j.created_at, j.rerun, \
         coalesce(k.route, j.route) AS route, k.base_seconds, k.cap_seconds, clock_timestamp() AS fenced_at"
    };
}

const LOCK_QUEUED: &str = concat!(
    "\
SELECT ",
    queued_columns!(),
    "
FROM jobs AS j
LEFT JOIN job_kinds AS k ON k.kind = j.kind
WHERE j.id = $1
    AND j.status = 'queued'
FOR UPDATE OF j"
);

/// By the unique key.
const LOCK_QUEUED_OF_TARGET: &str = concat!(
    "\
SELECT ",
    queued_columns!(),
    "
FROM jobs AS j
LEFT JOIN job_kinds AS k ON k.kind = j.kind
WHERE j.kind = ANY ($1)
    AND j.target_type = $2
    AND j.target_id = $3
    AND j.status = 'queued'
ORDER BY j.id
FOR UPDATE OF j"
);

/// By the primary key.
const RETRY_NOW: &str = "\
UPDATE jobs
SET next_run_at = least(next_run_at, now()),
    hinted_until = NULL,
    updated_at = now(),
    version = version + 1
WHERE id = $1
    AND status = 'queued'
RETURNING id, kind, target_type, target_id, attempt, failures, next_run_at, route";

/// By the primary key of `job_dead`. A target that has a pending job keeps it, and its dead one stays where it is.
const REQUEUE: &str = "\
WITH wanted AS MATERIALIZED (
    SELECT d.id, d.status
    FROM job_dead AS d
    WHERE d.id = ANY ($1)
    ORDER BY d.kind, d.target_type, d.target_id
    FOR UPDATE OF d
), back AS (
    INSERT INTO jobs AS j
        (id, kind, target_type, target_id, inputs_json, route, priority, next_run_at, attempt, failures, max_failures,
        deferrals, report_token, report_digest, last_error, requeues, trace_context, created_at, version)
    SELECT d.id, d.kind, d.target_type, d.target_id, d.inputs_json, coalesce(k.route, d.route), d.priority, now(),
        d.attempt, 0, coalesce(k.max_failures, d.max_failures), 0, d.report_token, d.report_digest, d.error_json,
        d.requeues + 1, d.trace_context, d.created_at, d.version + 1
    FROM wanted AS w
    JOIN job_dead AS d ON d.id = w.id
    LEFT JOIN job_kinds AS k ON k.kind = d.kind
    ORDER BY d.kind, d.target_type, d.target_id
    ON CONFLICT (kind, target_type, target_id) DO NOTHING
    RETURNING j.id, j.kind, j.target_type, j.target_id, j.attempt, j.failures, j.next_run_at, j.route,
        j.trace_context, j.requeues
), gone AS (
    DELETE FROM job_dead AS d
    USING back AS b
    WHERE d.id = b.id
    RETURNING d.id
)
SELECT b.id, b.kind, b.target_type, b.target_id, b.attempt, b.failures, b.next_run_at, b.route, b.trace_context,
    b.requeues, w.status AS from_status
FROM back AS b
JOIN wanted AS w ON w.id = b.id
JOIN gone AS g ON g.id = b.id
ORDER BY b.id";

/// By the primary key, oldest first; filters that are null fold away when the statement is planned.
const LOCK_DEAD_LETTERS: &str = "\
SELECT id
FROM job_dead
WHERE status = 'dead_letter'
    AND ($1::text IS NULL OR kind = $1)
    AND ($2::text IS NULL OR error_json ->> 'code' = $2)
    AND ($3::timestamptz IS NULL OR finished_at < $3)
ORDER BY id
LIMIT $4
FOR UPDATE SKIP LOCKED";

const FIND_DEAD: &str = "\
SELECT kind, target_type, target_id
FROM job_dead
WHERE id = $1";

/// By the due part of index `jobs_ready`, where every claimed row lies. Only external jobs are held by modules; a
/// change of route leaves a claimed row where it is, so both routes are looked at.
const END_LEASES: &str = concat!(
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
    AND j.locked_by_module_id = $1
ORDER BY j.id
FOR UPDATE OF j"
);

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "job_cancel", sql: LOCK_QUEUED, types: &[Type::UUID] },
    Statement {
        name: "jobs_cancel_for_target",
        sql: LOCK_QUEUED_OF_TARGET,
        types: &[Type::TEXT_ARRAY, Type::TEXT, Type::UUID],
    },
    Statement { name: "job_retry_now", sql: RETRY_NOW, types: &[Type::UUID] },
    Statement { name: "job_requeue", sql: REQUEUE, types: &[Type::UUID_ARRAY] },
    Statement {
        name: "jobs_requeue_dead",
        sql: LOCK_DEAD_LETTERS,
        types: &[Type::TEXT, Type::TEXT, Type::TIMESTAMPTZ, Type::INT8],
    },
    Statement { name: "job_dead_find", sql: FIND_DEAD, types: &[Type::UUID] },
    Statement { name: "module_leases_end", sql: END_LEASES, types: &[Type::UUID, Type::INT2_ARRAY] },
];

/// Ends a queued job as failed, with the reason as its message and the event `cancelled`. Its terminal effect is due.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::InvalidTransition`] if it is claimed or finished.
pub async fn job_cancel(tx: &impl GenericClient, id: JobId, reason: &str) -> Result<Transition, Error> {
    let rows = tx.query_typed(LOCK_QUEUED, &[(&id.0, Type::UUID)]).await?;
    match cancel(tx, &rows, reason).await?.pop() {
        Some(transition) => Ok(transition),
        None => Err(refusal(tx, id, "cancelled").await?),
    }
}

/// Cancels the queued jobs of a target, of the given kinds: what a merge does to its secondary. Claimed ones go on,
/// and end without effect by their own `apply`.
///
/// # Errors
/// The database's.
pub async fn jobs_cancel_for_target(
    tx: &impl GenericClient,
    kinds: &[&str],
    target_type: &str,
    target_id: Uuid,
    reason: &str,
) -> Result<Vec<Transition>, Error> {
    let rows = tx
        .query_typed(
            LOCK_QUEUED_OF_TARGET,
            &[(&kinds, Type::TEXT_ARRAY), (&target_type, Type::TEXT), (&target_id, Type::UUID)],
        )
        .await?;
    cancel(tx, &rows, reason).await
}

async fn cancel(tx: &impl GenericClient, rows: &[Row], reason: &str) -> Result<Vec<Transition>, Error> {
    let jobs = rows.iter().map(row::fenced_job).collect::<Result<Vec<_>, _>>()?;
    let message: String = reason.chars().filter(|c| *c != '\0').take(1_000).collect();
    let cause = Cause { code: "cancelled".into(), message, event: JobEventType::Cancelled };
    let turns: Vec<_> = jobs
        .iter()
        .map(|job| {
            (job, Verdict::Bury { status: JobStatus::Failed, charge: false, cause: cause.clone() }, None)
        })
        .collect();
    turn::all(tx, &turns, JobStatus::Queued).await
}

/// Runs a job as soon as may be: a queued one is due now, a failed or dead one is requeued ([`job_requeue`]).
///
/// # Errors
/// As [`job_requeue`]; [`Error::InvalidTransition`] if it is claimed or done.
pub async fn job_retry_now(tx: &impl GenericClient, id: JobId) -> Result<Transition, Error> {
    let rows = tx.query_typed(RETRY_NOW, &[(&id.0, Type::UUID)]).await?;
    match rows.first() {
        Some(row) => queued(row),
        None => job_requeue(tx, id).await,
    }
}

/// Brings a failed or dead job back with the same id, its attempt kept (the fence goes on), failures and deferrals 0.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::InvalidTransition`] if it is not failed or dead; [`Error::PendingJobExists`].
pub async fn job_requeue(tx: &impl GenericClient, id: JobId) -> Result<Transition, Error> {
    if let Some(transition) = requeue(tx, &[id.0]).await?.pop() {
        return Ok(transition);
    }
    let dead = tx.query_typed(FIND_DEAD, &[(&id.0, Type::UUID)]).await?;
    let Some(dead) = dead.first() else {
        return Err(refusal(tx, id, "requeued").await?);
    };
    let (kind, target_type): (String, String) = (dead.try_get(0)?, dead.try_get(1)?);
    let pending = job_pending_find(tx, &kind, &target_type, dead.try_get(2)?).await?;
    Err(match pending {
        Some(job_id) => Error::PendingJobExists { job_id },
        None => Error::Collision { detail: "the pending job of the target ended just now".into() },
    })
}

/// Requeues up to `limit` dead letters, oldest first; those whose target has a pending job are skipped.
///
/// # Errors
/// The database's.
pub async fn jobs_requeue_dead(
    tx: &impl GenericClient,
    filter: &DeadFilter,
    limit: i64,
) -> Result<Requeued, Error> {
    let rows = tx
        .query_typed(
            LOCK_DEAD_LETTERS,
            &[
                (&filter.kind, Type::TEXT),
                (&filter.error_code, Type::TEXT),
                (&filter.before, Type::TIMESTAMPTZ),
                (&limit, Type::INT8),
            ],
        )
        .await?;
    let mut ids: Vec<Uuid> = Vec::with_capacity(rows.len());
    for row in &rows {
        ids.push(row.try_get(0)?);
    }
    let requeued = if ids.is_empty() { Vec::new() } else { requeue(tx, &ids).await? };
    let back: std::collections::HashSet<JobId> = requeued.iter().map(|transition| transition.id).collect();
    let skipped = ids.into_iter().map(JobId).filter(|id| !back.contains(id)).collect();
    Ok(Requeued { requeued, skipped })
}

/// Ends every lease of a module that was disabled, in the transaction that disables it: its jobs return to the queue
/// uncharged, at once; its own late results are stale.
///
/// # Errors
/// The database's.
pub async fn module_leases_end(
    tx: &impl GenericClient,
    _registry: &Registry,
    module: Uuid,
) -> Result<Vec<Transition>, Error> {
    let priorities = crate::policy::PRIORITIES.as_slice();
    let rows = tx.query_typed(END_LEASES, &[(&module, Type::UUID), (&priorities, Type::INT2_ARRAY)]).await?;
    let jobs = rows.iter().map(row::fenced_job).collect::<Result<Vec<_>, _>>()?;
    let turns: Vec<_> = jobs
        .iter()
        .map(|job| (job, Verdict::Return { next_run_at: job.now(), deferral: false, charged: None }, None))
        .collect();
    turn::all(tx, &turns, JobStatus::Claimed).await
}

/// Why a job did not take a transition: it is not there, or in another state.
async fn refusal(tx: &impl GenericClient, id: JobId, asked: &'static str) -> Result<Error, Error> {
    Ok(match job_find(tx, id).await? {
        None => Error::NotFound,
        Some(job) => Error::InvalidTransition { from: job.status, asked },
    })
}

async fn requeue(tx: &impl GenericClient, ids: &[Uuid]) -> Result<Vec<Transition>, Error> {
    let rows = tx.query_typed(REQUEUE, &[(&ids, Type::UUID_ARRAY)]).await?;
    let mut transitions = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut transition = queued(row)?;
        let (from, requeues): (String, i32) = (row.try_get("from_status")?, row.try_get("requeues")?);
        transition.event = Some(JobEvent {
            job_id: transition.id,
            event_type: JobEventType::Requeued,
            payload: json!({
                "kind": transition.kind,
                "target_type": transition.target_type,
                "target_id": transition.target_id,
                "from": from,
                "to": "queued",
                "reason": "requeued",
                "attempt": transition.attempt,
                "failures": transition.failures,
                "requeues": requeues,
                "next_run_at": transition.next_run_at,
            }),
            trace_context: row.try_get("trace_context")?,
        });
        transitions.push(transition);
    }
    Ok(transitions)
}

fn queued(row: &Row) -> Result<Transition, Error> {
    let id = JobId(row.try_get("id")?);
    let route: String = row.try_get("route")?;
    Ok(Transition {
        id,
        kind: row.try_get("kind")?,
        target_type: row.try_get("target_type")?,
        target_id: row.try_get("target_id")?,
        status: JobStatus::Queued,
        attempt: row.try_get("attempt")?,
        failures: row.try_get("failures")?,
        next_run_at: Some(row.try_get("next_run_at")?),
        event: None,
        terminal: None,
        rerun: None,
        wake: (route == Route::Internal.as_str()).then_some(id),
    })
}
