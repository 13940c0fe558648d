//! What a job needs to know of its discovery, and the few things that it may write there.
//!
//! The job's own row is locked before the discovery, and the discovery before its candidate.

use crate::sql::{Digest, Word};
use crate::{Error, Statement};
use domain::ids::{CandidateId, DiscoveryId, ModuleDbId};
use domain::posting::Hints;
use domain::state::{DiscoveryStatus, TrustLevel};
use jiff::Timestamp;
use serde_json::Value;
use telemetry::db::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "discovery_work_find", sql: FIND, types: &[Type::UUID] },
    Statement { name: "discovery_work_lock", sql: LOCK, types: &[Type::UUID] },
    Statement { name: "discovery_status_set", sql: STATUS_SET, types: STATUS_SET_TYPES },
    Statement { name: "discovery_candidate_set", sql: CANDIDATE_SET, types: &[Type::UUID, Type::UUID] },
    Statement { name: "discovery_resolved_set", sql: RESOLVED_SET, types: RESOLVED_SET_TYPES },
    Statement { name: "discovery_at_address", sql: AT_ADDRESS, types: AT_ADDRESS_TYPES },
];

/// A discovery with its module, as its jobs see it.
#[derive(Debug, Clone, PartialEq)]
pub struct DiscoveryWork {
    /// Key.
    pub id: DiscoveryId,
    /// The module that handed it in.
    pub module: WorkModule,
    /// As it was handed in.
    pub url: String,
    /// §7.1.
    pub normalized_url: String,
    /// SHA-256 of `normalized_url`.
    pub canonical_hash: [u8; 32],
    /// What the connector said beforehand.
    pub hints: Hints,
    /// Free-form; `source_key` and `resolve_redirects` are read.
    pub metadata: Value,
    /// The source key, if the module may name it.
    pub source_key: Option<String>,
    /// 1 if it was found on a listing.
    pub depth: i16,
    /// §4.
    pub status: DiscoveryStatus,
    /// Its candidate.
    pub candidate_id: Option<CandidateId>,
    /// Where its address led, written once.
    pub resolved_canonical_hash: Option<[u8; 32]>,
    /// When the source saw it.
    pub discovered_at: Timestamp,
    /// When it was handed in.
    pub created_at: Timestamp,
    /// The W3C `traceparent` of the request that handed it in.
    pub trace_context: Option<String>,
}

/// What decides how far a discovery is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkModule {
    /// Key of the row.
    pub id: ModuleDbId,
    /// The text id.
    pub module_id: String,
    /// The kill switch.
    pub enabled: bool,
    /// The module's own trust.
    pub trust_level: TrustLevel,
    /// The keys it may name.
    pub source_keys: Vec<String>,
}

macro_rules! work_select {
    ($end:literal) => {
        concat!(
            "\
SELECT
    discovery.id, discovery.url, discovery.normalized_url, discovery.canonical_hash, discovery.title_hint,
    discovery.organization_hint, discovery.text_hint, discovery.hints, discovery.metadata, discovery.source_key,
    discovery.depth, discovery.status, discovery.candidate_id, discovery.resolved_canonical_hash,
    discovery.discovered_at, discovery.created_at, discovery.trace_context,
    module.id AS module_db_id, module.module_id, module.enabled, module.trust_level, module.source_keys
FROM discoveries AS discovery
JOIN modules AS module ON module.id = discovery.origin_module_id
WHERE discovery.id = $1",
            $end
        )
    };
}

fn work(row: &Row) -> Result<DiscoveryWork, Error> {
    let hints = match row.try_get::<_, Value>("hints")? {
        Value::Object(members) if !members.is_empty() => Some(members),
        _ => None,
    };
    Ok(DiscoveryWork {
        id: DiscoveryId(row.try_get("id")?),
        module: WorkModule {
            id: ModuleDbId(row.try_get("module_db_id")?),
            module_id: row.try_get("module_id")?,
            enabled: row.try_get("enabled")?,
            trust_level: row.try_get::<_, Word<_>>("trust_level")?.0,
            source_keys: row.try_get("source_keys")?,
        },
        url: row.try_get("url")?,
        normalized_url: row.try_get("normalized_url")?,
        canonical_hash: row.try_get::<_, Digest>("canonical_hash")?.0,
        hints: Hints {
            title_hint: row.try_get("title_hint")?,
            organization_hint: row.try_get("organization_hint")?,
            text_hint: row.try_get("text_hint")?,
            hints,
        },
        metadata: row.try_get("metadata")?,
        source_key: row.try_get("source_key")?,
        depth: row.try_get("depth")?,
        status: row.try_get::<_, Word<_>>("status")?.0,
        candidate_id: row.try_get::<_, Option<Uuid>>("candidate_id")?.map(CandidateId),
        resolved_canonical_hash: row
            .try_get::<_, Option<Digest>>("resolved_canonical_hash")?
            .map(|Digest(hash)| hash),
        discovered_at: row.try_get("discovered_at")?,
        created_at: row.try_get("created_at")?,
        trace_context: row.try_get("trace_context")?,
    })
}

const FIND: &str = work_select!("");

/// Reads a discovery for a job's I/O, outside any transaction.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn discovery_work_find(
    client: &impl GenericClient,
    id: DiscoveryId,
) -> Result<Option<DiscoveryWork>, Error> {
    client.query_typed(FIND, &[(&id.0, Type::UUID)]).await?.first().map(work).transpose()
}

const LOCK: &str = work_select!("\nFOR UPDATE OF discovery");

/// Reads a discovery for a change in this transaction. The module's row is read as it is, not locked.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn discovery_work_lock(
    tx: &impl GenericClient,
    id: DiscoveryId,
) -> Result<Option<DiscoveryWork>, Error> {
    tx.query_typed(LOCK, &[(&id.0, Type::UUID)]).await?.first().map(work).transpose()
}

const STATUS_SET: &str = "\
UPDATE discoveries
SET status = $2,
    status_reason = $3,
    version = version + 1,
    updated_at = now()
WHERE id = $1";

const STATUS_SET_TYPES: &[Type] = &[Type::UUID, Type::TEXT, Type::TEXT];

/// Writes a locked discovery's status.
///
/// # Errors
/// [`Error::NotFound`] if there is no such discovery; else of the database.
pub async fn discovery_status_set(
    tx: &impl GenericClient,
    id: DiscoveryId,
    status: DiscoveryStatus,
    reason: Option<&str>,
) -> Result<(), Error> {
    let updated = tx
        .execute_typed(
            STATUS_SET,
            &[(&id.0, Type::UUID), (&status.as_str(), Type::TEXT), (&reason, Type::TEXT)],
        )
        .await?;
    if updated == 0 { Err(Error::NotFound) } else { Ok(()) }
}

const CANDIDATE_SET: &str = "\
UPDATE discoveries
SET candidate_id = $2,
    version = version + 1,
    updated_at = now()
WHERE id = $1
    AND candidate_id IS NULL";

/// Gives a locked discovery its candidate, once. False if it has one.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn discovery_candidate_set(
    tx: &impl GenericClient,
    id: DiscoveryId,
    candidate: CandidateId,
) -> Result<bool, Error> {
    let updated = tx.execute_typed(CANDIDATE_SET, &[(&id.0, Type::UUID), (&candidate.0, Type::UUID)]).await?;
    Ok(updated == 1)
}

const RESOLVED_SET: &str = "\
UPDATE discoveries
SET resolved_url = $2,
    resolved_normalized_url = $3,
    resolved_canonical_hash = $4,
    resolved_at = $5,
    version = version + 1,
    updated_at = now()
WHERE id = $1
    AND resolved_at IS NULL";

const RESOLVED_SET_TYPES: &[Type] = &[Type::UUID, Type::TEXT, Type::TEXT, Type::BYTEA, Type::TIMESTAMPTZ];

/// Where a chain of redirects ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedAddress<'a> {
    /// As the last hop named it.
    pub url: &'a str,
    /// §7.1.
    pub normalized_url: &'a str,
    /// SHA-256 of `normalized_url`.
    pub hash: &'a [u8; 32],
    /// When.
    pub at: Timestamp,
}

/// Records where a locked discovery's address led, once. False if that is recorded already.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn discovery_resolved_set(
    tx: &impl GenericClient,
    id: DiscoveryId,
    resolved: &ResolvedAddress<'_>,
) -> Result<bool, Error> {
    let updated = tx
        .execute_typed(
            RESOLVED_SET,
            &[
                (&id.0, Type::UUID),
                (&resolved.url, Type::TEXT),
                (&resolved.normalized_url, Type::TEXT),
                (&&resolved.hash[..], Type::BYTEA),
                (&resolved.at, Type::TIMESTAMPTZ),
            ],
        )
        .await?;
    Ok(updated == 1)
}

const AT_ADDRESS: &str = "\
SELECT id, candidate_id
FROM discoveries
WHERE origin_module_id = $1
    AND id <> $2
    AND (canonical_hash = $3 OR resolved_canonical_hash = $3)
    AND status <> 'withdrawn'
ORDER BY created_at, id
LIMIT 1";

const AT_ADDRESS_TYPES: &[Type] = &[Type::UUID, Type::UUID, Type::BYTEA];

/// The oldest other discovery of a module that was handed in with, or led to, an address; and its candidate.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn discovery_at_address(
    tx: &impl GenericClient,
    module: ModuleDbId,
    except: DiscoveryId,
    hash: &[u8; 32],
) -> Result<Option<(DiscoveryId, Option<CandidateId>)>, Error> {
    let rows = tx
        .query_typed(
            AT_ADDRESS,
            &[(&module.0, Type::UUID), (&except.0, Type::UUID), (&&hash[..], Type::BYTEA)],
        )
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let candidate = row.try_get::<_, Option<Uuid>>("candidate_id")?.map(CandidateId);
    Ok(Some((DiscoveryId(row.try_get("id")?), candidate)))
}
