//! Evidence: what was captured, by callboard or by a module. Append-only; attaching it to a discovery is the one change.

use crate::{Error, Statement};
use domain::ids::{DiscoveryId, EvidenceId, ModuleDbId};
use domain::state::EvidenceKind;
use jiff::Timestamp;
use serde_json::Value;
use telemetry::db::GenericClient;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// Evidence of one discovery (domain.md §12).
pub const PER_DISCOVERY_MAX: i64 = 50;

/// Evidence to be stored.
#[derive(Debug, Clone)]
pub struct NewEvidence {
    /// The id that it has if it is new.
    pub id: EvidenceId,
    /// What it belongs to, if that is known.
    pub discovery_id: Option<DiscoveryId>,
    /// Who captured it; none: callboard itself.
    pub module: Option<ModuleDbId>,
    /// What it is.
    pub kind: EvidenceKind,
    /// Where the module keeps it. Stored, never fetched, never public.
    pub uri: Option<String>,
    /// Where the object store has it.
    pub object_key: Option<String>,
    /// SHA-256 of its bytes.
    pub content_hash: [u8; 32],
    /// When it was captured.
    pub captured_at: Timestamp,
    /// Its media type.
    pub content_type: String,
    /// Its length.
    pub byte_size: i64,
    /// Its text, ≤ 64 KiB.
    pub inline_text: Option<String>,
    /// Status, final URL, ETag, Last-Modified, redirect chain.
    pub http: Option<Value>,
    /// Free-form.
    pub metadata: Value,
}

/// Evidence as it is listed.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Key.
    pub id: EvidenceId,
    /// What it belongs to.
    pub discovery_id: Option<DiscoveryId>,
    /// Who captured it, by its text id; none: callboard itself.
    pub module_id: Option<String>,
    /// What it is: `domain::state::EvidenceKind`.
    pub kind: String,
    /// Where the module keeps it.
    pub uri: Option<String>,
    /// Whether the object store has it.
    pub has_object: bool,
    /// SHA-256 of its bytes.
    pub content_hash: [u8; 32],
    /// When it was captured.
    pub captured_at: Timestamp,
    /// Its media type.
    pub content_type: String,
    /// Its length.
    pub byte_size: i64,
    /// When its body was deleted.
    pub purged_at: Option<Timestamp>,
    /// When it was stored.
    pub created_at: Timestamp,
}

/// The unique index on (module, discovery, kind, hash) decides between requests at once.
const INSERT: &str = "
    INSERT INTO evidence
        (id, discovery_id, module_id, kind, uri, object_key, content_hash, captured_at, content_type, byte_size,
        inline_text, http, metadata)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
    ON CONFLICT ON CONSTRAINT evidence_content_key DO NOTHING
    RETURNING id";

const MATCH: &str = "
    SELECT id
    FROM evidence
    WHERE module_id IS NOT DISTINCT FROM $1
        AND discovery_id IS NOT DISTINCT FROM $2
        AND kind = $3
        AND content_hash = $4";

/// Held until the transaction ends, so that no other request attaches the same.
const ATTACHABLE: &str = "
    SELECT evidence.id, evidence.discovery_id IS NOT NULL, discoveries.external_id, discoveries.canonical_hash
    FROM evidence
    LEFT JOIN discoveries ON discoveries.id = evidence.discovery_id
    WHERE evidence.id = ANY ($1) AND evidence.module_id = $2
    ORDER BY evidence.id
    FOR UPDATE OF evidence";

/// What the discovery has already, by kind and hash, stays unattached: it is the same evidence.
const ATTACH: &str = "
    UPDATE evidence
    SET discovery_id = $2
    WHERE id = ANY ($1)
        AND discovery_id IS NULL
        AND NOT EXISTS (
            SELECT
            FROM evidence AS other
            WHERE other.discovery_id = $2
                AND other.module_id = evidence.module_id
                AND other.kind = evidence.kind
                AND other.content_hash = evidence.content_hash
        )";

const COUNT_OF: &str = "SELECT count(*) FROM evidence WHERE discovery_id = $1";

const LIST_OF: &str = "
    SELECT evidence.id, evidence.discovery_id, modules.module_id, evidence.kind, evidence.uri,
        evidence.object_key IS NOT NULL, evidence.content_hash, evidence.captured_at, evidence.content_type,
        evidence.byte_size, evidence.purged_at, evidence.created_at
    FROM evidence
    LEFT JOIN modules ON modules.id = evidence.module_id
    WHERE evidence.discovery_id = $1
    ORDER BY evidence.created_at, evidence.id
    LIMIT $2";

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement {
        name: "evidence_insert",
        sql: INSERT,
        types: &[
            Type::UUID,
            Type::UUID,
            Type::UUID,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::BYTEA,
            Type::TIMESTAMPTZ,
            Type::TEXT,
            Type::INT8,
            Type::TEXT,
            Type::JSONB,
            Type::JSONB,
        ],
    },
    Statement {
        name: "evidence_match",
        sql: MATCH,
        types: &[Type::UUID, Type::UUID, Type::TEXT, Type::BYTEA],
    },
    Statement { name: "evidence_attachable", sql: ATTACHABLE, types: &[Type::UUID_ARRAY, Type::UUID] },
    Statement { name: "evidence_attach", sql: ATTACH, types: &[Type::UUID_ARRAY, Type::UUID] },
    Statement { name: "evidence_count_of", sql: COUNT_OF, types: &[Type::UUID] },
    Statement { name: "evidence_list_of", sql: LIST_OF, types: &[Type::UUID, Type::INT8] },
];

/// What [`evidence_insert`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is new, with the id that was given.
    New(EvidenceId),
    /// The same (module, discovery, kind, hash) is stored under this id.
    Known(EvidenceId),
}

impl Inserted {
    /// The id under which it is stored.
    #[must_use]
    pub fn id(self) -> EvidenceId {
        match self {
            Self::New(id) | Self::Known(id) => id,
        }
    }
}

/// Stores evidence, or finds it stored.
///
/// # Errors
/// [`Error`].
pub async fn evidence_insert(tx: &impl GenericClient, new: &NewEvidence) -> Result<Inserted, Error> {
    let discovery_id = new.discovery_id.map(|id| id.0);
    let module = new.module.map(|id| id.0);
    let hash = new.content_hash.as_slice();
    let inserted = tx
        .query_typed(
            INSERT,
            &[
                (&new.id.0, Type::UUID),
                (&discovery_id, Type::UUID),
                (&module, Type::UUID),
                (&new.kind.as_str(), Type::TEXT),
                (&new.uri, Type::TEXT),
                (&new.object_key, Type::TEXT),
                (&hash, Type::BYTEA),
                (&new.captured_at, Type::TIMESTAMPTZ),
                (&new.content_type, Type::TEXT),
                (&new.byte_size, Type::INT8),
                (&new.inline_text, Type::TEXT),
                (&new.http, Type::JSONB),
                (&new.metadata, Type::JSONB),
            ],
        )
        .await?;
    if let Some(row) = inserted.first() {
        return Ok(Inserted::New(EvidenceId(row.get(0))));
    }
    let known = tx
        .query_typed(
            MATCH,
            &[
                (&module, Type::UUID),
                (&discovery_id, Type::UUID),
                (&new.kind.as_str(), Type::TEXT),
                (&hash, Type::BYTEA),
            ],
        )
        .await?;
    known
        .first()
        .map(|row| Inserted::Known(EvidenceId(row.get(0))))
        // It was attached to a discovery between the two statements; the transaction run again decides anew.
        .ok_or_else(|| Error::Collision { detail: "the same evidence is being attached".into() })
}

/// Evidence of a module, and the discovery that it is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnEvidence {
    /// Key.
    pub id: EvidenceId,
    attached_to: Option<(Option<String>, [u8; 32])>,
}

impl OwnEvidence {
    /// Whether it may go to the module's discovery of that external id, or of that URL hash without one: it is attached
    /// to nothing, or to that one already by an earlier request.
    #[must_use]
    pub fn is_free_for(&self, external_id: Option<&str>, canonical_hash: &[u8; 32]) -> bool {
        match &self.attached_to {
            None => true,
            Some((Some(known), _)) => Some(known.as_str()) == external_id,
            Some((None, known)) => external_id.is_none() && known == canonical_hash,
        }
    }
}

/// Which of these are the module's own. They are held until the transaction ends.
///
/// # Errors
/// [`Error`].
pub async fn evidence_attachable(
    tx: &impl GenericClient,
    ids: &[EvidenceId],
    module: ModuleDbId,
) -> Result<Vec<OwnEvidence>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = tx.query_typed(ATTACHABLE, &[(&ids, Type::UUID_ARRAY), (&module.0, Type::UUID)]).await?;
    Ok(rows
        .iter()
        .map(|row| OwnEvidence {
            id: EvidenceId(row.get(0)),
            attached_to: row.get::<_, bool>(1).then(|| {
                // The table's check keeps the length.
                (row.get(2), row.get::<_, &[u8]>(3).try_into().unwrap_or_default())
            }),
        })
        .collect())
}

/// Attaches evidence to a discovery.
///
/// # Errors
/// [`Error`].
pub async fn evidence_attach(
    tx: &impl GenericClient,
    ids: &[EvidenceId],
    discovery: DiscoveryId,
) -> Result<(), Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    tx.execute_typed(ATTACH, &[(&ids, Type::UUID_ARRAY), (&discovery.0, Type::UUID)]).await?;
    Ok(())
}

/// How much evidence a discovery has.
///
/// # Errors
/// [`Error`].
pub async fn evidence_count_of(client: &impl GenericClient, discovery: DiscoveryId) -> Result<i64, Error> {
    let rows = client.query_typed(COUNT_OF, &[(&discovery.0, Type::UUID)]).await?;
    Ok(rows.first().ok_or(Error::NotFound)?.get(0))
}

/// The evidence of a discovery, the oldest first, at most `limit`.
///
/// # Errors
/// [`Error`].
pub async fn evidence_list_of(
    client: &impl GenericClient,
    discovery: DiscoveryId,
    limit: i64,
) -> Result<Vec<Evidence>, Error> {
    let rows = client.query_typed(LIST_OF, &[(&discovery.0, Type::UUID), (&limit, Type::INT8)]).await?;
    Ok(rows
        .iter()
        .map(|row| Evidence {
            id: EvidenceId(row.get(0)),
            discovery_id: row.get::<_, Option<Uuid>>(1).map(DiscoveryId),
            module_id: row.get(2),
            kind: row.get(3),
            uri: row.get(4),
            has_object: row.get(5),
            // The table's check keeps the length.
            content_hash: row.get::<_, &[u8]>(6).try_into().unwrap_or_default(),
            captured_at: row.get(7),
            content_type: row.get(8),
            byte_size: row.get(9),
            purged_at: row.get(10),
            created_at: row.get(11),
        })
        .collect())
}
