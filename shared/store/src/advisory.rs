//! Transaction-level advisory locks: they end with the transaction, so a pooler does not mind them.

use crate::{Error, Statement};
use telemetry::db::GenericClient;
use tokio_postgres::types::Type;

pub(crate) const STATEMENTS: &[Statement] =
    &[Statement { name: "advisory_lock", sql: LOCK, types: &[Type::INT8_ARRAY] }];

// The subquery fixes the order in which the locks are asked for.
const LOCK: &str = "\
SELECT pg_advisory_xact_lock(key)
FROM (SELECT DISTINCT key FROM unnest($1) AS key ORDER BY key) AS ordered";

/// Waits for every lock of `keys`, in ascending order, so that two transactions with common keys cannot deadlock on them.
/// Taken before any row lock but the own job's (the ledger's order of locks).
///
/// # Errors
/// [`Error::Collision`] when one is not to be had within the role's `lock_timeout`.
pub async fn advisory_lock(tx: &impl GenericClient, keys: &[i64]) -> Result<(), Error> {
    if keys.is_empty() {
        return Ok(());
    }
    tx.query_typed(LOCK, &[(&keys, Type::INT8_ARRAY)]).await?;
    Ok(())
}

/// The lock that stands for a digest, such as a URL's hash: its first eight bytes.
#[must_use]
pub fn advisory_key(digest: &[u8; 32]) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = *digest;
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}
