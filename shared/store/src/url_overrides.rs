//! Overrides of URL normalisation, by domain. What they do is the business of `domain::url`.

use crate::{Error, Statement};
use jiff::Timestamp;
use telemetry::db::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "url_overrides_list", sql: LIST, types: &[Type::TEXT, Type::BOOL] },
    Statement { name: "url_override_lock", sql: LOCK, types: &[Type::TEXT] },
    Statement { name: "url_override_put", sql: PUT, types: PUT_TYPES },
    Statement { name: "url_override_enabled_set", sql: ENABLED_SET, types: &[Type::TEXT, Type::BOOL] },
    Statement { name: "url_override_delete", sql: DELETE, types: &[Type::TEXT] },
    Statement { name: "url_rules_version", sql: RULES_VERSION, types: &[] },
    Statement { name: "url_rules_version_bump", sql: RULES_VERSION_BUMP, types: &[] },
];

/// A row of `url_normalization_overrides`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOverride {
    /// Key of the row.
    pub id: Uuid,
    /// A-label form; it holds for the domain and everything below it.
    pub domain: String,
    /// Whole names to drop.
    pub strip_query_params: Vec<String>,
    /// Beginnings of names to drop.
    pub strip_query_prefixes: Vec<String>,
    /// Names never dropped.
    pub keep_query_params: Vec<String>,
    /// Whether a leading `www.` is dropped.
    pub strip_www: bool,
    /// Whether http on the default port becomes https.
    pub force_https: bool,
    /// Whether it is in force.
    pub enabled: bool,
    /// Incremented by each change; the ETag.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its last change.
    pub updated_at: Timestamp,
}

macro_rules! columns {
    () => {
        "id, domain, strip_query_params, strip_query_prefixes, keep_query_params, strip_www, force_https, enabled, \
         version, created_at, updated_at"
    };
}

fn stored(row: &Row) -> Result<StoredOverride, Error> {
    Ok(StoredOverride {
        id: row.try_get("id")?,
        domain: row.try_get("domain")?,
        strip_query_params: row.try_get("strip_query_params")?,
        strip_query_prefixes: row.try_get("strip_query_prefixes")?,
        keep_query_params: row.try_get("keep_query_params")?,
        strip_www: row.try_get("strip_www")?,
        force_https: row.try_get("force_https")?,
        enabled: row.try_get("enabled")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

const LIST: &str = concat!(
    "\
SELECT ",
    columns!(),
    "
FROM url_normalization_overrides
WHERE ($1::text IS NULL OR domain = $1)
    AND ($2::boolean IS NULL OR enabled = $2)
ORDER BY domain"
);

/// All overrides that pass the filters, by domain. `enabled: Some(true)` gives those in force.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn url_overrides_list(
    client: &impl GenericClient,
    domain: Option<&str>,
    enabled: Option<bool>,
) -> Result<Vec<StoredOverride>, Error> {
    client
        .query_typed(LIST, &[(&domain, Type::TEXT), (&enabled, Type::BOOL)])
        .await?
        .iter()
        .map(stored)
        .collect()
}

const LOCK: &str = concat!(
    "\
SELECT ",
    columns!(),
    "
FROM url_normalization_overrides
WHERE domain = $1
FOR UPDATE"
);

/// Reads an override for a change in this transaction.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn url_override_lock(
    tx: &impl GenericClient,
    domain: &str,
) -> Result<Option<StoredOverride>, Error> {
    tx.query_typed(LOCK, &[(&domain, Type::TEXT)]).await?.first().map(stored).transpose()
}

/// What an admin puts. Domain and tokens are checked by `domain::url` before.
#[derive(Debug, Clone)]
pub struct PutOverride<'a> {
    /// A-label form.
    pub domain: &'a str,
    /// Whole names to drop.
    pub strip_query_params: &'a [String],
    /// Beginnings of names to drop.
    pub strip_query_prefixes: &'a [String],
    /// Names never dropped.
    pub keep_query_params: &'a [String],
    /// Whether a leading `www.` is dropped.
    pub strip_www: bool,
    /// Whether http on the default port becomes https.
    pub force_https: bool,
    /// Whether it is in force.
    pub enabled: bool,
}

const PUT: &str = concat!(
    "\
INSERT INTO url_normalization_overrides (
    id, domain, strip_query_params, strip_query_prefixes, keep_query_params, strip_www, force_https, enabled
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT ON CONSTRAINT url_normalization_overrides_domain_key DO UPDATE
SET strip_query_params = excluded.strip_query_params,
    strip_query_prefixes = excluded.strip_query_prefixes,
    keep_query_params = excluded.keep_query_params,
    strip_www = excluded.strip_www,
    force_https = excluded.force_https,
    enabled = excluded.enabled,
    version = url_normalization_overrides.version + 1,
    updated_at = now()
RETURNING ",
    columns!()
);

const PUT_TYPES: &[Type] = &[
    Type::UUID,
    Type::TEXT,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::BOOL,
    Type::BOOL,
    Type::BOOL,
];

/// Makes or replaces an override, with a new version of the rules; its own `version` 1 tells that it was made.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn url_override_put(
    tx: &impl GenericClient,
    put: &PutOverride<'_>,
) -> Result<StoredOverride, Error> {
    let rows = tx
        .query_typed(
            PUT,
            &[
                (&Uuid::now_v7(), Type::UUID),
                (&put.domain, Type::TEXT),
                (&put.strip_query_params, Type::TEXT_ARRAY),
                (&put.strip_query_prefixes, Type::TEXT_ARRAY),
                (&put.keep_query_params, Type::TEXT_ARRAY),
                (&put.strip_www, Type::BOOL),
                (&put.force_https, Type::BOOL),
                (&put.enabled, Type::BOOL),
            ],
        )
        .await?;
    let put = stored(rows.first().ok_or(Error::NotFound)?)?;
    bump(tx).await?;
    Ok(put)
}

const ENABLED_SET: &str = concat!(
    "\
UPDATE url_normalization_overrides
SET enabled = $2,
    version = version + 1,
    updated_at = now()
WHERE domain = $1
RETURNING ",
    columns!()
);

/// Switches an override on or off, with a new version of the rules; `None` if there is none.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn url_override_enabled_set(
    tx: &impl GenericClient,
    domain: &str,
    enabled: bool,
) -> Result<Option<StoredOverride>, Error> {
    let rows = tx.query_typed(ENABLED_SET, &[(&domain, Type::TEXT), (&enabled, Type::BOOL)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    bump(tx).await?;
    stored(row).map(Some)
}

const DELETE: &str = "\
DELETE FROM url_normalization_overrides
WHERE domain = $1";

/// Takes an override away, with a new version of the rules. False if there was none.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn url_override_delete(tx: &impl GenericClient, domain: &str) -> Result<bool, Error> {
    if tx.execute_typed(DELETE, &[(&domain, Type::TEXT)]).await? == 0 {
        return Ok(false);
    }
    bump(tx).await?;
    Ok(true)
}

const RULES_VERSION: &str = "\
SELECT version
FROM url_rules_version";

/// The version of the rules, written with every hash's event.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn url_rules_version(client: &impl GenericClient) -> Result<i64, Error> {
    let rows = client.query_typed(RULES_VERSION, &[]).await?;
    Ok(rows.first().ok_or(Error::NotFound)?.try_get("version")?)
}

const RULES_VERSION_BUMP: &str = "\
UPDATE url_rules_version
SET version = version + 1,
    updated_at = now()";

async fn bump(tx: &impl GenericClient) -> Result<(), Error> {
    tx.execute_typed(RULES_VERSION_BUMP, &[]).await?;
    Ok(())
}
