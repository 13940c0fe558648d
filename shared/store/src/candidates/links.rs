//! What a candidate is linked to: discoveries, evidence, and every address it is known by.

use crate::{Error, Statement};
use domain::ids::{CandidateId, DiscoveryId};
use domain::state::UrlRole;
use telemetry::db::GenericClient;
use tokio_postgres::types::Type;

pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "candidate_discovery_link", sql: DISCOVERY_LINK, types: &[Type::UUID, Type::UUID] },
    Statement { name: "candidate_evidence_link", sql: EVIDENCE_LINK, types: &[Type::UUID, Type::UUID] },
    Statement {
        name: "candidate_urls_add",
        sql: URLS_ADD,
        types: &[Type::UUID, Type::BYTEA_ARRAY, Type::TEXT_ARRAY, Type::TEXT_ARRAY],
    },
    Statement { name: "submissions_follow", sql: SUBMISSIONS_FOLLOW, types: &[Type::UUID, Type::TEXT] },
];

const DISCOVERY_LINK: &str = "\
INSERT INTO candidate_discoveries (candidate_id, discovery_id)
VALUES ($1, $2)
ON CONFLICT ON CONSTRAINT candidate_discoveries_pkey DO NOTHING";

/// Links a discovery; again is nothing.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn candidate_discovery_link(
    tx: &impl GenericClient,
    candidate: CandidateId,
    discovery: DiscoveryId,
) -> Result<(), Error> {
    tx.execute_typed(DISCOVERY_LINK, &[(&candidate.0, Type::UUID), (&discovery.0, Type::UUID)]).await?;
    Ok(())
}

const EVIDENCE_LINK: &str = "\
INSERT INTO candidate_evidence (candidate_id, evidence_id)
SELECT $1, evidence.id
FROM evidence
WHERE evidence.discovery_id = $2
ON CONFLICT ON CONSTRAINT candidate_evidence_pkey DO NOTHING";

/// Links every piece of evidence of a discovery that is not yet linked.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn candidate_evidence_link(
    tx: &impl GenericClient,
    candidate: CandidateId,
    discovery: DiscoveryId,
) -> Result<(), Error> {
    tx.execute_typed(EVIDENCE_LINK, &[(&candidate.0, Type::UUID), (&discovery.0, Type::UUID)]).await?;
    Ok(())
}

/// An address that a candidate is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateUrl {
    /// SHA-256 of `normalized_url`.
    pub hash: [u8; 32],
    /// §7.1.
    pub normalized_url: String,
    /// What the address is to the candidate.
    pub role: UrlRole,
}

const URLS_ADD: &str = "\
INSERT INTO candidate_urls (candidate_id, url_hash, normalized_url, role)
SELECT $1, address.hash, address.normalized_url, address.role
FROM unnest($2, $3, $4) AS address (hash, normalized_url, role)
ON CONFLICT ON CONSTRAINT candidate_urls_pkey DO NOTHING";

/// Adds addresses; those it has are left as they are.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn candidate_urls_add(
    tx: &impl GenericClient,
    candidate: CandidateId,
    urls: &[CandidateUrl],
) -> Result<(), Error> {
    if urls.is_empty() {
        return Ok(());
    }
    let hashes: Vec<&[u8]> = urls.iter().map(|url| &url.hash[..]).collect();
    let normalized: Vec<&str> = urls.iter().map(|url| url.normalized_url.as_str()).collect();
    let roles: Vec<&str> = urls.iter().map(|url| url.role.as_str()).collect();
    tx.execute_typed(
        URLS_ADD,
        &[
            (&candidate.0, Type::UUID),
            (&hashes, Type::BYTEA_ARRAY),
            (&normalized, Type::TEXT_ARRAY),
            (&roles, Type::TEXT_ARRAY),
        ],
    )
    .await?;
    Ok(())
}

const SUBMISSIONS_FOLLOW: &str = "\
UPDATE submissions
SET status = $2,
    version = version + 1,
    updated_at = now()
WHERE discovery_id IN (
        SELECT discovery_id
        FROM candidate_discoveries
        WHERE candidate_id = $1
    )
    AND status <> $2";

/// Writes what became of the candidate (`approved`, `rejected`) into what people submitted of it.
///
/// # Errors
/// [`Error`], of the database only.
pub async fn submissions_follow(
    tx: &impl GenericClient,
    candidate: CandidateId,
    status: &str,
) -> Result<(), Error> {
    tx.execute_typed(SUBMISSIONS_FOLLOW, &[(&candidate.0, Type::UUID), (&status, Type::TEXT)]).await?;
    Ok(())
}
