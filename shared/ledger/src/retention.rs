//! What makes room: partitions ahead and behind, and the dead of half a year ago.

use crate::Statement;
use crate::error::Error;
use crate::read::id_floor;
use jiff::{SignedDuration, Timestamp};
use telemetry::db::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// A table that is partitioned by month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionedTable {
    /// Done jobs, kept 30 days.
    JobArchive,
    /// Sightings of discoveries, kept 400 days.
    Sightings,
}

impl PartitionedTable {
    /// Both.
    pub const ALL: [Self; 2] = [Self::JobArchive, Self::Sightings];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JobArchive => "job_archive",
            Self::Sightings => "sightings",
        }
    }
}

/// Dead jobs are kept this long.
pub const DEAD_KEPT: SignedDuration = SignedDuration::from_hours(180 * 24);
/// A requeue keeps a job's id, and clocks differ: how much older than its end a job's id may be taken to be.
const ID_SLACK: SignedDuration = SignedDuration::from_hours(1);

/// A security definer function: the functions' role owns no table.
const ENSURE: &str = "\
SELECT partition
FROM partition_ensure($1) AS partition";

const DROP: &str = "\
SELECT partition
FROM partition_drop($1) AS partition";

/// By the primary key: who ended before the limit was also made before it. Materialized, or a nested loop would look for as
/// many others again and again.
const PURGE: &str = "\
WITH old AS MATERIALIZED (
    SELECT o.id
    FROM job_dead AS o
    WHERE o.id < $1
        AND o.finished_at < $2
    ORDER BY o.id
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)
DELETE FROM job_dead AS d
USING old
WHERE d.id = old.id";

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "partitions_ensure", sql: ENSURE, types: &[Type::TEXT] },
    Statement { name: "partitions_drop", sql: DROP, types: &[Type::TEXT] },
    Statement { name: "dead_jobs_purge", sql: PURGE, types: &[Type::UUID, Type::TIMESTAMPTZ, Type::INT8] },
];

/// Makes the partitions of this month and the next three; names those that were missing.
///
/// # Errors
/// The database's; [`Error::Collision`] if the table was too busy for the short lock: the next sweep tries again.
pub async fn partitions_ensure(
    client: &impl GenericClient,
    table: PartitionedTable,
) -> Result<Vec<String>, Error> {
    names(&client.query_typed(ENSURE, &[(&table.as_str(), Type::TEXT)]).await?)
}

/// Drops the partitions whose every row is past its retention; names them.
///
/// # Errors
/// As [`partitions_ensure`].
pub async fn partitions_drop(
    client: &impl GenericClient,
    table: PartitionedTable,
) -> Result<Vec<String>, Error> {
    names(&client.query_typed(DROP, &[(&table.as_str(), Type::TEXT)]).await?)
}

/// Deletes up to `limit` failed and dead jobs that ended more than [`DEAD_KEPT`] before `now`; answers how many.
///
/// # Errors
/// The database's.
pub async fn dead_jobs_purge(client: &impl GenericClient, now: Timestamp, limit: i64) -> Result<u64, Error> {
    let before = now.checked_sub(DEAD_KEPT).unwrap_or(Timestamp::UNIX_EPOCH);
    let floor = id_floor(before.checked_add(ID_SLACK).unwrap_or(before));
    let deleted = client
        .execute_typed(PURGE, &[(&floor, Type::UUID), (&before, Type::TIMESTAMPTZ), (&limit, Type::INT8)])
        .await?;
    Ok(deleted)
}

fn names(rows: &[Row]) -> Result<Vec<String>, Error> {
    rows.iter().map(|row| row.try_get(0).map_err(Error::from)).collect()
}
