//! Rows of the trust policy, by source key. What they add up to is judged by `domain::trust`.

use crate::sql::Word;
use crate::{Error, Statement};
use domain::state::TrustLevel;
use jiff::Timestamp;
use serde_json::Value;
use telemetry::db::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "policies_of_keys", sql: OF_KEYS, types: &[Type::TEXT_ARRAY] },
    Statement { name: "policies_list", sql: LIST, types: &[Type::TEXT, Type::BOOL, Type::TEXT] },
    Statement { name: "policy_lock", sql: LOCK, types: &[Type::TEXT] },
    Statement { name: "policy_put", sql: PUT, types: PUT_TYPES },
    Statement { name: "policy_enabled_set", sql: ENABLED_SET, types: &[Type::TEXT, Type::BOOL] },
    Statement { name: "policy_delete", sql: DELETE, types: &[Type::TEXT] },
];

/// A row of `source_trust_policy`.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredPolicy {
    /// Key of the row.
    pub id: Uuid,
    /// `default:<trust>`, `module:<module_id>`, or a key that modules may name.
    pub source_key: String,
    /// The trust it gives.
    pub trust_level: TrustLevel,
    /// Whether anything may be published without a moderator.
    pub auto_publish: bool,
    /// Whether a moderator looks first.
    pub requires_moderation: bool,
    /// The rules as they were put; `null` as a value takes an inherited rule away.
    pub rules_json: Value,
    /// A disabled row blocks auto-publication.
    pub enabled: bool,
    /// Whether it may raise a module's trust.
    pub allow_elevation: bool,
    /// Incremented by each change; the ETag.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its last change.
    pub updated_at: Timestamp,
}

macro_rules! columns {
    () => {
        "id, source_key, trust_level, auto_publish, requires_moderation, rules_json, enabled, allow_elevation, \
         version, created_at, updated_at"
    };
}

fn policy(row: &Row) -> Result<StoredPolicy, Error> {
    Ok(StoredPolicy {
        id: row.try_get("id")?,
        source_key: row.try_get("source_key")?,
        trust_level: row.try_get::<_, Word<_>>("trust_level")?.0,
        auto_publish: row.try_get("auto_publish")?,
        requires_moderation: row.try_get("requires_moderation")?,
        rules_json: row.try_get("rules_json")?,
        enabled: row.try_get("enabled")?,
        allow_elevation: row.try_get("allow_elevation")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

const OF_KEYS: &str = concat!(
    "\
SELECT ",
    columns!(),
    "
FROM source_trust_policy
WHERE source_key = ANY ($1)
ORDER BY source_key"
);

/// The rows of these keys, enabled or not; keys without a row are absent.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn policies_of_keys(
    client: &impl GenericClient,
    keys: &[&str],
) -> Result<Vec<StoredPolicy>, Error> {
    client.query_typed(OF_KEYS, &[(&keys, Type::TEXT_ARRAY)]).await?.iter().map(policy).collect()
}

const LIST: &str = concat!(
    "\
SELECT ",
    columns!(),
    "
FROM source_trust_policy
WHERE ($1::text IS NULL OR source_key = $1)
    AND ($2::boolean IS NULL OR enabled = $2)
    AND ($3::text IS NULL OR trust_level = $3)
ORDER BY source_key"
);

/// All rows that pass the filters, by source key.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn policies_list(
    client: &impl GenericClient,
    source_key: Option<&str>,
    enabled: Option<bool>,
    trust_level: Option<TrustLevel>,
) -> Result<Vec<StoredPolicy>, Error> {
    let trust_level = trust_level.map(TrustLevel::as_str);
    client
        .query_typed(LIST, &[(&source_key, Type::TEXT), (&enabled, Type::BOOL), (&trust_level, Type::TEXT)])
        .await?
        .iter()
        .map(policy)
        .collect()
}

const LOCK: &str = concat!(
    "\
SELECT ",
    columns!(),
    "
FROM source_trust_policy
WHERE source_key = $1
FOR UPDATE"
);

/// Reads a row for a change in this transaction.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn policy_lock(tx: &impl GenericClient, source_key: &str) -> Result<Option<StoredPolicy>, Error> {
    tx.query_typed(LOCK, &[(&source_key, Type::TEXT)]).await?.first().map(policy).transpose()
}

/// What an admin puts.
#[derive(Debug, Clone)]
pub struct PutPolicy<'a> {
    /// The key.
    pub source_key: &'a str,
    /// The trust it gives.
    pub trust_level: TrustLevel,
    /// Whether anything may be published without a moderator.
    pub auto_publish: bool,
    /// Whether a moderator looks first.
    pub requires_moderation: bool,
    /// Checked by `domain::trust` before.
    pub rules_json: &'a Value,
    /// A disabled row blocks auto-publication.
    pub enabled: bool,
    /// Whether it may raise a module's trust.
    pub allow_elevation: bool,
}

const PUT: &str = concat!(
    "\
INSERT INTO source_trust_policy (
    id, source_key, trust_level, auto_publish, requires_moderation, rules_json, enabled, allow_elevation
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT ON CONSTRAINT source_trust_policy_source_key_key DO UPDATE
SET trust_level = excluded.trust_level,
    auto_publish = excluded.auto_publish,
    requires_moderation = excluded.requires_moderation,
    rules_json = excluded.rules_json,
    enabled = excluded.enabled,
    allow_elevation = excluded.allow_elevation,
    version = source_trust_policy.version + 1,
    updated_at = now()
RETURNING ",
    columns!()
);

const PUT_TYPES: &[Type] =
    &[Type::UUID, Type::TEXT, Type::TEXT, Type::BOOL, Type::BOOL, Type::JSONB, Type::BOOL, Type::BOOL];

/// Makes or replaces a row and gives what is now in force; `version` 1 tells that it was made.
///
/// # Errors
/// [`Error::Conflict`] with `source_trust_policy_source_key_form` for a malformed key.
pub async fn policy_put(tx: &impl GenericClient, put: &PutPolicy<'_>) -> Result<StoredPolicy, Error> {
    let rows = tx
        .query_typed(
            PUT,
            &[
                (&Uuid::now_v7(), Type::UUID),
                (&put.source_key, Type::TEXT),
                (&put.trust_level.as_str(), Type::TEXT),
                (&put.auto_publish, Type::BOOL),
                (&put.requires_moderation, Type::BOOL),
                (&put.rules_json, Type::JSONB),
                (&put.enabled, Type::BOOL),
                (&put.allow_elevation, Type::BOOL),
            ],
        )
        .await?;
    policy(rows.first().ok_or(Error::NotFound)?)
}

const ENABLED_SET: &str = concat!(
    "\
UPDATE source_trust_policy
SET enabled = $2,
    version = version + 1,
    updated_at = now()
WHERE source_key = $1
RETURNING ",
    columns!()
);

/// Switches a row on or off; `None` if there is none.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn policy_enabled_set(
    tx: &impl GenericClient,
    source_key: &str,
    enabled: bool,
) -> Result<Option<StoredPolicy>, Error> {
    tx.query_typed(ENABLED_SET, &[(&source_key, Type::TEXT), (&enabled, Type::BOOL)])
        .await?
        .first()
        .map(policy)
        .transpose()
}

const DELETE: &str = "\
DELETE FROM source_trust_policy
WHERE source_key = $1";

/// Takes a row away, so that the chain falls back. False if there was none.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn policy_delete(tx: &impl GenericClient, source_key: &str) -> Result<bool, Error> {
    Ok(tx.execute_typed(DELETE, &[(&source_key, Type::TEXT)]).await? == 1)
}
