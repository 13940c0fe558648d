//! Sightings: each time a discovery was handed in, the first included. Partitioned by month, kept for 400 days.

use crate::{Error, Statement};
use domain::ids::{CandidateId, DiscoveryId, ModuleDbId, PostingId};
use domain::state::PostingStatus;
use jiff::Timestamp;
use std::collections::HashSet;
use telemetry::db::GenericClient;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// A sighting to be written.
#[derive(Debug, Clone)]
pub struct NewSighting<'a> {
    /// What was seen.
    pub discovery_id: DiscoveryId,
    /// When the module saw it.
    pub seen_at: Timestamp,
    /// The URL that it sent this time.
    pub url: &'a str,
    /// SHA-256 of what was seen, where the module tells it.
    pub content_hash: Option<[u8; 32]>,
}

/// A posting that a trusted sighting belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SightedPosting {
    /// Key.
    pub id: PostingId,
    /// Its candidate.
    pub candidate_id: CandidateId,
    /// The discovery that was seen.
    pub discovery_id: DiscoveryId,
    /// domain.md §6.
    pub status: PostingStatus,
    /// Archived because it was not confirmed, at most 30 days ago.
    pub is_archived_for_staleness: bool,
    /// It was last seen at least a day ago, or never: what follows from seeing it again is worth an event.
    pub is_first_of_day: bool,
}

const INSERT: &str = "
    INSERT INTO sightings (discovery_id, module_id, seen_at, url, content_hash)
    SELECT discovery_id, $1, seen_at, url, content_hash
    FROM unnest($2::uuid[], $3::timestamptz[], $4::text[], $5::bytea[])
        AS new (discovery_id, seen_at, url, content_hash)";

/// By (discovery_id, seen_at) in each month's partition: `LIMIT` keeps the planner from a join that reads all of them.
const OF_URLS: &str = "
    SELECT asked.position
    FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS asked (discovery_id, url, position)
    CROSS JOIN LATERAL (
        SELECT
        FROM sightings
        WHERE sightings.discovery_id = asked.discovery_id AND sightings.url = asked.url
        LIMIT 1
    ) AS seen";

/// The visible posting of each discovery's standing candidate; a merge copied the links (domain.md §10.2). A posting is
/// archived for staleness only by the reasons in `$2`. `OFFSET 0` keeps the planner from a join that reads all of a table.
const POSTINGS: &str = "
    SELECT DISTINCT ON (posting.id) posting.id, posting.candidate_id, link.discovery_id, posting.status,
        posting.status = 'archived'
            AND posting.status_reason = ANY ($2)
            AND posting.updated_at >= now() - interval '30 days',
        checks.last_seen_at IS NULL OR checks.last_seen_at < now() - interval '1 day'
    FROM unnest($1::uuid[]) AS asked (discovery_id)
    CROSS JOIN LATERAL (
        SELECT candidate_id, discovery_id
        FROM candidate_discoveries
        WHERE discovery_id = asked.discovery_id
        OFFSET 0
    ) AS link
    CROSS JOIN LATERAL (
        SELECT id, candidate_id, status, status_reason, updated_at
        FROM postings
        WHERE candidate_id = link.candidate_id AND visible AND withdrawn_at IS NULL
        OFFSET 0
    ) AS posting
    JOIN posting_checks AS checks ON checks.posting_id = posting.id
    ORDER BY posting.id, link.discovery_id";

/// domain.md §9.5: last confirmed = greatest(itself, least(discovered_at, now)). Rows in the order of their ids.
const CONFIRM: &str = "
    WITH seen AS (
        SELECT posting_id, max(least(seen_at, now())) AS seen_at
        FROM unnest($1::uuid[], $2::timestamptz[]) AS new (posting_id, seen_at)
        GROUP BY posting_id
    ), locked AS (
        SELECT checks.posting_id, seen.seen_at
        FROM posting_checks AS checks
        JOIN seen ON seen.posting_id = checks.posting_id
        ORDER BY checks.posting_id
        FOR NO KEY UPDATE OF checks
    )
    UPDATE posting_checks
    SET last_seen_at = greatest(posting_checks.last_seen_at, locked.seen_at),
        last_confirmed_at = greatest(posting_checks.last_confirmed_at, locked.seen_at),
        updated_at = now()
    FROM locked
    WHERE posting_checks.posting_id = locked.posting_id";

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement {
        name: "sightings_insert",
        sql: INSERT,
        types: &[Type::UUID, Type::UUID_ARRAY, Type::TIMESTAMPTZ_ARRAY, Type::TEXT_ARRAY, Type::BYTEA_ARRAY],
    },
    Statement { name: "sightings_of_urls", sql: OF_URLS, types: &[Type::UUID_ARRAY, Type::TEXT_ARRAY] },
    Statement { name: "sighted_postings", sql: POSTINGS, types: &[Type::UUID_ARRAY, Type::TEXT_ARRAY] },
    Statement {
        name: "sightings_confirm",
        sql: CONFIRM,
        types: &[Type::UUID_ARRAY, Type::TIMESTAMPTZ_ARRAY],
    },
];

/// Writes sightings of one module, in one round trip.
///
/// # Errors
/// [`Error`].
pub async fn sightings_insert(
    tx: &impl GenericClient,
    module: ModuleDbId,
    sightings: &[NewSighting<'_>],
) -> Result<(), Error> {
    if sightings.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = sightings.iter().map(|sighting| sighting.discovery_id.0).collect();
    let seen_ats: Vec<Timestamp> = sightings.iter().map(|sighting| sighting.seen_at).collect();
    let urls: Vec<&str> = sightings.iter().map(|sighting| sighting.url).collect();
    let hashes: Vec<Option<&[u8]>> =
        sightings.iter().map(|sighting| sighting.content_hash.as_ref().map(<[u8; 32]>::as_slice)).collect();
    tx.execute_typed(
        INSERT,
        &[
            (&module.0, Type::UUID),
            (&ids, Type::UUID_ARRAY),
            (&seen_ats, Type::TIMESTAMPTZ_ARRAY),
            (&urls, Type::TEXT_ARRAY),
            (&hashes, Type::BYTEA_ARRAY),
        ],
    )
    .await?;
    Ok(())
}

/// Which of these URLs, by their places, came with an earlier sighting of their discovery. One statement; none cost none.
///
/// # Errors
/// [`Error`].
pub async fn sightings_of_urls(
    tx: &impl GenericClient,
    asked: &[(DiscoveryId, &str)],
) -> Result<HashSet<usize>, Error> {
    if asked.is_empty() {
        return Ok(HashSet::new());
    }
    let ids: Vec<Uuid> = asked.iter().map(|(id, _)| id.0).collect();
    let urls: Vec<&str> = asked.iter().map(|(_, url)| *url).collect();
    let rows = tx.query_typed(OF_URLS, &[(&ids, Type::UUID_ARRAY), (&urls, Type::TEXT_ARRAY)]).await?;
    // Ordinality counts from 1.
    Ok(rows.iter().filter_map(|row| usize::try_from(row.get::<_, i64>(0) - 1).ok()).collect())
}

/// The visible postings that these discoveries stand behind. `stale_reasons` are the reasons for which a posting is
/// archived because nobody confirmed it.
///
/// # Errors
/// [`Error`].
pub async fn sighted_postings(
    tx: &impl GenericClient,
    discoveries: &[DiscoveryId],
    stale_reasons: &[&str],
) -> Result<Vec<SightedPosting>, Error> {
    let ids: Vec<Uuid> = discoveries.iter().map(|id| id.0).collect();
    let rows =
        tx.query_typed(POSTINGS, &[(&ids, Type::UUID_ARRAY), (&stale_reasons, Type::TEXT_ARRAY)]).await?;
    Ok(rows
        .iter()
        .map(|row| SightedPosting {
            id: PostingId(row.get(0)),
            candidate_id: CandidateId(row.get(1)),
            discovery_id: DiscoveryId(row.get(2)),
            // The table's check keeps other words out; the one that is never reopened stands in for them.
            status: row.get::<_, &str>(3).parse().unwrap_or(PostingStatus::Closed),
            is_archived_for_staleness: row.get(4),
            is_first_of_day: row.get(5),
        })
        .collect())
}

/// Confirms postings by sightings of modules that are trusted enough: what they told as the time, never the future.
///
/// # Errors
/// [`Error`].
pub async fn sightings_confirm(
    tx: &impl GenericClient,
    seen: &[(PostingId, Timestamp)],
) -> Result<(), Error> {
    let ids: Vec<Uuid> = seen.iter().map(|(id, _)| id.0).collect();
    let seen_ats: Vec<Timestamp> = seen.iter().map(|(_, seen_at)| *seen_at).collect();
    tx.execute_typed(CONFIRM, &[(&ids, Type::UUID_ARRAY), (&seen_ats, Type::TIMESTAMPTZ_ARRAY)]).await?;
    Ok(())
}
