//! How full the ledger is, for the sweep's gauges.

use crate::Statement;
use crate::error::Error;
use crate::policy::PRIORITIES;
use telemetry::db::GenericClient;
use telemetry::label::JobState;
use tokio_postgres::types::Type;

/// Rows of one state that are counted: beyond it the gauge says "at least so many", and the reading stays short.
const COUNTED_MAX: i64 = 100_000;

/// Reads at most `$1` rows of each state: queued and claimed ones from the table, ended ones from `job_dead`.
const COUNT_STATES: &str = "\
SELECT s.status, (SELECT count(*) FROM (SELECT FROM jobs AS j WHERE j.status = s.status LIMIT $1) AS found)
FROM unnest(ARRAY['queued', 'claimed']) AS s(status)
UNION ALL
SELECT s.status, (SELECT count(*) FROM (SELECT FROM job_dead AS d WHERE d.status = s.status LIMIT $1) AS found)
FROM unnest(ARRAY['failed', 'dead_letter']) AS s(status)";

pub(crate) const STATEMENTS: &[Statement] =
    &[Statement { name: "jobs_observe", sql: COUNT_STATES, types: &[Type::INT8] }];

/// The ledger at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// Jobs in each state that is counted, at most 100,000 of each.
    pub jobs: Vec<(JobState, i64)>,
    /// How long the oldest ready job of an enabled kind has been ready, in seconds; `None`: nothing is ready.
    pub oldest_ready_age_s: Option<f64>,
}

/// Looks at the ledger: two round trips.
///
/// # Errors
/// The database's.
pub async fn jobs_observe(client: &impl GenericClient) -> Result<Observed, Error> {
    let mut jobs = Vec::new();
    for row in &client.query_typed(COUNT_STATES, &[(&COUNTED_MAX, Type::INT8)]).await? {
        let (status, count): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        if let Some(state) = JobState::parse(&status) {
            jobs.push((state, count));
        }
    }
    let priorities = PRIORITIES.as_slice();
    let oldest = client.query_typed(crate::read::OLDEST_READY, &[(&priorities, Type::INT2_ARRAY)]).await?;
    let oldest_ready_age_s = oldest.first().map(|row| row.try_get(0)).transpose()?.flatten();
    Ok(Observed { jobs, oldest_ready_age_s })
}
