//! Revisions: what was changed in a posting's fields, or is proposed. The applied ones replay to the present.

use crate::sql::Word;
use crate::{Error, Statement};
use domain::ids::{CandidateId, DiscoveryId, PostingId};
use domain::state::{Actor, RevisionState};
use jiff::Timestamp;
use serde_json::Value;
use telemetry::db::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "revision_insert", sql: INSERT, types: INSERT_TYPES },
    Statement { name: "revisions_of_candidate", sql: OF_CANDIDATE, types: &[Type::UUID, Type::TEXT] },
    Statement { name: "revision_state_set", sql: STATE_SET, types: &[Type::INT8, Type::UUID, Type::TEXT] },
];

/// A revision to be written.
#[derive(Debug, Clone)]
pub struct NewRevision<'a> {
    /// The posting, where there is one.
    pub posting_id: Option<PostingId>,
    /// Its candidate.
    pub candidate_id: CandidateId,
    /// The discovery that the change came with; none for a person's edit.
    pub discovery_id: Option<DiscoveryId>,
    /// The first revision: all fields; later ones only what changed, null for what went.
    pub fields: &'a Value,
    /// In force, or waiting.
    pub state: RevisionState,
    /// Why.
    pub reason: &'a str,
    /// Who.
    pub actor: &'a Actor,
}

/// A row of `posting_revisions`.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    /// Key, ascending in time.
    pub id: i64,
    /// The posting, where there is one.
    pub posting_id: Option<PostingId>,
    /// Its candidate.
    pub candidate_id: CandidateId,
    /// The discovery that the change came with.
    pub discovery_id: Option<DiscoveryId>,
    /// What changed.
    pub fields: Value,
    /// In force, waiting, or refused.
    pub state: RevisionState,
    /// Why.
    pub reason: String,
    /// Who.
    pub actor: Actor,
    /// When it was written.
    pub created_at: Timestamp,
}

fn revision(row: &Row) -> Result<Revision, Error> {
    Ok(Revision {
        id: row.try_get("id")?,
        posting_id: row.try_get::<_, Option<Uuid>>("posting_id")?.map(PostingId),
        candidate_id: CandidateId(row.try_get("candidate_id")?),
        discovery_id: row.try_get::<_, Option<Uuid>>("discovery_id")?.map(DiscoveryId),
        fields: row.try_get("fields")?,
        state: row.try_get::<_, Word<_>>("state")?.0,
        reason: row.try_get("reason")?,
        actor: Actor {
            actor_type: row.try_get::<_, Word<_>>("actor_type")?.0,
            actor_id: row.try_get("actor_id")?,
        },
        created_at: row.try_get("created_at")?,
    })
}

const INSERT: &str = "\
INSERT INTO posting_revisions (
    posting_id, candidate_id, discovery_id, fields, state, reason, actor_type, actor_id
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING id";

const INSERT_TYPES: &[Type] =
    &[Type::UUID, Type::UUID, Type::UUID, Type::JSONB, Type::TEXT, Type::TEXT, Type::TEXT, Type::TEXT];

/// Writes a revision and gives its id.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn revision_insert(tx: &impl GenericClient, new: &NewRevision<'_>) -> Result<i64, Error> {
    let rows = tx
        .query_typed(
            INSERT,
            &[
                (&new.posting_id.map(|id| id.0), Type::UUID),
                (&new.candidate_id.0, Type::UUID),
                (&new.discovery_id.map(|id| id.0), Type::UUID),
                (&new.fields, Type::JSONB),
                (&new.state.as_str(), Type::TEXT),
                (&new.reason, Type::TEXT),
                (&new.actor.actor_type.as_str(), Type::TEXT),
                (&new.actor.actor_id, Type::TEXT),
            ],
        )
        .await?;
    Ok(rows.first().ok_or(Error::NotFound)?.try_get("id")?)
}

const OF_CANDIDATE: &str = "\
SELECT id, posting_id, candidate_id, discovery_id, fields, state, reason, actor_type, actor_id, created_at
FROM posting_revisions
WHERE candidate_id = $1
    AND ($2::text IS NULL OR state = $2)
ORDER BY id";

/// A candidate's revisions, oldest first, all or those of one state.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn revisions_of_candidate(
    client: &impl GenericClient,
    candidate: CandidateId,
    state: Option<RevisionState>,
) -> Result<Vec<Revision>, Error> {
    let state = state.map(RevisionState::as_str);
    client
        .query_typed(OF_CANDIDATE, &[(&candidate.0, Type::UUID), (&state, Type::TEXT)])
        .await?
        .iter()
        .map(revision)
        .collect()
}

const STATE_SET: &str = "\
UPDATE posting_revisions
SET state = $3,
    updated_at = now()
WHERE id = $1
    AND candidate_id = $2
    AND state = 'proposed'";

/// Decides a proposed revision. False if it is no longer proposed.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn revision_state_set(
    tx: &impl GenericClient,
    id: i64,
    candidate: CandidateId,
    state: RevisionState,
) -> Result<bool, Error> {
    let updated = tx
        .execute_typed(
            STATE_SET,
            &[(&id, Type::INT8), (&candidate.0, Type::UUID), (&state.as_str(), Type::TEXT)],
        )
        .await?;
    Ok(updated == 1)
}
