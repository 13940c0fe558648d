//! `GET /postings/{id}`

use super::{accept, jsonld};
use crate::app::App;
use crate::conditional::{PUBLIC_CACHE_CONTROL, public, public_json};
use crate::json::hex;
use crate::path::PathId;
use crate::problem::{Problem, WITHDRAWN};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::ids::{DiscoveryId, PostingId};
use domain::posting::{FieldProvenance, Location, OpportunityKind, Salary, Via};
use domain::state::PostingStatus;
use http::header::{ACCEPT, CACHE_CONTROL, LOCATION, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;
use std::collections::BTreeMap;
use store::postings::detail::{PostingDetail, SourceRef, posting_detail};
use utoipa::ToSchema;

const ROBOTS_TAG: HeaderName = HeaderName::from_static("x-robots-tag");

/// Where a field came from. The evidence itself is for moderators.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProvenanceOut {
    #[schema(value_type = String)]
    via: Via,
    #[schema(value_type = Option<uuid::Uuid>)]
    discovery_id: Option<DiscoveryId>,
    #[schema(value_type = Option<String>, format = DateTime)]
    captured_at: Option<Timestamp>,
    /// 0 to 1.
    confidence: f64,
}

impl From<FieldProvenance> for ProvenanceOut {
    fn from(from: FieldProvenance) -> Self {
        Self {
            via: from.via,
            discovery_id: from.discovery_id.map(DiscoveryId),
            captured_at: from.captured_at,
            confidence: from.confidence,
        }
    }
}

/// Who saw the posting where.
#[derive(Debug, Serialize, ToSchema)]
pub struct SourceRefOut {
    module_id: String,
    source_key: Option<String>,
    url: String,
    #[schema(value_type = uuid::Uuid)]
    discovery_id: DiscoveryId,
    #[schema(value_type = String, format = DateTime)]
    first_seen_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    last_seen_at: Timestamp,
}

impl From<SourceRef> for SourceRefOut {
    fn from(from: SourceRef) -> Self {
        Self {
            module_id: from.module_id,
            source_key: from.source_key,
            url: from.url,
            discovery_id: from.discovery_id,
            first_seen_at: from.first_seen_at,
            last_seen_at: from.last_seen_at,
        }
    }
}

/// Everything the public may know of a posting.
#[derive(Debug, Serialize, ToSchema)]
pub struct PostingDetailOut {
    #[schema(value_type = uuid::Uuid)]
    id: PostingId,
    #[schema(value_type = uuid::Uuid)]
    candidate_id: uuid::Uuid,
    title: String,
    canonical_url: String,
    /// The normal form of `canonical_url`.
    normalized_url: String,
    /// SHA-256 of `normalized_url`.
    canonical_hash: String,
    organization_name: String,
    sector: Option<String>,
    degree_level: Option<String>,
    #[schema(value_type = Option<String>)]
    opportunity_kind: Option<OpportunityKind>,
    country: Option<String>,
    region: Option<String>,
    city: Option<String>,
    remote: bool,
    #[schema(value_type = Vec<Object>)]
    locations: Vec<Location>,
    applicant_countries: Vec<String>,
    tags: Vec<String>,
    areas: Vec<String>,
    employment_type: Vec<String>,
    #[schema(value_type = Option<Object>)]
    salary: Option<Salary>,
    summary: Option<String>,
    description_text: Option<String>,
    application_url: Option<String>,
    identifier: Option<String>,
    #[schema(value_type = Option<String>, format = Date)]
    date_posted: Option<Date>,
    #[schema(value_type = Option<String>, format = DateTime)]
    deadline: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = Date)]
    deadline_date: Option<Date>,
    language: Option<String>,
    source_refs: Vec<SourceRefOut>,
    #[schema(value_type = String)]
    status: PostingStatus,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_confirmed_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_seen_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    next_check_at: Option<Timestamp>,
    /// Where each field came from, by its name.
    provenance: BTreeMap<String, ProvenanceOut>,
    #[schema(value_type = String, format = DateTime)]
    published_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<PostingDetail> for PostingDetailOut {
    fn from(posting: PostingDetail) -> Self {
        let fields = posting.fields;
        Self {
            id: posting.id,
            candidate_id: posting.candidate_id.0,
            title: fields.title.unwrap_or_default(),
            canonical_url: fields.canonical_url.unwrap_or_default(),
            normalized_url: posting.normalized_url,
            canonical_hash: hex(&posting.canonical_hash),
            organization_name: fields.organization_name.unwrap_or_default(),
            sector: fields.sector,
            degree_level: fields.degree_level,
            opportunity_kind: fields.opportunity_kind,
            country: fields.country,
            region: fields.region,
            city: fields.city,
            remote: fields.remote.unwrap_or(false),
            locations: fields.locations,
            applicant_countries: fields.applicant_countries,
            tags: fields.tags,
            areas: fields.areas,
            employment_type: fields.employment_type,
            salary: fields.salary,
            summary: fields.summary,
            description_text: fields.description_text,
            application_url: fields.application_url,
            identifier: fields.identifier,
            date_posted: fields.date_posted,
            deadline: fields.deadline,
            deadline_date: fields.deadline_date,
            language: fields.language,
            source_refs: posting.source_refs.into_iter().map(SourceRefOut::from).collect(),
            status: posting.status,
            last_confirmed_at: posting.last_confirmed_at,
            last_seen_at: posting.last_seen_at,
            next_check_at: posting.next_check_at,
            provenance: posting
                .provenance
                .into_iter()
                .map(|(field, provenance)| (field, ProvenanceOut::from(provenance)))
                .collect(),
            published_at: posting.published_at,
            updated_at: posting.updated_at,
            created_at: posting.created_at,
        }
    }
}

/// One posting with the provenance of every field; as schema.org JobPosting with `Accept: application/ld+json`.
#[utoipa::path(
    get, path = "/postings/{id}", tag = "catalogue",
    params(("id" = uuid::Uuid, Path, description = "The posting")),
    responses(
        (status = 200, content(
            (PostingDetailOut = "application/json"),
            (Object = "application/ld+json"),
        )),
        (status = 304, description = "Nothing changed since `If-None-Match`"),
        (status = 308, description = "It was merged into the posting at `Location`"),
        (status = 410, description = "It was taken down"),
    )
)]
pub async fn detail(
    State(app): State<App>,
    PathId(id): PathId,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let posting = {
        let client = app.pool.get().await?;
        posting_detail(&**client, PostingId(id)).await?
    };
    // Absent and hidden answer alike, or the answer would tell what is under review.
    let posting = posting.ok_or_else(Problem::not_found)?;
    if posting.withdrawn_at.is_some() {
        return Err(Problem::new(WITHDRAWN, "This posting was taken down."));
    }
    if let Some(other) = posting.superseded_by {
        let location =
            HeaderValue::try_from(format!("/postings/{other}")).map_err(|error| Problem::internal(&error))?;
        let mut response = StatusCode::PERMANENT_REDIRECT.into_response();
        response.headers_mut().insert(LOCATION, location);
        // A merge can be undone: the redirect is kept no longer than an answer.
        response.headers_mut().insert(CACHE_CONTROL, PUBLIC_CACHE_CONTROL);
        return Ok(response);
    }
    if !posting.visible {
        return Err(Problem::not_found());
    }
    let is_live = posting.status.is_live();
    let mut response = if accept::prefers(&headers, jsonld::MEDIA_TYPE, "application/json") {
        let body =
            serde_json::to_vec(&jsonld::job_posting(&posting)).map_err(|error| Problem::internal(&error))?;
        public(&headers, jsonld::MEDIA_TYPE, body)
    } else {
        public_json(&headers, &PostingDetailOut::from(posting))?
    };
    response.headers_mut().append(VARY, HeaderValue::from(ACCEPT));
    if !is_live {
        // Search engines punish markup of what is over; a deadline that was never read is not invented for them.
        response.headers_mut().insert(ROBOTS_TAG, HeaderValue::from_static("noindex"));
    }
    Ok(response)
}
