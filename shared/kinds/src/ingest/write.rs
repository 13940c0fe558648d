//! Stores discoveries, in sets.

use super::confirm::{Sighted, confirm};
use super::{EXTRACT, Error, Intake, Item, ItemError, Outcome, TARGET, Written};
use crate::resolve_url_redirects;
use domain::ids::{DiscoveryId, EvidenceId};
use domain::state::DiscoveryStatus;
use futures::TryFutureExt as _;
use ledger::{JobId, NewJob, job_enqueue};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use store::discoveries::{
    Known, MatchKey, NewDiscovery, discoveries_insert, discoveries_match, discoveries_reopen,
};
use store::events::{NewEvent, event_insert};
use store::evidence::{
    NewEvidence, PER_DISCOVERY_MAX, evidence_attach, evidence_attachable, evidence_count_of, evidence_insert,
};
use store::sightings::{NewSighting, sightings_insert};
use tokio_postgres::Transaction;

/// Stores items: inserts what is new, records a sighting of all, enqueues what is due. The caller counts and commits.
///
/// Statements: evidence check (if any is referred to), insert, match (if anything is known), reopen (if that is due), then
/// sightings, evidence, confirmation, events and jobs.
///
/// # Errors
/// What the database refuses; then nothing of the set may be committed.
pub async fn ingest(tx: &Transaction<'_>, intake: &Intake<'_>, items: &[Item<'_>]) -> Result<Outcome, Error> {
    let mut results: Vec<Option<ItemError>> = check_evidence(intake, tx, items).await?;
    let module = intake.module.id;

    let wanted: Vec<usize> = (0..items.len()).filter(|index| results[*index].is_none()).collect();
    let new: Vec<NewDiscovery> = wanted.iter().map(|index| items[*index].discovery.new.clone()).collect();
    let inserted = if new.is_empty() {
        HashSet::new()
    } else {
        discoveries_insert(tx, module, intake.depth, intake.traceparent, &new).await?
    };

    let repeats: Vec<(usize, MatchKey)> = wanted
        .iter()
        .map(|index| (*index, &items[*index].discovery.new))
        .filter(|(_, new)| !inserted.contains(&new.id))
        .map(|(index, new)| {
            let key = MatchKey {
                external_id: new.external_id.clone(),
                canonical_hash: new.canonical_hash,
                url: new.url.clone(),
                normalized_url: new.normalized_url.clone(),
            };
            (index, key)
        })
        .collect();
    let known: HashMap<usize, Known> = if repeats.is_empty() {
        HashMap::new()
    } else {
        let found = discoveries_match(tx, module, &repeats).await?;
        found.into_iter().map(|known| (known.position, known)).collect()
    };
    if known.len() < repeats.len() {
        // The index refused the row and yet it is not there: the one that was in its way has gone meanwhile.
        let detail = "a discovery went away while its repeat came in".to_owned();
        return Err(store::Error::Collision { detail }.into());
    }

    let retryable: Vec<DiscoveryId> =
        known.values().filter(|known| known.is_retryable).map(|known| known.id).collect();
    let reopened: HashMap<DiscoveryId, DiscoveryStatus> = if retryable.is_empty() {
        HashMap::new()
    } else {
        discoveries_reopen(tx, &retryable).await?.into_iter().collect()
    };

    let set = Set { intake, items, inserted: &inserted, known: &known, reopened: &reopened };
    let mut written = set.write_rest(tx, &wanted).await?;
    let results = (0..items.len())
        .filter_map(|index| match results[index].take() {
            Some(refused) => Some(Err(refused)),
            None => written.by_item.remove(&index),
        })
        .collect();
    Ok(Outcome { results, wake: written.wake })
}

/// Each reference must be the module's own and unattached, or attached to this very discovery by an earlier request.
async fn check_evidence(
    intake: &Intake<'_>,
    tx: &Transaction<'_>,
    items: &[Item<'_>],
) -> Result<Vec<Option<ItemError>>, Error> {
    let mut refs: Vec<EvidenceId> =
        items.iter().flat_map(|item| item.discovery.evidence_refs.iter().copied()).collect();
    if refs.is_empty() {
        return Ok(vec![None; items.len()]);
    }
    refs.sort_unstable();
    refs.dedup();
    let own = evidence_attachable(tx, &refs, intake.module.id).await?;
    let mut takers: HashMap<EvidenceId, (Option<&str>, [u8; 32])> = HashMap::new();
    let mut refused = Vec::with_capacity(items.len());
    for Item { discovery, .. } in items {
        let identity = (discovery.new.external_id.as_deref(), discovery.new.canonical_hash);
        let is_fit = |id: &EvidenceId| {
            own.iter().any(|own| own.id == *id && own.is_free_for(identity.0, &identity.1))
                && takers.get(id).is_none_or(|taker| match (taker.0, identity.0) {
                    (Some(one), Some(other)) => one == other,
                    (None, None) => taker.1 == identity.1,
                    _ => false,
                })
        };
        let unfit: Vec<usize> = (discovery.evidence_refs.iter().enumerate())
            .filter(|(_, id)| !is_fit(id))
            .map(|(at, _)| at)
            .collect();
        if unfit.is_empty() {
            takers.extend(discovery.evidence_refs.iter().map(|id| (*id, identity)));
            refused.push(None);
        } else {
            refused.push(Some(ItemError::NotAttachable(unfit)));
        }
    }
    Ok(refused)
}

struct Set<'a> {
    intake: &'a Intake<'a>,
    items: &'a [Item<'a>],
    inserted: &'a HashSet<DiscoveryId>,
    known: &'a HashMap<usize, Known>,
    reopened: &'a HashMap<DiscoveryId, DiscoveryStatus>,
}

#[derive(Default)]
struct Rest {
    by_item: HashMap<usize, Result<Written, ItemError>>,
    wake: Vec<JobId>,
}

impl Set<'_> {
    fn id_of(&self, index: usize) -> DiscoveryId {
        self.known.get(&index).map_or(self.items[index].discovery.new.id, |known| known.id)
    }

    async fn write_rest(&self, tx: &Transaction<'_>, wanted: &[usize]) -> Result<Rest, Error> {
        let mut events = Vec::new();
        let mut jobs: Vec<(usize, NewJob<'_>)> = Vec::new();
        for index in wanted {
            self.plan(*index, &mut events, &mut jobs);
        }
        let events: Vec<NewEvent<'_>> =
            events.into_iter().map(|(id, event_type, payload)| self.event(id, event_type, payload)).collect();
        let sightings: Vec<NewSighting<'_>> = wanted
            .iter()
            .map(|index| {
                let new = &self.items[*index].discovery.new;
                NewSighting {
                    discovery_id: self.id_of(*index),
                    seen_at: new.discovered_at,
                    url: &new.url,
                    content_hash: None,
                }
            })
            .collect();
        // Sent together, answered in order; nothing here reads what another writes.
        tokio::try_join!(
            sightings_insert(tx, self.intake.module.id, &sightings).map_err(Error::from),
            event_insert(tx, &events).map_err(Error::from),
        )?;
        let mut evidence: HashMap<usize, Result<Vec<EvidenceId>, ItemError>> = HashMap::new();
        for index in wanted {
            evidence.insert(*index, self.write_evidence(tx, *index).await?);
        }
        let repeats: Vec<Sighted<'_>> = wanted
            .iter()
            .filter(|index| self.known.contains_key(index))
            .filter(|index| self.known[index].candidate_id.is_some())
            .map(|index| {
                let new = &self.items[*index].discovery.new;
                Sighted {
                    discovery_id: self.id_of(*index),
                    source_key: new.source_key.as_deref(),
                    seen_at: new.discovered_at,
                }
            })
            .collect();
        confirm(self.intake, tx, &repeats).await?;

        // Jobs come last in the order of locks.
        let (owners, jobs): (Vec<usize>, Vec<NewJob<'_>>) = jobs.into_iter().unzip();
        let enqueued = job_enqueue(tx, self.intake.registry, &jobs).await?;
        let mut rest = Rest::default();
        let mut jobs_of: HashMap<usize, Vec<(JobId, String)>> = HashMap::new();
        for (owner, job) in owners.into_iter().zip(enqueued) {
            if job.due_soon {
                rest.wake.push(job.id);
            }
            jobs_of.entry(owner).or_default().push((job.id, job.kind));
        }
        for index in wanted {
            let jobs = jobs_of.remove(index).unwrap_or_default();
            let evidence = evidence.remove(index).unwrap_or_else(|| Ok(Vec::new()));
            rest.by_item.insert(*index, evidence.map(|evidence| self.written(*index, jobs, evidence)));
        }
        Ok(rest)
    }

    /// What one item leads to: its events and its jobs.
    fn plan<'j>(
        &self,
        index: usize,
        events: &mut Vec<(DiscoveryId, &'static str, serde_json::Value)>,
        jobs: &mut Vec<(usize, NewJob<'j>)>,
    ) {
        let submitted = self.items[index].discovery;
        let id = self.id_of(index);
        let job = |kind, inputs| NewJob {
            kind,
            target_type: TARGET,
            target_id: id.0,
            inputs,
            priority: None,
            run_at: None,
            trace_context: self.intake.traceparent.map(str::to_owned),
        };
        let Some(known) = self.known.get(&index) else {
            let payload = json!({
                "module_id": self.intake.module.module_id,
                "url": submitted.new.url,
                "normalized_url": submitted.new.normalized_url,
                "external_id": submitted.new.external_id,
                "source_key": submitted.new.source_key,
            });
            events.push((id, "ingested", payload));
            jobs.push((index, job(EXTRACT, json!({}))));
            if submitted.resolve_redirects {
                jobs.push((index, job(resolve_url_redirects::KIND, json!({}))));
            }
            return;
        };
        events.push((
            id,
            "resighted",
            json!({"url": submitted.new.url, "seen_at": submitted.new.discovered_at}),
        ));
        if let Some(from) = self.reopened.get(&id) {
            let payload = json!({"from": from, "to": DiscoveryStatus::Received, "reason": "resighted"});
            events.push((id, "status_changed", payload));
            jobs.push((index, job(EXTRACT, json!({}))));
        }
        // A withdrawn discovery leads to nothing any more.
        if !known.url_is_known && known.status != DiscoveryStatus::Withdrawn {
            let payload = json!({"from": known.normalized_url, "to": submitted.new.normalized_url});
            events.push((id, "url_changed", payload));
            jobs.push((index, job(resolve_url_redirects::KIND, json!({"url": submitted.new.url}))));
        }
    }

    fn event<'e>(
        &'e self,
        id: DiscoveryId,
        event_type: &'static str,
        payload: serde_json::Value,
    ) -> NewEvent<'e> {
        NewEvent {
            entity_type: "discovery",
            entity_id: id.to_string(),
            event_type,
            actor: self.intake.actor,
            request_id: self.intake.request_id,
            trace_id: self.intake.trace_id(),
            payload,
        }
    }

    /// Attaches what is referred to, and stores what came along.
    async fn write_evidence(
        &self,
        tx: &Transaction<'_>,
        index: usize,
    ) -> Result<Result<Vec<EvidenceId>, ItemError>, Error> {
        let Item { discovery: submitted, evidence } = self.items[index];
        let added = submitted.evidence_refs.len() + evidence.len();
        if added == 0 {
            return Ok(Ok(Vec::new()));
        }
        let id = self.id_of(index);
        if !self.inserted.contains(&id) {
            let has = evidence_count_of(tx, id).await?;
            let has = usize::try_from(has).unwrap_or(usize::MAX);
            if has.saturating_add(added) > usize::try_from(PER_DISCOVERY_MAX).unwrap_or(usize::MAX) {
                // The discovery is known already, so that its sighting stands.
                return Ok(Err(ItemError::TooMuchEvidence));
            }
        }
        if !submitted.evidence_refs.is_empty() {
            evidence_attach(tx, &submitted.evidence_refs, id).await?;
        }
        let mut ids = Vec::with_capacity(evidence.len());
        for new in evidence {
            let new = NewEvidence { discovery_id: Some(id), ..new.clone() };
            ids.push(evidence_insert(tx, &new).await?.id());
        }
        Ok(Ok(ids))
    }

    fn written(&self, index: usize, jobs: Vec<(JobId, String)>, evidence: Vec<EvidenceId>) -> Written {
        match self.known.get(&index) {
            Some(known) => Written {
                discovery_id: known.id,
                is_new: false,
                normalized_url: known.normalized_url.clone(),
                canonical_hash: known.canonical_hash,
                status: if self.reopened.contains_key(&known.id) {
                    DiscoveryStatus::Received
                } else {
                    known.status
                },
                jobs,
                evidence,
            },
            None => {
                let new = &self.items[index].discovery.new;
                Written {
                    discovery_id: new.id,
                    is_new: true,
                    normalized_url: new.normalized_url.clone(),
                    canonical_hash: new.canonical_hash,
                    status: DiscoveryStatus::Received,
                    jobs,
                    evidence,
                }
            }
        }
    }
}
