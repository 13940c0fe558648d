//! The numbers behind the dashboard (http-api.md §2).

use crate::app::App;
use crate::auth::human::{Human, HumanScope};
use crate::problem::Problem;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use ledger::{JobStats, job_stats};
use serde::Serialize;
use std::collections::BTreeMap;
use store::discoveries::discoveries_ingested_24h;
use store::stats::{candidate_stats, posting_stats};
use utoipa::ToSchema;

/// Postings, and how far their checks are behind.
#[derive(Debug, Serialize, ToSchema)]
pub struct PostingStatsOut {
    by_status: BTreeMap<String, i64>,
    /// Live postings whose check is due.
    overdue_checks: i64,
    /// How long the most overdue check is due.
    max_lag_s: f64,
}

/// Candidates, and how long the oldest waits for a person.
#[derive(Debug, Serialize, ToSchema)]
pub struct CandidateStatsOut {
    by_state: BTreeMap<String, i64>,
    /// Null: none waits.
    oldest_review_age_s: Option<f64>,
}

/// `GET /admin/stats`
#[derive(Debug, Serialize, ToSchema)]
pub struct StatsOut {
    /// `by_status`, `by_kind`, `oldest_ready_age_s`.
    #[schema(value_type = Object)]
    jobs: JobStats,
    postings: PostingStatsOut,
    candidates: CandidateStatsOut,
    /// Accepted discoveries of the last 24 hours.
    ingest_24h: i64,
}

/// The numbers behind the dashboard.
#[utoipa::path(
    get, path = "/admin/stats", tag = "administration", security(("token" = [])),
    responses((status = 200, body = StatsOut))
)]
pub async fn stats(State(app): State<App>, human: Human) -> Result<Response, Problem> {
    human.require(HumanScope::AdminRead)?;
    let client = app.pool.get().await?;
    let jobs = job_stats(&**client).await?;
    let postings = posting_stats(&**client).await?;
    let candidates = candidate_stats(&**client).await?;
    let ingest_24h = discoveries_ingested_24h(&**client).await?;
    let out = StatsOut {
        jobs,
        postings: PostingStatsOut {
            by_status: postings.by_status,
            overdue_checks: postings.overdue_checks,
            max_lag_s: postings.max_lag_s,
        },
        candidates: CandidateStatsOut {
            by_state: candidates.by_state,
            oldest_review_age_s: candidates.oldest_review_age_s,
        },
        ingest_24h,
    };
    Ok(Json(out).into_response())
}
