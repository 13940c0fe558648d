//! Jobs as people and modules see them: the three tables as one.

use crate::Statement;
use crate::error::Error;
use crate::settle::Report;
use crate::types::{JobId, JobStatus, Route, UnknownWord};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;
use telemetry::db::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// A job with all its columns but the tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// Its kind.
    pub kind: String,
    /// What its target is.
    pub target_type: String,
    /// Which one.
    pub target_id: Uuid,
    /// What it was enqueued with.
    pub inputs_json: Value,
    /// Its state.
    pub status: JobStatus,
    /// Who may claim it.
    pub route: Route,
    /// The higher, the sooner.
    pub priority: i16,
    /// When it may run; of one that ran, when it might.
    pub next_run_at: Timestamp,
    /// The number of its latest attempt; 0 before the first.
    pub attempt: i32,
    /// Failures charged since it was enqueued or requeued.
    pub failures: i32,
    /// Failures after which it is dead.
    pub max_failures: i32,
    /// Times that it was put off.
    pub deferrals: i32,
    /// When its lease ends; only while claimed.
    pub lease_expires_at: Option<Timestamp>,
    /// When its latest attempt began.
    pub claimed_at: Option<Timestamp>,
    /// The module that holds (or, of a finished one, held) it; none: the worker.
    pub locked_by_module_id: Option<Uuid>,
    /// Until when no sweep hints it again.
    pub hinted_until: Option<Timestamp>,
    /// `{code, message, at, attempt, failures, next_run_at}` of the latest charged failure.
    pub last_error: Option<Value>,
    /// Another run was asked for while it was claimed.
    pub rerun: bool,
    /// Times that an admin brought it back.
    pub requeues: i32,
    /// The W3C `traceparent` of what caused it.
    pub trace_context: Option<String>,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Counted up by each change.
    pub version: i64,
    /// What a done job answered.
    pub result_json: Option<Value>,
    /// Why a failed or dead one ended, in the shape of `last_error`.
    pub error_json: Option<Value>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// Which jobs to list; `None` is any.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobFilter {
    /// In that state.
    pub status: Option<JobStatus>,
    /// Of that kind.
    pub kind: Option<String>,
    /// With such a target.
    pub target_type: Option<String>,
    /// With that target.
    pub target_id: Option<Uuid>,
    /// Enqueued at or after.
    pub since: Option<Timestamp>,
}

/// Whether a report was accepted before.
#[derive(Debug, Clone, PartialEq)]
pub enum Replay {
    /// No: go on to the fence.
    New,
    /// Yes, this very one: give the same answer, without a second effect.
    Same(Box<JobRecord>),
    /// Its token has reported something else. HTTP: 409 `result-already-recorded`.
    Other,
}

/// The numbers behind the dashboard.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct JobStats {
    /// Jobs in each state. `done` counts what the archive still holds, and is the planner's estimate once that is large.
    pub by_status: std::collections::BTreeMap<String, i64>,
    /// Pending, failed and dead jobs of each kind, by state.
    pub by_kind: std::collections::BTreeMap<String, std::collections::BTreeMap<String, i64>>,
    /// How long the oldest ready job of an enabled kind has been ready, in seconds; `None`: nothing is ready.
    pub oldest_ready_age_s: Option<f64>,
}

macro_rules! record_columns {
    () => {
        "id, kind, target_type, target_id, inputs_json, status, route, priority, next_run_at, attempt, failures, \
         max_failures, deferrals, lease_expires_at, claimed_at, locked_by_module_id, hinted_until, last_error, rerun, \
         requeues, trace_context, created_at, updated_at, version, result_json, error_json, finished_at"
    };
}

/// By the primary keys of the three tables; the archive's begins with the id.
const BY_ID: &str = concat!(
    "\
SELECT ",
    record_columns!(),
    "
FROM job_all
WHERE id = ANY ($1)"
);

/// By the primary keys, merged backwards. Filters that are null fold away when the statement is planned, and the
/// checks on `status` leave out the tables that cannot hold the wanted one. `$6`, `$7`: id bounds.
const LIST: &str = concat!(
    "\
SELECT ",
    record_columns!(),
    "
FROM job_all
WHERE ($1::text IS NULL OR status = $1)
    AND ($2::text IS NULL OR kind = $2)
    AND ($3::text IS NULL OR target_type = $3)
    AND ($4::uuid IS NULL OR target_id = $4)
    AND ($5::timestamptz IS NULL OR created_at >= $5)
    AND ($6::uuid IS NULL OR id < $6)
    AND ($7::uuid IS NULL OR id >= $7)
ORDER BY id DESC
LIMIT $8"
);

/// By the primary keys.
const REPORT: &str = concat!(
    "\
SELECT ",
    record_columns!(),
    ", report_token, report_digest
FROM job_all
WHERE id = $1"
);

/// By the unique key.
const PENDING: &str = "\
SELECT id
FROM jobs
WHERE kind = $1
    AND target_type = $2
    AND target_id = $3";

/// Reads all pending and dead rows.
const COUNTS: &str = "\
SELECT kind, status, count(*)
FROM jobs
GROUP BY kind, status
UNION ALL
SELECT kind, status, count(*)
FROM job_dead
GROUP BY kind, status";

/// Counts exactly where that is cheap: a large archive is estimated from its partitions' statistics.
const COUNT_DONE: &str = "\
SELECT CASE
        WHEN e.rows > 100000 THEN e.rows
        ELSE (SELECT count(*) FROM job_archive)
    END
FROM (
    SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::int8 AS rows
    FROM pg_inherits AS i
    JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'job_archive'::regclass
) AS e";

/// By index `jobs_ready`, from the front of each priority and route.
pub(crate) const OLDEST_READY: &str = "\
SELECT extract(epoch FROM now() - min(due.next_run_at))::float8
FROM unnest($1::int2[]) AS p(priority)
CROSS JOIN unnest(ARRAY['internal', 'external']) AS r(route)
CROSS JOIN LATERAL (
    SELECT j.next_run_at
    FROM jobs AS j
    WHERE j.route = r.route
        AND j.priority = p.priority
        AND j.next_run_at <= now()
        AND j.status = 'queued'
        AND j.kind <> ALL (ARRAY(SELECT k.kind FROM job_kinds AS k WHERE NOT k.enabled))
    ORDER BY j.next_run_at, j.id
    LIMIT 1
) AS due";

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "jobs_by_id", sql: BY_ID, types: &[Type::UUID_ARRAY] },
    Statement {
        name: "jobs_list",
        sql: LIST,
        types: &[
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::UUID,
            Type::TIMESTAMPTZ,
            Type::UUID,
            Type::UUID,
            Type::INT8,
        ],
    },
    Statement { name: "job_replay", sql: REPORT, types: &[Type::UUID] },
    Statement { name: "job_pending_find", sql: PENDING, types: &[Type::TEXT, Type::TEXT, Type::UUID] },
    Statement { name: "job_counts", sql: COUNTS, types: &[] },
    Statement { name: "job_count_done", sql: COUNT_DONE, types: &[] },
    Statement { name: "job_oldest_ready", sql: OLDEST_READY, types: &[Type::INT2_ARRAY] },
];

/// The job of that id, wherever it is.
///
/// # Errors
/// The database's.
pub async fn job_find(client: &impl GenericClient, id: JobId) -> Result<Option<JobRecord>, Error> {
    Ok(jobs_by_id(client, &[id.0]).await?.pop())
}

pub(crate) async fn jobs_by_id(client: &impl GenericClient, ids: &[Uuid]) -> Result<Vec<JobRecord>, Error> {
    let rows = client.query_typed(BY_ID, &[(&ids, Type::UUID_ARRAY)]).await?;
    rows.iter().map(record).collect()
}

/// Jobs of all three tables, id descending (newest first), below `before`, at most `limit`.
///
/// # Errors
/// The database's.
pub async fn jobs_list(
    client: &impl GenericClient,
    filter: &JobFilter,
    before: Option<JobId>,
    limit: usize,
) -> Result<Vec<JobRecord>, Error> {
    // Ids and `created_at` come from different clocks; within the slack the instant decides.
    let floor =
        filter.since.map(|since| id_floor(since.checked_sub(CLOCK_SLACK).unwrap_or(Timestamp::UNIX_EPOCH)));
    let rows = client
        .query_typed(
            LIST,
            &[
                (&filter.status.map(JobStatus::as_str), Type::TEXT),
                (&filter.kind, Type::TEXT),
                (&filter.target_type, Type::TEXT),
                (&filter.target_id, Type::UUID),
                (&filter.since, Type::TIMESTAMPTZ),
                (&before.map(|before| before.0), Type::UUID),
                (&floor, Type::UUID),
                (&i64::try_from(limit).unwrap_or(i64::MAX), Type::INT8),
            ],
        )
        .await?;
    rows.iter().map(record).collect()
}

/// More than clocks of one system differ.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_hours(1);

/// The pending job of a target, if there is one.
///
/// # Errors
/// The database's.
pub async fn job_pending_find(
    client: &impl GenericClient,
    kind: &str,
    target_type: &str,
    target_id: Uuid,
) -> Result<Option<JobId>, Error> {
    let rows = client
        .query_typed(PENDING, &[(&kind, Type::TEXT), (&target_type, Type::TEXT), (&target_id, Type::UUID)])
        .await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?.map(JobId))
}

/// Whether this report is a repetition of the last accepted one. To be asked before the fence.
///
/// # Errors
/// [`Error::NotFound`]: no such job.
pub async fn job_replay(client: &impl GenericClient, id: JobId, report: &Report) -> Result<Replay, Error> {
    let rows = client.query_typed(REPORT, &[(&id.0, Type::UUID)]).await?;
    let row = rows.first().ok_or(Error::NotFound)?;
    let token: Option<Uuid> = row.try_get("report_token")?;
    let digest: Option<Vec<u8>> = row.try_get("report_digest")?;
    Ok(match (token, digest) {
        (Some(token), Some(digest)) if token == report.token => {
            if digest == report.digest {
                Replay::Same(Box::new(record(row)?))
            } else {
                Replay::Other
            }
        }
        _ => Replay::New,
    })
}

/// What `/admin/stats` shows of the ledger. Three round trips; reads every pending and dead row.
///
/// # Errors
/// The database's.
pub async fn job_stats(client: &impl GenericClient) -> Result<JobStats, Error> {
    let mut stats = JobStats::default();
    for row in &client.query_typed(COUNTS, &[]).await? {
        let (kind, status, count): (String, String, i64) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        *stats.by_status.entry(status.clone()).or_default() += count;
        *stats.by_kind.entry(kind).or_default().entry(status).or_default() += count;
    }
    for status in [JobStatus::Queued, JobStatus::Claimed, JobStatus::Failed, JobStatus::DeadLetter] {
        stats.by_status.entry(status.as_str().into()).or_default();
    }
    if let Some(row) = client.query_typed(COUNT_DONE, &[]).await?.first() {
        stats.by_status.insert(JobStatus::Done.as_str().into(), row.try_get(0)?);
    }
    let priorities = crate::policy::PRIORITIES.as_slice();
    if let Some(row) = client.query_typed(OLDEST_READY, &[(&priorities, Type::INT2_ARRAY)]).await?.first() {
        stats.oldest_ready_age_s = row.try_get(0)?;
    }
    Ok(stats)
}

/// The lowest UUID v7 of an instant: ids made later are greater.
pub(crate) fn id_floor(at: Timestamp) -> Uuid {
    let ms = u128::try_from(at.as_millisecond()).unwrap_or(0);
    Uuid::from_u128(ms << 80)
}

fn record(row: &Row) -> Result<JobRecord, Error> {
    let invalid = |error: UnknownWord| Error::Invalid(error.to_string());
    let (status, route): (String, String) = (row.try_get("status")?, row.try_get("route")?);
    Ok(JobRecord {
        id: JobId(row.try_get("id")?),
        kind: row.try_get("kind")?,
        target_type: row.try_get("target_type")?,
        target_id: row.try_get("target_id")?,
        inputs_json: row.try_get("inputs_json")?,
        status: status.parse().map_err(invalid)?,
        route: route.parse().map_err(invalid)?,
        priority: row.try_get("priority")?,
        next_run_at: row.try_get("next_run_at")?,
        attempt: row.try_get("attempt")?,
        failures: row.try_get("failures")?,
        max_failures: row.try_get("max_failures")?,
        deferrals: row.try_get("deferrals")?,
        lease_expires_at: row.try_get("lease_expires_at")?,
        claimed_at: row.try_get("claimed_at")?,
        locked_by_module_id: row.try_get("locked_by_module_id")?,
        hinted_until: row.try_get("hinted_until")?,
        last_error: row.try_get("last_error")?,
        rerun: row.try_get("rerun")?,
        requeues: row.try_get("requeues")?,
        trace_context: row.try_get("trace_context")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        version: row.try_get("version")?,
        result_json: row.try_get("result_json")?,
        error_json: row.try_get("error_json")?,
        finished_at: row.try_get("finished_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_of_an_instant_is_below_ids_of_later_and_above_ids_of_earlier() {
        let now = Timestamp::now();
        let id = Uuid::now_v7();
        let hour = SignedDuration::from_hours(1);
        assert!(id_floor(now - hour) < id && id < id_floor(now + hour));
    }
}
