//! From a candidate to a posting: the trust decision, the state that follows from it, and what the public sees.
//!
//! [`decide`] is the one place where something is published without a person: whichever completion knows last (dedupe's,
//! or extract's where there is nothing to compare with) calls it. [`change_state`] writes a change of state with
//! everything that belongs to it (§5: "candidate → posting, always in the same transaction"), for machines and people.
//!
//! Callers hold, in this order: the locks of [`lock_identity`], the candidate's row, its posting's row.

use crate::record::{Recorder, name};
use domain::ids::{CandidateId, DiscoveryId, PostingId};
use domain::posting::PostingFields;
use domain::projection::{after_dedupe, missing_fields};
use domain::state::{
    By, CandidateState, PostingEffect, PostingStatus, RevisionState, TrustLevel, posting_effect,
};
use domain::trust::{
    self, Decision, DecisionInput, Dedupe, EffectivePolicy, PolicyRow, PolicyRules, Subject,
};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use store::advisory::{advisory_key, advisory_lock};
use store::candidates::links::submissions_follow;
use store::candidates::{Candidate, StateChange, candidate_state_set};
use store::discovery_jobs::WorkModule;
use store::pipelined::Tx;
use store::postings::checks::{CheckedPage, check_insert};
use store::postings::detail::{SourceRef, posting_detail, source_refs_of_candidate};
use store::postings::{
    PostingContent, PostingState, posting_auto_published_since, posting_content_set, posting_insert,
    posting_lock_of_candidate, posting_status_set, posting_visible_with_hash,
};
use store::revisions::{NewRevision, revision_insert};
use telemetry::label::PublicationReason;
use telemetry::metric;

/// A live posting is checked within 24 hours (§9.1); the next check is drawn from a window that ends before that, so
/// that postings published together are not checked together.
const CHECK_AFTER_HOURS: std::ops::Range<f64> = 24.0 * 0.90..24.0 * 0.98;

/// The policy in force for a discovery of a module (§10.3). `processor` is the trust of the module whose external
/// result is applied.
///
/// A stored row whose rules this release cannot read counts as disabled: it blocks, and never loosens.
///
/// # Errors
/// [`store::Error`], of the database only.
pub async fn policy_of(
    tx: &Tx<'_>,
    module: &WorkModule,
    source_key: Option<&str>,
    processor: Option<TrustLevel>,
) -> Result<EffectivePolicy, store::Error> {
    let subject = Subject {
        module_id: &module.module_id,
        module_trust: module.trust_level,
        module_enabled: module.enabled,
        module_source_keys: &module.source_keys,
        source_key,
        processor_trust: processor,
    };
    let keys = subject.chain_keys();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let rows: Vec<PolicyRow> = store::trust_policy::policies_of_keys(tx, &keys)
        .await?
        .into_iter()
        .map(|stored| {
            let (rules, enabled) = match PolicyRules::parse(&stored.rules_json) {
                Ok(rules) => (rules, stored.enabled),
                Err(errors) => {
                    let first = errors.first().map(ToString::to_string);
                    tracing::error!(
                        source_key = stored.source_key,
                        first,
                        "a stored policy cannot be read; it blocks"
                    );
                    (PolicyRules::default(), false)
                }
            };
            PolicyRow {
                source_key: stored.source_key,
                trust_level: stored.trust_level,
                auto_publish: stored.auto_publish,
                requires_moderation: stored.requires_moderation,
                rules,
                enabled,
                allow_elevation: stored.allow_elevation,
            }
        })
        .collect();
    Ok(trust::resolve(&subject, &rows))
}

/// Waits for the right to publish under these hashes, and, where the policy has a daily limit, to count towards it. Held
/// until the transaction ends; taken before any candidate is locked.
///
/// # Errors
/// [`store::Error::Collision`] when the lock is not to be had in time.
pub async fn lock_identity(
    tx: &Tx<'_>,
    hashes: &[&[u8; 32]],
    policy: &EffectivePolicy,
    module: &WorkModule,
    now: Timestamp,
) -> Result<(), store::Error> {
    let mut keys: Vec<i64> = hashes.iter().map(|hash| advisory_key(hash)).collect();
    if policy.rules.max_daily_auto_publish.is_some() {
        let day = now.to_zoned(TimeZone::UTC).date();
        let digest: [u8; 32] = Sha256::digest(format!("auto_publish:{}:{day}", module.module_id)).into();
        keys.push(advisory_key(&digest));
    }
    advisory_lock(tx, &keys).await
}

/// What a decision is about, besides the candidate itself.
#[derive(Debug, Clone, Copy)]
pub struct Deciding<'a> {
    /// The policy in force for the authority's discovery.
    pub policy: &'a EffectivePolicy,
    /// The authority.
    pub module: &'a WorkModule,
    /// What dedupe found.
    pub dedupe: Dedupe,
    /// Where the posting comes from, should there be one.
    pub origin: Origin<'a>,
}

/// Where a posting comes from: what its first revision and its first check say.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The discovery that the fields come with; none for a person's publication.
    pub discovery_id: Option<DiscoveryId>,
    /// When the page was last known to be open.
    pub confirmed_at: Timestamp,
    /// When a source last listed it.
    pub seen_at: Timestamp,
    /// The page, for the next conditional request.
    pub page: &'a CheckedPage,
    /// Now.
    pub now: Timestamp,
}

/// Decides about a candidate that is not live, and carries the decision out: state, posting, events (§10.3).
///
/// # Errors
/// [`store::Error`], of the database only: whatever is decided can be carried out.
pub async fn decide(
    tx: &Tx<'_>,
    recorder: &mut Recorder,
    candidate: &mut Candidate,
    deciding: &Deciding<'_>,
) -> Result<(Decision, Option<PostingId>), store::Error> {
    let content = &candidate.content;
    let missing = missing_fields(
        content.fields.title.as_deref(),
        content.fields.organization_name.as_deref(),
        content.fields.canonical_url.as_deref(),
    );
    let auto_published = async {
        match deciding.policy.rules.max_daily_auto_publish {
            Some(_) => {
                let since = start_of_day(deciding.origin.now);
                posting_auto_published_since(tx, deciding.module.id, since).await
            }
            None => Ok(0),
        }
    };
    let (existing, auto_published_today) = tokio::try_join!(
        biased;
        posting_visible_with_hash(tx, &content.canonical_hash, candidate.id),
        auto_published,
    )?;
    let input = DecisionInput {
        confidence: content.extraction_confidence,
        risk_flags: &content.risk_flags,
        dedupe: deciding.dedupe,
        is_incomplete: !missing.is_empty(),
        posting_exists: existing.is_some(),
        auto_published_today: u64::try_from(auto_published_today).unwrap_or(0),
    };
    let decision = trust::decide(deciding.policy, &input);
    metric::PUBLICATION_DECISIONS.add(1, PublicationReason::of(decision.reason.as_str()));
    let mut payload = decision.payload(deciding.policy, &input);
    if let (Some(existing), Value::Object(members)) = (existing, &mut payload) {
        members.insert("existing_posting_id".into(), json!(existing));
    }
    recorder.candidate(candidate.id, name::TRUST_POLICY_APPLIED, payload.clone());
    let steps: Vec<(CandidateState, By)> = after_dedupe(candidate.state, &decision)
        .into_iter()
        .map(|(state, cause)| (state, By::Machine(cause)))
        .collect();
    let change = Change {
        reason: decision.state_reason(),
        moderation_route: decision.route.as_deref(),
        policy: Some(&payload),
        origin: deciding.origin,
    };
    let posting = change_state(tx, recorder, candidate, &steps, &change).await?;
    Ok((decision, posting))
}

/// A change of a candidate's state, with its reason.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// Why.
    pub reason: &'a str,
    /// The queue to wait in.
    pub moderation_route: Option<&'a str>,
    /// The decision behind it; `None` keeps the last.
    pub policy: Option<&'a Value>,
    /// Where the posting comes from, should the change publish.
    pub origin: Origin<'a>,
}

/// Writes the steps of a change, an event each, and what they do to the posting and to submissions. No steps: the reason,
/// queue and decision are written, the state stays. Gives the posting if the change made one visible.
///
/// The steps must come from the domain's judges: nothing is judged here.
///
/// # Errors
/// [`store::Error::Conflict`] with `postings_visible_hash_key` if another visible posting has the hash.
pub async fn change_state(
    tx: &Tx<'_>,
    recorder: &mut Recorder,
    candidate: &mut Candidate,
    steps: &[(CandidateState, By)],
    change: &Change<'_>,
) -> Result<Option<PostingId>, store::Error> {
    let mut from = candidate.state;
    for (to, _) in steps {
        recorder.candidate(
            candidate.id,
            name::STATE_CHANGED,
            json!({"from": from, "to": to, "reason": change.reason}),
        );
        from = *to;
    }
    let last = steps.last().copied();
    let effect = last.map_or(PostingEffect::Keep, |(to, by)| posting_effect(to, by));
    let new = StateChange {
        state: from,
        reason: change.reason,
        moderation_route: change.moderation_route,
        policy: change.policy,
    };
    let submissions = async {
        match last {
            Some((CandidateState::Published, _)) => submissions_follow(tx, candidate.id, "approved").await,
            Some((CandidateState::Rejected, _)) => submissions_follow(tx, candidate.id, "rejected").await,
            _ => Ok(()),
        }
    };
    let posting =
        async { if last.is_some() { posting_lock_of_candidate(tx, candidate.id).await } else { Ok(None) } };
    let sources = async {
        if effect == PostingEffect::Publish {
            source_refs_of_candidate(tx, candidate.id).await
        } else {
            Ok(Vec::new())
        }
    };
    let ((), (), posting, sources) = tokio::try_join!(
        biased;
        candidate_state_set(tx, candidate.id, &new),
        submissions,
        posting,
        sources,
    )?;
    candidate.state = from;
    candidate.state_reason = Some(change.reason.to_owned());
    candidate.moderation_route = change.moderation_route.map(str::to_owned);
    match (effect, posting) {
        (PostingEffect::Publish, None) => publish(tx, recorder, candidate, &sources, change).await.map(Some),
        (PostingEffect::Publish, Some(posting)) => {
            republish(tx, recorder, candidate, &posting, change).await.map(Some)
        }
        (PostingEffect::Status(status), Some(posting)) => {
            set_status(tx, recorder, &posting, status, change.reason, posting.visible).await?;
            Ok(None)
        }
        // What replaces it is the merge's to write.
        (PostingEffect::Hide | PostingEffect::Supersede, Some(posting)) => {
            set_status(tx, recorder, &posting, PostingStatus::Archived, change.reason, false).await?;
            Ok(None)
        }
        (PostingEffect::Keep, _) | (_, None) => Ok(None),
    }
}

async fn publish(
    tx: &Tx<'_>,
    recorder: &mut Recorder,
    candidate: &Candidate,
    sources: &[SourceRef],
    change: &Change<'_>,
) -> Result<PostingId, store::Error> {
    let id = PostingId::new();
    let content = posting_content(candidate, sources);
    let fields = Value::Object(fields_map(&candidate.content.fields));
    tokio::try_join!(
        biased;
        posting_insert(tx, id, candidate.id, &content, change.reason, change.origin.now),
        begin_checks(tx, id, &change.origin),
        revise(tx, recorder, id, candidate.id, &fields, change.reason, change.origin.discovery_id),
    )?;
    recorder.posting(
        id,
        name::PROJECTED,
        json!({
            "candidate_id": candidate.id,
            "from": null,
            "to": PostingStatus::Active,
            "reason": change.reason,
        }),
    );
    Ok(id)
}

async fn republish(
    tx: &Tx<'_>,
    recorder: &mut Recorder,
    candidate: &Candidate,
    posting: &PostingState,
    change: &Change<'_>,
) -> Result<PostingId, store::Error> {
    project(tx, recorder, candidate, posting.id, change.reason, change.origin.discovery_id).await?;
    set_status(tx, recorder, posting, PostingStatus::Active, change.reason, true).await?;
    begin_checks(tx, posting.id, &change.origin).await?;
    Ok(posting.id)
}

async fn begin_checks(tx: &Tx<'_>, posting: PostingId, origin: &Origin<'_>) -> Result<(), store::Error> {
    let next_check_at = origin.now + next_check_pause();
    check_insert(tx, posting, origin.confirmed_at, origin.seen_at, next_check_at, origin.page).await
}

/// How long after a check the next one is due.
fn next_check_pause() -> SignedDuration {
    let hours = rand::rng().random_range(CHECK_AFTER_HOURS);
    SignedDuration::from_secs_f64(hours * 3600.0)
}

/// Writes a posting's status with its event; nothing if it has it.
///
/// # Errors
/// [`store::Error::Conflict`] as [`posting_status_set`].
pub async fn set_status(
    tx: &Tx<'_>,
    recorder: &mut Recorder,
    posting: &PostingState,
    status: PostingStatus,
    reason: &str,
    visible: bool,
) -> Result<(), store::Error> {
    if posting.status == status && posting.visible == visible {
        return Ok(());
    }
    posting_status_set(tx, posting.id, status, reason, visible).await?;
    recorder.posting(
        posting.id,
        name::STATUS_CHANGED,
        json!({
            "from": posting.status,
            "to": status,
            "reason": reason,
            "was_visible": posting.visible,
            "visible": visible,
        }),
    );
    Ok(())
}

/// Writes a candidate's content over its posting's, as a revision of what differs. Gives the names of what changed.
///
/// # Errors
/// [`store::Error::Conflict`] with `postings_visible_hash_key` if another visible posting has the new hash.
pub async fn project(
    tx: &Tx<'_>,
    recorder: &mut Recorder,
    candidate: &Candidate,
    posting: PostingId,
    reason: &str,
    discovery_id: Option<DiscoveryId>,
) -> Result<Vec<String>, store::Error> {
    let detail = posting_detail(tx, posting).await?.ok_or(store::Error::NotFound)?;
    let mut shown = candidate.content.fields.clone();
    // The table has no unknown for it.
    shown.remote = Some(shown.remote.unwrap_or(false));
    let changes = changes(&detail.fields, &shown);
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> = changes.keys().cloned().collect();
    let changes = Value::Object(changes);
    let content = posting_content(candidate, &detail.source_refs);
    let ((), revision) = tokio::try_join!(
        biased;
        posting_content_set(tx, posting, &content),
        revise(tx, recorder, posting, candidate.id, &changes, reason, discovery_id),
    )?;
    recorder.posting(
        posting,
        name::FIELDS_CHANGED,
        json!({"fields": names, "revision_id": revision, "reason": reason}),
    );
    Ok(names)
}

async fn revise(
    tx: &Tx<'_>,
    recorder: &Recorder,
    posting: PostingId,
    candidate: CandidateId,
    fields: &Value,
    reason: &str,
    discovery_id: Option<DiscoveryId>,
) -> Result<i64, store::Error> {
    revision_insert(
        tx,
        &NewRevision {
            posting_id: Some(posting),
            candidate_id: candidate,
            discovery_id,
            fields,
            state: RevisionState::Applied,
            reason,
            actor: recorder.actor(),
        },
    )
    .await
}

fn posting_content<'a>(candidate: &'a Candidate, source_refs: &'a [SourceRef]) -> PostingContent<'a> {
    let content = &candidate.content;
    PostingContent {
        fields: &content.fields,
        canonical_url: &content.canonical_url,
        normalized_url: &content.normalized_url,
        canonical_hash: &content.canonical_hash,
        source_refs,
    }
}

fn start_of_day(now: Timestamp) -> Timestamp {
    now.to_zoned(TimeZone::UTC).start_of_day().map_or(now, |start| start.timestamp())
}

/// The fields that are set, by name.
#[must_use]
pub fn fields_map(fields: &PostingFields) -> Map<String, Value> {
    match serde_json::to_value(fields) {
        Ok(Value::Object(members)) => members,
        // A struct of strings, numbers and lists always has a JSON object.
        _ => Map::new(),
    }
}

/// What has to be written over `old` to have `new`: the new value of each field that differs, null for one that went.
#[must_use]
pub fn changes(old: &PostingFields, new: &PostingFields) -> Map<String, Value> {
    let (old, new) = (fields_map(old), fields_map(new));
    let gone = old.keys().filter(|name| !new.contains_key(*name)).map(|name| (name.clone(), Value::Null));
    let set = new.iter().filter(|(name, value)| old.get(*name) != Some(value));
    set.map(|(name, value)| (name.clone(), value.clone())).chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_name_what_is_new_and_null_what_went() {
        let old = PostingFields {
            title: Some("A".into()),
            city: Some("Bern".into()),
            tags: vec!["x".into()],
            ..PostingFields::default()
        };
        let new = PostingFields {
            title: Some("A".into()),
            country: Some("CH".into()),
            tags: vec!["x".into(), "y".into()],
            ..PostingFields::default()
        };
        let expected = json!({"city": null, "country": "CH", "tags": ["x", "y"]});
        assert_eq!(Value::Object(changes(&old, &new)), expected);
        assert!(changes(&new, &new).is_empty());
    }

    #[test]
    fn the_next_check_comes_within_a_day() {
        for _ in 0..1000 {
            let hours = next_check_pause().as_secs_f64() / 3600.0;
            assert!(CHECK_AFTER_HOURS.contains(&hours), "{hours}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight_utc() {
        let noon: Timestamp = "2026-11-25T23:59:59Z".parse().unwrap();
        assert_eq!(start_of_day(noon).to_string(), "2026-11-25T00:00:00Z");
    }
}
