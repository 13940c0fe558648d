//! Back to the queue or to the dead: what failures, deferrals, the reaper and admins share.

use crate::enqueue::Enqueued;
use crate::error::Error;
use crate::fence::FencedJob;
use crate::policy::{BACKOFF_MIN, Backoff, Registry};
use crate::row;
use crate::settle::{Failure, Report};
use crate::types::{JobEvent, JobEventType, JobId, JobStatus, Route, TerminalJob, Transition};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;
use telemetry::db::GenericClient;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// Codes and messages are for people and filters; a handler that dumps a page into one must not fill the table.
const CODE_CHARS_MAX: usize = 64;
const MESSAGE_CHARS_MAX: usize = 2_000;
/// A job due within this time is named in a wake message; later ones are found by a sweep in time.
const WAKE_HORIZON: Duration = Duration::from_secs(60);

/// By the primary key; the rows are locked by the caller. Every return clears claim, hint and rerun.
pub(crate) const RETURN: &str = "\
UPDATE jobs AS j
SET status = 'queued',
    route = coalesce((SELECT k.route FROM job_kinds AS k WHERE k.kind = j.kind), j.route),
    next_run_at = r.next_run_at,
    failures = j.failures + r.charge,
    deferrals = j.deferrals + r.deferral,
    lease_token = NULL,
    lease_expires_at = NULL,
    claimed_at = NULL,
    locked_by_module_id = NULL,
    hinted_until = NULL,
    report_token = coalesce(r.report_token, j.report_token),
    report_digest = coalesce(r.report_digest, j.report_digest),
    last_error = coalesce(r.error::jsonb, j.last_error),
    rerun = false,
    updated_at = now(),
    version = j.version + 1
FROM unnest($1::uuid[], $2::int4[], $3::timestamptz[], $4::int4[], $5::int4[], $6::text[], $7::uuid[], $8::bytea[])
    AS r(id, attempt, next_run_at, charge, deferral, error, report_token, report_digest)
WHERE j.id = r.id
    AND j.attempt = r.attempt
    AND j.status = 'claimed'
RETURNING j.id";

pub(crate) const RETURN_TYPES: &[Type] = &[
    Type::UUID_ARRAY,
    Type::INT4_ARRAY,
    Type::TIMESTAMPTZ_ARRAY,
    Type::INT4_ARRAY,
    Type::INT4_ARRAY,
    Type::TEXT_ARRAY,
    Type::UUID_ARRAY,
    Type::BYTEA_ARRAY,
];

/// By the primary key; the rows are locked by the caller.
pub(crate) const BURY: &str = concat!(
    "\
WITH gone AS (
    DELETE FROM jobs AS j
    USING unnest($1::uuid[], $2::int4[], $3::text[], $4::int4[], $5::text[], $6::uuid[], $7::bytea[], $8::uuid[])
        AS r(id, attempt, new_status, charge, error, new_report_token, new_report_digest, fresh_id)
    WHERE j.id = r.id
        AND j.attempt = r.attempt
    RETURNING ",
    row::leaving_columns!(),
    ", r.new_status, r.charge, r.error, r.new_report_token, r.new_report_digest, r.fresh_id
), buried AS (
    INSERT INTO job_dead
        (",
    row::moved_columns!(),
    ", status, failures, report_token, report_digest, last_error, rerun, version, error_json, finished_at)
    SELECT ",
    row::moved_columns!(),
    ", new_status, failures + charge, coalesce(new_report_token, report_token),
        coalesce(new_report_digest, report_digest), error::jsonb, false, version + 1, error::jsonb, now()
    FROM gone
), again AS (
    ",
    row::insert_rerun!(),
    "
)
SELECT id
FROM gone"
);

pub(crate) const BURY_TYPES: &[Type] = &[
    Type::UUID_ARRAY,
    Type::INT4_ARRAY,
    Type::TEXT_ARRAY,
    Type::INT4_ARRAY,
    Type::TEXT_ARRAY,
    Type::UUID_ARRAY,
    Type::BYTEA_ARRAY,
    Type::UUID_ARRAY,
];

/// Why a job was charged or ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cause {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) event: JobEventType,
}

/// What is to become of a claimed (or, when cancelled, queued) job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    Return { next_run_at: Timestamp, deferral: bool, charged: Option<Cause> },
    Bury { status: JobStatus, charge: bool, cause: Cause },
}

/// The rule of the budget: permanent → failed; the last failure → dead letter; else a retry after a backoff.
pub(crate) fn judge(
    job: &FencedJob,
    failure: &Failure,
    retry_event: JobEventType,
    registry: &Registry,
    jitter: f64,
) -> Result<Verdict, Error> {
    let code = cut(&failure.code, CODE_CHARS_MAX);
    let message = cut(&failure.message, MESSAGE_CHARS_MAX);
    let cause = |event| Cause { code, message, event };
    if failure.permanent {
        return Ok(Verdict::Bury {
            status: JobStatus::Failed,
            charge: true,
            cause: cause(JobEventType::Failed),
        });
    }
    let failures = job.failures + 1;
    if failures >= job.max_failures {
        return Ok(Verdict::Bury {
            status: JobStatus::DeadLetter,
            charge: true,
            cause: cause(JobEventType::DeadLettered),
        });
    }
    let backoff = match (job.backoff, registry.get(&job.kind)) {
        (Some(backoff), _) => backoff,
        (None, Ok(policy)) => policy.backoff(),
        // A row of a kind that this release does not have: it must be able to end all the same.
        (None, Err(_)) => Backoff { base: Duration::from_secs(30), cap: Duration::from_secs(3_600) },
    };
    let pause = backoff.pause(failures, jitter, failure.retry_after).max(BACKOFF_MIN);
    Ok(Verdict::Return {
        next_run_at: job.in_future(pause),
        deferral: false,
        charged: Some(cause(retry_event)),
    })
}

/// Without NUL, which `jsonb` has not, and at most so many characters.
fn cut(text: &str, chars_max: usize) -> String {
    text.chars().filter(|c| *c != '\0').take(chars_max).collect()
}

pub(crate) async fn one(
    tx: &impl GenericClient,
    job: &FencedJob,
    verdict: Verdict,
    report: Option<&Report>,
) -> Result<Transition, Error> {
    let transitions = all(tx, &[(job, verdict, report)], JobStatus::Claimed).await?;
    transitions.into_iter().next().ok_or(Error::Stale)
}

/// A job that the caller has locked, what is to become of it, and the report that says so.
pub(crate) type Turn<'a> = (&'a FencedJob, Verdict, Option<&'a Report>);

/// Writes the verdicts in at most two statements; answers in the given order. A row that is no longer there, which
/// only a caller without its lock can meet, is left out.
pub(crate) async fn all(
    tx: &impl GenericClient,
    turns: &[Turn<'_>],
    from: JobStatus,
) -> Result<Vec<Transition>, Error> {
    let mut transitions: HashMap<JobId, Transition> = HashMap::with_capacity(turns.len());
    let mut done: Vec<Uuid> = Vec::with_capacity(turns.len());
    let mut back = Returned::default();
    let mut dead = Buried::default();
    for (job, verdict, report) in turns {
        let transition = transition(job, verdict, from);
        match verdict {
            Verdict::Return { next_run_at, deferral, charged } => {
                back.push(job, *next_run_at, *deferral, charged.as_ref(), *report);
            }
            Verdict::Bury { status, charge, cause } => {
                let fresh = transition.rerun.as_ref().map_or_else(JobId::new, |rerun| rerun.id);
                dead.push(job, *status, *charge, cause, *report, fresh);
            }
        }
        transitions.insert(job.id, transition);
    }
    for row in back.write(tx).await?.iter().chain(&dead.write(tx).await?) {
        done.push(row.try_get(0)?);
    }
    Ok(turns
        .iter()
        .filter(|(job, ..)| done.contains(&job.id.0))
        .filter_map(|(job, ..)| transitions.remove(&job.id))
        .collect())
}

/// The fresh job that follows a terminal transition of a row with `rerun`.
pub(crate) fn rerun(job: &FencedJob, id: JobId) -> Enqueued {
    Enqueued { id, kind: job.kind.clone(), inserted: true, due_soon: job.route == Route::Internal }
}

fn transition(job: &FencedJob, verdict: &Verdict, from: JobStatus) -> Transition {
    let (status, next_run_at, charge, cause) = match verdict {
        Verdict::Return { next_run_at, charged, .. } => {
            (JobStatus::Queued, Some(*next_run_at), charged.is_some(), charged.as_ref())
        }
        Verdict::Bury { status, charge, cause } => (*status, None, *charge, Some(cause)),
    };
    let failures = job.failures + i32::from(charge);
    let is_terminal = status != JobStatus::Queued;
    let rerun = (is_terminal && job.rerun).then(|| rerun(job, JobId::new()));
    let terminal = cause.filter(|_| is_terminal && rerun.is_none()).map(|cause| TerminalJob {
        id: job.id,
        kind: job.kind.clone(),
        target_type: job.target_type.clone(),
        target_id: job.target_id,
        inputs: job.inputs.clone(),
        status,
        code: cause.code.clone(),
        message: cause.message.clone(),
        attempt: job.attempt,
        trace_context: job.trace_context.clone(),
    });
    let event = cause.map(|cause| JobEvent {
        job_id: job.id,
        event_type: cause.event,
        payload: payload(job, from, status, failures, next_run_at, cause),
        trace_context: job.trace_context.clone(),
    });
    let is_due_soon = next_run_at.is_some_and(|at| at <= job.in_future(WAKE_HORIZON));
    let wake = match &rerun {
        Some(rerun) => rerun.due_soon.then_some(rerun.id),
        None => (is_due_soon && job.route == Route::Internal).then_some(job.id),
    };
    Transition {
        id: job.id,
        kind: job.kind.clone(),
        target_type: job.target_type.clone(),
        target_id: job.target_id,
        status,
        attempt: job.attempt,
        failures,
        next_run_at,
        event,
        terminal,
        rerun,
        wake,
    }
}

fn payload(
    job: &FencedJob,
    from: JobStatus,
    to: JobStatus,
    failures: i32,
    next_run_at: Option<Timestamp>,
    cause: &Cause,
) -> Value {
    let mut payload = json!({
        "kind": job.kind,
        "target_type": job.target_type,
        "target_id": job.target_id,
        "from": from,
        "to": to,
        "reason": cause.code,
        "message": cause.message,
        "attempt": job.attempt,
        "failures": failures,
    });
    if let (Some(next_run_at), Some(members)) = (next_run_at, payload.as_object_mut()) {
        members.insert("next_run_at".into(), json!(next_run_at));
    }
    payload
}

/// `last_error` and `error_json`: with what the answer to a replayed report needs.
fn error_text(job: &FencedJob, cause: &Cause, charge: bool, next_run_at: Option<Timestamp>) -> String {
    json!({
        "code": cause.code,
        "message": cause.message,
        "at": job.now(),
        "attempt": job.attempt,
        "failures": job.failures + i32::from(charge),
        "next_run_at": next_run_at,
    })
    .to_string()
}

#[derive(Default)]
struct Returned<'a> {
    ids: Vec<Uuid>,
    attempts: Vec<i32>,
    next_run_ats: Vec<Timestamp>,
    charges: Vec<i32>,
    deferrals: Vec<i32>,
    errors: Vec<Option<String>>,
    report_tokens: Vec<Option<Uuid>>,
    report_digests: Vec<Option<&'a [u8]>>,
}

impl<'a> Returned<'a> {
    fn push(
        &mut self,
        job: &FencedJob,
        next_run_at: Timestamp,
        deferral: bool,
        charged: Option<&Cause>,
        report: Option<&'a Report>,
    ) {
        self.ids.push(job.id.0);
        self.attempts.push(job.attempt);
        self.next_run_ats.push(next_run_at);
        self.charges.push(i32::from(charged.is_some()));
        self.deferrals.push(i32::from(deferral));
        self.errors.push(charged.map(|cause| error_text(job, cause, true, Some(next_run_at))));
        self.report_tokens.push(report.map(|report| report.token));
        self.report_digests.push(report.map(|report| report.digest.as_slice()));
    }

    async fn write(&self, tx: &impl GenericClient) -> Result<Vec<tokio_postgres::Row>, Error> {
        if self.ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = tx
            .query_typed(
                RETURN,
                &[
                    (&self.ids, Type::UUID_ARRAY),
                    (&self.attempts, Type::INT4_ARRAY),
                    (&self.next_run_ats, Type::TIMESTAMPTZ_ARRAY),
                    (&self.charges, Type::INT4_ARRAY),
                    (&self.deferrals, Type::INT4_ARRAY),
                    (&self.errors, Type::TEXT_ARRAY),
                    (&self.report_tokens, Type::UUID_ARRAY),
                    (&self.report_digests, Type::BYTEA_ARRAY),
                ],
            )
            .await?;
        Ok(rows)
    }
}

#[derive(Default)]
struct Buried<'a> {
    ids: Vec<Uuid>,
    attempts: Vec<i32>,
    statuses: Vec<&'static str>,
    charges: Vec<i32>,
    errors: Vec<String>,
    report_tokens: Vec<Option<Uuid>>,
    report_digests: Vec<Option<&'a [u8]>>,
    fresh_ids: Vec<Uuid>,
}

impl<'a> Buried<'a> {
    fn push(
        &mut self,
        job: &FencedJob,
        status: JobStatus,
        charge: bool,
        cause: &Cause,
        report: Option<&'a Report>,
        fresh: JobId,
    ) {
        self.ids.push(job.id.0);
        self.attempts.push(job.attempt);
        self.statuses.push(status.as_str());
        self.charges.push(i32::from(charge));
        self.errors.push(error_text(job, cause, charge, None));
        self.report_tokens.push(report.map(|report| report.token));
        self.report_digests.push(report.map(|report| report.digest.as_slice()));
        self.fresh_ids.push(fresh.0);
    }

    async fn write(&self, tx: &impl GenericClient) -> Result<Vec<tokio_postgres::Row>, Error> {
        if self.ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = tx
            .query_typed(
                BURY,
                &[
                    (&self.ids, Type::UUID_ARRAY),
                    (&self.attempts, Type::INT4_ARRAY),
                    (&self.statuses, Type::TEXT_ARRAY),
                    (&self.charges, Type::INT4_ARRAY),
                    (&self.errors, Type::TEXT_ARRAY),
                    (&self.report_tokens, Type::UUID_ARRAY),
                    (&self.report_digests, Type::BYTEA_ARRAY),
                    (&self.fresh_ids, Type::UUID_ARRAY),
                ],
            )
            .await?;
        Ok(rows)
    }
}
