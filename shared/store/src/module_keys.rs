//! Keys of modules. Stored is the public part and the SHA-256 of the secret part.

use crate::{Error, Statement};
use domain::ids::ModuleDbId;
use domain::state::{ModuleKind, TrustLevel};
use jiff::Timestamp;
use telemetry::db::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// A module may have two live keys, so that one can be rotated without a gap (domain.md §2).
pub const LIVE_KEYS_MAX: usize = 2;

/// What is needed to decide whether a key opens, and what it opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleAuth {
    /// The module's row.
    pub module_db_id: ModuleDbId,
    /// The id that the module sends.
    pub module_id: String,
    /// Connector or processor.
    pub kind: ModuleKind,
    /// The kill switch.
    pub enabled: bool,
    /// What it may do.
    pub scopes: Vec<String>,
    /// How far it is trusted by itself.
    pub trust_level: TrustLevel,
    /// The source keys that it may name.
    pub source_keys: Vec<String>,
    /// The kinds of jobs that it may claim.
    pub job_kinds: Vec<String>,
    /// `config.ingest_per_minute`, where it is a whole number.
    pub ingest_per_minute: Option<i64>,
    /// The key's row.
    pub key_db_id: Uuid,
    /// SHA-256 of the key's secret part.
    pub key_hash: [u8; 32],
    /// When the key ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Written at most once a minute.
    pub last_used_at: Option<Timestamp>,
}

impl ModuleAuth {
    /// Whether module and key are in force.
    #[must_use]
    pub fn is_live_at(&self, now: Timestamp) -> bool {
        self.enabled && self.revoked_at.is_none() && self.expires_at.is_none_or(|at| at > now)
    }
}

/// A key as administrators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleKey {
    /// The module's row.
    pub module_db_id: ModuleDbId,
    /// The public part.
    pub key_id: String,
    /// What a person called it.
    pub label: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// Written at most once a minute.
    pub last_used_at: Option<Timestamp>,
}

/// By the unique key id; the module's id is checked in the same row.
const AUTHENTICATE: &str = "
    SELECT modules.id, modules.module_id, modules.kind, modules.enabled, modules.scopes, modules.trust_level,
        modules.source_keys, modules.job_kinds,
        CASE jsonb_typeof(modules.config -> 'ingest_per_minute')
            WHEN 'number' THEN trunc((modules.config ->> 'ingest_per_minute')::numeric)::bigint
        END,
        module_keys.id, module_keys.key_hash, module_keys.expires_at, module_keys.revoked_at,
        module_keys.last_used_at
    FROM module_keys
    JOIN modules ON modules.id = module_keys.module_id
    WHERE module_keys.key_id = $2 AND modules.module_id = $1";

/// Rows that another request touches at this moment are left to it: nobody waits for a note of the time.
const TOUCH: &str = "
    WITH due_key AS (
        SELECT id FROM module_keys
        WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
        FOR NO KEY UPDATE SKIP LOCKED
    ), due_module AS (
        SELECT id FROM modules
        WHERE id = $2 AND (last_seen_at IS NULL OR last_seen_at < now() - interval '1 minute')
        FOR NO KEY UPDATE SKIP LOCKED
    ), touched AS (
        UPDATE modules SET last_seen_at = now() FROM due_module WHERE modules.id = due_module.id
    )
    UPDATE module_keys SET last_used_at = now() FROM due_key WHERE module_keys.id = due_key.id";

/// The unrevoked keys of some modules, the oldest first; an expired one is shown until it is revoked.
const LIST: &str = "
    SELECT module_id, key_id, label, created_at, expires_at, last_used_at
    FROM module_keys
    WHERE module_id = ANY ($1) AND revoked_at IS NULL
    ORDER BY created_at, id";

const INSERT: &str = "
    INSERT INTO module_keys (id, module_id, key_id, key_hash, label, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6)";

const REVOKE: &str = "
    UPDATE module_keys
    SET revoked_at = now()
    WHERE module_id = $1 AND key_id = $2 AND revoked_at IS NULL
    RETURNING label";

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "module_key_authenticate", sql: AUTHENTICATE, types: &[Type::TEXT, Type::TEXT] },
    Statement { name: "module_key_touch", sql: TOUCH, types: &[Type::UUID, Type::UUID] },
    Statement { name: "module_keys_list", sql: LIST, types: &[Type::UUID_ARRAY] },
    Statement {
        name: "module_key_insert",
        sql: INSERT,
        types: &[Type::UUID, Type::UUID, Type::TEXT, Type::BYTEA, Type::TEXT, Type::TIMESTAMPTZ],
    },
    Statement { name: "module_key_revoke", sql: REVOKE, types: &[Type::UUID, Type::TEXT] },
];

/// The key of that public part, if it is one of that module: whether it is in force is the caller's to judge, since the
/// row is cached.
///
/// # Errors
/// [`Error`].
pub async fn module_key_authenticate(
    client: &impl GenericClient,
    module_id: &str,
    key_id: &str,
) -> Result<Option<ModuleAuth>, Error> {
    let rows = client.query_typed(AUTHENTICATE, &[(&module_id, Type::TEXT), (&key_id, Type::TEXT)]).await?;
    Ok(rows.first().map(read_auth))
}

fn read_auth(row: &Row) -> ModuleAuth {
    ModuleAuth {
        module_db_id: ModuleDbId(row.get(0)),
        module_id: row.get(1),
        // The checks of the table keep other words out; the least that could be meant stands in for one.
        kind: row.get::<_, &str>(2).parse().unwrap_or(ModuleKind::Connector),
        enabled: row.get(3),
        scopes: row.get(4),
        trust_level: row.get::<_, &str>(5).parse().unwrap_or(TrustLevel::Untrusted),
        source_keys: row.get(6),
        job_kinds: row.get(7),
        ingest_per_minute: row.get(8),
        key_db_id: row.get(9),
        // The table's check keeps the length; a hash of zeros is that of no secret.
        key_hash: row.get::<_, &[u8]>(10).try_into().unwrap_or([0; 32]),
        expires_at: row.get(11),
        revoked_at: row.get(12),
        last_used_at: row.get(13),
    }
}

/// Notes that a key was used, and its module seen, unless that was done within the last minute.
///
/// # Errors
/// [`Error`].
pub async fn module_key_touch(
    client: &impl GenericClient,
    key: Uuid,
    module: ModuleDbId,
) -> Result<(), Error> {
    client.execute_typed(TOUCH, &[(&key, Type::UUID), (&module.0, Type::UUID)]).await?;
    Ok(())
}

/// The unrevoked keys of these modules, the oldest first.
///
/// # Errors
/// [`Error`].
pub async fn module_keys_list(
    client: &impl GenericClient,
    modules: &[ModuleDbId],
) -> Result<Vec<ModuleKey>, Error> {
    let ids: Vec<Uuid> = modules.iter().map(|id| id.0).collect();
    let rows = client.query_typed(LIST, &[(&ids, Type::UUID_ARRAY)]).await?;
    Ok(rows
        .iter()
        .map(|row| ModuleKey {
            module_db_id: ModuleDbId(row.get(0)),
            key_id: row.get(1),
            label: row.get(2),
            created_at: row.get(3),
            expires_at: row.get(4),
            last_used_at: row.get(5),
        })
        .collect())
}

/// Adds a key. The caller holds the module's row and counted its keys.
///
/// # Errors
/// [`Error::Conflict`] `module_keys_key_id_key` if the public part is taken.
pub async fn module_key_insert(
    tx: &impl GenericClient,
    module: ModuleDbId,
    key_id: &str,
    key_hash: &[u8; 32],
    label: &str,
    expires_at: Option<Timestamp>,
) -> Result<(), Error> {
    tx.execute_typed(
        INSERT,
        &[
            (&Uuid::now_v7(), Type::UUID),
            (&module.0, Type::UUID),
            (&key_id, Type::TEXT),
            (&key_hash.as_slice(), Type::BYTEA),
            (&label, Type::TEXT),
            (&expires_at, Type::TIMESTAMPTZ),
        ],
    )
    .await?;
    Ok(())
}

/// Revokes a key. Returns its label.
///
/// # Errors
/// [`Error::NotFound`] if the module has no unrevoked key of that public part.
pub async fn module_key_revoke(
    tx: &impl GenericClient,
    module: ModuleDbId,
    key_id: &str,
) -> Result<String, Error> {
    let rows = tx.query_typed(REVOKE, &[(&module.0, Type::UUID), (&key_id, Type::TEXT)]).await?;
    rows.first().map(|row| row.get(0)).ok_or(Error::NotFound)
}
