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
use futures::TryFutureExt as _;
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use store::candidates::{Candidate, StateChange, candidate_lock, candidate_state_set};
use store::postings::{PostingState, posting_lock, posting_status_set};
use store::sightings::{SightedPosting, sighted_postings, sightings_confirm};
use store::trust_policy::policies_of_keys;
use telemetry::db::GenericClient;

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

/// What repeats confirm, to be written by [`confirm_write`].
#[derive(Debug, Default)]
pub(super) struct Confirmation {
    seen: Vec<(PostingId, Timestamp)>,
    /// Entity type, entity id, event type, payload.
    pub(super) events: Vec<(&'static str, String, &'static str, Value)>,
}

/// Finds the postings behind repeats, and brings back those that are stale. One round trip; where there are stale ones,
/// one to lock them and two to change them.
///
/// # Errors
/// What the database refuses.
pub(super) async fn confirm_look(
    intake: &Intake<'_>,
    tx: &impl GenericClient,
    repeats: &[Sighted<'_>],
) -> Result<Confirmation, Error> {
    let mut confirmation = Confirmation::default();
    if repeats.is_empty() {
        return Ok(confirmation);
    }
    let ids: Vec<DiscoveryId> = repeats.iter().map(|repeat| repeat.discovery_id).collect();
    let (trusted, postings) = tokio::try_join!(
        biased;
        trusted_of(intake, tx, repeats),
        sighted_postings(tx, &ids, STALE_REASONS).map_err(Error::from),
    )?;
    let mut lapsed = Vec::new();
    for posting in &postings {
        let seen_at = trusted.iter().filter(|(id, _)| *id == posting.discovery_id).map(|(_, at)| *at).max();
        let Some(seen_at) = seen_at else { continue };
        confirmation.seen.push((posting.id, seen_at));
        match posting.status {
            PostingStatus::Stale => lapsed.push(posting),
            PostingStatus::Archived if posting.is_archived_for_staleness => lapsed.push(posting),
            PostingStatus::Closed | PostingStatus::Archived if posting.is_first_of_day => {
                let payload =
                    json!({"posting_id": posting.id, "posting_status": posting.status, "reason": RESIGHTED});
                confirmation.events.push((
                    "candidate",
                    posting.candidate_id.to_string(),
                    "reopen_suggested",
                    payload,
                ));
            }
            PostingStatus::Active | PostingStatus::Closed | PostingStatus::Archived => {}
        }
    }
    revive(tx, &lapsed, &mut confirmation.events).await?;
    Ok(confirmation)
}

/// Confirms the postings. One statement; nothing to confirm costs none.
///
/// # Errors
/// What the database refuses.
pub(super) async fn confirm_write(tx: &impl GenericClient, confirmation: &Confirmation) -> Result<(), Error> {
    if confirmation.seen.is_empty() {
        return Ok(());
    }
    Ok(sightings_confirm(tx, &confirmation.seen).await?)
}

/// The repeats whose effective trust counts, with when they were seen.
async fn trusted_of(
    intake: &Intake<'_>,
    tx: &impl GenericClient,
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

/// Brings postings back to active, with their candidates. All are locked, candidates before postings and each by its id,
/// and judged again.
async fn revive(
    tx: &impl GenericClient,
    lapsed: &[&SightedPosting],
    events: &mut Vec<(&'static str, String, &'static str, Value)>,
) -> Result<(), Error> {
    if lapsed.is_empty() {
        return Ok(());
    }
    let mut candidates: Vec<CandidateId> = lapsed.iter().map(|posting| posting.candidate_id).collect();
    candidates.sort_unstable();
    candidates.dedup();
    let mut postings: Vec<PostingId> = lapsed.iter().map(|posting| posting.id).collect();
    postings.sort_unstable();
    let (candidates, postings) = futures::future::join(
        join_all(candidates.iter().map(|id| candidate_lock(tx, *id))),
        join_all(postings.iter().map(|id| posting_lock(tx, *id))),
    )
    .await;
    let candidates: Vec<Candidate> =
        candidates.into_iter().filter_map(Result::transpose).collect::<Result<_, _>>()?;
    let postings: Vec<PostingState> =
        postings.into_iter().filter_map(Result::transpose).collect::<Result<_, _>>()?;
    let mut changes = Vec::new();
    for sighted in lapsed {
        let candidate = candidates.iter().find(|candidate| candidate.id == sighted.candidate_id);
        let posting = postings.iter().find(|posting| posting.id == sighted.id);
        let (Some(candidate), Some(posting)) = (candidate, posting) else { continue };
        if let Some(change) = Revival::judge(sighted, candidate, posting) {
            events.extend(change.events());
            changes.push(change);
        }
    }
    for result in join_all(changes.iter().map(|change| change.write(tx))).await {
        result?;
    }
    Ok(())
}

/// A locked posting that comes back.
struct Revival {
    posting: PostingId,
    from: PostingStatus,
    is_visible: bool,
    /// The candidate and the state that it leaves, unless it is published already.
    candidate: Option<(CandidateId, CandidateState)>,
}

impl Revival {
    fn judge(sighted: &SightedPosting, candidate: &Candidate, posting: &PostingState) -> Option<Self> {
        let by = By::Machine(MachineCause::Resighted);
        if posting.status != sighted.status
            || posting.status == PostingStatus::Active
            || posting_transition(posting.status, PostingStatus::Active, by).is_err()
        {
            return None;
        }
        let mut leaves = None;
        if candidate.state != CandidateState::Published {
            candidate_transition(candidate.state, CandidateState::Published, by).ok()?;
            leaves = Some((sighted.candidate_id, candidate.state));
        }
        Some(Self {
            posting: posting.id,
            from: posting.status,
            is_visible: posting.visible,
            candidate: leaves,
        })
    }

    fn events(&self) -> Vec<(&'static str, String, &'static str, Value)> {
        let candidate = self.candidate.map(|(id, from)| {
            let payload = json!({"from": from, "to": CandidateState::Published, "reason": RESIGHTED});
            ("candidate", id.to_string(), "state_changed", payload)
        });
        let payload = json!({"from": self.from, "to": PostingStatus::Active, "reason": RESIGHTED});
        let posting = ("posting", self.posting.to_string(), "status_changed", payload);
        candidate.into_iter().chain([posting]).collect()
    }

    async fn write(&self, tx: &impl GenericClient) -> Result<(), Error> {
        if let Some((id, _)) = self.candidate {
            let change = StateChange {
                state: CandidateState::Published,
                reason: RESIGHTED,
                moderation_route: None,
                policy: None,
            };
            candidate_state_set(tx, id, &change).await?;
        }
        posting_status_set(tx, self.posting, PostingStatus::Active, RESIGHTED, self.is_visible).await?;
        Ok(())
    }
}
