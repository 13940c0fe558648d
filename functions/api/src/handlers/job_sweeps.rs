//! What an administrator does to many jobs at once (http-api.md §8). The sweep reaps by itself; a person may hurry it.

use crate::app::App;
use crate::auth::human::{Human, HumanScope};
use crate::body::OptionalJsonBody;
use crate::front::RequestContext;
use crate::handlers::jobs::settle;
use crate::idempotency::Idempotent;
use crate::json::{Errors, Reader};
use crate::problem::Problem;
use crate::reply::Reply;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use ledger::{DeadFilter, JobId, JobStatus, jobs_reap, jobs_requeue_dead};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

const LIMIT_DEFAULT: i64 = 100;
const LIMIT_MAX: i64 = 1_000;
const WORD_CHARS_MAX: usize = 64;

/// Which dead letters.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "the document's shape; the members are read one by one, to tell every error")]
pub struct RequeueIn {
    /// Of that kind.
    kind: Option<String>,
    /// Ended with that code.
    error_code: Option<String>,
    /// Ended before.
    before: Option<Timestamp>,
    /// 1 to 1,000, 100 by default.
    limit: Option<i64>,
}

/// How many came back.
#[derive(Debug, Serialize, ToSchema)]
pub struct RequeuedOut {
    /// Queued again.
    requeued: usize,
    /// Left alone, because their target has a pending job.
    skipped: usize,
}

/// Brings dead letters back.
#[utoipa::path(
    post, path = "/admin/jobs/requeue-dead-letters", tag = "administration", security(("token" = [])),
    request_body = RequeueIn, responses((status = 200, body = RequeuedOut))
)]
pub async fn requeue_dead_letters(
    State(app): State<App>,
    context: RequestContext,
    human: Human,
    headers: HeaderMap,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<Response, Problem> {
    human.require(HumanScope::AdminWrite)?;
    let idempotent = Idempotent::read(&headers, human.principal(), &context.path, body.digest)?;
    let mut errors = Errors::default();
    let read = Reader::new(&body.value, "", &mut errors).map(|mut reader| {
        let filter = DeadFilter {
            kind: reader.text("kind", 1, WORD_CHARS_MAX),
            error_code: reader.text("error_code", 1, WORD_CHARS_MAX),
            before: reader.time("before"),
        };
        let limit = reader.integer("limit", 1, LIMIT_MAX).unwrap_or(LIMIT_DEFAULT);
        reader.finish();
        (filter, limit)
    });
    let (filter, limit) = errors.check(read)?;
    let (reply, wake): (Reply, Vec<JobId>) = transact!(app, |tx| {
        if let Some(known) = idempotent.begin(&*tx).await? {
            return Ok((known, Vec::new()));
        }
        let done = jobs_requeue_dead(&*tx, &filter, limit).await?;
        for transition in &done.requeued {
            settle(&app, &context, &human, tx, transition).await?;
        }
        let out = RequeuedOut { requeued: done.requeued.len(), skipped: done.skipped.len() };
        let reply = Reply::json(StatusCode::OK, &out)?;
        idempotent.store(&*tx, &reply).await?;
        Ok((reply, done.requeued.iter().filter_map(|transition| transition.wake).collect()))
    })?;
    app.wake.wake(&wake).await;
    Ok(reply.into_response())
}

/// How many at most.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "the document's shape; the members are read one by one, to tell every error")]
pub struct ReapIn {
    /// 1 to 1,000, 100 by default.
    limit: Option<i64>,
}

/// How many were taken back.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReapedOut {
    /// All of them.
    count: usize,
    /// Those whose budget is spent.
    dead_lettered: usize,
}

/// Takes back the jobs whose lease is over.
#[utoipa::path(
    post, path = "/admin/jobs/reap-expired", tag = "administration", security(("token" = [])),
    request_body = ReapIn, responses((status = 200, body = ReapedOut))
)]
pub async fn reap_expired(
    State(app): State<App>,
    context: RequestContext,
    human: Human,
    headers: HeaderMap,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<Response, Problem> {
    human.require(HumanScope::AdminWrite)?;
    let idempotent = Idempotent::read(&headers, human.principal(), &context.path, body.digest)?;
    let mut errors = Errors::default();
    let limit = Reader::new(&body.value, "", &mut errors).map(|mut reader| {
        let limit = reader.integer("limit", 1, LIMIT_MAX).unwrap_or(LIMIT_DEFAULT);
        reader.finish();
        limit
    });
    let limit = errors.check(limit)?;
    let (reply, wake): (Reply, Vec<JobId>) = transact!(app, |tx| {
        if let Some(known) = idempotent.begin(&*tx).await? {
            return Ok((known, Vec::new()));
        }
        let reaped = jobs_reap(&*tx, app.kinds.registry(), limit, rand::random::<f64>).await?;
        for transition in &reaped {
            settle(&app, &context, &human, tx, transition).await?;
        }
        let dead_lettered = reaped.iter().filter(|job| job.status == JobStatus::DeadLetter).count();
        let reply = Reply::json(StatusCode::OK, &ReapedOut { count: reaped.len(), dead_lettered })?;
        idempotent.store(&*tx, &reply).await?;
        Ok((reply, reaped.iter().filter_map(|transition| transition.wake).collect()))
    })?;
    app.wake.wake(&wake).await;
    Ok(reply.into_response())
}
