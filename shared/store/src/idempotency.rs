//! Idempotency keys: the first success of a request, kept for 24 hours in the transaction of its effect.
//!
//! A twin that arrives while the first is still at work waits for the first's row, as long as the role's `lock_timeout`
//! lets it; then it finds the answer, or [`Error::Collision`].

use crate::{Error, Statement};
use telemetry::db::GenericClient;
use tokio_postgres::types::Type;

/// What a key belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// Who sent it: `module:<id>` or `human:<subject>`.
    pub principal: &'a str,
    /// Method and path.
    pub op: &'a str,
    /// The client's key.
    pub key: &'a str,
}

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Claimed {
    /// Nothing: this transaction has it now, and ends with [`idempotency_store`], or rolls back.
    New,
    /// It was used, with this request and this answer.
    Known {
        /// SHA-256 of the first request's body.
        request_digest: Vec<u8>,
        /// The status of its answer.
        status: i32,
        /// The bytes of its answer, as the API encoded them.
        response: Vec<u8>,
    },
}

/// An expired row is taken over as if it were not there. The primary key's index entry of a twin in flight is waited for.
const CLAIM: &str = "
    INSERT INTO idempotency_keys AS known (principal, op, key, request_digest, expires_at)
    VALUES ($1, $2, $3, $4, now() + interval '24 hours')
    ON CONFLICT (principal, op, key) DO UPDATE
    SET request_digest = excluded.request_digest,
        response = NULL,
        status = NULL,
        expires_at = excluded.expires_at,
        created_at = now()
    WHERE known.expires_at <= now()
    RETURNING true";

const FIND: &str = "
    SELECT request_digest, status, response
    FROM idempotency_keys
    WHERE principal = $1 AND op = $2 AND key = $3 AND status IS NOT NULL";

const STORE: &str = "
    UPDATE idempotency_keys
    SET status = $4, response = $5
    WHERE principal = $1 AND op = $2 AND key = $3";

/// Materialized, or a nested loop would look for as many others again and again.
const PURGE: &str = "
    WITH old AS MATERIALIZED (
        SELECT principal, op, key
        FROM idempotency_keys
        WHERE expires_at <= now()
        ORDER BY expires_at
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    )
    DELETE FROM idempotency_keys AS keys
    USING old
    WHERE keys.principal = old.principal AND keys.op = old.op AND keys.key = old.key";

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement {
        name: "idempotency_claim",
        sql: CLAIM,
        types: &[Type::TEXT, Type::TEXT, Type::TEXT, Type::BYTEA],
    },
    Statement { name: "idempotency_find", sql: FIND, types: &[Type::TEXT, Type::TEXT, Type::TEXT] },
    Statement {
        name: "idempotency_store",
        sql: STORE,
        types: &[Type::TEXT, Type::TEXT, Type::TEXT, Type::INT4, Type::BYTEA],
    },
    Statement { name: "idempotency_purge", sql: PURGE, types: &[Type::INT8] },
];

/// Claims a key in this transaction, or finds what it was used for. Two statements, sent together.
///
/// # Errors
/// [`Error::Collision`] if a twin holds it for longer than the role's `lock_timeout`.
pub async fn idempotency_claim(
    tx: &impl GenericClient,
    identity: Identity<'_>,
    request_digest: &[u8],
) -> Result<Claimed, Error> {
    let (claimed, found) =
        futures::future::join(claim(tx, identity, request_digest), find(tx, identity)).await;
    if claimed? {
        return Ok(Claimed::New);
    }
    // It was purged between the two statements.
    found?.ok_or_else(|| Error::Collision { detail: "the idempotency key went away".into() })
}

async fn claim(
    tx: &impl GenericClient,
    identity: Identity<'_>,
    request_digest: &[u8],
) -> Result<bool, Error> {
    let Identity { principal, op, key } = identity;
    let claimed = tx
        .query_typed(
            CLAIM,
            &[
                (&principal, Type::TEXT),
                (&op, Type::TEXT),
                (&key, Type::TEXT),
                (&request_digest, Type::BYTEA),
            ],
        )
        .await?;
    Ok(!claimed.is_empty())
}

/// A statement of its own: only its snapshot sees what a twin committed meanwhile.
async fn find(tx: &impl GenericClient, identity: Identity<'_>) -> Result<Option<Claimed>, Error> {
    let Identity { principal, op, key } = identity;
    let rows =
        tx.query_typed(FIND, &[(&principal, Type::TEXT), (&op, Type::TEXT), (&key, Type::TEXT)]).await?;
    Ok(rows.first().map(|row| Claimed::Known {
        request_digest: row.get(0),
        status: row.get(1),
        response: row.get(2),
    }))
}

/// Stores the answer to a claimed key, in the transaction of its effect.
///
/// # Errors
/// [`Error`].
pub async fn idempotency_store(
    tx: &impl GenericClient,
    identity: Identity<'_>,
    status: i32,
    response: &[u8],
) -> Result<(), Error> {
    let Identity { principal, op, key } = identity;
    tx.execute_typed(
        STORE,
        &[
            (&principal, Type::TEXT),
            (&op, Type::TEXT),
            (&key, Type::TEXT),
            (&status, Type::INT4),
            (&response, Type::BYTEA),
        ],
    )
    .await?;
    Ok(())
}

/// Deletes at most `limit` expired keys, for the sweep. Returns how many.
///
/// # Errors
/// [`Error`].
pub async fn idempotency_purge(client: &impl GenericClient, limit: i64) -> Result<u64, Error> {
    Ok(client.execute_typed(PURGE, &[(&limit, Type::INT8)]).await?)
}
