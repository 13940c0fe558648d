//! What a trusted sighting confirms (domain.md §9.5).
//!
//! A posting that a module of effective trust ≥ semi_trusted sees again is confirmed as of then; a stale one is active
//! again, and so is one that was archived for staleness at most 30 days ago. Machines never reopen what is closed: they
//! suggest it. Sightings of the untrusted are recorded and confirm nothing.

use super::{Error, Intake};
use domain::ids::{CandidateId, DiscoveryId, PostingId};
use domain::state::{
    By, CandidateState, MachineCause, PostingStatus, TrustLevel, candidate_transition, posting_transition,
};
use domain::trust::{PolicyRow, PolicyRules, Subject, resolve};
use jiff::Timestamp;
use serde_json::{Value, json};
use store::candidates::{StateChange, candidate_lock, candidate_state_set};
use store::events::{NewEvent, event_insert};
use store::postings::{posting_lock, posting_status_set};
use store::sightings::{SightedPosting, sighted_postings, sightings_confirm};
use store::trust_policy::policies_of_keys;
use tokio_postgres::Transaction;

/// Reasons for which freshness archives a posting that nobody confirmed (§9.2, §9.6).
const STALE_REASONS: &[&str] = &["archive_after", "not_confirmed", "freshness_retry_exhausted"];
/// The reason of what a sighting changes.
const RESIGHTED: &str = "resighted";

/// A repeat of a discovery that has a candidate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighted<'a> {
    /// The discovery.
    pub(super) discovery_id: DiscoveryId,
    /// The key that the repeat came with.
    pub(super) source_key: Option<&'a str>,
    /// When the module saw it.
    pub(super) seen_at: Timestamp,
}

/// Confirms the postings behind repeats.
///
/// # Errors
/// What the database refuses.
pub(super) async fn confirm(
    intake: &Intake<'_>,
    tx: &Transaction<'_>,
    repeats: &[Sighted<'_>],
) -> Result<(), Error> {
    if repeats.is_empty() {
        return Ok(());
    }
    let trusted = trusted_of(intake, tx, repeats).await?;
    if trusted.is_empty() {
        return Ok(());
    }
    let ids: Vec<DiscoveryId> = trusted.iter().map(|(id, _)| *id).collect();
    let postings = sighted_postings(tx, &ids, STALE_REASONS).await?;
    let mut events: Vec<(&'static str, String, &'static str, Value)> = Vec::new();
    let mut seen: Vec<(PostingId, Timestamp)> = Vec::new();
    for posting in &postings {
        let seen_at = trusted.iter().filter(|(id, _)| *id == posting.discovery_id).map(|(_, at)| *at).max();
        if let Some(seen_at) = seen_at {
            seen.push((posting.id, seen_at));
        }
        match posting.status {
            PostingStatus::Stale => revive(tx, posting, &mut events).await?,
            PostingStatus::Archived if posting.is_archived_for_staleness => {
                revive(tx, posting, &mut events).await?;
            }
            PostingStatus::Closed | PostingStatus::Archived if posting.is_first_of_day => {
                let payload =
                    json!({"posting_id": posting.id, "posting_status": posting.status, "reason": RESIGHTED});
                events.push(("candidate", posting.candidate_id.to_string(), "reopen_suggested", payload));
            }
            PostingStatus::Active | PostingStatus::Closed | PostingStatus::Archived => {}
        }
    }
    if !seen.is_empty() {
        sightings_confirm(tx, &seen).await?;
    }
    let events: Vec<NewEvent<'_>> = events
        .into_iter()
        .map(|(entity_type, entity_id, event_type, payload)| NewEvent {
            entity_type,
            entity_id,
            event_type,
            actor: intake.actor,
            request_id: intake.request_id,
            trace_id: intake.trace_id(),
            payload,
        })
        .collect();
    event_insert(tx, &events).await?;
    Ok(())
}

/// The repeats whose effective trust counts, with when they were seen.
async fn trusted_of(
    intake: &Intake<'_>,
    tx: &Transaction<'_>,
    repeats: &[Sighted<'_>],
) -> Result<Vec<(DiscoveryId, Timestamp)>, Error> {
    let module = intake.module;
    let subject = |source_key| Subject {
        module_id: module.module_id,
        module_trust: module.trust_level,
        // A disabled module's key does not open.
        module_enabled: true,
        module_source_keys: module.source_keys,
        source_key,
        processor_trust: None,
    };
    let mut keys: Vec<String> =
        repeats.iter().flat_map(|sighted| subject(sighted.source_key).chain_keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let rows: Vec<PolicyRow> = policies_of_keys(tx, &keys)
        .await?
        .into_iter()
        .map(|row| PolicyRow {
            source_key: row.source_key,
            trust_level: row.trust_level,
            auto_publish: row.auto_publish,
            requires_moderation: row.requires_moderation,
            // They decide on publication; here only trust is asked for.
            rules: PolicyRules::default(),
            enabled: row.enabled,
            allow_elevation: row.allow_elevation,
        })
        .collect();
    Ok(repeats
        .iter()
        .filter(|sighted| resolve(&subject(sighted.source_key), &rows).trust_level >= TrustLevel::SemiTrusted)
        .map(|sighted| (sighted.discovery_id, sighted.seen_at))
        .collect())
}

/// Brings a posting back to active, with its candidate. Both are locked, in this order, and judged again.
async fn revive(
    tx: &Transaction<'_>,
    sighted: &SightedPosting,
    events: &mut Vec<(&'static str, String, &'static str, Value)>,
) -> Result<(), Error> {
    let by = By::Machine(MachineCause::Resighted);
    let candidate = candidate_lock(tx, sighted.candidate_id).await?;
    let posting = posting_lock(tx, sighted.id).await?;
    let (Some(candidate), Some(posting)) = (candidate, posting) else { return Ok(()) };
    if posting.status != sighted.status || posting.status == PostingStatus::Active {
        return Ok(());
    }
    if posting_transition(posting.status, PostingStatus::Active, by).is_err() {
        return Ok(());
    }
    if candidate.state != CandidateState::Published {
        if candidate_transition(candidate.state, CandidateState::Published, by).is_err() {
            return Ok(());
        }
        publish(tx, sighted.candidate_id, candidate.state, events).await?;
    }
    posting_status_set(tx, posting.id, PostingStatus::Active, RESIGHTED, posting.visible).await?;
    let payload = json!({"from": posting.status, "to": PostingStatus::Active, "reason": RESIGHTED});
    events.push(("posting", posting.id.to_string(), "status_changed", payload));
    Ok(())
}

async fn publish(
    tx: &Transaction<'_>,
    id: CandidateId,
    from: CandidateState,
    events: &mut Vec<(&'static str, String, &'static str, Value)>,
) -> Result<(), Error> {
    let change = StateChange {
        state: CandidateState::Published,
        reason: RESIGHTED,
        moderation_route: None,
        policy: None,
    };
    candidate_state_set(tx, id, &change).await?;
    let payload = json!({"from": from, "to": CandidateState::Published, "reason": RESIGHTED});
    events.push(("candidate", id.to_string(), "state_changed", payload));
    Ok(())
}
