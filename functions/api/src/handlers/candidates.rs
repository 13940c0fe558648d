//! Candidates as moderators read them (http-api.md §6).

use crate::app::App;
use crate::auth::human::{Human, HumanScope};
use crate::conditional::with_version;
use crate::path::PathId;
use crate::problem::Problem;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::extract::Conflict;
use domain::ids::CandidateId;
use domain::posting::{FieldProvenance, PostingFields};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use store::candidates::{Candidate, CandidateRelations, candidate_find, candidate_relations};
use utoipa::ToSchema;
use uuid::Uuid;

/// Who may change the fields without being outranked.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuthorityOut {
    /// 1 untrusted, 2 semi-trusted, 3 trusted, 4 a moderator.
    rank: i16,
    /// The module that the fields come from.
    module_id: String,
}

/// `GET /candidates/{id}`
#[derive(Debug, Serialize, ToSchema)]
pub struct CandidateOut {
    id: Uuid,
    state: &'static str,
    state_reason: Option<String>,
    #[schema(value_type = Object)]
    fields: PostingFields,
    /// For each field: the layer it was read from, its confidence, and the discovery and evidence behind it.
    #[schema(value_type = Object)]
    field_provenance: BTreeMap<String, FieldProvenance>,
    #[schema(value_type = Vec<Object>)]
    conflicts: Vec<Conflict>,
    /// The same as `fields`.
    #[schema(value_type = Object)]
    extracted_fields: PostingFields,
    extraction_confidence: f64,
    dedupe_confidence: Option<f64>,
    risk_flags: Vec<String>,
    moderation_route: Option<String>,
    authority: AuthorityOut,
    discovery_ids: Vec<Uuid>,
    posting_id: Option<Uuid>,
    merged_into_id: Option<Uuid>,
    locked_fields: Vec<String>,
    /// The last trust decision: chain, rules, confidence and reasons.
    #[schema(value_type = Object)]
    policy: Value,
    created_at: Timestamp,
    updated_at: Timestamp,
    state_changed_at: Timestamp,
    version: i64,
}

impl CandidateOut {
    fn new(candidate: Candidate, relations: CandidateRelations) -> Self {
        let content = candidate.content;
        Self {
            id: candidate.id.0,
            state: candidate.state.as_str(),
            state_reason: candidate.state_reason,
            extracted_fields: content.fields.clone(),
            fields: content.fields,
            field_provenance: content.field_provenance,
            conflicts: content.conflicts,
            extraction_confidence: content.extraction_confidence,
            dedupe_confidence: candidate.dedupe_confidence,
            risk_flags: content.risk_flags,
            moderation_route: candidate.moderation_route,
            authority: AuthorityOut {
                rank: content.authority_rank,
                module_id: relations.authority_module_id,
            },
            discovery_ids: relations.discovery_ids.into_iter().map(|id| id.0).collect(),
            posting_id: relations.posting_id.map(|id| id.0),
            merged_into_id: candidate.merged_into_id.map(|id| id.0),
            locked_fields: candidate.locked_fields,
            policy: candidate.policy,
            created_at: candidate.created_at,
            updated_at: candidate.updated_at,
            state_changed_at: candidate.state_changed_at,
            version: candidate.version,
        }
    }
}

/// One candidate, for moderators.
#[utoipa::path(
    get, path = "/candidates/{id}", tag = "moderation", security(("token" = [])),
    params(("id" = Uuid, Path)), responses((status = 200, body = CandidateOut))
)]
pub async fn get(State(app): State<App>, human: Human, PathId(id): PathId) -> Result<Response, Problem> {
    human.require(HumanScope::ModerationRead)?;
    let id = CandidateId(id);
    let client = app.pool.get().await?;
    let candidate = candidate_find(&**client, id).await?.ok_or_else(Problem::not_found)?;
    let version = candidate.version;
    let relations = candidate_relations(&**client, id).await?;
    Ok(with_version(Json(CandidateOut::new(candidate, relations)).into_response(), version))
}
