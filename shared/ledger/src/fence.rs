//! The fence: who still holds a job. Every write of a holder begins with it.

use crate::Statement;
use crate::claim::ClaimedJob;
use crate::error::Error;
use crate::policy::Backoff;
use crate::row;
use crate::types::{JobId, Route};
use jiff::{SignedDuration, Timestamp};
use std::ops::Deref;
use std::time::{Duration, Instant};
use telemetry::db::GenericClient;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// What proves that an attempt holds a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The job.
    pub job_id: JobId,
    /// The attempt's number.
    pub attempt: i32,
    /// The attempt's secret, made by the claim.
    pub lease_token: Uuid,
}

/// A job whose row this transaction has locked as its holder: nobody can take it until the transaction ends.
#[derive(Debug, Clone, PartialEq)]
pub struct FencedJob {
    /// The job as it was claimed, read again.
    pub job: ClaimedJob,
    /// The route that it has when it returns to the queue.
    pub route: Route,
    /// A fresh run was asked for meanwhile.
    pub(crate) rerun: bool,
    /// An admin's override.
    pub(crate) backoff: Option<Backoff>,
    pub(crate) fenced_at: Timestamp,
    pub(crate) fenced: Instant,
}

impl FencedJob {
    /// The database's clock, now: its answer at the fence, plus the time since then.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.in_future(Duration::ZERO)
    }

    pub(crate) fn in_future(&self, pause: Duration) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.fenced.elapsed().saturating_add(pause));
        elapsed.ok().and_then(|elapsed| self.fenced_at.checked_add(elapsed).ok()).unwrap_or(self.fenced_at)
    }
}

impl Deref for FencedJob {
    type Target = ClaimedJob;

    fn deref(&self) -> &ClaimedJob {
        &self.job
    }
}

/// `ledger_fence` (`migrations/0004`).
pub(crate) const FENCE: &str = concat!(
    "SELECT ",
    row::claimed_columns!(),
    ", j.rerun, f.current_route AS route, f.base_seconds, f.cap_seconds, f.fenced_at
FROM ledger_fence($1, $2, $3) AS f
CROSS JOIN LATERAL (SELECT (f.job).*) AS j"
);

/// By the primary key; writes no indexed column. `$4`: seconds. No lease lives past 15 minutes after its claim. The expiry is
/// judged again after the lock was waited for, as `ledger_fence` does.
pub(crate) const HEARTBEAT: &str = "\
WITH held AS MATERIALIZED (
    SELECT j.id, j.lease_expires_at
    FROM jobs AS j
    WHERE j.id = $1
        AND j.attempt = $2
        AND j.lease_token = $3
        AND j.status = 'claimed'
        AND j.lease_expires_at > clock_timestamp()
    FOR UPDATE OF j
)
UPDATE jobs AS j
SET lease_expires_at = least(clock_timestamp() + $4 * interval '1 second', j.claimed_at + interval '15 minutes'),
    updated_at = now(),
    version = j.version + 1
FROM held AS h
WHERE j.id = h.id
    AND h.lease_expires_at > clock_timestamp()
RETURNING j.lease_expires_at";

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "fence", sql: FENCE, types: &[Type::UUID, Type::INT4, Type::UUID] },
    Statement {
        name: "job_heartbeat",
        sql: HEARTBEAT,
        types: &[Type::UUID, Type::INT4, Type::UUID, Type::FLOAT8],
    },
];

/// Locks the job for its holder. It must be the first statement of the transaction that writes for the attempt.
///
/// # Errors
/// [`Error::Stale`]: the lease is over, or another attempt has the job; end the transaction, change nothing.
pub async fn fence(tx: &impl GenericClient, holder: &Holder) -> Result<FencedJob, Error> {
    let row = tx
        .query_typed(
            FENCE,
            &[
                (&holder.job_id.0, Type::UUID),
                (&holder.attempt, Type::INT4),
                (&holder.lease_token, Type::UUID),
            ],
        )
        .await?;
    row.first().ok_or(Error::Stale).and_then(row::fenced_job)
}

/// Extends an unexpired lease to `lease` from now, at most 15 minutes after the claim; answers the new expiry.
///
/// # Errors
/// [`Error::Stale`] as [`fence`].
pub async fn job_heartbeat(
    client: &impl GenericClient,
    holder: &Holder,
    lease: Duration,
) -> Result<Timestamp, Error> {
    let rows = client
        .query_typed(
            HEARTBEAT,
            &[
                (&holder.job_id.0, Type::UUID),
                (&holder.attempt, Type::INT4),
                (&holder.lease_token, Type::UUID),
                (&lease.as_secs_f64(), Type::FLOAT8),
            ],
        )
        .await?;
    Ok(rows.first().ok_or(Error::Stale)?.try_get(0)?)
}
