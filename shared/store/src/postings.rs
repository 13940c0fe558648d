//! Postings: what the public sees. A row exists only from the first publication on.
//!
//! [`posting_insert`] publishes, [`posting_lock_of_candidate`] reads one for a change, [`posting_content_set`] and
//! [`posting_status_set`] change it. [`detail`] reads what `GET /postings/{id}` shows; [`checks`] is the narrow row that
//! freshness rewrites daily. The rules of what may follow what are the domain's; nothing here judges.

pub mod checks;
pub mod detail;

use crate::sql::{Digest, Word};
use crate::{Error, Statement};
use detail::SourceRef;
use domain::ids::{CandidateId, ModuleDbId, PostingId};
use domain::posting::PostingFields;
use domain::state::PostingStatus;
use domain::text;
use jiff::Timestamp;
use telemetry::db::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::{Json, Type};
use uuid::Uuid;

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "posting_insert", sql: INSERT, types: INSERT_TYPES },
    Statement { name: "posting_content_set", sql: CONTENT_SET, types: CONTENT_TYPES },
    Statement { name: "posting_lock_of_candidate", sql: LOCK_OF_CANDIDATE, types: &[Type::UUID] },
    Statement { name: "posting_lock", sql: LOCK, types: &[Type::UUID] },
    Statement { name: "posting_status_set", sql: STATUS_SET, types: STATUS_SET_TYPES },
    Statement { name: "posting_source_refs_set", sql: SOURCE_REFS_SET, types: &[Type::UUID, Type::JSONB] },
    Statement {
        name: "posting_visible_with_hash",
        sql: VISIBLE_WITH_HASH,
        types: &[Type::BYTEA, Type::UUID],
    },
    Statement { name: "posting_was_withdrawn", sql: WAS_WITHDRAWN, types: &[Type::BYTEA] },
    Statement {
        name: "posting_auto_published_since",
        sql: AUTO_PUBLISHED_SINCE,
        types: &[Type::UUID, Type::TIMESTAMPTZ],
    },
];

/// The row of `postings` without its content, for a decision about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostingState {
    /// Key.
    pub id: PostingId,
    /// Its candidate.
    pub candidate_id: CandidateId,
    /// Its identity among the visible.
    pub canonical_hash: [u8; 32],
    /// §6.
    pub status: PostingStatus,
    /// Why it has that status.
    pub status_reason: String,
    /// Whether the public sees it.
    pub visible: bool,
    /// When it was taken down, for good.
    pub withdrawn_at: Option<Timestamp>,
    /// Set once.
    pub published_at: Timestamp,
    /// The posting that took its place in a merge.
    pub superseded_by: Option<PostingId>,
    /// Incremented by each change; the ETag.
    pub version: i64,
}

macro_rules! state_columns {
    () => {
        "id, candidate_id, canonical_hash, status, status_reason, visible, withdrawn_at, published_at, \
         superseded_by, version"
    };
}

fn posting_state(row: &Row) -> Result<PostingState, Error> {
    Ok(PostingState {
        id: PostingId(row.try_get("id")?),
        candidate_id: CandidateId(row.try_get("candidate_id")?),
        canonical_hash: row.try_get::<_, Digest>("canonical_hash")?.0,
        status: row.try_get::<_, Word<_>>("status")?.0,
        status_reason: row.try_get("status_reason")?,
        visible: row.try_get("visible")?,
        withdrawn_at: row.try_get("withdrawn_at")?,
        published_at: row.try_get("published_at")?,
        superseded_by: row.try_get::<_, Option<Uuid>>("superseded_by")?.map(PostingId),
        version: row.try_get("version")?,
    })
}

/// What a posting shows, from its candidate.
#[derive(Debug, Clone)]
pub struct PostingContent<'a> {
    /// The fields. Title and organisation are obligatory.
    pub fields: &'a PostingFields,
    /// As the page or the server names it.
    pub canonical_url: &'a str,
    /// §7.1.
    pub normalized_url: &'a str,
    /// SHA-256 of `normalized_url`.
    pub canonical_hash: &'a [u8; 32],
    /// Who saw it where.
    pub source_refs: &'a [SourceRef],
}

const INSERT: &str = "\
INSERT INTO postings (
    id, title, canonical_url, normalized_url, canonical_hash, organization_name, sector, degree_level,
    opportunity_kind, country, region, city, remote, locations, applicant_countries, tags, areas, employment_type,
    salary, description_text, summary, application_url, identifier, date_posted, deadline, deadline_date, language,
    source_refs, title_fold, organization_fold, candidate_id, status, status_reason, visible, published_at
)
VALUES (
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24,
    $25, $26, $27, $28, $29, $30, $31, 'active', $32, true, $33
)";

const CONTENT_SET: &str = "\
UPDATE postings
SET title = $2,
    canonical_url = $3,
    normalized_url = $4,
    canonical_hash = $5,
    organization_name = $6,
    sector = $7,
    degree_level = $8,
    opportunity_kind = $9,
    country = $10,
    region = $11,
    city = $12,
    remote = $13,
    locations = $14,
    applicant_countries = $15,
    tags = $16,
    areas = $17,
    employment_type = $18,
    salary = $19,
    description_text = $20,
    summary = $21,
    application_url = $22,
    identifier = $23,
    date_posted = $24,
    deadline = $25,
    deadline_date = $26,
    language = $27,
    source_refs = $28,
    title_fold = $29,
    organization_fold = $30,
    version = version + 1,
    updated_at = now()
WHERE id = $1";

macro_rules! content_types {
    ($($more:expr),*) => {
        &[
            Type::UUID,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::BYTEA,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::BOOL,
            Type::JSONB,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::JSONB,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::DATE,
            Type::TIMESTAMPTZ,
            Type::DATE,
            Type::TEXT,
            Type::JSONB,
            Type::TEXT,
            Type::TEXT,
            $($more),*
        ]
    };
}

const CONTENT_TYPES: &[Type] = content_types!();
const INSERT_TYPES: &[Type] = content_types!(Type::UUID, Type::TEXT, Type::TIMESTAMPTZ);

/// Runs a statement whose first thirty parameters are the content; `$more` come after them.
macro_rules! with_content {
    ($tx:expr, $sql:expr, $id:expr, $content:expr, [$($more:expr),*]) => {{
        let content = $content;
        let fields = content.fields;
        // Both are obligatory (§8): a candidate without them is never publishable.
        let title = fields.title.as_deref().unwrap_or_default();
        let organization = fields.organization_name.as_deref().unwrap_or_default();
        $tx.execute_typed(
            $sql,
            &[
                (&$id.0, Type::UUID),
                (&title, Type::TEXT),
                (&content.canonical_url, Type::TEXT),
                (&content.normalized_url, Type::TEXT),
                (&&content.canonical_hash[..], Type::BYTEA),
                (&organization, Type::TEXT),
                (&fields.sector, Type::TEXT),
                (&fields.degree_level, Type::TEXT),
                (&fields.opportunity_kind.map(|kind| kind.as_str()), Type::TEXT),
                (&fields.country, Type::TEXT),
                (&fields.region, Type::TEXT),
                (&fields.city, Type::TEXT),
                (&fields.remote.unwrap_or(false), Type::BOOL),
                (&Json(&fields.locations), Type::JSONB),
                (&fields.applicant_countries, Type::TEXT_ARRAY),
                (&fields.tags, Type::TEXT_ARRAY),
                (&fields.areas, Type::TEXT_ARRAY),
                (&fields.employment_type, Type::TEXT_ARRAY),
                (&fields.salary.as_ref().map(Json), Type::JSONB),
                (&fields.description_text, Type::TEXT),
                (&fields.summary, Type::TEXT),
                (&fields.application_url, Type::TEXT),
                (&fields.identifier, Type::TEXT),
                (&fields.date_posted, Type::DATE),
                (&fields.deadline, Type::TIMESTAMPTZ),
                (&fields.deadline_date, Type::DATE),
                (&fields.language, Type::TEXT),
                (&Json(content.source_refs), Type::JSONB),
                (&text::fold(title), Type::TEXT),
                (&text::fold(organization), Type::TEXT),
                $($more),*
            ],
        )
        .await?
    }};
}

/// Publishes: a new row, active and visible.
///
/// # Errors
/// [`Error::Conflict`] with `postings_visible_hash_key` if a visible posting has the hash, with
/// `postings_candidate_id_key` if the candidate has a posting already.
pub async fn posting_insert(
    tx: &impl GenericClient,
    id: PostingId,
    candidate: CandidateId,
    content: &PostingContent<'_>,
    reason: &str,
    published_at: Timestamp,
) -> Result<(), Error> {
    with_content!(
        tx,
        INSERT,
        id,
        content,
        [(&candidate.0, Type::UUID), (&reason, Type::TEXT), (&published_at, Type::TIMESTAMPTZ)]
    );
    Ok(())
}

/// Writes a locked posting's content.
///
/// # Errors
/// [`Error::NotFound`] if there is no such posting; [`Error::Conflict`] with `postings_visible_hash_key` if another
/// visible one has the hash.
pub async fn posting_content_set(
    tx: &impl GenericClient,
    id: PostingId,
    content: &PostingContent<'_>,
) -> Result<(), Error> {
    let updated = with_content!(tx, CONTENT_SET, id, content, []);
    if updated == 0 { Err(Error::NotFound) } else { Ok(()) }
}

const LOCK_OF_CANDIDATE: &str = concat!(
    "\
SELECT ",
    state_columns!(),
    "
FROM postings
WHERE candidate_id = $1
FOR UPDATE"
);

/// Reads a candidate's posting for a change in this transaction; the candidate is locked before it.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn posting_lock_of_candidate(
    tx: &impl GenericClient,
    candidate: CandidateId,
) -> Result<Option<PostingState>, Error> {
    tx.query_typed(LOCK_OF_CANDIDATE, &[(&candidate.0, Type::UUID)])
        .await?
        .first()
        .map(posting_state)
        .transpose()
}

const LOCK: &str = concat!(
    "\
SELECT ",
    state_columns!(),
    "
FROM postings
WHERE id = $1
FOR UPDATE"
);

/// Reads a posting for a change in this transaction; its candidate is locked before it.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn posting_lock(tx: &impl GenericClient, id: PostingId) -> Result<Option<PostingState>, Error> {
    tx.query_typed(LOCK, &[(&id.0, Type::UUID)]).await?.first().map(posting_state).transpose()
}

const STATUS_SET: &str = "\
UPDATE postings
SET status = $2,
    status_reason = $3,
    visible = $4,
    version = version + 1,
    updated_at = now()
WHERE id = $1";

const STATUS_SET_TYPES: &[Type] = &[Type::UUID, Type::TEXT, Type::TEXT, Type::BOOL];

/// Writes a locked posting's status and visibility, and whether its freshness is checked.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] with `postings_visible_hash_key` if another visible one has the hash, with
/// `postings_live_is_visible` if a live one would be hidden, with `postings_withdrawn_is_hidden` after a takedown.
pub async fn posting_status_set(
    tx: &impl GenericClient,
    id: PostingId,
    status: PostingStatus,
    reason: &str,
    visible: bool,
) -> Result<(), Error> {
    let updated = tx
        .execute_typed(
            STATUS_SET,
            &[
                (&id.0, Type::UUID),
                (&status.as_str(), Type::TEXT),
                (&reason, Type::TEXT),
                (&visible, Type::BOOL),
            ],
        )
        .await?;
    if updated == 0 {
        return Err(Error::NotFound);
    }
    checks::check_live_set(tx, id, status.is_live()).await
}

const SOURCE_REFS_SET: &str = "\
UPDATE postings
SET source_refs = $2,
    version = version + 1,
    updated_at = now()
WHERE id = $1";

/// Writes who saw a posting where, after a link was added or taken away.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn posting_source_refs_set(
    tx: &impl GenericClient,
    id: PostingId,
    source_refs: &[SourceRef],
) -> Result<(), Error> {
    tx.execute_typed(SOURCE_REFS_SET, &[(&id.0, Type::UUID), (&Json(source_refs), Type::JSONB)]).await?;
    Ok(())
}

const VISIBLE_WITH_HASH: &str = "\
SELECT id
FROM postings
WHERE canonical_hash = $1
    AND visible
    AND candidate_id <> $2";

/// The visible posting of another candidate that has this hash. With [`crate::advisory::advisory_lock`] on the hash held,
/// nobody can publish one until the transaction ends.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn posting_visible_with_hash(
    tx: &impl GenericClient,
    hash: &[u8; 32],
    except: CandidateId,
) -> Result<Option<PostingId>, Error> {
    let rows =
        tx.query_typed(VISIBLE_WITH_HASH, &[(&&hash[..], Type::BYTEA), (&except.0, Type::UUID)]).await?;
    Ok(match rows.first() {
        Some(row) => Some(PostingId(row.try_get("id")?)),
        None => None,
    })
}

const WAS_WITHDRAWN: &str = "\
SELECT EXISTS (
    SELECT
    FROM postings
    WHERE canonical_hash = $1
        AND withdrawn_at IS NOT NULL
) AS was_withdrawn";

/// Whether a posting with this hash was once taken down.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn posting_was_withdrawn(client: &impl GenericClient, hash: &[u8; 32]) -> Result<bool, Error> {
    let rows = client.query_typed(WAS_WITHDRAWN, &[(&&hash[..], Type::BYTEA)]).await?;
    Ok(rows.first().ok_or(Error::NotFound)?.try_get("was_withdrawn")?)
}

const AUTO_PUBLISHED_SINCE: &str = "\
SELECT count(*) AS published
FROM postings AS posting
JOIN posting_candidates AS candidate ON candidate.id = posting.candidate_id
WHERE candidate.authority_module_id = $1
    AND posting.published_at >= $2
    AND candidate.policy ->> 'action' = 'publish'";

/// How many postings of a module were published without a moderator since an instant: what the daily limit counts.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn posting_auto_published_since(
    client: &impl GenericClient,
    module: ModuleDbId,
    since: Timestamp,
) -> Result<i64, Error> {
    let rows = client
        .query_typed(AUTO_PUBLISHED_SINCE, &[(&module.0, Type::UUID), (&since, Type::TIMESTAMPTZ)])
        .await?;
    Ok(rows.first().ok_or(Error::NotFound)?.try_get("published")?)
}
