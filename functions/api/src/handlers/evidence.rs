//! Evidence (http-api.md §4).
//!
//! There is no object store in this release: `object_key` is refused, and uploads have no route.

use crate::app::App;
use crate::auth::machine::Machine;
use crate::body::{BatchBody, JsonBody};
use crate::front::RequestContext;
use crate::handlers::discoveries::{BatchOut, BatchResultOut, read_batch};
use crate::idempotency::Idempotent;
use crate::json::{Errors, Reader};
use crate::problem::{NOT_FOUND, NOT_OWNER, Problem};
use crate::reply::Reply;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::ids::{DiscoveryId, EvidenceId};
use domain::state::EvidenceKind;
use domain::text;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use store::discoveries::discovery_find;
use store::evidence::{Inserted, NewEvidence, PER_DISCOVERY_MAX, evidence_count_of, evidence_insert};
use tokio_postgres::Transaction;
use utoipa::ToSchema;
use uuid::Uuid;

/// The scope that handing in evidence takes.
pub const SCOPE: &str = "evidence:write";
const URI_CHARS_MAX: usize = 2_048;
const INLINE_BYTES_MAX: usize = 64 * 1024;
const CONTENT_TYPE_CHARS_MAX: usize = 128;
/// domain.md §12: ≤ 10 MiB per object.
const OBJECT_BYTES_MAX: i64 = 10 * 1024 * 1024;
const METADATA_BYTES_MAX: usize = 8 * 1024;
const BATCH_MAX: usize = 100;

/// Evidence as a module hands it in. Exactly one of `uri`, `inline_text` and `object_key`.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "the document's shape; the members are read one by one, to tell every error")]
pub struct EvidenceIn {
    /// The module's own discovery, or null to attach it later.
    discovery_id: Option<Uuid>,
    /// `url_fetch`, `html_snapshot`, `screenshot`, `text`, `rss_item`, `social_post`, `telegram_message` or `other`.
    kind: String,
    /// Where the module keeps it, ≤ 2,048 characters. Stored, never fetched, never public.
    uri: Option<String>,
    /// Its text, ≤ 64 KiB.
    inline_text: Option<String>,
    /// Not available: no object store is configured.
    object_key: Option<String>,
    /// SHA-256 of the content, 64 hex digits; of `inline_text` it is checked.
    content_hash: String,
    /// When it was captured.
    captured_at: Timestamp,
    /// ≤ 128 characters.
    content_type: String,
    /// 0 to 10,485,760.
    byte_size: i64,
    /// ≤ 8 KiB.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

/// What became of evidence.
#[derive(Debug, Serialize, ToSchema)]
pub struct EvidenceAcceptedOut {
    /// Under which it is stored.
    evidence_id: Uuid,
    /// `accepted`, or `duplicate` if the same discovery, kind and hash is stored.
    outcome: &'static str,
}

impl From<Inserted> for EvidenceAcceptedOut {
    fn from(inserted: Inserted) -> Self {
        let outcome = match inserted {
            Inserted::New(_) => "accepted",
            Inserted::Known(_) => "duplicate",
        };
        Self { evidence_id: inserted.id().0, outcome }
    }
}

/// Reads the evidence at `pointer` of a request's body. `may_name_discovery` is false where it comes with its discovery.
pub fn read(
    value: &Value,
    pointer: &str,
    machine: &Machine,
    may_name_discovery: bool,
    errors: &mut Errors,
) -> Option<NewEvidence> {
    let mut reader = Reader::new(value, pointer, errors)?;
    let discovery_id = if may_name_discovery { reader.id("discovery_id").map(DiscoveryId) } else { None };
    let kinds: Vec<&str> = EvidenceKind::ALL.iter().map(|kind| kind.as_str()).collect();
    reader.require("kind");
    let kind: Option<EvidenceKind> = reader.word("kind", |word| word.parse().ok(), &kinds);
    let uri = reader.verbatim("uri", 1, URI_CHARS_MAX);
    let inline_text = read_inline(&mut reader);
    let given = ["uri", "inline_text", "object_key"].iter().filter(|name| reader.raw(name).is_some()).count();
    if given != 1 {
        let detail = "Give exactly one of uri, inline_text and object_key.";
        reader.errors().add(pointer, "exactly_one", detail);
    }
    if reader.raw("object_key").is_some() {
        reader.error("object_key", "unavailable", "No object store is configured; use uri or inline_text.");
    }
    reader.require("content_hash");
    let content_hash = reader.sha256("content_hash");
    reader.require("captured_at");
    let captured_at = reader.time("captured_at");
    let content_type = reader.required_text("content_type", 1, CONTENT_TYPE_CHARS_MAX);
    reader.require("byte_size");
    let byte_size = reader.integer("byte_size", 0, OBJECT_BYTES_MAX);
    let metadata = reader.object("metadata", METADATA_BYTES_MAX).unwrap_or_default();
    if let Some(inline) = &inline_text {
        let actual: [u8; 32] = Sha256::digest(inline.as_bytes()).into();
        if content_hash.is_some_and(|given| given != actual) {
            reader.error("content_hash", "mismatch", "This is not the SHA-256 of inline_text.");
        }
        let actual = i64::try_from(inline.len()).unwrap_or(i64::MAX);
        if byte_size.is_some_and(|given| given != actual) {
            reader.error("byte_size", "mismatch", format!("inline_text has {actual} bytes."));
        }
    }
    reader.finish();
    Some(NewEvidence {
        id: EvidenceId::new(),
        discovery_id,
        module: Some(machine.db_id()),
        kind: kind?,
        uri,
        object_key: None,
        content_hash: content_hash?,
        captured_at: captured_at?,
        content_type: content_type?,
        byte_size: byte_size?,
        inline_text,
        http: None,
        metadata: Value::Object(metadata),
    })
}

/// Kept to the byte: its hash is the caller's.
fn read_inline(reader: &mut Reader<'_, '_>) -> Option<String> {
    let value = reader.raw("inline_text")?;
    let Some(inline) = value.as_str() else {
        reader.error("inline_text", "type", "This must be a string.");
        return None;
    };
    if inline.is_empty() || inline.len() > INLINE_BYTES_MAX {
        reader.error("inline_text", "length", format!("This must have 1 to {INLINE_BYTES_MAX} bytes."));
        return None;
    }
    if let Err(error) = text::check_input(inline) {
        reader.error("inline_text", "forbidden_character", error.to_string());
        return None;
    }
    Some(inline.to_owned())
}

/// Hands in evidence.
#[utoipa::path(
    post, path = "/evidence", tag = "ingest", security(("module_id" = [], "module_key" = [])),
    request_body = EvidenceIn, responses((status = 202, body = EvidenceAcceptedOut))
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
    let mut errors = Errors::default();
    let new = read(&body.value, "", &machine, true, &mut errors);
    let new = errors.check(new)?;
    let reply: Reply = transact!(app, |tx| {
        if let Some(known) = idempotent.begin(&*tx).await? {
            return Ok(known);
        }
        let inserted = store(tx, &machine, &new, "").await?;
        let reply = Reply::json(StatusCode::ACCEPTED, &EvidenceAcceptedOut::from(inserted))?;
        idempotent.store(&*tx, &reply).await?;
        Ok(reply)
    })?;
    Ok(reply.into_response())
}

async fn store(
    tx: &Transaction<'_>,
    machine: &Machine,
    new: &NewEvidence,
    pointer: &str,
) -> Result<Inserted, Problem> {
    if let Some(discovery_id) = new.discovery_id {
        let discovery = discovery_find(tx, discovery_id).await.map_err(|error| match error {
            store::Error::NotFound => Problem::new(NOT_FOUND, "There is no such discovery."),
            other => other.into(),
        })?;
        if discovery.origin_module_db_id != machine.db_id() {
            return Err(Problem::new(NOT_OWNER, "The discovery belongs to another module."));
        }
        let inserted = evidence_insert(tx, new).await?;
        // Counted afterwards, so that a duplicate is found even where there is room for no more.
        let is_new = matches!(inserted, Inserted::New(_));
        if is_new && evidence_count_of(tx, discovery_id).await? > PER_DISCOVERY_MAX {
            let detail = format!("A discovery has at most {PER_DISCOVERY_MAX} pieces of evidence.");
            return Err(Problem::invalid(format!("{pointer}/discovery_id"), "limit", detail));
        }
        return Ok(inserted);
    }
    Ok(evidence_insert(tx, new).await?)
}

/// Several pieces of evidence.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "the document's shape")]
pub struct EvidenceBatchIn {
    /// 1 to 100.
    items: Vec<EvidenceIn>,
}

/// Hands in 1 to 100 pieces of evidence. Each stands by itself.
#[utoipa::path(
    post, path = "/evidence/batch", tag = "ingest", security(("module_id" = [], "module_key" = [])),
    request_body = EvidenceBatchIn, responses((status = 200, body = BatchOut))
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
    let read_all: Vec<Result<NewEvidence, Problem>> = read_batch(&body.value, BATCH_MAX)?
        .iter()
        .enumerate()
        .map(|(index, value)| {
            let mut errors = Errors::default();
            let new = read(value, &format!("/items/{index}"), &machine, true, &mut errors);
            errors.check(new)
        })
        .collect();
    let reply: Reply = transact!(app, |tx| {
        if let Some(known) = idempotent.begin(&*tx).await? {
            return Ok(known);
        }
        // By what the unique index holds, so that two batches at once cannot wait for each other in a circle.
        let mut order: Vec<usize> = (0..read_all.len()).collect();
        order.sort_by_key(|index| {
            read_all[*index].as_ref().ok().map(|new| (new.discovery_id, new.kind, new.content_hash))
        });
        let mut results: Vec<Option<BatchResultOut>> = read_all.iter().map(|_| None).collect();
        for index in order {
            let result = match &read_all[index] {
                Err(problem) => Err(problem.clone()),
                Ok(new) => {
                    let savepoint = tx.savepoint("item").await?;
                    match store(&savepoint, &machine, new, &format!("/items/{index}")).await {
                        Ok(inserted) => {
                            savepoint.commit().await?;
                            Ok(EvidenceAcceptedOut::from(inserted))
                        }
                        Err(problem) if problem.kind().status == 503 => return Err(problem),
                        Err(problem) => {
                            savepoint.rollback().await?;
                            Err(problem)
                        }
                    }
                }
            };
            let status = StatusCode::ACCEPTED.as_u16();
            results[index] = Some(BatchResultOut::of(index, status, result, &context)?);
        }
        let results = results.into_iter().flatten().collect();
        let reply = Reply::json(StatusCode::OK, &BatchOut { results })?;
        idempotent.store(&*tx, &reply).await?;
        Ok(reply)
    })?;
    Ok(reply.into_response())
}
