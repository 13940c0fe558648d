//! What each module handed in, by the minute: the quota, and the numbers that administrators see.
//!
//! A minute has eight rows a module, so that requests at once do not wait for one another's. After 25 hours a row is
//! folded into `modules.ingested_count`.

use crate::{Error, Statement};
use domain::ids::ModuleDbId;
use rand::RngExt as _;
use telemetry::db::GenericClient;
use tokio_postgres::types::Type;

/// Rows a module and minute.
const SLOTS: i16 = 8;

/// What one request did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// New discoveries.
    pub accepted: i32,
    /// Known ones.
    pub resighted: i32,
    /// Refused ones.
    pub rejected: i32,
}

/// Handed in so far this minute, and the seconds until the next. By the primary key: eight rows at most.
const USED: &str = "
    SELECT
        coalesce(sum(accepted + resighted), 0)::bigint,
        ceil(extract(epoch FROM date_trunc('minute', now()) + interval '1 minute' - now()))::bigint
    FROM ingest_counters
    WHERE module_id = $1 AND minute = date_trunc('minute', now())";

/// `$6` is the slug of what was refused, or null.
const ADD: &str = "
    INSERT INTO ingest_counters AS known
        (module_id, minute, slot, accepted, resighted, rejected, last_at, last_error)
    VALUES ($1, date_trunc('minute', now()), $2, $3, $4, $5, now(), $6)
    ON CONFLICT (module_id, minute, slot) DO UPDATE
    SET accepted = known.accepted + excluded.accepted,
        resighted = known.resighted + excluded.resighted,
        rejected = known.rejected + excluded.rejected,
        last_at = excluded.last_at,
        last_error = coalesce(excluded.last_error, known.last_error)";

/// Only whole minutes older than 25 h: nobody writes them any more. Modules are locked in the order of their ids.
/// Materialized, or a nested loop would look for as many others again and again.
const FOLD: &str = "
    WITH picked AS MATERIALIZED (
        SELECT module_id, minute, slot
        FROM ingest_counters
        WHERE minute < now() - interval '25 hours'
        ORDER BY minute
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    ), old AS (
        DELETE FROM ingest_counters AS counters
        USING picked
        WHERE counters.module_id = picked.module_id
            AND counters.minute = picked.minute
            AND counters.slot = picked.slot
        RETURNING counters.module_id, counters.accepted
    ), totals AS (
        SELECT module_id, sum(accepted)::bigint AS accepted
        FROM old
        GROUP BY module_id
    ), locked AS (
        SELECT modules.id, totals.accepted
        FROM modules
        JOIN totals ON totals.module_id = modules.id
        ORDER BY modules.id
        FOR NO KEY UPDATE OF modules
    )
    UPDATE modules
    SET ingested_count = modules.ingested_count + locked.accepted
    FROM locked
    WHERE modules.id = locked.id";

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "ingest_counters_used", sql: USED, types: &[Type::UUID] },
    Statement {
        name: "ingest_counters_add",
        sql: ADD,
        types: &[Type::UUID, Type::INT2, Type::INT4, Type::INT4, Type::INT4, Type::TEXT],
    },
    Statement { name: "ingest_counters_fold", sql: FOLD, types: &[Type::INT8] },
];

/// What is used of a module's quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Discoveries accepted or resighted in this minute.
    pub discoveries: i64,
    /// Seconds until the next minute, 1 to 60.
    pub next_minute_s: i64,
}

/// Reads the quota. Requests at once may exceed it by what they hold: it bounds, and does not serialise.
///
/// # Errors
/// [`Error`].
pub async fn ingest_counters_used(tx: &impl GenericClient, module: ModuleDbId) -> Result<Used, Error> {
    let rows = tx.query_typed(USED, &[(&module.0, Type::UUID)]).await?;
    let row = rows.first().ok_or(Error::NotFound)?;
    Ok(Used { discoveries: row.get(0), next_minute_s: row.get::<_, i64>(1).max(1) })
}

/// Counts what a request did, as the last statement of its transaction.
///
/// # Errors
/// [`Error`].
pub async fn ingest_counters_add(
    tx: &impl GenericClient,
    module: ModuleDbId,
    counts: Counts,
    last_error: Option<&str>,
) -> Result<(), Error> {
    let slot: i16 = rand::rng().random_range(0..SLOTS);
    tx.execute_typed(
        ADD,
        &[
            (&module.0, Type::UUID),
            (&slot, Type::INT2),
            (&counts.accepted, Type::INT4),
            (&counts.resighted, Type::INT4),
            (&counts.rejected, Type::INT4),
            (&last_error, Type::TEXT),
        ],
    )
    .await?;
    Ok(())
}

/// Folds at most `limit` rows of long ago into their modules' totals, for the sweep. Returns how many modules grew.
///
/// # Errors
/// [`Error`].
pub async fn ingest_counters_fold(client: &impl GenericClient, limit: i64) -> Result<u64, Error> {
    Ok(client.execute_typed(FOLD, &[(&limit, Type::INT8)]).await?)
}
