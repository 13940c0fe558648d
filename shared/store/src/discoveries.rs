//! Discoveries: what modules handed in. What was submitted never changes; the status and the link to a candidate do.
//!
//! A discovery is known by its module and external id, or by its module and URL hash where it has none.
//! [`discoveries_take_in`] finds what is known and inserts the rest; the two unique indexes decide between requests at once.
//! Whoever lost finds the other's with [`discoveries_match`].

use crate::{Error, Statement};
use domain::ids::{CandidateId, DiscoveryId, ModuleDbId};
use domain::state::DiscoveryStatus;
use domain::url::NormalizedUrl;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashSet;
use telemetry::db::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// A discovery to be inserted, with an id that the caller made.
#[derive(Debug, Clone)]
pub struct NewDiscovery {
    /// The id that it has if it is new.
    pub id: DiscoveryId,
    /// The module's own id for it.
    pub external_id: Option<String>,
    /// When the module found it.
    pub discovered_at: Timestamp,
    /// As it was sent.
    pub url: String,
    /// In normal form.
    pub normalized_url: String,
    /// SHA-256 of the normal form.
    pub canonical_hash: [u8; 32],
    /// A title in free text.
    pub title_hint: Option<String>,
    /// An organisation in free text.
    pub organization_hint: Option<String>,
    /// A description in free text.
    pub text_hint: Option<String>,
    /// Posting fields, as they were sent.
    pub hints: Value,
    /// Free-form.
    pub metadata: Value,
    /// The source key, if the module may name it.
    pub source_key: Option<String>,
}

impl NewDiscovery {
    /// A page of which nothing else is said. `normal` is the normal form of `url`.
    #[must_use]
    pub fn of_page(url: &str, normal: &NormalizedUrl, discovered_at: Timestamp) -> Self {
        Self {
            id: DiscoveryId::new(),
            external_id: None,
            discovered_at,
            url: url.to_owned(),
            normalized_url: normal.as_str().to_owned(),
            canonical_hash: normal.hash().0,
            title_hint: None,
            organization_hint: None,
            text_hint: None,
            hints: json!({}),
            metadata: json!({}),
            source_key: None,
        }
    }
}

/// A stored discovery.
#[derive(Debug, Clone, PartialEq)]
pub struct Discovery {
    /// Key.
    pub id: DiscoveryId,
    /// The module that handed it in.
    pub origin_module_db_id: ModuleDbId,
    /// The same, as people and machines know it.
    pub origin_module_id: String,
    /// The module's own id for it.
    pub external_id: Option<String>,
    /// When the module found it.
    pub discovered_at: Timestamp,
    /// As it was sent.
    pub url: String,
    /// In normal form.
    pub normalized_url: String,
    /// SHA-256 of the normal form.
    pub canonical_hash: [u8; 32],
    /// A title in free text.
    pub title_hint: Option<String>,
    /// An organisation in free text.
    pub organization_hint: Option<String>,
    /// A description in free text.
    pub text_hint: Option<String>,
    /// Posting fields, as they were sent.
    pub hints: Value,
    /// Free-form.
    pub metadata: Value,
    /// The source key, if the module may name it. `metadata.source_key` without it: flag `source_key_not_allowed`.
    pub source_key: Option<String>,
    /// 1 = found on a listing.
    pub depth: i16,
    /// domain.md §4.
    pub status: DiscoveryStatus,
    /// Why it has that status.
    pub status_reason: Option<String>,
    /// The candidate that was made of it.
    pub candidate_id: Option<CandidateId>,
    /// Where its redirects end, once that is known.
    pub resolved_url: Option<String>,
    /// The same in normal form.
    pub resolved_normalized_url: Option<String>,
    /// SHA-256 of that.
    pub resolved_canonical_hash: Option<[u8; 32]>,
    /// When that was found out.
    pub resolved_at: Option<Timestamp>,
    /// The W3C `traceparent` of the request that brought it.
    pub trace_context: Option<String>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When its status last changed.
    pub updated_at: Timestamp,
}

/// What a repeated discovery meets.
#[derive(Debug, Clone)]
pub struct Known {
    /// Which of the keys that were asked for, by its place.
    pub position: usize,
    /// The stored discovery's id.
    pub id: DiscoveryId,
    /// Its normal form: of what was submitted first.
    pub normalized_url: String,
    /// SHA-256 of that.
    pub canonical_hash: [u8; 32],
    /// Its status.
    pub status: DiscoveryStatus,
    /// Its candidate.
    pub candidate_id: Option<CandidateId>,
    /// Failed or unusable since at least 24 hours: a fresh extract job is due (domain.md §4).
    pub is_retryable: bool,
    /// The URL of the repeat is the one that was submitted, or the resolved one. Another may have come with an earlier
    /// sighting: [`crate::sightings::sightings_of_urls`] tells.
    pub url_is_known: bool,
}

/// The key of a repeat.
#[derive(Debug, Clone)]
pub struct MatchKey {
    /// The module's own id, or none.
    pub external_id: Option<String>,
    /// Used without an external id.
    pub canonical_hash: [u8; 32],
    /// In normal form.
    pub normalized_url: String,
}

/// What [`discoveries_take_in`] came to. A discovery that stands in neither is the double of another in the same set, or
/// was inserted by someone else at the same moment: [`discoveries_match`] finds it.
#[derive(Debug, Default)]
pub struct TakenIn {
    /// The ids of what was inserted.
    pub inserted: HashSet<DiscoveryId>,
    /// What was known before.
    pub known: Vec<Known>,
}

macro_rules! known_columns {
    ($asked:literal) => {
        concat!(
            $asked,
            ".position, known.id, known.normalized_url, known.canonical_hash, known.status, known.candidate_id,
            known.status IN ('failed', 'unusable') AND known.updated_at <= now() - interval '24 hours' AS is_retryable,
            known.normalized_url = ",
            $asked,
            ".normalized_url
                OR known.resolved_normalized_url IS NOT DISTINCT FROM ",
            $asked,
            ".normalized_url AS url_is_known"
        )
    };
}

/// Two branches, so that each reads its own partial unique index. `OFFSET 0` keeps the planner from joining instead: by stale
/// statistics it would read all of a module for each key (`tests/rows_read.rs`).
macro_rules! known_select {
    ($asked:literal) => {
        concat!(
            "SELECT ",
            known_columns!($asked),
            "
        FROM ",
            $asked,
            "
        CROSS JOIN LATERAL (
            SELECT *
            FROM discoveries
            WHERE origin_module_id = $1 AND external_id = ",
            $asked,
            ".external_id
            OFFSET 0
        ) AS known
        UNION ALL
        SELECT ",
            known_columns!($asked),
            "
        FROM ",
            $asked,
            "
        CROSS JOIN LATERAL (
            SELECT *
            FROM discoveries
            WHERE origin_module_id = $1 AND external_id IS NULL AND canonical_hash = ",
            $asked,
            ".canonical_hash
            OFFSET 0
        ) AS known
        WHERE ",
            $asked,
            ".external_id IS NULL"
        )
    };
}

/// What is known by the statement's snapshot, and what is inserted since it is not. In key order, so that two batches at
/// once wait for each other and never in a circle. Doubles within the statement, and rows of others in flight, are left out
/// by the two unique indexes (domain.md §2), and stand in neither answer.
///
/// `$16` is the most that the module may hand in in this minute: what is sent together with the question whether it is spent
/// must not insert first and be rolled back then, which would leave dead rows.
const TAKE_IN: &str = concat!(
    "
    WITH new AS MATERIALIZED (
        SELECT id, external_id, discovered_at, url, normalized_url, canonical_hash, title_hint,
            organization_hint, text_hint, hints, metadata, source_key, position::integer - 1 AS position
        FROM unnest($4::uuid[], $5::text[], $6::timestamptz[], $7::text[], $8::text[], $9::bytea[], $10::text[],
            $11::text[], $12::text[], $13::jsonb[], $14::jsonb[], $15::text[])
            WITH ORDINALITY
            AS new (id, external_id, discovered_at, url, normalized_url, canonical_hash, title_hint,
            organization_hint, text_hint, hints, metadata, source_key, position)
    ), found AS MATERIALIZED (
        ",
    known_select!("new"),
    "
    ), inserted AS (
        INSERT INTO discoveries
            (id, origin_module_id, external_id, discovered_at, url, normalized_url, canonical_hash, title_hint,
            organization_hint, text_hint, hints, metadata, source_key, depth, trace_context)
        SELECT id, $1, external_id, discovered_at, url, normalized_url, canonical_hash, title_hint,
            organization_hint, text_hint, hints, metadata, source_key, $2, $3
        FROM new
        WHERE position NOT IN (SELECT position FROM found)
            AND ($16::bigint IS NULL OR cardinality($4::uuid[]) + (
                SELECT coalesce(sum(accepted + resighted), 0)
                FROM ingest_counters
                WHERE module_id = $1 AND minute = date_trunc('minute', now())
            ) <= $16)
        ORDER BY external_id, canonical_hash, position
        ON CONFLICT DO NOTHING
        RETURNING id
    )
    SELECT position, id, normalized_url, canonical_hash, status, candidate_id, is_retryable, url_is_known
    FROM found
    UNION ALL
    SELECT NULL, id, NULL, NULL, NULL, NULL, NULL, NULL
    FROM inserted"
);

const MATCH: &str = concat!(
    "
    WITH asked AS (
        SELECT position, external_id, canonical_hash, normalized_url
        FROM unnest($2::integer[], $3::text[], $4::bytea[], $5::text[])
            AS new (position, external_id, canonical_hash, normalized_url)
    )
    ",
    known_select!("asked")
);

/// The conditions are checked again on the locked row: of two repeats at once, one begins it anew.
const REOPEN: &str = "
    UPDATE discoveries
    SET status = 'received', status_reason = NULL, version = version + 1, updated_at = now()
    FROM (
        SELECT id, status
        FROM discoveries
        WHERE id = ANY ($1)
            AND status IN ('failed', 'unusable')
            AND updated_at <= now() - interval '24 hours'
        ORDER BY id
        FOR NO KEY UPDATE
    ) AS due
    WHERE discoveries.id = due.id
    RETURNING discoveries.id, due.status";

macro_rules! columns {
    () => {
        "discoveries.id, discoveries.origin_module_id, modules.module_id, discoveries.external_id,
        discoveries.discovered_at, discoveries.url, discoveries.normalized_url, discoveries.canonical_hash,
        discoveries.title_hint, discoveries.organization_hint, discoveries.text_hint, discoveries.hints,
        discoveries.metadata, discoveries.source_key, discoveries.depth, discoveries.status,
        discoveries.status_reason, discoveries.candidate_id, discoveries.resolved_url,
        discoveries.resolved_normalized_url, discoveries.resolved_canonical_hash, discoveries.resolved_at,
        discoveries.trace_context, discoveries.created_at, discoveries.updated_at"
    };
}

const FIND: &str = concat!(
    "
    SELECT ",
    columns!(),
    "
    FROM discoveries
    JOIN modules ON modules.id = discoveries.origin_module_id
    WHERE discoveries.id = $1"
);

const SIGHTINGS_COUNT: &str = "SELECT count(*) FROM sightings WHERE discovery_id = $1";

const INGESTED_24H: &str = "
    SELECT coalesce(sum(accepted), 0)::bigint
    FROM ingest_counters
    WHERE minute > now() - interval '24 hours'";

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement {
        name: "discoveries_take_in",
        sql: TAKE_IN,
        types: &[
            Type::UUID,
            Type::INT2,
            Type::TEXT,
            Type::UUID_ARRAY,
            Type::TEXT_ARRAY,
            Type::TIMESTAMPTZ_ARRAY,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::BYTEA_ARRAY,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::JSONB_ARRAY,
            Type::JSONB_ARRAY,
            Type::TEXT_ARRAY,
            Type::INT8,
        ],
    },
    Statement {
        name: "discoveries_match",
        sql: MATCH,
        types: &[Type::UUID, Type::INT4_ARRAY, Type::TEXT_ARRAY, Type::BYTEA_ARRAY, Type::TEXT_ARRAY],
    },
    Statement { name: "discoveries_reopen", sql: REOPEN, types: &[Type::UUID_ARRAY] },
    Statement { name: "discovery_find", sql: FIND, types: &[Type::UUID] },
    Statement { name: "discovery_sightings_count", sql: SIGHTINGS_COUNT, types: &[Type::UUID] },
    Statement { name: "discoveries_ingested_24h", sql: INGESTED_24H, types: &[] },
];

/// Finds what is known and inserts what is not. One statement.
///
/// `depth` is 1 for what was found on a listing. `trace_context` is the request's W3C `traceparent`. Nothing is inserted if
/// with these the module would have handed in more than `quota` in this minute.
///
/// # Errors
/// [`Error`].
pub async fn discoveries_take_in(
    tx: &impl GenericClient,
    module: ModuleDbId,
    depth: i16,
    trace_context: Option<&str>,
    quota: Option<i64>,
    new: &[NewDiscovery],
) -> Result<TakenIn, Error> {
    fn column<'a, T>(new: &'a [NewDiscovery], pick: impl Fn(&'a NewDiscovery) -> T) -> Vec<T> {
        new.iter().map(pick).collect()
    }
    let ids = column(new, |new| new.id.0);
    let external_ids = column(new, |new| new.external_id.as_deref());
    let discovered_ats = column(new, |new| new.discovered_at);
    let urls = column(new, |new| new.url.as_str());
    let normalized_urls = column(new, |new| new.normalized_url.as_str());
    let hashes = column(new, |new| new.canonical_hash.as_slice());
    let title_hints = column(new, |new| new.title_hint.as_deref());
    let organization_hints = column(new, |new| new.organization_hint.as_deref());
    let text_hints = column(new, |new| new.text_hint.as_deref());
    let hints = column(new, |new| &new.hints);
    let metadatas = column(new, |new| &new.metadata);
    let source_keys = column(new, |new| new.source_key.as_deref());
    let rows = tx
        .query_typed(
            TAKE_IN,
            &[
                (&module.0, Type::UUID),
                (&depth, Type::INT2),
                (&trace_context, Type::TEXT),
                (&ids, Type::UUID_ARRAY),
                (&external_ids, Type::TEXT_ARRAY),
                (&discovered_ats, Type::TIMESTAMPTZ_ARRAY),
                (&urls, Type::TEXT_ARRAY),
                (&normalized_urls, Type::TEXT_ARRAY),
                (&hashes, Type::BYTEA_ARRAY),
                (&title_hints, Type::TEXT_ARRAY),
                (&organization_hints, Type::TEXT_ARRAY),
                (&text_hints, Type::TEXT_ARRAY),
                (&hints, Type::JSONB_ARRAY),
                (&metadatas, Type::JSONB_ARRAY),
                (&source_keys, Type::TEXT_ARRAY),
                (&quota, Type::INT8),
            ],
        )
        .await?;
    let mut taken = TakenIn::default();
    for row in &rows {
        match row.get::<_, Option<i32>>(0) {
            Some(_) => taken.known.push(known(row)),
            None => {
                taken.inserted.insert(DiscoveryId(row.get(1)));
            }
        }
    }
    Ok(taken)
}

/// Finds the stored discoveries of repeats. One statement, after [`discoveries_take_in`]: only its own snapshot sees what
/// others committed meanwhile.
///
/// # Errors
/// [`Error`].
pub async fn discoveries_match(
    tx: &impl GenericClient,
    module: ModuleDbId,
    keys: &[(usize, MatchKey)],
) -> Result<Vec<Known>, Error> {
    let positions: Vec<i32> = keys.iter().map(|(at, _)| i32::try_from(*at).unwrap_or(i32::MAX)).collect();
    let external_ids: Vec<Option<&str>> = keys.iter().map(|(_, key)| key.external_id.as_deref()).collect();
    let hashes: Vec<&[u8]> = keys.iter().map(|(_, key)| key.canonical_hash.as_slice()).collect();
    let normalized_urls: Vec<&str> = keys.iter().map(|(_, key)| key.normalized_url.as_str()).collect();
    let rows = tx
        .query_typed(
            MATCH,
            &[
                (&module.0, Type::UUID),
                (&positions, Type::INT4_ARRAY),
                (&external_ids, Type::TEXT_ARRAY),
                (&hashes, Type::BYTEA_ARRAY),
                (&normalized_urls, Type::TEXT_ARRAY),
            ],
        )
        .await?;
    Ok(rows.iter().map(known).collect())
}

fn known(row: &Row) -> Known {
    Known {
        position: usize::try_from(row.get::<_, i32>(0)).unwrap_or_default(),
        id: DiscoveryId(row.get(1)),
        normalized_url: row.get(2),
        canonical_hash: digest(row.get(3)),
        status: status(row.get(4)),
        candidate_id: row.get::<_, Option<Uuid>>(5).map(CandidateId),
        is_retryable: row.get(6),
        url_is_known: row.get(7),
    }
}

/// Brings failed and unusable discoveries of at least 24 hours back to `received`. Returns which, with the status that
/// they had.
///
/// # Errors
/// [`Error`].
pub async fn discoveries_reopen(
    tx: &impl GenericClient,
    ids: &[DiscoveryId],
) -> Result<Vec<(DiscoveryId, DiscoveryStatus)>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = tx.query_typed(REOPEN, &[(&ids, Type::UUID_ARRAY)]).await?;
    Ok(rows.iter().map(|row| (DiscoveryId(row.get(0)), status(row.get(1)))).collect())
}

/// The discovery of that id.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn discovery_find(client: &impl GenericClient, id: DiscoveryId) -> Result<Discovery, Error> {
    client.query_typed(FIND, &[(&id.0, Type::UUID)]).await?.first().map(read).ok_or(Error::NotFound)
}

/// How often a discovery was handed in, the first time included.
///
/// # Errors
/// [`Error`].
pub async fn discovery_sightings_count(client: &impl GenericClient, id: DiscoveryId) -> Result<i64, Error> {
    let rows = client.query_typed(SIGHTINGS_COUNT, &[(&id.0, Type::UUID)]).await?;
    Ok(rows.first().ok_or(Error::NotFound)?.get(0))
}

/// Accepted discoveries of the last 24 hours, of all modules.
///
/// # Errors
/// [`Error`].
pub async fn discoveries_ingested_24h(client: &impl GenericClient) -> Result<i64, Error> {
    let rows = client.query_typed(INGESTED_24H, &[]).await?;
    Ok(rows.first().ok_or(Error::NotFound)?.get(0))
}

fn read(row: &Row) -> Discovery {
    Discovery {
        id: DiscoveryId(row.get(0)),
        origin_module_db_id: ModuleDbId(row.get(1)),
        origin_module_id: row.get(2),
        external_id: row.get(3),
        discovered_at: row.get(4),
        url: row.get(5),
        normalized_url: row.get(6),
        canonical_hash: digest(row.get(7)),
        title_hint: row.get(8),
        organization_hint: row.get(9),
        text_hint: row.get(10),
        hints: row.get(11),
        metadata: row.get(12),
        source_key: row.get(13),
        depth: row.get(14),
        status: status(row.get(15)),
        status_reason: row.get(16),
        candidate_id: row.get::<_, Option<Uuid>>(17).map(CandidateId),
        resolved_url: row.get(18),
        resolved_normalized_url: row.get(19),
        resolved_canonical_hash: row.get::<_, Option<&[u8]>>(20).map(digest),
        resolved_at: row.get(21),
        trace_context: row.get(22),
        created_at: row.get(23),
        updated_at: row.get(24),
    }
}

/// The table's check keeps the length.
fn digest(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().unwrap_or_default()
}

/// The table's check keeps other words out; one that nothing leaves stands in for them.
fn status(word: &str) -> DiscoveryStatus {
    word.parse().unwrap_or(DiscoveryStatus::Withdrawn)
}
