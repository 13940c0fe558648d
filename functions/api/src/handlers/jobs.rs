//! Jobs and their kinds, for administrators (http-api.md §8).

use crate::app::App;
use crate::auth::human::{Human, HumanScope};
use crate::body::{JsonBody, OptionalJsonBody};
use crate::conditional::{check_if_match, version_tag, with_version};
use crate::cursor::Binding;
use crate::front::RequestContext;
use crate::handlers::modules::{ADMIN_LIMIT_DEFAULT, ADMIN_LIMIT_MAX, record};
use crate::idempotency::Idempotent;
use crate::json::{Errors, Reader};
use crate::params::Params;
use crate::path::{PathId, PathParts};
use crate::problem::Problem;
use crate::reply::Reply;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::ids::DiscoveryId;
use domain::state::{Actor, By, DiscoveryStatus, discovery_transition};
use http::header::ETAG;
use http::{HeaderMap, StatusCode, Uri};
use jiff::Timestamp;
use kinds::ingest::{EXTRACT, TARGET};
use kinds::settle::job_event_insert;
use ledger::{
    JobEventType, JobFilter, JobId, JobRecord, JobStatus, KindRow, KindSettings, Route, Transition,
    job_cancel, job_find, job_kind_put, job_kinds_list, job_retry_now, jobs_list,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::discovery_jobs::{discovery_status_set, discovery_work_lock};
use store::events::{NewEvent, event_insert, events_list_of};
use store::pipelined::Tx;
use tokio_postgres::Transaction;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

const REASON_CHARS_MAX: usize = 1_000;
/// Of one job, the newest first.
const EVENTS_MAX: i64 = 200;

/// A page of jobs.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobsOut {
    /// All columns but the tokens.
    #[schema(value_type = Vec<Object>)]
    items: Vec<JobRecord>,
    /// Where the list goes on; null at its end.
    next_cursor: Option<String>,
}

/// Which jobs.
#[derive(Debug, Serialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct JobsQuery {
    /// `queued`, `claimed`, `done`, `failed` or `dead_letter`.
    status: Option<String>,
    kind: Option<String>,
    target_type: Option<String>,
    target_id: Option<Uuid>,
    /// Enqueued at or after.
    since: Option<Timestamp>,
    /// 1 to 200, 50 by default.
    #[serde(skip)]
    limit: Option<i64>,
    #[serde(skip)]
    cursor: Option<String>,
}

impl JobsQuery {
    fn read(uri: &Uri) -> Result<(Self, JobFilter), Problem> {
        let mut params = Params::new(uri);
        let expected = "queued, claimed, done, failed or dead_letter";
        let status: Option<JobStatus> = params.parsed("status", |word| word.parse().ok(), expected);
        let query = Self {
            status: status.map(|status| status.as_str().to_owned()),
            kind: params.text("kind", 64),
            target_type: params.text("target_type", 64),
            target_id: params.id("target_id"),
            since: params.time("since"),
            limit: Some(params.limit(ADMIN_LIMIT_DEFAULT, ADMIN_LIMIT_MAX)),
            cursor: params.cursor(),
        };
        params.finish()?;
        let filter = JobFilter {
            status,
            kind: query.kind.clone(),
            target_type: query.target_type.clone(),
            target_id: query.target_id,
            since: query.since,
        };
        Ok((query, filter))
    }
}

/// Jobs wherever they are, the newest first.
#[utoipa::path(
    get, path = "/admin/jobs", tag = "administration", security(("token" = [])), params(JobsQuery),
    responses((status = 200, body = JobsOut))
)]
pub async fn list(State(app): State<App>, human: Human, uri: Uri) -> Result<Response, Problem> {
    human.require(HumanScope::AdminRead)?;
    let (query, filter) = JobsQuery::read(&uri)?;
    let binding = Binding::new("/admin/jobs", &query);
    let before: Option<JobId> = match &query.cursor {
        Some(cursor) => Some(app.cursors.open(&app.pool, app.now(), &binding, cursor).await?),
        None => None,
    };
    let limit = usize::try_from(query.limit.unwrap_or(ADMIN_LIMIT_DEFAULT)).unwrap_or(usize::MAX);
    let client = app.pool.get().await?;
    let mut items = jobs_list(&**client, &filter, before, limit + 1).await?;
    drop(client);
    let has_more = items.len() > limit;
    items.truncate(limit);
    let next_cursor = match items.last().filter(|_| has_more) {
        Some(last) => Some(app.cursors.seal(&app.pool, app.now(), &binding, last.id).await?),
        None => None,
    };
    Ok(Json(JobsOut { items, next_cursor }).into_response())
}

/// An event of a job.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobEventOut {
    id: i64,
    /// `retry_scheduled`, `lease_requeued`, `failed`, `dead_lettered`, `cancelled` or `requeued`.
    event_type: String,
    actor_type: String,
    actor_id: String,
    request_id: Option<String>,
    #[schema(value_type = Object)]
    payload: Value,
    created_at: Timestamp,
}

/// A job, what happened to it, and the trace that it belongs to.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobOut {
    /// All columns but the tokens.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    job: JobRecord,
    /// What was not routine, the newest first.
    events: Vec<JobEventOut>,
    /// 32 hex digits.
    trace_id: Option<String>,
}

/// One job.
#[utoipa::path(
    get, path = "/admin/jobs/{id}", tag = "administration", security(("token" = [])),
    params(("id" = Uuid, Path)), responses((status = 200, body = JobOut))
)]
pub async fn get(State(app): State<App>, human: Human, PathId(id): PathId) -> Result<Response, Problem> {
    human.require(HumanScope::AdminRead)?;
    let client = app.pool.get().await?;
    let job = job_find(&**client, JobId(id)).await?.ok_or_else(Problem::not_found)?;
    let events = events_list_of(&**client, "job", &id.to_string(), EVENTS_MAX).await?;
    let trace = job.trace_context.as_deref().and_then(telemetry::TraceContext::from_carrier);
    let version = job.version;
    let out = JobOut {
        job,
        events: events
            .into_iter()
            .map(|event| JobEventOut {
                id: event.id,
                event_type: event.event_type,
                actor_type: event.actor_type,
                actor_id: event.actor_id,
                request_id: event.request_id,
                payload: event.payload,
                created_at: event.created_at,
            })
            .collect(),
        trace_id: trace.map(|trace| trace.trace_id().to_string()),
    };
    Ok(with_version(Json(out).into_response(), version))
}

/// Runs a job as soon as may be: a queued one is due now, a failed or dead one is requeued.
#[utoipa::path(
    post, path = "/admin/jobs/{id}/retry", tag = "administration", security(("token" = [])),
    params(("id" = Uuid, Path)), responses((status = 200, body = Object))
)]
pub async fn retry(
    State(app): State<App>,
    context: RequestContext,
    human: Human,
    PathId(id): PathId,
    headers: HeaderMap,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<Response, Problem> {
    human.require(HumanScope::AdminWrite)?;
    let idempotent = Idempotent::read(&headers, human.principal(), &context.path, body.digest)?;
    let mut errors = Errors::default();
    let empty = Reader::new(&body.value, "", &mut errors).map(Reader::finish);
    errors.check(empty)?;
    let action = Action { app: &app, context: &context, human: &human, headers: &headers, id: JobId(id) };
    let (reply, wake) = transact!(app, |tx| {
        if let Some(known) = idempotent.begin(&*tx).await? {
            return Ok((known, None));
        }
        action.check(tx).await?;
        let transition = job_retry_now(&*tx, action.id).await?;
        let reply = action.end(tx, &transition).await?;
        idempotent.store(&*tx, &reply).await?;
        Ok((reply, transition.wake))
    })?;
    app.wake.wake(wake.as_slice()).await;
    Ok(reply.into_response())
}

/// Why a job is cancelled.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "the document's shape; the members are read one by one, to tell every error")]
pub struct CancelIn {
    /// ≤ 1,000 characters.
    reason: String,
}

/// Ends a queued job as failed.
#[utoipa::path(
    post, path = "/admin/jobs/{id}/cancel", tag = "administration", security(("token" = [])),
    params(("id" = Uuid, Path)), request_body = CancelIn, responses((status = 200, body = Object))
)]
pub async fn cancel(
    State(app): State<App>,
    context: RequestContext,
    human: Human,
    PathId(id): PathId,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    human.require(HumanScope::AdminWrite)?;
    let idempotent = Idempotent::read(&headers, human.principal(), &context.path, body.digest)?;
    let mut errors = Errors::default();
    let reason = Reader::new(&body.value, "", &mut errors).and_then(|mut reader| {
        let reason = reader.required_text("reason", 1, REASON_CHARS_MAX);
        reader.finish();
        reason
    });
    let reason = errors.check(reason)?;
    let action = Action { app: &app, context: &context, human: &human, headers: &headers, id: JobId(id) };
    let reply: Reply = transact!(app, |tx| {
        if let Some(known) = idempotent.begin(&*tx).await? {
            return Ok(known);
        }
        action.check(tx).await?;
        let transition = job_cancel(&*tx, action.id, &reason).await?;
        let reply = action.end(tx, &transition).await?;
        idempotent.store(&*tx, &reply).await?;
        Ok(reply)
    })?;
    Ok(reply.into_response())
}

/// What a person does to a job.
struct Action<'a> {
    app: &'a App,
    context: &'a RequestContext,
    human: &'a Human,
    headers: &'a HeaderMap,
    id: JobId,
}

impl Action<'_> {
    async fn check(&self, tx: &Transaction<'_>) -> Result<(), Problem> {
        let job = job_find(tx, self.id).await?.ok_or_else(Problem::not_found)?;
        check_if_match(self.headers, job.version)
    }

    /// What the transition owes in its transaction, and the answer.
    async fn end(&self, tx: &Transaction<'_>, transition: &Transition) -> Result<Reply, Problem> {
        settle(self.app, self.context, self.human, tx, transition).await?;
        let job = job_find(tx, self.id).await?.ok_or_else(Problem::not_found)?;
        let tag = version_tag(job.version);
        Ok(Reply::json(StatusCode::OK, &job)?.with_header(&ETAG, tag))
    }
}

/// What a transition that a person caused owes in its transaction: the job's event, the kind's terminal effect, and
/// what a requeue means for its target.
///
/// # Errors
/// What [`Problem`] makes of the database's.
pub async fn settle(
    app: &App,
    context: &RequestContext,
    human: &Human,
    tx: &Transaction<'_>,
    transition: &Transition,
) -> Result<(), Problem> {
    let actor = human.actor();
    if let Some(event) = &transition.event {
        job_event_insert(tx, event, &actor, Some(&context.request_id)).await?;
        if event.event_type == JobEventType::Requeued {
            reopen_discovery(context, &actor, tx, transition).await?;
        }
    }
    if let Some(terminal) = &transition.terminal
        // A kind that this release does not know has no effects either.
        && let Some(kind) = app.kinds.get(&terminal.kind)
    {
        kind.on_terminal(&Tx::from(tx), terminal).await?;
    }
    transition.count();
    Ok(())
}

/// The requeue of a failed discovery's job brings the discovery back to `received` (domain.md §4).
async fn reopen_discovery(
    context: &RequestContext,
    actor: &Actor,
    tx: &Transaction<'_>,
    transition: &Transition,
) -> Result<(), Problem> {
    if transition.kind != EXTRACT || transition.target_type != TARGET {
        return Ok(());
    }
    let id = DiscoveryId(transition.target_id);
    let Some(discovery) = discovery_work_lock(tx, id).await? else { return Ok(()) };
    let to = DiscoveryStatus::Received;
    if discovery.status == to || discovery_transition(discovery.status, to, By::Moderator).is_err() {
        return Ok(());
    }
    discovery_status_set(tx, id, to, None).await?;
    let trace_id = context.trace.trace_id().to_string();
    let event = NewEvent {
        entity_type: "discovery",
        entity_id: id.to_string(),
        event_type: "status_changed",
        actor,
        request_id: Some(&context.request_id),
        trace_id: Some(&trace_id),
        payload: json!({"from": discovery.status, "to": to, "reason": "requeued"}),
    };
    event_insert(tx, &[event]).await?;
    Ok(())
}

/// What is in force for a kind of job.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "the document's shape; the members are read one by one, to tell every error")]
pub struct JobKindIn {
    /// `internal` or `external`.
    route: String,
    /// `false` stops claims; running attempts go on.
    enabled: bool,
    /// 1 to 20.
    max_failures: i32,
    /// 10 to 900.
    lease_seconds: i32,
    /// 1 to 3,600.
    base_seconds: i32,
    /// 1 to 86,400.
    cap_seconds: i32,
}

/// The kinds of jobs.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobKindsOut {
    /// By kind. `version` 0: the release's constants are in force.
    #[schema(value_type = Vec<Object>)]
    items: Vec<KindRow>,
    /// Always null: there are a dozen.
    next_cursor: Option<String>,
}

/// The kinds of jobs, as they are in force.
#[utoipa::path(
    get, path = "/admin/job-kinds", tag = "administration", security(("token" = [])),
    responses((status = 200, body = JobKindsOut))
)]
pub async fn kinds_list(State(app): State<App>, human: Human) -> Result<Response, Problem> {
    human.require(HumanScope::AdminRead)?;
    let client = app.pool.get().await?;
    let items = job_kinds_list(&**client, app.kinds.registry()).await?;
    Ok(Json(JobKindsOut { items, next_cursor: None }).into_response())
}

/// Sets what is in force for a kind of job.
#[utoipa::path(
    put, path = "/admin/job-kinds/{kind}", tag = "administration", security(("token" = [])),
    params(("kind" = String, Path)), request_body = JobKindIn, responses((status = 200, body = Object))
)]
pub async fn kind_put(
    State(app): State<App>,
    context: RequestContext,
    human: Human,
    PathParts(kind): PathParts<String>,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    human.require(HumanScope::AdminWrite)?;
    let mut errors = Errors::default();
    let settings = Reader::new(&body.value, "", &mut errors).and_then(read_settings);
    let settings = errors.check(settings)?;
    let registry = app.kinds.registry();
    let after = transact!(app, |tx| {
        let before = job_kinds_list(&*tx, registry).await?.into_iter().find(|row| row.kind == kind);
        let before = before.ok_or_else(Problem::not_found)?;
        check_if_match(&headers, before.version)?;
        let after = job_kind_put(&*tx, registry, &kind, &settings).await?;
        record(&*tx, &context, &human, "job_kinds", &kind, json!(before.settings), json!(after.settings))
            .await?;
        Ok(after)
    })?;
    let version = after.version;
    Ok(with_version(Json(after).into_response(), version))
}

fn read_settings(mut reader: Reader<'_, '_>) -> Option<KindSettings> {
    for name in ["route", "enabled", "max_failures", "lease_seconds", "base_seconds", "cap_seconds"] {
        reader.require(name);
    }
    let route: Option<Route> = reader.word("route", |word| word.parse().ok(), &["internal", "external"]);
    let enabled = reader.bool("enabled");
    let mut number =
        |name, min, max| reader.integer(name, min, max).and_then(|number| i32::try_from(number).ok());
    let max_failures = number("max_failures", 1, 20);
    let lease_seconds = number("lease_seconds", 10, 900);
    let base_seconds = number("base_seconds", 1, 3_600);
    let cap_seconds = number("cap_seconds", 1, 86_400);
    reader.finish();
    Some(KindSettings {
        route: route?,
        enabled: enabled?,
        max_failures: max_failures?,
        lease_seconds: lease_seconds?,
        base_seconds: base_seconds?,
        cap_seconds: cap_seconds?,
    })
}
