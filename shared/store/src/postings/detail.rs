//! What `GET /postings/{id}` shows: the posting, where each field came from, and who saw it where.

use crate::sql::{Digest, Word};
use crate::{Error, Statement};
use domain::ids::{CandidateId, DiscoveryId, PostingId};
use domain::posting::{FieldProvenance, OpportunityKind, PostingFields};
use domain::state::PostingStatus;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use telemetry::db::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::{Json, Type};
use uuid::Uuid;

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "posting_detail", sql: DETAIL, types: &[Type::UUID] },
    Statement { name: "source_refs_of_candidate", sql: SOURCE_REFS, types: &[Type::UUID] },
];

/// One discovery that a posting is known from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRef {
    /// The module's text id.
    pub module_id: String,
    /// The key that the module named and may name.
    pub source_key: Option<String>,
    /// As it was handed in.
    pub url: String,
    /// The discovery.
    pub discovery_id: DiscoveryId,
    /// When the module first saw it.
    pub first_seen_at: Timestamp,
    /// When it last did.
    pub last_seen_at: Timestamp,
}

/// Everything that is known of a posting. Whoever answers a request decides by `visible`, `withdrawn_at` and
/// `superseded_by` whether to show it.
#[derive(Debug, Clone, PartialEq)]
pub struct PostingDetail {
    /// Key.
    pub id: PostingId,
    /// Its candidate.
    pub candidate_id: CandidateId,
    /// The fields; `canonical_url` is always set.
    pub fields: PostingFields,
    /// §7.1.
    pub normalized_url: String,
    /// SHA-256 of `normalized_url`.
    pub canonical_hash: [u8; 32],
    /// Where each field came from. `evidence_id` is for moderators only.
    pub provenance: BTreeMap<String, FieldProvenance>,
    /// Who saw it where, as of now.
    pub source_refs: Vec<SourceRef>,
    /// §6.
    pub status: PostingStatus,
    /// Why it has that status.
    pub status_reason: String,
    /// Whether the public sees it.
    pub visible: bool,
    /// When it was taken down.
    pub withdrawn_at: Option<Timestamp>,
    /// The posting that took its place in a merge.
    pub superseded_by: Option<PostingId>,
    /// Set once.
    pub published_at: Timestamp,
    /// When it was last confirmed to be open.
    pub last_confirmed_at: Option<Timestamp>,
    /// When a source last listed it.
    pub last_seen_at: Option<Timestamp>,
    /// When it will be checked.
    pub next_check_at: Option<Timestamp>,
    /// When the row was made.
    pub created_at: Timestamp,
    /// Its last change.
    pub updated_at: Timestamp,
    /// Incremented by each change.
    pub version: i64,
}

const DETAIL: &str = "\
SELECT
    posting.id, posting.candidate_id, posting.title, posting.canonical_url, posting.normalized_url,
    posting.canonical_hash, posting.organization_name, posting.sector, posting.degree_level,
    posting.opportunity_kind, posting.country, posting.region, posting.city, posting.remote, posting.locations,
    posting.applicant_countries, posting.tags, posting.areas, posting.employment_type, posting.salary,
    posting.description_text, posting.summary, posting.application_url, posting.identifier, posting.date_posted,
    posting.deadline, posting.deadline_date, posting.language, posting.status, posting.status_reason,
    posting.visible, posting.withdrawn_at, posting.superseded_by, posting.published_at, posting.created_at,
    posting.updated_at, posting.version, candidate.field_provenance,
    freshness.last_confirmed_at, freshness.last_seen_at, freshness.next_check_at
FROM postings AS posting
JOIN posting_candidates AS candidate ON candidate.id = posting.candidate_id
LEFT JOIN posting_checks AS freshness ON freshness.posting_id = posting.id
WHERE posting.id = $1";

/// Reads a posting with its provenance and sources, shown or not.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn posting_detail(
    client: &impl GenericClient,
    id: PostingId,
) -> Result<Option<PostingDetail>, Error> {
    let rows = client.query_typed(DETAIL, &[(&id.0, Type::UUID)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let candidate_id = CandidateId(row.try_get("candidate_id")?);
    Ok(Some(PostingDetail {
        id,
        candidate_id,
        fields: fields(row)?,
        normalized_url: row.try_get("normalized_url")?,
        canonical_hash: row.try_get::<_, Digest>("canonical_hash")?.0,
        provenance: row.try_get::<_, Json<_>>("field_provenance")?.0,
        source_refs: source_refs_of_candidate(client, candidate_id).await?,
        status: row.try_get::<_, Word<_>>("status")?.0,
        status_reason: row.try_get("status_reason")?,
        visible: row.try_get("visible")?,
        withdrawn_at: row.try_get("withdrawn_at")?,
        superseded_by: row.try_get::<_, Option<Uuid>>("superseded_by")?.map(PostingId),
        published_at: row.try_get("published_at")?,
        last_confirmed_at: row.try_get("last_confirmed_at")?,
        last_seen_at: row.try_get("last_seen_at")?,
        next_check_at: row.try_get("next_check_at")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        version: row.try_get("version")?,
    }))
}

fn fields(row: &Row) -> Result<PostingFields, Error> {
    Ok(PostingFields {
        title: row.try_get("title")?,
        organization_name: row.try_get("organization_name")?,
        canonical_url: row.try_get("canonical_url")?,
        description_text: row.try_get("description_text")?,
        summary: row.try_get("summary")?,
        country: row.try_get("country")?,
        region: row.try_get("region")?,
        city: row.try_get("city")?,
        remote: Some(row.try_get("remote")?),
        locations: row.try_get::<_, Json<_>>("locations")?.0,
        applicant_countries: row.try_get("applicant_countries")?,
        salary: row.try_get::<_, Option<Json<_>>>("salary")?.map(|Json(salary)| salary),
        application_url: row.try_get("application_url")?,
        deadline: row.try_get("deadline")?,
        deadline_date: row.try_get("deadline_date")?,
        date_posted: row.try_get("date_posted")?,
        employment_type: row.try_get("employment_type")?,
        identifier: row.try_get("identifier")?,
        language: row.try_get("language")?,
        sector: row.try_get("sector")?,
        degree_level: row.try_get("degree_level")?,
        tags: row.try_get("tags")?,
        areas: row.try_get("areas")?,
        opportunity_kind: row
            .try_get::<_, Option<&str>>("opportunity_kind")?
            .and_then(OpportunityKind::parse),
    })
}

const SOURCE_REFS: &str = "\
SELECT
    module.module_id,
    discovery.source_key,
    discovery.url,
    discovery.id,
    discovery.discovered_at,
    greatest(discovery.discovered_at, sighting.seen_at) AS last_seen_at
FROM candidate_discoveries AS link
JOIN discoveries AS discovery ON discovery.id = link.discovery_id
JOIN modules AS module ON module.id = discovery.origin_module_id
LEFT JOIN LATERAL (
    SELECT seen_at
    FROM sightings
    WHERE sightings.discovery_id = discovery.id
    ORDER BY seen_at DESC
    LIMIT 1
) AS sighting ON true
WHERE link.candidate_id = $1
    AND discovery.status <> 'withdrawn'
ORDER BY discovery.discovered_at, discovery.id";

/// The discoveries that a candidate is known from, oldest first, without those taken back.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn source_refs_of_candidate(
    client: &impl GenericClient,
    candidate: CandidateId,
) -> Result<Vec<SourceRef>, Error> {
    let rows = client.query_typed(SOURCE_REFS, &[(&candidate.0, Type::UUID)]).await?;
    rows.iter()
        .map(|row| {
            Ok(SourceRef {
                module_id: row.try_get("module_id")?,
                source_key: row.try_get("source_key")?,
                url: row.try_get("url")?,
                discovery_id: DiscoveryId(row.try_get("id")?),
                first_seen_at: row.try_get("discovered_at")?,
                last_seen_at: row.try_get("last_seen_at")?,
            })
        })
        .collect()
}
