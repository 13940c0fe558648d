//! Evidence: what was captured, by callboard or by a module. Append-only; attaching it to a discovery is the one change.

use crate::{Error, Statement};
use domain::ids::{DiscoveryId, EvidenceId, ModuleDbId};
use domain::state::EvidenceKind;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::HashMap;
use telemetry::db::GenericClient;
use tokio_postgres::Row;
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
    SET discovery_id = new.discovery_id
    FROM unnest($1::uuid[], $2::uuid[]) AS new (id, discovery_id)
    WHERE evidence.id = new.id
        AND evidence.discovery_id IS NULL
        AND NOT EXISTS (
            SELECT
            FROM evidence AS other
            WHERE other.discovery_id = new.discovery_id
                AND other.module_id = evidence.module_id
                AND other.kind = evidence.kind
                AND other.content_hash = evidence.content_hash
        )";

/// As [`INSERT`], for any number of discoveries.
const INSERT_ALL: &str = "
    INSERT INTO evidence
        (id, discovery_id, module_id, kind, uri, object_key, content_hash, captured_at, content_type, byte_size,
        inline_text, http, metadata)
    SELECT id, discovery_id, module_id, kind, uri, object_key, content_hash, captured_at, content_type, byte_size,
        inline_text, http, metadata
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::bytea[],
        $8::timestamptz[], $9::text[], $10::bigint[], $11::text[], $12::jsonb[], $13::jsonb[])
        AS new (id, discovery_id, module_id, kind, uri, object_key, content_hash, captured_at, content_type,
        byte_size, inline_text, http, metadata)
    ORDER BY module_id, discovery_id, kind, content_hash
    ON CONFLICT ON CONSTRAINT evidence_content_key DO NOTHING";

/// By the unique index on (module, discovery, kind, hash).
const MATCH_ALL: &str = "
    SELECT asked.position, evidence.id
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[]) WITH ORDINALITY
        AS asked (module_id, discovery_id, kind, content_hash, position)
    JOIN evidence
        ON evidence.module_id = asked.module_id
        AND evidence.discovery_id = asked.discovery_id
        AND evidence.kind = asked.kind
        AND evidence.content_hash = asked.content_hash";

const COUNTS_OF: &str = "
    SELECT discovery_id, count(*)
    FROM evidence
    WHERE discovery_id = ANY ($1)
    GROUP BY discovery_id";

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
    Statement { name: "evidence_attach", sql: ATTACH, types: &[Type::UUID_ARRAY, Type::UUID_ARRAY] },
    Statement {
        name: "evidence_insert_all",
        sql: INSERT_ALL,
        types: &[
            Type::UUID_ARRAY,
            Type::UUID_ARRAY,
            Type::UUID_ARRAY,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::BYTEA_ARRAY,
            Type::TIMESTAMPTZ_ARRAY,
            Type::TEXT_ARRAY,
            Type::INT8_ARRAY,
            Type::TEXT_ARRAY,
            Type::JSONB_ARRAY,
            Type::JSONB_ARRAY,
        ],
    },
    Statement {
        name: "evidence_match_all",
        sql: MATCH_ALL,
        types: &[Type::UUID_ARRAY, Type::UUID_ARRAY, Type::TEXT_ARRAY, Type::BYTEA_ARRAY],
    },
    Statement { name: "evidence_counts_of", sql: COUNTS_OF, types: &[Type::UUID_ARRAY] },
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

/// Attaches each piece of evidence to its discovery. One statement; none cost none.
///
/// # Errors
/// [`Error`].
pub async fn evidence_attach(
    tx: &impl GenericClient,
    attached: &[(EvidenceId, DiscoveryId)],
) -> Result<(), Error> {
    if attached.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = attached.iter().map(|(id, _)| id.0).collect();
    let discoveries: Vec<Uuid> = attached.iter().map(|(_, discovery)| discovery.0).collect();
    tx.execute_typed(ATTACH, &[(&ids, Type::UUID_ARRAY), (&discoveries, Type::UUID_ARRAY)]).await?;
    Ok(())
}

/// Stores evidence of discoveries, or finds it stored, and returns the id of each in the given order. Two statements, sent
/// together; none cost none. Each must name its module and its discovery.
///
/// # Errors
/// [`Error::Collision`] if one is neither stored nor could be found: it names no module or discovery, or went away.
pub async fn evidence_insert_all(
    tx: &impl GenericClient,
    new: &[NewEvidence],
) -> Result<Vec<EvidenceId>, Error> {
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let (inserted, found) =
        futures::future::join(Columns::of(new).insert(tx), Columns::of(new).find(tx)).await;
    inserted?;
    let mut ids = vec![None; new.len()];
    for row in &found? {
        let place = usize::try_from(row.get::<_, i64>(0) - 1).ok().and_then(|place| ids.get_mut(place));
        if let Some(place) = place {
            *place = Some(EvidenceId(row.get(1)));
        }
    }
    ids.into_iter()
        .collect::<Option<_>>()
        .ok_or_else(|| Error::Collision { detail: "evidence went away while it came in".into() })
}

struct Columns<'a> {
    new: &'a [NewEvidence],
    discovery_ids: Vec<Option<Uuid>>,
    modules: Vec<Option<Uuid>>,
    kinds: Vec<&'a str>,
    hashes: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    fn of(new: &'a [NewEvidence]) -> Self {
        Self {
            new,
            discovery_ids: new.iter().map(|new| new.discovery_id.map(|id| id.0)).collect(),
            modules: new.iter().map(|new| new.module.map(|id| id.0)).collect(),
            kinds: new.iter().map(|new| new.kind.as_str()).collect(),
            hashes: new.iter().map(|new| new.content_hash.as_slice()).collect(),
        }
    }

    async fn insert(self, tx: &impl GenericClient) -> Result<(), Error> {
        fn column<'a, T>(new: &'a [NewEvidence], pick: impl Fn(&'a NewEvidence) -> T) -> Vec<T> {
            new.iter().map(pick).collect()
        }
        let ids = column(self.new, |new| new.id.0);
        let uris = column(self.new, |new| new.uri.as_deref());
        let object_keys = column(self.new, |new| new.object_key.as_deref());
        let captured_ats = column(self.new, |new| new.captured_at);
        let content_types = column(self.new, |new| new.content_type.as_str());
        let byte_sizes = column(self.new, |new| new.byte_size);
        let inline_texts = column(self.new, |new| new.inline_text.as_deref());
        let https = column(self.new, |new| new.http.as_ref());
        let metadatas = column(self.new, |new| &new.metadata);
        tx.execute_typed(
            INSERT_ALL,
            &[
                (&ids, Type::UUID_ARRAY),
                (&self.discovery_ids, Type::UUID_ARRAY),
                (&self.modules, Type::UUID_ARRAY),
                (&self.kinds, Type::TEXT_ARRAY),
                (&uris, Type::TEXT_ARRAY),
                (&object_keys, Type::TEXT_ARRAY),
                (&self.hashes, Type::BYTEA_ARRAY),
                (&captured_ats, Type::TIMESTAMPTZ_ARRAY),
                (&content_types, Type::TEXT_ARRAY),
                (&byte_sizes, Type::INT8_ARRAY),
                (&inline_texts, Type::TEXT_ARRAY),
                (&https, Type::JSONB_ARRAY),
                (&metadatas, Type::JSONB_ARRAY),
            ],
        )
        .await?;
        Ok(())
    }

    async fn find(self, tx: &impl GenericClient) -> Result<Vec<Row>, Error> {
        let rows = tx
            .query_typed(
                MATCH_ALL,
                &[
                    (&self.modules, Type::UUID_ARRAY),
                    (&self.discovery_ids, Type::UUID_ARRAY),
                    (&self.kinds, Type::TEXT_ARRAY),
                    (&self.hashes, Type::BYTEA_ARRAY),
                ],
            )
            .await?;
        Ok(rows)
    }
}

/// How much evidence each of these discoveries has; one without any is absent. None cost none.
///
/// # Errors
/// [`Error`].
pub async fn evidence_counts_of(
    client: &impl GenericClient,
    discoveries: &[DiscoveryId],
) -> Result<HashMap<DiscoveryId, i64>, Error> {
    if discoveries.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<Uuid> = discoveries.iter().map(|id| id.0).collect();
    let rows = client.query_typed(COUNTS_OF, &[(&ids, Type::UUID_ARRAY)]).await?;
    Ok(rows.iter().map(|row| (DiscoveryId(row.get(0)), row.get(1))).collect())
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
