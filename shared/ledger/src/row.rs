//! Columns that several statements share, and reading them.

use crate::claim::ClaimedJob;
use crate::error::Error;
use crate::fence::FencedJob;
use crate::policy::Backoff;
use crate::types::JobId;
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio_postgres::Row;

/// What a holder is given, of the row `j`.
macro_rules! claimed_columns {
    () => {
        "j.id, j.kind, j.target_type, j.target_id, j.inputs_json, j.attempt, j.lease_token, j.lease_expires_at, \
         j.failures, j.max_failures, j.deferrals, j.trace_context, j.created_at"
    };
}
/// What else a transition needs: the rows `j` and, outer joined, `k` of `job_kinds`.
macro_rules! held_columns {
    () => {
        concat!(
            $crate::row::claimed_columns!(),
            ", j.rerun, coalesce(k.route, j.route) AS route, k.base_seconds, k.cap_seconds, \
             clock_timestamp() AS fenced_at"
        )
    };
}
/// What a job takes along when it moves to `job_archive` or `job_dead`.
macro_rules! moved_columns {
    () => {
        "id, kind, target_type, target_id, inputs_json, route, priority, next_run_at, attempt, max_failures, \
         deferrals, claimed_at, locked_by_module_id, requeues, trace_context, created_at"
    };
}
/// What leaves `jobs` (as `j`) in a move: the columns above, and those that change on the way.
macro_rules! leaving_columns {
    () => {
        "j.id, j.kind, j.target_type, j.target_id, j.inputs_json, j.route, j.priority, j.next_run_at, j.attempt, \
         j.max_failures, j.deferrals, j.claimed_at, j.locked_by_module_id, j.requeues, j.trace_context, \
         j.created_at, j.failures, j.report_token, j.report_digest, j.last_error, j.rerun, j.version"
    };
}
/// Inserts the fresh job of a rerun out of the rows `gone`, whose `fresh_id` is its id.
macro_rules! insert_rerun {
    () => {
        "INSERT INTO jobs
        (id, kind, target_type, target_id, inputs_json, route, priority, max_failures, trace_context)
    SELECT g.fresh_id, g.kind, g.target_type, g.target_id, g.inputs_json, coalesce(k.route, g.route), g.priority,
        coalesce(k.max_failures, g.max_failures), g.trace_context
    FROM gone AS g
    LEFT JOIN job_kinds AS k ON k.kind = g.kind
    WHERE g.rerun"
    };
}
pub(crate) use {claimed_columns, held_columns, insert_rerun, leaving_columns, moved_columns};

pub(crate) fn claimed_job(row: &Row) -> Result<ClaimedJob, Error> {
    Ok(ClaimedJob {
        id: JobId(row.try_get("id")?),
        kind: row.try_get("kind")?,
        target_type: row.try_get("target_type")?,
        target_id: row.try_get("target_id")?,
        inputs: row.try_get("inputs_json")?,
        attempt: row.try_get("attempt")?,
        lease_token: row.try_get("lease_token")?,
        lease_expires_at: row.try_get("lease_expires_at")?,
        failures: row.try_get("failures")?,
        max_failures: row.try_get("max_failures")?,
        deferrals: row.try_get("deferrals")?,
        trace_context: row.try_get("trace_context")?,
        created_at: row.try_get("created_at")?,
    })
}

pub(crate) fn fenced_job(row: &Row) -> Result<FencedJob, Error> {
    let seconds = |name| -> Result<Option<Duration>, Error> {
        let seconds: Option<i32> = row.try_get(name)?;
        Ok(seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs))
    };
    let backoff = match (seconds("base_seconds")?, seconds("cap_seconds")?) {
        (Some(base), Some(cap)) => Some(Backoff { base, cap }),
        _ => None,
    };
    let route: String = row.try_get("route")?;
    Ok(FencedJob {
        job: claimed_job(row)?,
        rerun: row.try_get("rerun")?,
        route: route.parse().map_err(|error: crate::types::UnknownWord| Error::Invalid(error.to_string()))?,
        backoff,
        fenced_at: row.try_get("fenced_at")?,
        fenced: Instant::now(),
    })
}

/// `jsonb` has no NUL: such a value is refused before the database refuses the transaction.
pub(crate) fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
