//! The rows of `job_kinds`: what an admin changed about a kind.

use crate::Statement;
use crate::error::Error;
use crate::policy::Registry;
use crate::types::Route;
use serde::{Deserialize, Serialize};
use telemetry::db::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// What an admin may set, all of it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindSettings {
    /// Who may claim its jobs; its queued ones move along.
    pub route: Route,
    /// `false` stops claims; running attempts go on.
    pub enabled: bool,
    /// 1–20, of jobs enqueued from now on.
    pub max_failures: i32,
    /// 10–900.
    pub lease_seconds: i32,
    /// 1–3,600.
    pub base_seconds: i32,
    /// 1–86,400.
    pub cap_seconds: i32,
}

/// A kind as it is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KindRow {
    /// The kind's name.
    pub kind: String,
    /// What is in force: the admin's row, or the constants.
    #[serde(flatten)]
    pub settings: KindSettings,
    /// The row's version; 0: there is no row, the constants hold.
    pub version: i64,
}

/// A dozen rows.
const LIST: &str = "\
SELECT kind, route, enabled, max_failures, lease_seconds, base_seconds, cap_seconds, version
FROM job_kinds
ORDER BY kind";

const PUT: &str = "\
INSERT INTO job_kinds AS k (kind, route, enabled, max_failures, lease_seconds, base_seconds, cap_seconds)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (kind) DO UPDATE
SET route = excluded.route,
    enabled = excluded.enabled,
    max_failures = excluded.max_failures,
    lease_seconds = excluded.lease_seconds,
    base_seconds = excluded.base_seconds,
    cap_seconds = excluded.cap_seconds,
    updated_at = now(),
    version = k.version + 1
RETURNING kind, route, enabled, max_failures, lease_seconds, base_seconds, cap_seconds, version";

/// By the unique key, whose first column is the kind. Claimed rows follow when they return to the queue.
const MOVE_QUEUED: &str = "\
UPDATE jobs
SET route = $2,
    hinted_until = NULL,
    updated_at = now(),
    version = version + 1
WHERE kind = $1
    AND status = 'queued'
    AND route <> $2";

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "job_kinds_list", sql: LIST, types: &[] },
    Statement {
        name: "job_kind_put",
        sql: PUT,
        types: &[Type::TEXT, Type::TEXT, Type::BOOL, Type::INT4, Type::INT4, Type::INT4, Type::INT4],
    },
    Statement { name: "job_kind_move_queued", sql: MOVE_QUEUED, types: &[Type::TEXT, Type::TEXT] },
];

/// Every registered kind as it is in force, by name.
///
/// # Errors
/// The database's.
pub async fn job_kinds_list(client: &impl GenericClient, registry: &Registry) -> Result<Vec<KindRow>, Error> {
    let rows = client.query_typed(LIST, &[]).await?;
    let rows: Vec<KindRow> = rows.iter().map(kind_row).collect::<Result<_, _>>()?;
    Ok(registry
        .iter()
        .map(|policy| {
            rows.iter().find(|row| row.kind == policy.kind).cloned().unwrap_or_else(|| KindRow {
                kind: policy.kind.to_owned(),
                settings: constants(policy),
                version: 0,
            })
        })
        .collect())
}

fn constants(policy: &crate::policy::KindPolicy) -> KindSettings {
    let seconds = |length: std::time::Duration| i32::try_from(length.as_secs()).unwrap_or(i32::MAX);
    KindSettings {
        route: policy.route,
        enabled: true,
        max_failures: policy.max_failures,
        lease_seconds: seconds(policy.lease),
        base_seconds: seconds(policy.base),
        cap_seconds: seconds(policy.cap),
    }
}

/// Sets a kind's row, and moves its queued jobs to its route.
///
/// # Errors
/// [`Error::UnknownKind`]; [`Error::Invalid`] for a number out of its range.
pub async fn job_kind_put(
    tx: &impl GenericClient,
    registry: &Registry,
    kind: &str,
    settings: &KindSettings,
) -> Result<KindRow, Error> {
    registry.get(kind)?;
    let ranges = [
        ("max_failures", settings.max_failures, 1..=20),
        ("lease_seconds", settings.lease_seconds, 10..=900),
        ("base_seconds", settings.base_seconds, 1..=3_600),
        ("cap_seconds", settings.cap_seconds, 1..=86_400),
    ];
    for (name, value, range) in ranges {
        if !range.contains(&value) {
            return Err(Error::Invalid(format!("{name} must be {} to {}", range.start(), range.end())));
        }
    }
    let route = settings.route.as_str();
    let rows = tx
        .query_typed(
            PUT,
            &[
                (&kind, Type::TEXT),
                (&route, Type::TEXT),
                (&settings.enabled, Type::BOOL),
                (&settings.max_failures, Type::INT4),
                (&settings.lease_seconds, Type::INT4),
                (&settings.base_seconds, Type::INT4),
                (&settings.cap_seconds, Type::INT4),
            ],
        )
        .await?;
    tx.execute_typed(MOVE_QUEUED, &[(&kind, Type::TEXT), (&route, Type::TEXT)]).await?;
    rows.first().ok_or(Error::NotFound).and_then(kind_row)
}

fn kind_row(row: &Row) -> Result<KindRow, Error> {
    let route: String = row.try_get("route")?;
    Ok(KindRow {
        kind: row.try_get("kind")?,
        settings: KindSettings {
            route: route
                .parse()
                .map_err(|error: crate::types::UnknownWord| Error::Invalid(error.to_string()))?,
            enabled: row.try_get("enabled")?,
            max_failures: row.try_get("max_failures")?,
            lease_seconds: row.try_get("lease_seconds")?,
            base_seconds: row.try_get("base_seconds")?,
            cap_seconds: row.try_get("cap_seconds")?,
        },
        version: row.try_get("version")?,
    })
}
