//! Discoveries (http-api.md §4).

use crate::app::App;
use crate::auth::Caller;
use crate::auth::human::HumanScope;
use crate::auth::machine::Machine;
use crate::body::{BatchBody, JsonBody};
use crate::front::RequestContext;
use crate::handlers::evidence;
use crate::idempotency::Idempotent;
use crate::ingest::SCOPE;
use crate::ingest::read::{Submitted, read};
use crate::ingest::write::{
    Failure, Item, Origin, Outcome, Request, Written, check_quota, measure, write, write_at_once,
};
use crate::json::{Errors, Reader, hex};
use crate::path::PathId;
use crate::problem::{Problem, RATE_LIMITED};
use crate::reply::Reply;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::ids::{CandidateId, DiscoveryId, EvidenceId, PostingId};
use domain::state::DiscoveryStatus;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::candidates::candidate_of_discovery;
use store::discoveries::{Discovery, discovery_find, discovery_sightings_count};
use store::evidence::{Evidence, NewEvidence, PER_DISCOVERY_MAX, evidence_list_of};
use store::ingest_counters::{Counts, ingest_counters_add};
use telemetry::label::IngestOutcome;
use tokio_postgres::Transaction;
use utoipa::ToSchema;
use uuid::Uuid;

/// Of one request.
const BATCH_MAX: usize = 100;

/// A discovery as a connector hands it in.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "the document's shape; the members are read one by one, to tell every error")]
pub struct DiscoveryIn {
    /// The module that sends the request.
    origin_module_id: String,
    /// Absolute, http or https, 1 to 2,048 characters.
    url: String,
    /// At most 5 minutes ahead, at most 400 days ago.
    discovered_at: Timestamp,
    /// The module's own id for it, 1 to 256 characters: a repeat has the same.
    external_id: Option<String>,
    /// ≤ 300 characters.
    title_hint: Option<String>,
    /// ≤ 200 characters.
    organization_hint: Option<String>,
    /// ≤ 50,000 characters.
    text_hint: Option<String>,
    /// Any of a posting's fields, with their limits; `extra` is free-form.
    #[schema(value_type = Option<Object>)]
    hints: Option<Value>,
    /// ≤ 50 ids of the module's own, unattached evidence.
    evidence_refs: Option<Vec<Uuid>>,
    /// ≤ 16 KiB; read: `source_key`, `resolve_redirects`.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

/// A job that a discovery led to.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobRefOut {
    /// Its id.
    id: Uuid,
    /// Its kind.
    kind: String,
}

/// What became of a discovery. Its values are those that are stored.
#[derive(Debug, Serialize, ToSchema)]
pub struct AcceptedOut {
    /// The stored discovery.
    discovery_id: Uuid,
    /// `accepted`, or `resighted` if it was known.
    outcome: &'static str,
    /// In normal form, as it was first submitted.
    normalized_url: String,
    /// SHA-256 of the normal form, in hex.
    canonical_hash: String,
    /// `received`, `extracted`, `unusable`, `failed` or `withdrawn`.
    status: &'static str,
    /// What this request led to.
    jobs: Vec<JobRefOut>,
}

impl From<&Written> for AcceptedOut {
    fn from(written: &Written) -> Self {
        Self {
            discovery_id: written.discovery_id.0,
            outcome: if written.is_new { "accepted" } else { "resighted" },
            normalized_url: written.normalized_url.clone(),
            canonical_hash: hex(&written.canonical_hash),
            status: written.status.as_str(),
            jobs: written.jobs.iter().map(|(id, kind)| JobRefOut { id: id.0, kind: kind.clone() }).collect(),
        }
    }
}

/// Hands in a discovery. A repeat is recorded as a sighting, and never makes a second discovery.
#[utoipa::path(
    post, path = "/discoveries", tag = "ingest", security(("module_id" = [], "module_key" = [])),
    request_body = DiscoveryIn, responses((status = 202, body = AcceptedOut))
)]
pub async fn create(
    State(app): State<App>,
    context: RequestContext,
    machine: Machine,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    machine.require(SCOPE)?;
    let idempotent = Idempotent::read(&headers, machine.principal(), &context.path, body.digest)?;
    let answer = create_one(&app, &context, &machine, &idempotent, &body).await;
    let (reply, wake, discovery_id) = match answer {
        Ok(answer) => answer,
        Err(problem) => {
            count_rejected(&app, &machine, 1, &problem).await;
            return Err(problem);
        }
    };
    if let Some(discovery_id) = discovery_id {
        tracing::info!(%discovery_id, "discovery accepted");
    }
    app.wake.wake(&wake).await;
    Ok(reply.into_response())
}

async fn create_one(
    app: &App,
    context: &RequestContext,
    machine: &Machine,
    idempotent: &Idempotent,
    body: &JsonBody,
) -> Result<(Reply, Vec<ledger::JobId>, Option<DiscoveryId>), Problem> {
    let now = app.now();
    let rules = app.url_rules.get(&app.pool, now).await?;
    let submitted = read(&body.value, "", machine, &rules, now)?;
    let items = [Item { submitted, evidence: Vec::new() }];
    let origin = Origin { app, machine, context };
    match write_at_once(&origin, idempotent, &items, &One).await {
        Ok((reply, outcome)) => {
            let discovery_id =
                outcome.results.first().and_then(|result| result.as_ref().ok()).map(|one| one.discovery_id);
            Ok((reply, outcome.wake, discovery_id))
        }
        Err(Failure::Request(problem) | Failure::Set(problem)) => Err(problem),
    }
}

/// The request of one discovery: if it is refused, nothing is written.
struct One;

impl Request for One {
    fn count(&self, verdicts: &[Result<bool, Problem>]) -> Result<(Counts, Option<&'static str>), Problem> {
        let verdict = verdicts.first().ok_or_else(|| Problem::internal(&"nothing was looked up"))?;
        let is_new = *verdict.as_ref().map_err(Problem::clone)?;
        let counts =
            Counts { accepted: i32::from(is_new), resighted: i32::from(!is_new), ..Counts::default() };
        Ok((counts, None))
    }

    fn answer(&self, results: &[Result<Written, Problem>]) -> Result<Reply, Problem> {
        let written = results.first().ok_or_else(|| Problem::internal(&"nothing was written"))?;
        let written = written.as_ref().map_err(Problem::clone)?;
        Reply::json(StatusCode::ACCEPTED, &AcceptedOut::from(written))
    }
}

/// Notes refusals for the administrator. Only what the module did wrong counts, and nothing depends on it.
async fn count_rejected(app: &App, machine: &Machine, rejected: i32, problem: &Problem) {
    let kind = problem.kind();
    if kind.status >= 500 || kind.status == 409 {
        return;
    }
    let noted = async {
        let client = app.pool.get().await?;
        // What is refused for the quota is no discovery; it is noted as an error alone.
        let rejected = if kind == RATE_LIMITED { 0 } else { rejected };
        telemetry::metric::DISCOVERIES.add(u64::try_from(rejected).unwrap_or(0), IngestOutcome::Refused);
        let counts = Counts { rejected, ..Counts::default() };
        ingest_counters_add(&**client, machine.db_id(), counts, Some(kind.slug)).await
    };
    if let Err(error) = noted.await {
        tracing::warn!(%error, module_id = machine.module_id(), "a refused discovery was not counted");
    }
}

/// One item of a batch: a discovery, or a discovery with its evidence.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "the document's shape")]
pub enum BatchItemIn {
    /// With evidence of it, `discovery_id` left out.
    WithEvidence {
        /// The discovery.
        discovery: Box<DiscoveryIn>,
        /// Its evidence, at most 50.
        evidence: Vec<evidence::EvidenceIn>,
    },
    /// By itself.
    Discovery(Box<DiscoveryIn>),
}

/// Several discoveries.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "the document's shape")]
pub struct DiscoveryBatchIn {
    /// 1 to 100.
    items: Vec<BatchItemIn>,
}

/// What became of one item: `body` or `problem`.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchResultOut {
    /// Its place in the request.
    pub index: usize,
    /// The status that it would have had by itself.
    pub status: u16,
    /// The answer that it would have had by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub body: Option<Value>,
    /// The problem that it would have had by itself; pointers lead into the batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub problem: Option<Value>,
}

impl BatchResultOut {
    /// Of an item's answer.
    ///
    /// # Errors
    /// `internal` if the answer cannot be written as JSON: a bug.
    pub fn of(
        index: usize,
        success: u16,
        result: Result<impl Serialize, Problem>,
        context: &RequestContext,
    ) -> Result<Self, Problem> {
        Ok(match result {
            Ok(body) => {
                let body = serde_json::to_value(body).map_err(|error| Problem::internal(&error))?;
                Self { index, status: success, body: Some(body), problem: None }
            }
            Err(problem) => Self {
                index,
                status: problem.kind().status,
                body: None,
                problem: Some(problem.to_json(&context.path, &context.request_id)),
            },
        })
    }
}

/// The results of a batch, in the order of its items.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchOut {
    /// One for each item.
    pub results: Vec<BatchResultOut>,
}

/// Hands in 1 to 100 discoveries. Each stands by itself: one that is refused does not touch the others.
#[utoipa::path(
    post, path = "/discoveries/batch", tag = "ingest", security(("module_id" = [], "module_key" = [])),
    request_body = DiscoveryBatchIn, responses((status = 200, body = BatchOut))
)]
pub async fn create_batch(
    State(app): State<App>,
    context: RequestContext,
    machine: Machine,
    headers: HeaderMap,
    body: BatchBody,
) -> Result<Response, Problem> {
    machine.require(SCOPE)?;
    let idempotent = Idempotent::read(&headers, machine.principal(), &context.path, body.digest)?;
    let values = read_batch(&body.value, BATCH_MAX)?;
    let now = app.now();
    let rules = app.url_rules.get(&app.pool, now).await?;
    let read_all: Vec<Result<Item, Problem>> = values
        .iter()
        .enumerate()
        .map(|(index, value)| {
            let pointer = format!("/items/{index}");
            read_item(value, &pointer, &machine, |value, pointer| read(value, pointer, &machine, &rules, now))
        })
        .collect();
    let origin = Origin { app: &app, machine: &machine, context: &context };
    let items: Vec<Item> = read_all.iter().filter_map(|item| item.as_ref().ok().cloned()).collect();
    let request = Many { read: &read_all, context: &context };
    let (reply, wake) = match write_at_once(&origin, &idempotent, &items, &request).await {
        Ok((reply, outcome)) => (reply, outcome.wake),
        Err(Failure::Request(problem)) => return Err(problem),
        Err(Failure::Set(problem)) => {
            tracing::warn!(%problem, "a batch is written item by item");
            write_one_by_one(&origin, &idempotent, &items, &request).await?
        }
    };
    app.wake.wake(&wake).await;
    Ok(reply.into_response())
}

/// The request of several discoveries: what is refused does not touch the others.
struct Many<'a> {
    /// Each item as it was read.
    read: &'a [Result<Item, Problem>],
    context: &'a RequestContext,
}

impl Many<'_> {
    /// Puts what became of those that could be read at their places among those that could not.
    fn all<T: Clone>(&self, results: &[Result<T, Problem>]) -> Vec<Result<T, Problem>> {
        let mut results = results.iter().cloned();
        let missing = || Err(Problem::internal(&"an item has no result"));
        self.read
            .iter()
            .map(|item| match item {
                Err(problem) => Err(problem.clone()),
                Ok(_) => results.next().unwrap_or_else(missing),
            })
            .collect()
    }
}

impl Request for Many<'_> {
    fn count(&self, verdicts: &[Result<bool, Problem>]) -> Result<(Counts, Option<&'static str>), Problem> {
        let mut counts = Counts::default();
        let mut last_error = None;
        for verdict in self.all(verdicts) {
            match verdict {
                Ok(true) => counts.accepted += 1,
                Ok(false) => counts.resighted += 1,
                Err(problem) => {
                    counts.rejected += 1;
                    last_error = Some(problem.kind().slug);
                }
            }
        }
        Ok((counts, last_error))
    }

    fn answer(&self, results: &[Result<Written, Problem>]) -> Result<Reply, Problem> {
        let results = self
            .all(results)
            .into_iter()
            .enumerate()
            .map(|(index, result)| {
                let body = result.map(|written| BatchBodyOut::from(&written));
                BatchResultOut::of(index, StatusCode::ACCEPTED.as_u16(), body, self.context)
            })
            .collect::<Result<_, _>>()?;
        Reply::json(StatusCode::OK, &BatchOut { results })
    }
}

/// As [`AcceptedOut`], with the evidence that came along.
#[derive(Debug, Serialize)]
struct BatchBodyOut {
    #[serde(flatten)]
    discovery: AcceptedOut,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    evidence: Vec<EvidenceId>,
}

impl From<&Written> for BatchBodyOut {
    fn from(written: &Written) -> Self {
        Self { discovery: written.into(), evidence: written.evidence.clone() }
    }
}

/// The items of a batch.
///
/// # Errors
/// `validation` if there are none, or more than `max`, or members beside them.
pub fn read_batch(value: &Value, max: usize) -> Result<&[Value], Problem> {
    let mut errors = Errors::default();
    let items = Reader::new(value, "", &mut errors).and_then(|mut reader| {
        reader.require("items");
        let items = reader.array("items", max);
        if items.is_some_and(<[Value]>::is_empty) {
            reader.error("items", "length", format!("This must have 1 to {max} items."));
        }
        reader.finish();
        items
    });
    errors.check(items)
}

fn read_item(
    value: &Value,
    pointer: &str,
    machine: &Machine,
    read_discovery: impl Fn(&Value, &str) -> Result<Submitted, Problem>,
) -> Result<Item, Problem> {
    let Some(discovery) = value.get("discovery") else {
        return Ok(Item { submitted: read_discovery(value, pointer)?, evidence: Vec::new() });
    };
    let mut errors = Errors::default();
    let evidence = Reader::new(value, pointer, &mut errors).and_then(|mut reader| {
        reader.raw("discovery");
        let items = match reader.array("evidence", usize::try_from(PER_DISCOVERY_MAX).unwrap_or(0)) {
            Some(items) => items,
            None if reader.raw("evidence").is_some() => return None,
            None => &[],
        };
        let base = reader.pointer("evidence");
        let mut read = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            read.push(evidence::read(item, &format!("{base}/{index}"), machine, false, reader.errors()));
        }
        reader.finish();
        read.into_iter().collect::<Option<Vec<NewEvidence>>>()
    });
    let evidence = errors.check(evidence)?;
    if !evidence.is_empty() {
        machine.require(evidence::SCOPE)?;
    }
    Ok(Item { submitted: read_discovery(discovery, &format!("{pointer}/discovery"))?, evidence })
}

/// The database refused something that no check foresaw: each item gets a savepoint of its own, in key order, so that the
/// others stand.
async fn write_one_by_one(
    origin: &Origin<'_>,
    idempotent: &Idempotent,
    items: &[Item],
    request: &Many<'_>,
) -> Result<(Reply, Vec<ledger::JobId>), Problem> {
    let (app, machine) = (origin.app, origin.machine);
    transact!(app, |tx| {
        if let Some(known) = idempotent.begin(&*tx).await? {
            return Ok((known, Vec::new()));
        }
        check_quota(&*tx, machine, items.len()).await?;
        let Outcome { results, wake } = write_in_savepoints(origin, tx, items).await?;
        let reply = request.answer(&results)?;
        idempotent.store(&*tx, &reply).await?;
        let verdicts: Vec<Result<bool, Problem>> =
            results.into_iter().map(|result| result.map(|written| written.is_new)).collect();
        let (counts, last_error) = request.count(&verdicts)?;
        ingest_counters_add(&*tx, machine.db_id(), counts, last_error).await?;
        measure(counts);
        Ok((reply, wake))
    })
}

async fn write_in_savepoints(
    origin: &Origin<'_>,
    tx: &mut Transaction<'_>,
    items: &[Item],
) -> Result<Outcome, Problem> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|index| {
        let new = &items[*index].submitted.discovery.new;
        (new.external_id.clone(), new.canonical_hash, *index)
    });
    let mut results: Vec<Option<Result<Written, Problem>>> = items.iter().map(|_| None).collect();
    let mut wake = Vec::new();
    for index in order {
        let savepoint = tx.savepoint("item").await?;
        match write(origin, &savepoint, std::slice::from_ref(&items[index])).await {
            Ok(mut outcome) => {
                savepoint.commit().await?;
                wake.append(&mut outcome.wake);
                results[index] = outcome.results.pop();
            }
            Err(problem) if problem.kind().status == 503 => return Err(problem),
            Err(problem) => {
                savepoint.rollback().await?;
                results[index] = Some(Err(problem));
            }
        }
    }
    let results = results
        .into_iter()
        .map(|result| result.unwrap_or_else(|| Err(Problem::internal(&"an item was not written"))))
        .collect();
    Ok(Outcome { results, wake })
}

/// A stored discovery.
#[derive(Debug, Serialize, ToSchema)]
pub struct DiscoveryOut {
    id: Uuid,
    origin_module_id: String,
    external_id: Option<String>,
    discovered_at: Timestamp,
    url: String,
    normalized_url: String,
    canonical_hash: String,
    title_hint: Option<String>,
    organization_hint: Option<String>,
    text_hint: Option<String>,
    #[schema(value_type = Object)]
    hints: Value,
    #[schema(value_type = Object)]
    metadata: Value,
    /// The source key, if the module may name it.
    source_key: Option<String>,
    /// 1 if it was found on a listing.
    depth: i16,
    /// `received`, `extracted`, `unusable`, `failed` or `withdrawn`.
    #[schema(value_type = String)]
    status: DiscoveryStatus,
    status_reason: Option<String>,
    /// Where its redirects end.
    resolved_url: Option<String>,
    resolved_normalized_url: Option<String>,
    resolved_canonical_hash: Option<String>,
    resolved_at: Option<Timestamp>,
    /// How often it was handed in.
    sightings_count: i64,
    evidence: Vec<EvidenceOut>,
    /// After merges, the candidate that stands.
    #[schema(value_type = Option<Uuid>)]
    candidate_id: Option<CandidateId>,
    /// Only if it is public, or the caller a person.
    #[schema(value_type = Option<Uuid>)]
    posting_id: Option<PostingId>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// Evidence as a discovery lists it.
#[derive(Debug, Serialize, ToSchema)]
pub struct EvidenceOut {
    id: Uuid,
    /// Who captured it; null: callboard itself.
    module_id: Option<String>,
    kind: String,
    content_hash: String,
    captured_at: Timestamp,
    content_type: String,
    byte_size: i64,
    /// When its body was deleted.
    purged_at: Option<Timestamp>,
    created_at: Timestamp,
}

impl From<Evidence> for EvidenceOut {
    fn from(evidence: Evidence) -> Self {
        Self {
            id: evidence.id.0,
            module_id: evidence.module_id,
            kind: evidence.kind,
            content_hash: hex(&evidence.content_hash),
            captured_at: evidence.captured_at,
            content_type: evidence.content_type,
            byte_size: evidence.byte_size,
            purged_at: evidence.purged_at,
            created_at: evidence.created_at,
        }
    }
}

/// One discovery: of the module that handed it in, or for moderators.
#[utoipa::path(
    get, path = "/discoveries/{id}", tag = "ingest",
    security(("module_id" = [], "module_key" = []), ("token" = [])),
    params(("id" = Uuid, Path)), responses((status = 200, body = DiscoveryOut))
)]
pub async fn get(State(app): State<App>, caller: Caller, PathId(id): PathId) -> Result<Response, Problem> {
    if let Caller::Human(human) = &caller {
        human.require(HumanScope::ModerationRead)?;
    }
    let id = DiscoveryId(id);
    let client = app.pool.get().await?;
    let discovery = discovery_find(&**client, id).await?;
    if let Caller::Machine(machine) = &caller
        && machine.db_id() != discovery.origin_module_db_id
    {
        // Another module's is as absent as none.
        return Err(Problem::not_found());
    }
    let (sightings_count, evidence, candidate) = tokio::try_join!(
        discovery_sightings_count(&**client, id),
        evidence_list_of(&**client, id, PER_DISCOVERY_MAX),
        candidate_of_discovery(&**client, id),
    )?;
    let is_human = matches!(caller, Caller::Human(_));
    let candidate_id = candidate.as_ref().map(|candidate| candidate.candidate_id);
    let posting_id = candidate
        .filter(|candidate| is_human || candidate.posting_is_visible)
        .and_then(|candidate| candidate.posting_id);
    Ok(Json(discovery_out(discovery, sightings_count, evidence, candidate_id, posting_id)).into_response())
}

fn discovery_out(
    discovery: Discovery,
    sightings_count: i64,
    evidence: Vec<Evidence>,
    candidate_id: Option<CandidateId>,
    posting_id: Option<PostingId>,
) -> DiscoveryOut {
    DiscoveryOut {
        id: discovery.id.0,
        origin_module_id: discovery.origin_module_id,
        external_id: discovery.external_id,
        discovered_at: discovery.discovered_at,
        url: discovery.url,
        normalized_url: discovery.normalized_url,
        canonical_hash: hex(&discovery.canonical_hash),
        title_hint: discovery.title_hint,
        organization_hint: discovery.organization_hint,
        text_hint: discovery.text_hint,
        hints: discovery.hints,
        metadata: discovery.metadata,
        source_key: discovery.source_key,
        depth: discovery.depth,
        status: discovery.status,
        status_reason: discovery.status_reason,
        resolved_url: discovery.resolved_url,
        resolved_normalized_url: discovery.resolved_normalized_url,
        resolved_canonical_hash: discovery.resolved_canonical_hash.map(|hash| hex(&hash)),
        resolved_at: discovery.resolved_at,
        sightings_count,
        evidence: evidence.into_iter().map(EvidenceOut::from).collect(),
        candidate_id,
        posting_id,
        created_at: discovery.created_at,
        updated_at: discovery.updated_at,
    }
}
