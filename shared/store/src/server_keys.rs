//! The service's own secrets: what signs cursors and links to objects. The newest signs, every unretired one verifies.
//!
//! `migrate` makes them ([`server_keys_ensure`]); the functions' role only reads them.

use crate::{Error, Statement};
use rand::RngExt as _;
use telemetry::db::GenericClient;
use tokio_postgres::types::Type;

/// Bytes of a secret: as long as the output of SHA-256 (RFC 2104 §3).
pub const SECRET_BYTES: usize = 32;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Where lists go on.
    Cursor,
    /// Links to evidence.
    ObjectLink,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 2] = [Self::Cursor, Self::ObjectLink];

    /// The text in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cursor => "cursor",
            Self::ObjectLink => "object_link",
        }
    }
}

/// A key. It has no `Debug` that shows the secret.
#[derive(Clone)]
pub struct ServerKey {
    /// Its name, which goes out with what it signed.
    pub key_id: String,
    /// [`SECRET_BYTES`] random bytes.
    pub secret: Vec<u8>,
}

impl std::fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// Read whole: there are a few rows, ever.
const LIST: &str = "
    SELECT key_id, secret
    FROM server_keys
    WHERE purpose = $1 AND retired_at IS NULL
    ORDER BY created_at DESC, key_id DESC";

const INSERT_MISSING: &str = "
    INSERT INTO server_keys (key_id, purpose, secret)
    SELECT $1, $2, $3
    WHERE NOT EXISTS (SELECT FROM server_keys WHERE purpose = $2 AND retired_at IS NULL)
    ON CONFLICT (key_id) DO NOTHING";

/// The statements that the functions' role runs.
pub(crate) const STATEMENTS: &[Statement] =
    &[Statement { name: "server_keys_list", sql: LIST, types: &[Type::TEXT] }];

/// The unretired keys of a purpose, the newest first.
///
/// # Errors
/// [`Error`].
pub async fn server_keys_list(
    client: &impl GenericClient,
    purpose: Purpose,
) -> Result<Vec<ServerKey>, Error> {
    let rows = client.query_typed(LIST, &[(&purpose.as_str(), Type::TEXT)]).await?;
    Ok(rows.iter().map(|row| ServerKey { key_id: row.get(0), secret: row.get(1) }).collect())
}

/// Makes a key for each purpose that has none. Run by `migrate` as the owner, after the migrations; again, it does
/// nothing.
///
/// # Errors
/// [`Error`].
pub async fn server_keys_ensure(client: &impl GenericClient) -> Result<(), Error> {
    for purpose in Purpose::ALL {
        let secret: [u8; SECRET_BYTES] = rand::rng().random();
        let key_id = format!("{}-{:08x}", purpose.as_str(), rand::rng().random::<u32>());
        client
            .execute_typed(
                INSERT_MISSING,
                &[(&key_id, Type::TEXT), (&purpose.as_str(), Type::TEXT), (&secret.as_slice(), Type::BYTEA)],
            )
            .await?;
    }
    Ok(())
}
