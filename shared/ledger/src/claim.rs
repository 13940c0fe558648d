//! Taking work: a whole SQS batch in one round trip, or over HTTP.

use crate::Statement;
use crate::error::Error;
use crate::fence::Holder;
use crate::hints::Hint;
use crate::policy::{PRIORITIES, Registry};
use crate::read::{JobRecord, job_find};
use crate::row;
use crate::scan::Scan;
use crate::types::{JobId, JobStatus};
use jiff::Timestamp;
use serde_json::Value;
use std::time::{Duration, Instant};
use telemetry::db::GenericClient;
use telemetry::label::JobTransition;
use telemetry::metric;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// An internal lease ends before the Lambda function that holds it can.
pub const INTERNAL_LEASE_MAX: Duration = Duration::from_secs(60);
/// What a module may ask for.
pub const EXTERNAL_LEASE_MIN: Duration = Duration::from_secs(10);
/// See [`EXTERNAL_LEASE_MIN`].
pub const EXTERNAL_LEASE_MAX: Duration = Duration::from_secs(900);

/// A job in the hands of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedJob {
    /// Its id.
    pub id: JobId,
    /// Its kind.
    pub kind: String,
    /// What its target is.
    pub target_type: String,
    /// Which one.
    pub target_id: Uuid,
    /// What it was enqueued with.
    pub inputs: Value,
    /// This attempt's number, from 1.
    pub attempt: i32,
    /// This attempt's secret.
    pub lease_token: Uuid,
    /// When the lease ends, unless a heartbeat extends it.
    pub lease_expires_at: Timestamp,
    /// Failures charged before this attempt.
    pub failures: i32,
    /// Failures after which the job is dead.
    pub max_failures: i32,
    /// Times that it was put off.
    pub deferrals: i32,
    /// The W3C `traceparent` of what caused it. The first attempt is its child; retries are linked to it.
    pub trace_context: Option<String>,
    /// When it was enqueued.
    pub created_at: Timestamp,
}

impl ClaimedJob {
    /// What the attempt proves itself with.
    #[must_use]
    pub fn holder(&self) -> Holder {
        Holder { job_id: self.id, attempt: self.attempt, lease_token: self.lease_token }
    }
}

/// Why a module was not given a job.
#[derive(Debug, Clone, PartialEq)]
pub enum NotClaimed {
    /// No job has that id. HTTP: 404.
    NotFound,
    /// The module may not claim that kind. HTTP: 403 `wrong-module-kind`.
    WrongKind,
    /// Claimed, not due, finished, its kind disabled, or internal. HTTP: 409 `job-not-claimable`.
    NotClaimable(Box<JobRecord>),
}

/// `ledger_claim` (`migrations/0004`).
const CLAIM_BATCH: &str = concat!("SELECT ", row::claimed_columns!(), "\nFROM ledger_claim($1, $2, $3) AS j");

macro_rules! claim_external {
    () => {
        concat!(
            "
UPDATE jobs AS j
SET status = 'claimed',
    attempt = j.attempt + 1,
    lease_token = gen_random_uuid(),
    lease_expires_at = now() + coalesce($3, p.lease_s)::float8 * interval '1 second',
    claimed_at = now(),
    locked_by_module_id = $4,
    hinted_until = NULL,
    updated_at = now(),
    version = j.version + 1
FROM picked AS p
WHERE j.id = p.id
RETURNING j.priority, j.next_run_at, ",
            row::claimed_columns!()
        )
    };
}

/// By index `jobs_ready`, as marking does. `$1`, `$2`: kinds and the lease seconds of each; `$3`: seconds asked for.
const CLAIM_EXTERNAL: &str = concat!(
    "\
WITH allowed AS MATERIALIZED (
    SELECT a.kind, coalesce(k.lease_seconds, a.lease_s) AS lease_s
    FROM unnest($1::text[], $2::int4[]) AS a(kind, lease_s)
    LEFT JOIN job_kinds AS k ON k.kind = a.kind
    WHERE coalesce(k.enabled, true)
), picked AS MATERIALIZED (
    SELECT due.id, due.lease_s
    FROM unnest($5::int2[], $6::timestamptz[], $7::uuid[]) AS p(priority, from_at, from_id)
    CROSS JOIN LATERAL (
        SELECT j.id, (SELECT a.lease_s FROM allowed AS a WHERE a.kind = j.kind) AS lease_s
        FROM jobs AS j
        WHERE j.route = 'external'
            AND j.priority = p.priority
            AND (j.next_run_at, j.id) > (p.from_at, p.from_id)
            AND j.next_run_at <= now()
            AND j.status = 'queued'
            AND j.kind = ANY (ARRAY(SELECT a.kind FROM allowed AS a))
        ORDER BY j.next_run_at, j.id
        LIMIT $8
        FOR UPDATE OF j SKIP LOCKED
    ) AS due
    LIMIT $8
)",
    claim_external!()
);

/// By the primary key; parameters as above, `$5` the job.
const CLAIM_EXTERNAL_ONE: &str = concat!(
    "\
WITH allowed AS MATERIALIZED (
    SELECT a.kind, coalesce(k.lease_seconds, a.lease_s) AS lease_s
    FROM unnest($1::text[], $2::int4[]) AS a(kind, lease_s)
    LEFT JOIN job_kinds AS k ON k.kind = a.kind
    WHERE coalesce(k.enabled, true)
), picked AS MATERIALIZED (
    SELECT j.id, a.lease_s
    FROM jobs AS j
    JOIN allowed AS a ON a.kind = j.kind
    WHERE j.id = $5
        AND j.route = 'external'
        AND j.next_run_at <= now()
        AND j.status = 'queued'
    FOR UPDATE OF j SKIP LOCKED
)",
    claim_external!()
);

/// By index `jobs_ready`. Begins at the front: what a person or a module looks at should be all of it.
const LIST_CLAIMABLE: &str = "\
SELECT due.id
FROM unnest($1::int2[]) AS p(priority)
CROSS JOIN LATERAL (
    SELECT j.id
    FROM jobs AS j
    WHERE j.route = 'external'
        AND j.priority = p.priority
        AND j.next_run_at <= now()
        AND j.status = 'queued'
        AND j.kind = ANY ($2)
        AND j.kind <> ALL (ARRAY(SELECT k.kind FROM job_kinds AS k WHERE NOT k.enabled))
    ORDER BY j.next_run_at, j.id
    LIMIT $3
) AS due
LIMIT $3";

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement {
        name: "job_claim_batch",
        sql: CLAIM_BATCH,
        types: &[Type::UUID_ARRAY, Type::INT4_ARRAY, Type::FLOAT8],
    },
    Statement {
        name: "jobs_claim_external",
        sql: CLAIM_EXTERNAL,
        types: &[
            Type::TEXT_ARRAY,
            Type::INT4_ARRAY,
            Type::INT4,
            Type::UUID,
            Type::INT2_ARRAY,
            Type::TIMESTAMPTZ_ARRAY,
            Type::UUID_ARRAY,
            Type::INT8,
        ],
    },
    Statement {
        name: "job_claim_external",
        sql: CLAIM_EXTERNAL_ONE,
        types: &[Type::TEXT_ARRAY, Type::INT4_ARRAY, Type::INT4, Type::UUID, Type::UUID],
    },
    Statement {
        name: "jobs_list_claimable",
        sql: LIST_CLAIMABLE,
        types: &[Type::INT2_ARRAY, Type::TEXT_ARRAY, Type::INT8],
    },
];

/// Claims what the hints of an SQS batch name, in one round trip: internal jobs that are queued, due (within a second),
/// of an enabled kind, and whose attempt is still the hint's. What is missing from the answer was a late or doubled
/// hint: there is nothing to do for it.
///
/// `lease` is the time until the invocation's deadline less a margin; at most [`INTERNAL_LEASE_MAX`] is given. It is a
/// length, not an instant, so that a clock that differs from the database's costs nothing.
///
/// # Errors
/// The database's: nothing was claimed.
pub async fn job_claim_batch(
    client: &impl GenericClient,
    hints: &[Hint],
    lease: Duration,
) -> Result<Vec<ClaimedJob>, Error> {
    if hints.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = hints.iter().map(|hint| hint.job_id.0).collect();
    let attempts: Vec<i32> = hints.iter().map(|hint| hint.attempt).collect();
    let lease_s = lease.min(INTERNAL_LEASE_MAX).as_secs_f64();
    let rows = client
        .query_typed(
            CLAIM_BATCH,
            &[(&ids, Type::UUID_ARRAY), (&attempts, Type::INT4_ARRAY), (&lease_s, Type::FLOAT8)],
        )
        .await?;
    count_claimed(&rows);
    rows.iter().map(row::claimed_job).collect()
}

fn count_claimed(rows: &[Row]) {
    metric::JOBS_TRANSITIONS.add(u64::try_from(rows.len()).unwrap_or(0), JobTransition::Claimed);
}

/// Claims up to `limit` due external jobs of the given kinds for a module, in the order of work.
///
/// `lease` `None`: the kind's. Jobs that others hold are skipped. Unknown kinds are passed over.
///
/// # Errors
/// The database's.
pub async fn jobs_claim_external(
    client: &impl GenericClient,
    registry: &Registry,
    scan: &Scan,
    module: Uuid,
    kinds: &[String],
    limit: usize,
    lease: Option<Duration>,
) -> Result<Vec<ClaimedJob>, Error> {
    let (kinds, leases) = leases(registry, kinds);
    let from = scan.begin(&format!("external {}", kinds.join(" ")), Instant::now());
    let rows = client
        .query_typed(
            CLAIM_EXTERNAL,
            &[
                (&kinds, Type::TEXT_ARRAY),
                (&leases, Type::INT4_ARRAY),
                (&lease.map(external_lease_s), Type::INT4),
                (&module, Type::UUID),
                (&PRIORITIES.as_slice(), Type::INT2_ARRAY),
                (&from.instants(), Type::TIMESTAMPTZ_ARRAY),
                (&from.ids(), Type::UUID_ARRAY),
                (&i64::try_from(limit).unwrap_or(i64::MAX), Type::INT8),
            ],
        )
        .await?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in &rows {
        let position: (Timestamp, Uuid) = (row.try_get("next_run_at")?, row.try_get("id")?);
        claimed.push((row.try_get::<_, i16>("priority")?, position, row::claimed_job(row)?));
    }
    let found: Vec<_> = claimed.iter().map(|(priority, position, _)| (*priority, *position)).collect();
    scan.end(&from, Instant::now(), &found);
    claimed.sort_by_key(|(priority, position, _)| (std::cmp::Reverse(*priority), *position));
    Ok(claimed.into_iter().map(|(.., job)| job).collect())
}

/// Claims one external job for a module that may claim the given kinds.
///
/// # Errors
/// The database's. The inner error says why the job was not given.
pub async fn job_claim_external(
    client: &impl GenericClient,
    registry: &Registry,
    module: Uuid,
    kinds: &[String],
    id: JobId,
    lease: Option<Duration>,
) -> Result<Result<ClaimedJob, NotClaimed>, Error> {
    let (known, leases) = leases(registry, kinds);
    let rows = client
        .query_typed(
            CLAIM_EXTERNAL_ONE,
            &[
                (&known, Type::TEXT_ARRAY),
                (&leases, Type::INT4_ARRAY),
                (&lease.map(external_lease_s), Type::INT4),
                (&module, Type::UUID),
                (&id.0, Type::UUID),
            ],
        )
        .await?;
    if let Some(row) = rows.first() {
        return Ok(Ok(row::claimed_job(row)?));
    }
    Ok(Err(match job_find(client, id).await? {
        None => NotClaimed::NotFound,
        Some(job) if !kinds.contains(&job.kind) => NotClaimed::WrongKind,
        Some(job) => NotClaimed::NotClaimable(Box::new(job)),
    }))
}

/// The queued, due, external jobs of the given kinds, in the order of work, at most `limit`.
///
/// # Errors
/// The database's.
pub async fn jobs_list_claimable(
    client: &impl GenericClient,
    kinds: &[String],
    limit: usize,
) -> Result<Vec<JobRecord>, Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = client
        .query_typed(
            LIST_CLAIMABLE,
            &[(&PRIORITIES.as_slice(), Type::INT2_ARRAY), (&kinds, Type::TEXT_ARRAY), (&limit, Type::INT8)],
        )
        .await?;
    let mut ids: Vec<Uuid> = Vec::with_capacity(rows.len());
    for row in &rows {
        ids.push(row.try_get(0)?);
    }
    let mut jobs = crate::read::jobs_by_id(client, &ids).await?;
    jobs.retain(|job| job.status == JobStatus::Queued);
    jobs.sort_by_key(|job| (std::cmp::Reverse(job.priority), job.next_run_at, job.id));
    Ok(jobs)
}

fn external_lease_s(lease: Duration) -> i32 {
    i32::try_from(lease.clamp(EXTERNAL_LEASE_MIN, EXTERNAL_LEASE_MAX).as_secs()).unwrap_or(i32::MAX)
}

/// The registered ones of the kinds, sorted, with the seconds of their default lease.
fn leases<'a>(registry: &Registry, kinds: &'a [String]) -> (Vec<&'a str>, Vec<i32>) {
    let mut known: Vec<(&str, i32)> = kinds
        .iter()
        .filter_map(|kind| Some((kind.as_str(), external_lease_s(registry.get(kind).ok()?.lease))))
        .collect();
    known.sort_unstable();
    known.dedup();
    known.into_iter().unzip()
}
