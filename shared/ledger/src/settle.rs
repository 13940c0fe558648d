//! How an attempt ends: complete, fail, release, defer. All but [`jobs_complete_batch`] take a [`FencedJob`].

use crate::Statement;
use crate::error::Error;
use crate::fence::{FencedJob, Holder};
use crate::policy::Registry;
use crate::row;
use crate::turn::{self, Cause, Verdict};
use crate::types::{JobEventType, JobId, JobStatus, Route, Transition};
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;
use telemetry::db::GenericClient;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// Results are references and small facts; the JSON text of one is at most this long.
pub const RESULT_BYTES_MAX: usize = 256 * 1024;
/// From this deferral on, each is charged as a failure: a job that is only ever put off must end some day.
pub const DEFERRALS_FREE: i32 = 19;

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A short word, 1–64 characters, such as `fetch_refused`.
    pub code: String,
    /// For a person, at most 2,000 characters are kept.
    pub message: String,
    /// Not to be retried: the job ends as `failed`.
    pub permanent: bool,
    /// What the other side asked for; a floor of the backoff, at most six hours.
    pub retry_after: Option<Duration>,
}

/// The report over HTTP that settles an attempt, so that its repetition is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The lease token that it came with.
    pub token: Uuid,
    /// SHA-256 of its body.
    pub digest: [u8; 32],
}

/// `ledger_complete_2` (`migrations/0005`). `$8`: the rows are locked by [`crate::fence()`] already.
const COMPLETE: &str = "\
SELECT id, fresh_id, rerun, route
FROM ledger_complete_2($1, $2, $3, $4, $5, $6, $7, $8)";

const COMPLETE_TYPES: &[Type] = &[
    Type::UUID_ARRAY,
    Type::INT4_ARRAY,
    Type::UUID_ARRAY,
    Type::TEXT_ARRAY,
    Type::UUID_ARRAY,
    Type::BYTEA_ARRAY,
    Type::UUID_ARRAY,
    Type::BOOL,
];

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "jobs_complete", sql: COMPLETE, types: COMPLETE_TYPES },
    Statement { name: "jobs_return", sql: turn::RETURN, types: turn::RETURN_TYPES },
    Statement { name: "jobs_bury", sql: turn::BURY, types: turn::BURY_TYPES },
];

/// Ends the attempt as done: the row moves to the archive with its result. One round trip.
///
/// A requested rerun makes a fresh job at once. Done writes no event: the row tells it.
///
/// # Errors
/// [`Error::TooLarge`] and [`Error::Invalid`] for a result that cannot be kept: fail the attempt instead.
pub async fn job_complete(
    tx: &impl GenericClient,
    job: &FencedJob,
    result: &Value,
    report: Option<&Report>,
) -> Result<Transition, Error> {
    let text = result_text(result)?;
    let holder = job.holder();
    let fresh = JobId::new();
    let rows = complete(tx, &[(holder, text, report, fresh)], true).await?;
    let row = rows.first().ok_or(Error::Stale)?;
    let rerun: bool = row.try_get("rerun")?;
    let rerun = rerun.then(|| turn::rerun(job, fresh));
    Ok(Transition {
        id: job.id,
        kind: job.kind.clone(),
        target_type: job.target_type.clone(),
        target_id: job.target_id,
        status: JobStatus::Done,
        attempt: job.attempt,
        failures: job.failures,
        next_run_at: None,
        event: None,
        terminal: None,
        wake: rerun.as_ref().filter(|rerun| rerun.due_soon).map(|rerun| rerun.id),
        rerun,
    })
}

/// What [`jobs_complete_batch`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchCompleted {
    /// Jobs that are done now.
    pub done: Vec<JobId>,
    /// Attempts that no longer held their job; nothing of theirs was changed.
    pub stale: Vec<Holder>,
    /// Fresh jobs of requested reruns that a wake message may name.
    pub wake: Vec<JobId>,
}

/// Completes attempts without effects of their own in one statement, each row fenced by itself.
///
/// # Errors
/// As [`job_complete`], before anything was changed. The database's, when the rows may be done: they are stale when they are tried
/// again.
pub async fn jobs_complete_batch(
    client: &impl GenericClient,
    attempts: &[(Holder, Value)],
) -> Result<BatchCompleted, Error> {
    let mut reports = Vec::with_capacity(attempts.len());
    for (holder, result) in attempts {
        reports.push((*holder, result_text(result)?, None, JobId::new()));
    }
    let mut completed = BatchCompleted::default();
    if reports.is_empty() {
        return Ok(completed);
    }
    let rows = complete(client, &reports, false).await?;
    // By the id that each report brought along: one job may have a late attempt beside the one that holds it.
    let mut done = std::collections::HashSet::with_capacity(rows.len());
    for row in &rows {
        let fresh = JobId(row.try_get("fresh_id")?);
        done.insert(fresh);
        completed.done.push(JobId(row.try_get("id")?));
        let (rerun, route): (bool, String) = (row.try_get("rerun")?, row.try_get("route")?);
        if rerun && route == Route::Internal.as_str() {
            completed.wake.push(fresh);
        }
    }
    reports.retain(|(.., fresh)| !done.contains(fresh));
    completed.stale = reports.iter().map(|(holder, ..)| *holder).collect();
    Ok(completed)
}

/// Ends the attempt as failed. It is queued again after a backoff, or ends as `dead_letter` if its budget is spent, or
/// as `failed` if the failure is permanent.
///
/// `jitter` is uniform in [0, 1).
///
/// # Errors
/// The database's, and [`Error::UnknownKind`].
pub async fn job_fail(
    tx: &impl GenericClient,
    job: &FencedJob,
    failure: &Failure,
    report: Option<&Report>,
    registry: &Registry,
    jitter: f64,
) -> Result<Transition, Error> {
    let verdict = turn::judge(job, failure, JobEventType::RetryScheduled, registry, jitter)?;
    turn::one(tx, job, verdict, report).await
}

/// Gives the job back, not charged as a failure but counted as a deferral, to run after a while (`None`: at once).
///
/// # Errors
/// As [`job_fail`].
pub async fn job_release(
    tx: &impl GenericClient,
    job: &FencedJob,
    after: Option<Duration>,
    registry: &Registry,
    jitter: f64,
) -> Result<Transition, Error> {
    job_defer(tx, job, job.in_future(after.unwrap_or_default()), true, registry, jitter).await
}

/// Puts the job off until an instant. A `counted` deferral adds to `deferrals`, and from the 20th on is charged as a
/// failure (`deferred_too_often`); one for pace is not counted.
///
/// # Errors
/// As [`job_fail`].
pub async fn job_defer(
    tx: &impl GenericClient,
    job: &FencedJob,
    until: Timestamp,
    counted: bool,
    registry: &Registry,
    jitter: f64,
) -> Result<Transition, Error> {
    let verdict = if counted && job.deferrals >= DEFERRALS_FREE {
        let floor = until.duration_since(job.now()).unsigned_abs();
        let failure = Failure {
            code: "deferred_too_often".into(),
            message: format!("the job was put off {} times", job.deferrals + 1),
            permanent: false,
            retry_after: (until > job.now()).then_some(floor),
        };
        let mut verdict = turn::judge(job, &failure, JobEventType::RetryScheduled, registry, jitter)?;
        if let Verdict::Return { deferral, .. } = &mut verdict {
            *deferral = true;
        }
        verdict
    } else {
        Verdict::Return { next_run_at: until, deferral: counted, charged: None::<Cause> }
    };
    turn::one(tx, job, verdict, None).await
}

fn result_text(result: &Value) -> Result<String, Error> {
    if row::has_nul(result) {
        return Err(Error::Invalid("a result holds a NUL character, which the database cannot keep".into()));
    }
    let text = result.to_string();
    if text.len() > RESULT_BYTES_MAX {
        return Err(Error::TooLarge { what: "result", bytes: text.len(), limit_bytes: RESULT_BYTES_MAX });
    }
    Ok(text)
}

type Ended<'a> = (Holder, String, Option<&'a Report>, JobId);

async fn complete(
    client: &impl GenericClient,
    reports: &[Ended<'_>],
    is_fenced: bool,
) -> Result<Vec<tokio_postgres::Row>, Error> {
    let ids: Vec<Uuid> = reports.iter().map(|(holder, ..)| holder.job_id.0).collect();
    let attempts: Vec<i32> = reports.iter().map(|(holder, ..)| holder.attempt).collect();
    let tokens: Vec<Uuid> = reports.iter().map(|(holder, ..)| holder.lease_token).collect();
    let results: Vec<&str> = reports.iter().map(|(_, text, ..)| text.as_str()).collect();
    let report_tokens: Vec<Option<Uuid>> = reports.iter().map(|(.., r, _)| r.map(|r| r.token)).collect();
    let digests: Vec<Option<&[u8]>> =
        reports.iter().map(|(.., r, _)| r.map(|r| r.digest.as_slice())).collect();
    let fresh: Vec<Uuid> = reports.iter().map(|(.., fresh)| fresh.0).collect();
    let rows = client
        .query_typed(
            COMPLETE,
            &[
                (&ids, Type::UUID_ARRAY),
                (&attempts, Type::INT4_ARRAY),
                (&tokens, Type::UUID_ARRAY),
                (&results, Type::TEXT_ARRAY),
                (&report_tokens, Type::UUID_ARRAY),
                (&digests, Type::BYTEA_ARRAY),
                (&fresh, Type::UUID_ARRAY),
                (&is_fenced, Type::BOOL),
            ],
        )
        .await?;
    Ok(rows)
}
