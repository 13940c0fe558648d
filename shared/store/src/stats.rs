//! The numbers behind the dashboard that are not the ledger's.

use crate::{Error, Statement};
use std::collections::BTreeMap;
use telemetry::db::GenericClient;
use tokio_postgres::types::Type;

/// Postings, and how far their checks are behind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PostingStats {
    /// Visible and hidden ones.
    pub by_status: BTreeMap<String, i64>,
    /// Live postings whose check is due.
    pub overdue_checks: i64,
    /// How long the most overdue check is due, in seconds; 0: none is.
    pub max_lag_s: f64,
}

/// Candidates, and how long the oldest waits for a person.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CandidateStats {
    /// In each state.
    pub by_state: BTreeMap<String, i64>,
    /// How long the oldest one in `needs_review` is there, in seconds; none waits: `None`.
    pub oldest_review_age_s: Option<f64>,
}

/// Reads the whole table: for a person, not for a loop.
const POSTINGS: &str = "
    SELECT status, count(*)
    FROM postings
    GROUP BY status";

/// The overdue end of the index on (next_check_at, posting_id) where is_live.
const CHECKS: &str = "
    SELECT count(*), coalesce(extract(epoch FROM now() - min(next_check_at)), 0)::double precision
    FROM posting_checks
    WHERE is_live AND next_check_at <= now()";

/// The index on (state, state_changed_at) alone.
const CANDIDATES: &str = "
    SELECT state, count(*)
    FROM posting_candidates
    GROUP BY state";

const OLDEST_REVIEW: &str = "
    SELECT extract(epoch FROM now() - min(state_changed_at))::double precision
    FROM posting_candidates
    WHERE state = 'needs_review'";

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "stats_postings", sql: POSTINGS, types: &[] },
    Statement { name: "stats_checks", sql: CHECKS, types: &[] },
    Statement { name: "stats_candidates", sql: CANDIDATES, types: &[] },
    Statement { name: "stats_oldest_review", sql: OLDEST_REVIEW, types: &[] },
];

const NONE: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] = &[];

/// # Errors
/// [`Error`].
pub async fn posting_stats(client: &impl GenericClient) -> Result<PostingStats, Error> {
    let counts = client.query_typed(POSTINGS, NONE).await?;
    let checks = client.query_typed(CHECKS, NONE).await?;
    let checks = checks.first().ok_or(Error::NotFound)?;
    Ok(PostingStats {
        by_status: counts.iter().map(|row| (row.get(0), row.get(1))).collect(),
        overdue_checks: checks.get(0),
        max_lag_s: checks.get(1),
    })
}

/// # Errors
/// [`Error`].
pub async fn candidate_stats(client: &impl GenericClient) -> Result<CandidateStats, Error> {
    let counts = client.query_typed(CANDIDATES, NONE).await?;
    let oldest = client.query_typed(OLDEST_REVIEW, NONE).await?;
    Ok(CandidateStats {
        by_state: counts.iter().map(|row| (row.get(0), row.get(1))).collect(),
        oldest_review_age_s: oldest.first().and_then(|row| row.get(0)),
    })
}
