//! Modules: the machines that hand in discoveries or work on jobs.

use crate::{Error, Statement};
use domain::ids::ModuleDbId;
use jiff::Timestamp;
use serde_json::Value;
use telemetry::db::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// A module, and what it handed in lately. Enumerations are their text: see `domain::state`.
#[derive(Debug, Clone, PartialEq)]
pub struct Module {
    /// The row.
    pub id: ModuleDbId,
    /// `^[a-z0-9][a-z0-9._-]{1,62}$`
    pub module_id: String,
    /// For people.
    pub name: String,
    /// `connector` or `processor`.
    pub kind: String,
    /// How a connector comes by what it hands in.
    pub intake_mode: Option<String>,
    /// The kill switch.
    pub enabled: bool,
    /// Why it was switched off.
    pub disabled_reason: Option<String>,
    /// What it may do.
    pub scopes: Vec<String>,
    /// How far it is trusted by itself.
    pub trust_level: String,
    /// The source keys that it may name.
    pub source_keys: Vec<String>,
    /// The kinds of jobs that it may claim.
    pub job_kinds: Vec<String>,
    /// Free-form; read: `ingest_per_minute`.
    pub config: Value,
    /// Rises with each change by a person.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a person last changed it.
    pub updated_at: Timestamp,
}

/// What a module handed in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModuleIngest {
    /// Accepted discoveries, ever.
    pub ingested_count: i64,
    /// Accepted discoveries of the last 24 hours.
    pub ingested_24h: i64,
    /// When it last handed in one that was accepted or known.
    pub last_ingested_at: Option<Timestamp>,
    /// When one was last refused, within the last 25 hours.
    pub last_ingest_error_at: Option<Timestamp>,
    /// The slug of that refusal.
    pub last_ingest_error: Option<String>,
}

/// Which modules; every `None` lets all pass.
#[derive(Debug, Clone, Default)]
pub struct ModuleFilter<'a> {
    /// Exactly this one.
    pub module_id: Option<&'a str>,
    /// Of this kind.
    pub kind: Option<&'a str>,
    /// Switched on or off.
    pub enabled: Option<bool>,
    /// Of this trust.
    pub trust_level: Option<&'a str>,
    /// Only those after this `module_id`.
    pub after: Option<&'a str>,
}

macro_rules! columns {
    () => {
        "id, module_id, name, kind, intake_mode, enabled, disabled_reason, scopes, trust_level, source_keys,
        job_kinds, config, version, created_at, updated_at"
    };
}

/// By the unique index on module_id, in its order.
const LIST: &str = concat!(
    "
    SELECT ",
    columns!(),
    "
    FROM modules
    WHERE ($1::text IS NULL OR module_id = $1)
        AND ($2::text IS NULL OR kind = $2)
        AND ($3::boolean IS NULL OR enabled = $3)
        AND ($4::text IS NULL OR trust_level = $4)
        AND ($5::text IS NULL OR module_id > $5)
    ORDER BY module_id
    LIMIT $6"
);

const FIND: &str = concat!("SELECT ", columns!(), " FROM modules WHERE module_id = $1");

const LOCK: &str = concat!("SELECT ", columns!(), " FROM modules WHERE module_id = $1 FOR NO KEY UPDATE");

const INSERT: &str = concat!(
    "
    INSERT INTO modules
        (id, module_id, name, kind, intake_mode, scopes, trust_level, source_keys, job_kinds, config)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    RETURNING ",
    columns!()
);

const UPDATE: &str = concat!(
    "
    UPDATE modules
    SET name = $2, enabled = $3, disabled_reason = $4, scopes = $5, trust_level = $6, source_keys = $7,
        job_kinds = $8, config = $9, version = version + 1, updated_at = now()
    WHERE id = $1
    RETURNING ",
    columns!()
);

/// Counters of 25 hours at most, by the primary key, and one probe of discoveries' index on (module, created_at).
const INGEST: &str = "
    SELECT modules.id,
        modules.ingested_count + coalesce(recent.accepted, 0),
        coalesce(recent.accepted_24h, 0),
        coalesce(recent.last_ingested_at, newest.created_at),
        failed.last_at,
        failed.last_error
    FROM modules
    LEFT JOIN LATERAL (
        SELECT sum(accepted)::bigint AS accepted,
            (sum(accepted) FILTER (WHERE minute > now() - interval '24 hours'))::bigint AS accepted_24h,
            max(last_at) FILTER (WHERE accepted + resighted > 0) AS last_ingested_at
        FROM ingest_counters
        WHERE ingest_counters.module_id = modules.id
    ) AS recent ON true
    LEFT JOIN LATERAL (
        SELECT created_at
        FROM discoveries
        WHERE discoveries.origin_module_id = modules.id
        ORDER BY created_at DESC, id DESC
        LIMIT 1
    ) AS newest ON true
    LEFT JOIN LATERAL (
        SELECT last_at, last_error
        FROM ingest_counters
        WHERE ingest_counters.module_id = modules.id AND last_error IS NOT NULL
        ORDER BY minute DESC, last_at DESC
        LIMIT 1
    ) AS failed ON true
    WHERE modules.id = ANY ($1)";

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement {
        name: "modules_list",
        sql: LIST,
        types: &[Type::TEXT, Type::TEXT, Type::BOOL, Type::TEXT, Type::TEXT, Type::INT8],
    },
    Statement { name: "module_find", sql: FIND, types: &[Type::TEXT] },
    Statement { name: "module_lock", sql: LOCK, types: &[Type::TEXT] },
    Statement {
        name: "module_insert",
        sql: INSERT,
        types: &[
            Type::UUID,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT_ARRAY,
            Type::TEXT,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::JSONB,
        ],
    },
    Statement {
        name: "module_update",
        sql: UPDATE,
        types: &[
            Type::UUID,
            Type::TEXT,
            Type::BOOL,
            Type::TEXT,
            Type::TEXT_ARRAY,
            Type::TEXT,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::JSONB,
        ],
    },
    Statement { name: "modules_ingest", sql: INGEST, types: &[Type::UUID_ARRAY] },
];

fn read(row: &Row) -> Module {
    Module {
        id: ModuleDbId(row.get(0)),
        module_id: row.get(1),
        name: row.get(2),
        kind: row.get(3),
        intake_mode: row.get(4),
        enabled: row.get(5),
        disabled_reason: row.get(6),
        scopes: row.get(7),
        trust_level: row.get(8),
        source_keys: row.get(9),
        job_kinds: row.get(10),
        config: row.get(11),
        version: row.get(12),
        created_at: row.get(13),
        updated_at: row.get(14),
    }
}

/// At most `limit` modules, by `module_id`.
///
/// # Errors
/// [`Error`].
pub async fn modules_list(
    client: &impl GenericClient,
    filter: &ModuleFilter<'_>,
    limit: i64,
) -> Result<Vec<Module>, Error> {
    let rows = client
        .query_typed(
            LIST,
            &[
                (&filter.module_id, Type::TEXT),
                (&filter.kind, Type::TEXT),
                (&filter.enabled, Type::BOOL),
                (&filter.trust_level, Type::TEXT),
                (&filter.after, Type::TEXT),
                (&limit, Type::INT8),
            ],
        )
        .await?;
    Ok(rows.iter().map(read).collect())
}

/// The module of that id.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn module_find(client: &impl GenericClient, module_id: &str) -> Result<Module, Error> {
    let rows = client.query_typed(FIND, &[(&module_id, Type::TEXT)]).await?;
    rows.first().map(read).ok_or(Error::NotFound)
}

/// The module of that id, held until the transaction ends: changes of it and of its keys come one after the other.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn module_lock(tx: &impl GenericClient, module_id: &str) -> Result<Module, Error> {
    let rows = tx.query_typed(LOCK, &[(&module_id, Type::TEXT)]).await?;
    rows.first().map(read).ok_or(Error::NotFound)
}

/// Adds a module: `id`, times and version of `module` are made here, `enabled` is true.
///
/// # Errors
/// [`Error::Conflict`] `modules_module_id_key` if the id is taken.
pub async fn module_insert(tx: &impl GenericClient, module: &Module) -> Result<Module, Error> {
    let rows = tx
        .query_typed(
            INSERT,
            &[
                (&Uuid::now_v7(), Type::UUID),
                (&module.module_id, Type::TEXT),
                (&module.name, Type::TEXT),
                (&module.kind, Type::TEXT),
                (&module.intake_mode, Type::TEXT),
                (&module.scopes, Type::TEXT_ARRAY),
                (&module.trust_level, Type::TEXT),
                (&module.source_keys, Type::TEXT_ARRAY),
                (&module.job_kinds, Type::TEXT_ARRAY),
                (&module.config, Type::JSONB),
            ],
        )
        .await?;
    rows.first().map(read).ok_or(Error::NotFound)
}

/// Writes what a person may change of the module `module.id`.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn module_update(tx: &impl GenericClient, module: &Module) -> Result<Module, Error> {
    let rows = tx
        .query_typed(
            UPDATE,
            &[
                (&module.id.0, Type::UUID),
                (&module.name, Type::TEXT),
                (&module.enabled, Type::BOOL),
                (&module.disabled_reason, Type::TEXT),
                (&module.scopes, Type::TEXT_ARRAY),
                (&module.trust_level, Type::TEXT),
                (&module.source_keys, Type::TEXT_ARRAY),
                (&module.job_kinds, Type::TEXT_ARRAY),
                (&module.config, Type::JSONB),
            ],
        )
        .await?;
    rows.first().map(read).ok_or(Error::NotFound)
}

/// What these modules handed in, in no order.
///
/// # Errors
/// [`Error`].
pub async fn modules_ingest(
    client: &impl GenericClient,
    modules: &[ModuleDbId],
) -> Result<Vec<(ModuleDbId, ModuleIngest)>, Error> {
    let ids: Vec<Uuid> = modules.iter().map(|id| id.0).collect();
    let rows = client.query_typed(INGEST, &[(&ids, Type::UUID_ARRAY)]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            let ingest = ModuleIngest {
                ingested_count: row.get(1),
                ingested_24h: row.get(2),
                last_ingested_at: row.get(3),
                last_ingest_error_at: row.get(4),
                last_ingest_error: row.get(5),
            };
            (ModuleDbId(row.get(0)), ingest)
        })
        .collect())
}
