//! What freshness knows of a posting: a narrow row beside it, rewritten by each check.

use crate::{Error, Statement};
use domain::ids::PostingId;
use jiff::Timestamp;
use telemetry::db::GenericClient;
use tokio_postgres::types::Type;

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "check_insert", sql: INSERT, types: INSERT_TYPES },
    Statement { name: "check_live_set", sql: LIVE_SET, types: &[Type::UUID, Type::BOOL] },
    Statement { name: "check_page_set", sql: PAGE_SET, types: PAGE_SET_TYPES },
];

/// The page that a posting was last read from, for the next conditional request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckedPage {
    /// The answer's `ETag`.
    pub etag: Option<String>,
    /// The answer's `Last-Modified`, as it was sent.
    pub last_modified: Option<String>,
    /// SHA-256 of the extracted fields.
    pub page_hash: Option<[u8; 32]>,
}

const INSERT: &str = "\
INSERT INTO posting_checks (
    posting_id, is_live, last_confirmed_at, last_seen_at, next_check_at, etag, last_modified, page_hash
)
VALUES ($1, true, $2, $3, $4, $5, $6, $7)
ON CONFLICT ON CONSTRAINT posting_checks_pkey DO UPDATE
SET is_live = true,
    last_confirmed_at = greatest(posting_checks.last_confirmed_at, excluded.last_confirmed_at),
    last_seen_at = greatest(posting_checks.last_seen_at, excluded.last_seen_at),
    next_check_at = excluded.next_check_at,
    check_failures = 0,
    closed_strikes = 0,
    etag = excluded.etag,
    last_modified = excluded.last_modified,
    page_hash = excluded.page_hash,
    updated_at = now()";

const INSERT_TYPES: &[Type] = &[
    Type::UUID,
    Type::TIMESTAMPTZ,
    Type::TIMESTAMPTZ,
    Type::TIMESTAMPTZ,
    Type::TEXT,
    Type::TEXT,
    Type::BYTEA,
];

/// Begins (or begins again) the checks of a posting that has gone live.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn check_insert(
    tx: &impl GenericClient,
    posting: PostingId,
    last_confirmed_at: Timestamp,
    last_seen_at: Timestamp,
    next_check_at: Timestamp,
    page: &CheckedPage,
) -> Result<(), Error> {
    let page_hash = page.page_hash.as_ref().map(|hash| &hash[..]);
    tx.execute_typed(
        INSERT,
        &[
            (&posting.0, Type::UUID),
            (&last_confirmed_at, Type::TIMESTAMPTZ),
            (&last_seen_at, Type::TIMESTAMPTZ),
            (&next_check_at, Type::TIMESTAMPTZ),
            (&page.etag, Type::TEXT),
            (&page.last_modified, Type::TEXT),
            (&page_hash, Type::BYTEA),
        ],
    )
    .await?;
    Ok(())
}

const LIVE_SET: &str = "\
UPDATE posting_checks
SET is_live = $2,
    updated_at = now()
WHERE posting_id = $1
    AND is_live <> $2";

pub(super) async fn check_live_set(
    tx: &impl GenericClient,
    posting: PostingId,
    is_live: bool,
) -> Result<(), Error> {
    tx.execute_typed(LIVE_SET, &[(&posting.0, Type::UUID), (&is_live, Type::BOOL)]).await?;
    Ok(())
}

const PAGE_SET: &str = "\
UPDATE posting_checks
SET last_confirmed_at = greatest(last_confirmed_at, $2),
    last_seen_at = greatest(last_seen_at, $2),
    check_failures = 0,
    closed_strikes = 0,
    etag = $3,
    last_modified = $4,
    page_hash = $5,
    updated_at = now()
WHERE posting_id = $1";

const PAGE_SET_TYPES: &[Type] = &[Type::UUID, Type::TIMESTAMPTZ, Type::TEXT, Type::TEXT, Type::BYTEA];

/// Records that the posting's own page was fetched and still shows it.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn check_page_set(
    tx: &impl GenericClient,
    posting: PostingId,
    confirmed_at: Timestamp,
    page: &CheckedPage,
) -> Result<(), Error> {
    let page_hash = page.page_hash.as_ref().map(|hash| &hash[..]);
    tx.execute_typed(
        PAGE_SET,
        &[
            (&posting.0, Type::UUID),
            (&confirmed_at, Type::TIMESTAMPTZ),
            (&page.etag, Type::TEXT),
            (&page.last_modified, Type::TEXT),
            (&page_hash, Type::BYTEA),
        ],
    )
    .await?;
    Ok(())
}
