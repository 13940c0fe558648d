//! Hints: which jobs to tell the worker about. Only internal jobs are hinted, and only dispatch does it.
//!
//! Hinted means `hinted_until > now()`. A mark is written and committed before the message is sent, so that no sweep
//! repeats a young hint; one that was lost is sent again when its mark ends.

use crate::Statement;
use crate::error::Error;
use crate::policy::PRIORITIES;
use crate::scan::Scan;
use crate::types::JobId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use telemetry::db::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// The body of a message in the jobs queue: `{"job_id":"…","attempt":0}`. The trace context is a message attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hint {
    /// The job.
    pub job_id: JobId,
    /// Its attempt when the hint was sent. A claim counts it up, and so makes every other copy of the hint void.
    pub attempt: i32,
}

/// The body of a message in the wake queue: `{"job_ids":["…"]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wake {
    /// Jobs that a committed transaction made due within a minute.
    pub job_ids: Vec<JobId>,
}

/// A marked job: the hint to send, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkedJob {
    /// What to send.
    pub hint: Hint,
    /// Whole seconds until the job is due, rounded up, as `DelaySeconds`.
    pub delay: Duration,
    /// The job's W3C `traceparent`, as a message attribute.
    pub trace_context: Option<String>,
}

/// How far ahead jobs are hinted: what is due before the next sweep.
pub const HORIZON: Duration = Duration::from_secs(60);

/// What a hint needs, of the row `j`.
macro_rules! marked_columns {
    () => {
        "j.id, j.attempt, j.trace_context, \
         greatest(0, ceil(extract(epoch FROM j.next_run_at - now())))::int4 AS delay_s"
    };
}

/// By index `jobs_ready`, one range a priority. The probes run in the given order of priorities and stop at the limit,
/// so that no row is locked that is not marked. `$4`: seconds ahead. A `status` in an index would end HOT.
const MARK_READY: &str = concat!(
    "\
WITH picked AS MATERIALIZED (
    SELECT due.id
    FROM unnest($1::int2[], $2::timestamptz[], $3::uuid[]) AS p(priority, from_at, from_id)
    CROSS JOIN LATERAL (
        SELECT j.id
        FROM jobs AS j
        WHERE j.route = 'internal'
            AND j.priority = p.priority
            AND (j.next_run_at, j.id) > (p.from_at, p.from_id)
            AND j.next_run_at <= now() + $4 * interval '1 second'
            AND j.status = 'queued'
            AND (j.hinted_until IS NULL OR j.hinted_until <= now())
            AND j.kind <> ALL (ARRAY(SELECT k.kind FROM job_kinds AS k WHERE NOT k.enabled))
        ORDER BY j.next_run_at, j.id
        LIMIT $5
        FOR UPDATE OF j SKIP LOCKED
    ) AS due
    LIMIT $5
)
UPDATE jobs AS j
SET hinted_until = greatest(now(), j.next_run_at) + interval '2 minutes',
    updated_at = now(),
    version = j.version + 1
FROM picked AS p
WHERE j.id = p.id
RETURNING j.priority, j.next_run_at, ",
    marked_columns!()
);

/// `ledger_mark` (`migrations/0004`).
const MARK_BY_ID: &str = concat!("SELECT ", marked_columns!(), "\nFROM ledger_mark($1, $2) AS j");

/// By the primary key, in id order as claims take them. `$2` null: whatever the attempt.
const UNMARK: &str = "\
WITH picked AS MATERIALIZED (
    SELECT j.id
    FROM jobs AS j
    JOIN unnest($1::uuid[], $2::int4[]) AS h(id, attempt) ON h.id = j.id AND coalesce(h.attempt, j.attempt) = j.attempt
    WHERE j.status = 'queued'
        AND j.hinted_until IS NOT NULL
    ORDER BY j.id
    FOR UPDATE OF j
)
UPDATE jobs AS j
SET hinted_until = NULL,
    updated_at = now(),
    version = j.version + 1
FROM picked AS p
WHERE j.id = p.id";

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement {
        name: "jobs_mark_ready",
        sql: MARK_READY,
        types: &[Type::INT2_ARRAY, Type::TIMESTAMPTZ_ARRAY, Type::UUID_ARRAY, Type::FLOAT8, Type::INT8],
    },
    Statement { name: "jobs_mark_by_id", sql: MARK_BY_ID, types: &[Type::UUID_ARRAY, Type::FLOAT8] },
    Statement { name: "jobs_unmark", sql: UNMARK, types: &[Type::UUID_ARRAY, Type::INT4_ARRAY] },
];

/// Marks up to `limit` internal jobs that are queued, unhinted, of an enabled kind, and due within [`HORIZON`], in the
/// order of work; commit before sending. Jobs that others hold are skipped.
///
/// # Errors
/// The database's.
pub async fn jobs_mark_ready(
    client: &impl GenericClient,
    scan: &Scan,
    limit: usize,
) -> Result<Vec<MarkedJob>, Error> {
    let from = scan.begin("internal", Instant::now());
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = client
        .query_typed(
            MARK_READY,
            &[
                (&PRIORITIES.as_slice(), Type::INT2_ARRAY),
                (&from.instants(), Type::TIMESTAMPTZ_ARRAY),
                (&from.ids(), Type::UUID_ARRAY),
                (&HORIZON.as_secs_f64(), Type::FLOAT8),
                (&limit, Type::INT8),
            ],
        )
        .await?;
    let mut marked = Vec::with_capacity(rows.len());
    for row in &rows {
        let position: (Timestamp, Uuid) = (row.try_get("next_run_at")?, row.try_get("id")?);
        marked.push((row.try_get::<_, i16>("priority")?, position, marked_job(row)?));
    }
    let found: Vec<_> = marked.iter().map(|(priority, position, _)| (*priority, *position)).collect();
    scan.end(&from, Instant::now(), &found);
    marked.sort_by_key(|(priority, position, _)| (std::cmp::Reverse(*priority), *position));
    Ok(marked.into_iter().map(|(.., job)| job).collect())
}

/// Marks those of the given jobs that [`jobs_mark_ready`] would; commit before sending.
///
/// # Errors
/// The database's.
pub async fn jobs_mark_by_id(client: &impl GenericClient, ids: &[JobId]) -> Result<Vec<MarkedJob>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = client
        .query_typed(MARK_BY_ID, &[(&ids, Type::UUID_ARRAY), (&HORIZON.as_secs_f64(), Type::FLOAT8)])
        .await?;
    rows.iter().map(marked_job).collect()
}

/// Takes back the marks of hints that SQS refused, where the attempt is still the same. Answers how many.
///
/// # Errors
/// The database's; the marks then end by themselves within three minutes.
pub async fn jobs_unmark(client: &impl GenericClient, hints: &[Hint]) -> Result<u64, Error> {
    let ids = hints.iter().map(|hint| hint.job_id.0).collect();
    let attempts = hints.iter().map(|hint| Some(hint.attempt)).collect();
    unmark(client, ids, attempts).await
}

/// Takes back the marks of jobs whose hints ended in the dead-letter queue, if they are pending. Answers how many.
///
/// # Errors
/// The database's.
pub async fn jobs_unmark_by_id(client: &impl GenericClient, ids: &[JobId]) -> Result<u64, Error> {
    unmark(client, ids.iter().map(|id| id.0).collect(), vec![None; ids.len()]).await
}

async fn unmark(
    client: &impl GenericClient,
    ids: Vec<Uuid>,
    attempts: Vec<Option<i32>>,
) -> Result<u64, Error> {
    if ids.is_empty() {
        return Ok(0);
    }
    let params: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
        &[(&ids, Type::UUID_ARRAY), (&attempts, Type::INT4_ARRAY)];
    Ok(client.execute_typed(UNMARK, params).await?)
}

fn marked_job(row: &Row) -> Result<MarkedJob, Error> {
    let delay_s: i32 = row.try_get("delay_s")?;
    Ok(MarkedJob {
        hint: Hint { job_id: JobId(row.try_get("id")?), attempt: row.try_get("attempt")? },
        delay: Duration::from_secs(u64::try_from(delay_s).unwrap_or(0)),
        trace_context: row.try_get("trace_context")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_and_a_wake_have_the_bodies_of_the_contract() {
        let id: JobId = "0190a6d0-0000-7000-8000-000000000001".parse().unwrap();
        let hint = Hint { job_id: id, attempt: 2 };
        assert_eq!(
            serde_json::to_string(&hint).unwrap(),
            r#"{"job_id":"0190a6d0-0000-7000-8000-000000000001","attempt":2}"#
        );
        let wake = Wake { job_ids: vec![id] };
        assert_eq!(
            serde_json::to_string(&wake).unwrap(),
            r#"{"job_ids":["0190a6d0-0000-7000-8000-000000000001"]}"#
        );
    }
}
