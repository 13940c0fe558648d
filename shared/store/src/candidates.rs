//! Candidates: what is known of one opportunity, published or not.
//!
//! [`candidate_insert`] materialises one, [`candidate_lock`] reads it for a change in the same transaction,
//! [`candidate_content_set`] and [`candidate_state_set`] change it. Links to discoveries, evidence and addresses are in
//! [`links`]. The rules of what may follow what are the domain's; nothing here judges.

pub mod links;

use crate::sql::{Digest, Word};
use crate::{Error, Statement};
use domain::extract::Conflict;
use domain::ids::{CandidateId, DiscoveryId, ModuleDbId, PostingId};
use domain::posting::{FieldProvenance, PostingFields};
use domain::state::CandidateState;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use telemetry::db::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::{Json, Type};
use uuid::Uuid;

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "candidate_insert", sql: INSERT, types: INSERT_TYPES },
    Statement { name: "candidate_lock", sql: LOCK, types: &[Type::UUID] },
    Statement { name: "candidate_find", sql: FIND, types: &[Type::UUID] },
    Statement { name: "candidate_content_set", sql: CONTENT_SET, types: CONTENT_SET_TYPES },
    Statement { name: "candidate_state_set", sql: STATE_SET, types: STATE_SET_TYPES },
    Statement { name: "candidate_flags_set", sql: FLAGS_SET, types: &[Type::UUID, Type::TEXT_ARRAY] },
    Statement { name: "candidate_of_discovery", sql: OF_DISCOVERY, types: &[Type::UUID] },
    Statement { name: "candidate_relations", sql: RELATIONS, types: &[Type::UUID] },
];

/// A row of `posting_candidates`.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Key.
    pub id: CandidateId,
    /// §5.
    pub state: CandidateState,
    /// Why it is in that state.
    pub state_reason: Option<String>,
    /// The typed fields.
    pub content: CandidateContent,
    /// What dedupe thought, 0–1.
    pub dedupe_confidence: Option<f64>,
    /// Fields that a moderator set and no machine changes.
    pub locked_fields: Vec<String>,
    /// The queue it waits in.
    pub moderation_route: Option<String>,
    /// The last trust decision.
    pub policy: Value,
    /// The candidate that it became part of.
    pub merged_into_id: Option<CandidateId>,
    /// When the state last changed.
    pub state_changed_at: Timestamp,
    /// When it was materialised.
    pub created_at: Timestamp,
    /// Its last change.
    pub updated_at: Timestamp,
    /// Incremented by each change; the ETag.
    pub version: i64,
}

/// What an extraction says about a candidate, and what the server computed from it.
#[derive(Debug, Clone, PartialEq)]
pub struct CandidateContent {
    /// The fields.
    pub fields: PostingFields,
    /// Where each came from.
    pub field_provenance: BTreeMap<String, FieldProvenance>,
    /// Fields whose sources contradict each other.
    pub conflicts: Vec<Conflict>,
    /// 0–1, 4 decimals.
    pub extraction_confidence: f64,
    /// Sorted, without repeats.
    pub risk_flags: Vec<String>,
    /// SHA-256 of `normalized_url`.
    pub canonical_hash: [u8; 32],
    /// As the page or the server names it.
    pub canonical_url: String,
    /// §7.1.
    pub normalized_url: String,
    /// Folded organisation name for blocking; empty if unknown.
    pub organization_key: String,
    /// Folded title.
    pub title_key: String,
    /// The publisher's own key.
    pub source_identity: Option<String>,
    /// 1–4 (§10.4).
    pub authority_rank: i16,
    /// The module whose discovery the fields come from.
    pub authority_module_id: ModuleDbId,
}

macro_rules! columns {
    () => {
        "id, state, state_reason, fields, field_provenance, conflicts, \
         extraction_confidence::float8 AS extraction_confidence, dedupe_confidence::float8 AS dedupe_confidence, \
         risk_flags, canonical_hash, canonical_url, normalized_url, organization_key, title_key, source_identity, \
         authority_rank, authority_module_id, locked_fields, moderation_route, policy, merged_into_id, \
         state_changed_at, created_at, updated_at, version"
    };
}

fn candidate(row: &Row) -> Result<Candidate, Error> {
    Ok(Candidate {
        id: CandidateId(row.try_get("id")?),
        state: row.try_get::<_, Word<_>>("state")?.0,
        state_reason: row.try_get("state_reason")?,
        content: CandidateContent {
            fields: row.try_get::<_, Json<_>>("fields")?.0,
            field_provenance: row.try_get::<_, Json<_>>("field_provenance")?.0,
            conflicts: row.try_get::<_, Json<_>>("conflicts")?.0,
            extraction_confidence: row.try_get("extraction_confidence")?,
            risk_flags: row.try_get("risk_flags")?,
            canonical_hash: row.try_get::<_, Digest>("canonical_hash")?.0,
            canonical_url: row.try_get("canonical_url")?,
            normalized_url: row.try_get("normalized_url")?,
            organization_key: row.try_get("organization_key")?,
            title_key: row.try_get("title_key")?,
            source_identity: row.try_get("source_identity")?,
            authority_rank: row.try_get("authority_rank")?,
            authority_module_id: ModuleDbId(row.try_get("authority_module_id")?),
        },
        dedupe_confidence: row.try_get("dedupe_confidence")?,
        locked_fields: row.try_get("locked_fields")?,
        moderation_route: row.try_get("moderation_route")?,
        policy: row.try_get("policy")?,
        merged_into_id: row.try_get::<_, Option<Uuid>>("merged_into_id")?.map(CandidateId),
        state_changed_at: row.try_get("state_changed_at")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        version: row.try_get("version")?,
    })
}

const INSERT: &str = "\
INSERT INTO posting_candidates (
    id, state, state_reason, fields, field_provenance, conflicts, extraction_confidence, risk_flags,
    canonical_hash, canonical_url, normalized_url, organization_key, title_key, source_identity,
    authority_rank, authority_module_id
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";

const INSERT_TYPES: &[Type] = &[
    Type::UUID,
    Type::TEXT,
    Type::TEXT,
    Type::JSONB,
    Type::JSONB,
    Type::JSONB,
    Type::FLOAT8,
    Type::TEXT_ARRAY,
    Type::BYTEA,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::INT2,
    Type::UUID,
];

/// Materialises a candidate as `discovered`.
///
/// # Errors
/// [`Error`], of the database only: the id is new.
pub async fn candidate_insert(
    tx: &impl GenericClient,
    id: CandidateId,
    reason: &str,
    content: &CandidateContent,
) -> Result<(), Error> {
    tx.execute_typed(
        INSERT,
        &[
            (&id.0, Type::UUID),
            (&CandidateState::Discovered.as_str(), Type::TEXT),
            (&reason, Type::TEXT),
            (&Json(&content.fields), Type::JSONB),
            (&Json(&content.field_provenance), Type::JSONB),
            (&Json(&content.conflicts), Type::JSONB),
            (&content.extraction_confidence, Type::FLOAT8),
            (&content.risk_flags, Type::TEXT_ARRAY),
            (&&content.canonical_hash[..], Type::BYTEA),
            (&content.canonical_url, Type::TEXT),
            (&content.normalized_url, Type::TEXT),
            (&content.organization_key, Type::TEXT),
            (&content.title_key, Type::TEXT),
            (&content.source_identity, Type::TEXT),
            (&content.authority_rank, Type::INT2),
            (&content.authority_module_id.0, Type::UUID),
        ],
    )
    .await?;
    Ok(())
}

const LOCK: &str = concat!(
    "\
SELECT ",
    columns!(),
    "
FROM posting_candidates
WHERE id = $1
FOR UPDATE"
);

/// Reads a candidate for a change in this transaction. Several are locked in ascending order of their ids.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn candidate_lock(tx: &impl GenericClient, id: CandidateId) -> Result<Option<Candidate>, Error> {
    tx.query_typed(LOCK, &[(&id.0, Type::UUID)]).await?.first().map(candidate).transpose()
}

const FIND: &str = concat!(
    "\
SELECT ",
    columns!(),
    "
FROM posting_candidates
WHERE id = $1"
);

/// Reads a candidate.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn candidate_find(
    client: &impl GenericClient,
    id: CandidateId,
) -> Result<Option<Candidate>, Error> {
    client.query_typed(FIND, &[(&id.0, Type::UUID)]).await?.first().map(candidate).transpose()
}

const CONTENT_SET: &str = "\
UPDATE posting_candidates
SET fields = $2,
    field_provenance = $3,
    conflicts = $4,
    extraction_confidence = $5,
    risk_flags = $6,
    canonical_hash = $7,
    canonical_url = $8,
    normalized_url = $9,
    organization_key = $10,
    title_key = $11,
    source_identity = $12,
    authority_rank = $13,
    authority_module_id = $14,
    version = version + 1,
    updated_at = now()
WHERE id = $1";

const CONTENT_SET_TYPES: &[Type] = &[
    Type::UUID,
    Type::JSONB,
    Type::JSONB,
    Type::JSONB,
    Type::FLOAT8,
    Type::TEXT_ARRAY,
    Type::BYTEA,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::INT2,
    Type::UUID,
];

/// Writes a locked candidate's content.
///
/// # Errors
/// [`Error::NotFound`] if there is no such candidate; else of the database.
pub async fn candidate_content_set(
    tx: &impl GenericClient,
    id: CandidateId,
    content: &CandidateContent,
) -> Result<(), Error> {
    let updated = tx
        .execute_typed(
            CONTENT_SET,
            &[
                (&id.0, Type::UUID),
                (&Json(&content.fields), Type::JSONB),
                (&Json(&content.field_provenance), Type::JSONB),
                (&Json(&content.conflicts), Type::JSONB),
                (&content.extraction_confidence, Type::FLOAT8),
                (&content.risk_flags, Type::TEXT_ARRAY),
                (&&content.canonical_hash[..], Type::BYTEA),
                (&content.canonical_url, Type::TEXT),
                (&content.normalized_url, Type::TEXT),
                (&content.organization_key, Type::TEXT),
                (&content.title_key, Type::TEXT),
                (&content.source_identity, Type::TEXT),
                (&content.authority_rank, Type::INT2),
                (&content.authority_module_id.0, Type::UUID),
            ],
        )
        .await?;
    if updated == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// A change of state with what is decided together with it.
#[derive(Debug, Clone)]
pub struct StateChange<'a> {
    /// The state to be in.
    pub state: CandidateState,
    /// Why.
    pub reason: &'a str,
    /// The queue to wait in; `None` outside a queue.
    pub moderation_route: Option<&'a str>,
    /// The trust decision behind it; `None` keeps the last.
    pub policy: Option<&'a Value>,
}

const STATE_SET: &str = "\
UPDATE posting_candidates
SET state = $2,
    state_reason = $3,
    moderation_route = $4,
    policy = coalesce($5, policy),
    state_changed_at = CASE WHEN state = $2 THEN state_changed_at ELSE now() END,
    version = version + 1,
    updated_at = now()
WHERE id = $1";

const STATE_SET_TYPES: &[Type] = &[Type::UUID, Type::TEXT, Type::TEXT, Type::TEXT, Type::JSONB];

/// Writes a locked candidate's state. The instant of the change moves only if the state does.
///
/// # Errors
/// [`Error::NotFound`] if there is no such candidate; [`Error::Conflict`] if the state is `merged`, which needs a target.
pub async fn candidate_state_set(
    tx: &impl GenericClient,
    id: CandidateId,
    change: &StateChange<'_>,
) -> Result<(), Error> {
    let updated = tx
        .execute_typed(
            STATE_SET,
            &[
                (&id.0, Type::UUID),
                (&change.state.as_str(), Type::TEXT),
                (&change.reason, Type::TEXT),
                (&change.moderation_route, Type::TEXT),
                (&change.policy, Type::JSONB),
            ],
        )
        .await?;
    if updated == 0 { Err(Error::NotFound) } else { Ok(()) }
}

const FLAGS_SET: &str = "\
UPDATE posting_candidates
SET risk_flags = $2,
    version = version + 1,
    updated_at = now()
WHERE id = $1";

/// Writes a locked candidate's risk flags alone.
///
/// # Errors
/// [`Error::NotFound`] if there is no such candidate; else of the database.
pub async fn candidate_flags_set(
    tx: &impl GenericClient,
    id: CandidateId,
    flags: &[String],
) -> Result<(), Error> {
    let updated = tx.execute_typed(FLAGS_SET, &[(&id.0, Type::UUID), (&flags, Type::TEXT_ARRAY)]).await?;
    if updated == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// What became of a discovery, for `GET /discoveries/{id}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateOfDiscovery {
    /// The candidate; after merges the one that stands.
    pub candidate_id: CandidateId,
    /// Its state.
    pub state: CandidateState,
    /// Its posting, if it was ever published.
    pub posting_id: Option<PostingId>,
    /// Whether the public sees that posting.
    pub posting_is_visible: bool,
}

const OF_DISCOVERY: &str = "\
WITH RECURSIVE chain AS (
    SELECT candidate.id, candidate.state, candidate.merged_into_id
    FROM discoveries AS discovery
    JOIN posting_candidates AS candidate ON candidate.id = discovery.candidate_id
    WHERE discovery.id = $1
    UNION
    SELECT candidate.id, candidate.state, candidate.merged_into_id
    FROM chain
    JOIN posting_candidates AS candidate ON candidate.id = chain.merged_into_id
)
SELECT chain.id, chain.state, posting.id AS posting_id, posting.visible
FROM chain
LEFT JOIN postings AS posting ON posting.candidate_id = chain.id
WHERE chain.merged_into_id IS NULL";

/// The candidate and the posting of a discovery.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn candidate_of_discovery(
    client: &impl GenericClient,
    id: DiscoveryId,
) -> Result<Option<CandidateOfDiscovery>, Error> {
    let rows = client.query_typed(OF_DISCOVERY, &[(&id.0, Type::UUID)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(CandidateOfDiscovery {
        candidate_id: CandidateId(row.try_get("id")?),
        state: row.try_get::<_, Word<_>>("state")?.0,
        posting_id: row.try_get::<_, Option<Uuid>>("posting_id")?.map(PostingId),
        posting_is_visible: row.try_get::<_, Option<bool>>("visible")?.unwrap_or(false),
    }))
}

/// What stands around a candidate, for `GET /candidates/{id}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateRelations {
    /// The text id of the module that its fields come from.
    pub authority_module_id: String,
    /// Its discoveries, oldest first.
    pub discovery_ids: Vec<DiscoveryId>,
    /// Its posting, if it was ever published.
    pub posting_id: Option<PostingId>,
}

const RELATIONS: &str = "\
SELECT module.module_id,
    ARRAY(
        SELECT link.discovery_id
        FROM candidate_discoveries AS link
        WHERE link.candidate_id = candidate.id
        ORDER BY link.discovery_id
    ) AS discovery_ids,
    posting.id AS posting_id
FROM posting_candidates AS candidate
JOIN modules AS module ON module.id = candidate.authority_module_id
LEFT JOIN postings AS posting ON posting.candidate_id = candidate.id
WHERE candidate.id = $1";

/// The module, the discoveries and the posting of a candidate.
///
/// # Errors
/// [`Error::NotFound`] if there is no such candidate; else of the database.
pub async fn candidate_relations(
    client: &impl GenericClient,
    id: CandidateId,
) -> Result<CandidateRelations, Error> {
    let rows = client.query_typed(RELATIONS, &[(&id.0, Type::UUID)]).await?;
    let row = rows.first().ok_or(Error::NotFound)?;
    let discovery_ids: Vec<Uuid> = row.try_get("discovery_ids")?;
    Ok(CandidateRelations {
        authority_module_id: row.try_get("module_id")?,
        discovery_ids: discovery_ids.into_iter().map(DiscoveryId).collect(),
        posting_id: row.try_get::<_, Option<Uuid>>("posting_id")?.map(PostingId),
    })
}
