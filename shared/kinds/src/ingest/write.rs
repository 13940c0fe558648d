//! Stores discoveries, in sets and in few round trips.

use super::confirm::{Sighted, confirm_look, confirm_write};
use super::{EXTRACT, Error, Intake, Item, ItemError, Outcome, TARGET, Written};
use crate::resolve_url_redirects;
use domain::ids::{DiscoveryId, EvidenceId};
use domain::state::DiscoveryStatus;
use futures::TryFutureExt as _;
use ledger::{JobId, NewJob, job_enqueue};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use store::discoveries::{
    Known, MatchKey, NewDiscovery, TakenIn, discoveries_match, discoveries_reopen, discoveries_take_in,
};
use store::events::{NewEvent, event_insert};
use store::evidence::{
    NewEvidence, PER_DISCOVERY_MAX, evidence_attach, evidence_attachable, evidence_counts_of,
    evidence_insert_all,
};
use store::sightings::{NewSighting, sightings_insert, sightings_of_urls};
use telemetry::db::GenericClient;

/// Stores items: inserts what is new, records a sighting of all, enqueues what is due. The caller counts and commits.
///
/// The steps of [`Ingest`], one after another, in a transaction that has begun.
///
/// # Errors
/// What the database refuses; then nothing of the set may be committed.
pub async fn ingest(
    tx: &impl GenericClient,
    intake: &Intake<'_>,
    items: &[Item<'_>],
) -> Result<Outcome, Error> {
    let mut ingest = Ingest::new(intake, items);
    let refused = ingest.check_evidence(tx).await?;
    ingest.refuse(refused);
    let taken = ingest.take_in(tx).await?;
    ingest.look_up(tx, taken).await?.write(tx).await
}

/// A set of discoveries on its way in. The steps are [`Self::check_evidence`] (nothing if no evidence is referred to),
/// [`Self::take_in`], [`Self::look_up`] (nothing if all is new) and [`LookedUp::write`]; each but `look_up` is one round
/// trip, whose statements are all sent when it is first polled, so that a caller may send its own together with them.
///
/// `take_in` may be sent together with the check before it if the caller undoes it where something is refused, and takes
/// in what is left.
#[derive(Debug)]
pub struct Ingest<'a> {
    intake: &'a Intake<'a>,
    items: &'a [Item<'a>],
    refused: Vec<Option<ItemError>>,
}

/// Why items are refused, by their places.
#[derive(Debug, Default)]
pub struct Refused(Vec<(usize, ItemError)>);

impl Refused {
    /// Whether nothing is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Ingest<'a> {
    /// Sends nothing.
    #[must_use]
    pub fn new(intake: &'a Intake<'a>, items: &'a [Item<'a>]) -> Self {
        Self { intake, items, refused: vec![None; items.len()] }
    }

    /// Whether [`Self::check_evidence`] has anything to ask.
    #[must_use]
    pub fn refers_to_evidence(&self) -> bool {
        self.items.iter().any(|item| !item.discovery.evidence_refs.is_empty())
    }

    /// Each reference must be the module's own and unattached, or attached to this very discovery by an earlier request.
    /// What is found is held until the transaction ends. Before [`Self::take_in`].
    ///
    /// # Errors
    /// What the database refuses.
    pub async fn check_evidence(&self, tx: &impl GenericClient) -> Result<Refused, Error> {
        let mut refs: Vec<EvidenceId> =
            self.items.iter().flat_map(|item| item.discovery.evidence_refs.iter().copied()).collect();
        if refs.is_empty() {
            return Ok(Refused::default());
        }
        refs.sort_unstable();
        refs.dedup();
        let own = evidence_attachable(tx, &refs, self.intake.module.id).await?;
        let mut takers: HashMap<EvidenceId, (Option<&str>, [u8; 32])> = HashMap::new();
        let mut refused = Vec::new();
        for (index, Item { discovery, .. }) in self.items.iter().enumerate() {
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
            } else {
                refused.push((index, ItemError::NotAttachable(unfit)));
            }
        }
        Ok(Refused(refused))
    }

    /// Leaves items out of what follows.
    pub fn refuse(&mut self, refused: Refused) {
        for (index, error) in refused.0 {
            self.refused[index] = Some(error);
        }
    }

    fn wanted(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.items.len()).filter(|index| self.refused[*index].is_none())
    }

    fn new_of(&self, index: usize) -> &'a NewDiscovery {
        &self.items[index].discovery.new
    }

    /// Finds what is known, and inserts what is not.
    ///
    /// # Errors
    /// What the database refuses.
    pub async fn take_in(&self, tx: &impl GenericClient) -> Result<TakenIn, Error> {
        let wanted: Vec<usize> = self.wanted().collect();
        if wanted.is_empty() {
            return Ok(TakenIn::default());
        }
        let new: Vec<NewDiscovery> = wanted.iter().map(|index| self.new_of(*index).clone()).collect();
        let intake = self.intake;
        let mut taken =
            discoveries_take_in(tx, intake.module.id, intake.depth, intake.traceparent, intake.quota, &new)
                .await?;
        for known in &mut taken.known {
            // The statement counts what it was given.
            known.position = wanted.get(known.position).copied().unwrap_or(usize::MAX);
        }
        Ok(taken)
    }

    /// Finds out what repeats meet: nothing to ask if all is new. Otherwise one round trip, one more if another request
    /// inserted the same at the same moment, and three more where a posting is brought back.
    ///
    /// # Errors
    /// What the database refuses.
    pub async fn look_up(mut self, tx: &impl GenericClient, taken: TakenIn) -> Result<LookedUp<'a>, Error> {
        let TakenIn { inserted, known } = taken;
        let mut known: HashMap<usize, Known> =
            known.into_iter().map(|known| (known.position, known)).collect();
        self.add_doubles(&inserted, &mut known);
        self.add_matches(tx, &inserted, &mut known).await?;

        let retryable: Vec<DiscoveryId> = {
            let mut ids: Vec<DiscoveryId> =
                known.values().filter(|known| known.is_retryable).map(|known| known.id).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let strange: Vec<usize> =
            self.wanted().filter(|index| known.get(index).is_some_and(|known| !known.url_is_known)).collect();
        let strange_urls: Vec<(DiscoveryId, &str)> =
            strange.iter().map(|index| (known[index].id, self.new_of(*index).url.as_str())).collect();
        let counted: Vec<DiscoveryId> = self
            .wanted()
            .filter(|index| self.added(*index) > 0)
            .filter_map(|index| known.get(&index))
            .map(|known| known.id)
            .filter(|id| !inserted.contains(id))
            .collect();
        let sighted: Vec<Sighted<'a>> = self
            .wanted()
            .filter_map(|index| Some((index, known.get(&index)?)))
            .filter(|(_, known)| known.candidate_id.is_some())
            .map(|(index, known)| {
                let new = self.new_of(index);
                Sighted {
                    discovery_id: known.id,
                    source_key: new.source_key.as_deref(),
                    seen_at: new.discovered_at,
                }
            })
            .collect();
        let (reopened, urls, mut counts, confirmation) = tokio::try_join!(
            biased;
            reopen(tx, &retryable),
            sightings_of_urls(tx, &strange_urls).map_err(Error::from),
            evidence_counts_of(tx, &counted).map_err(Error::from),
            confirm_look(self.intake, tx, &sighted),
        )?;
        for (place, index) in strange.iter().enumerate() {
            if let Some(known) = known.get_mut(index).filter(|_| urls.contains(&place)) {
                known.url_is_known = true;
            }
        }
        for index in 0..self.items.len() {
            let added = self.added(index);
            if self.refused[index].is_some() || added == 0 {
                continue;
            }
            let id = known.get(&index).map_or(self.new_of(index).id, |known| known.id);
            let has = counts.entry(id).or_insert(0);
            let added = i64::try_from(added).unwrap_or(i64::MAX);
            if known.contains_key(&index) && has.saturating_add(added) > PER_DISCOVERY_MAX {
                self.refused[index] = Some(ItemError::TooMuchEvidence);
            } else {
                *has = has.saturating_add(added);
            }
        }
        Ok(LookedUp { ingest: self, known, reopened, confirmation })
    }

    /// Pieces of evidence that come with an item.
    fn added(&self, index: usize) -> usize {
        self.items[index].discovery.evidence_refs.len() + self.items[index].evidence.len()
    }

    /// Repeats within the set, of what it inserted itself.
    fn add_doubles(&self, inserted: &HashSet<DiscoveryId>, known: &mut HashMap<usize, Known>) {
        let mut firsts: HashMap<(Option<&str>, [u8; 32]), usize> = HashMap::new();
        for index in self.wanted() {
            let new = self.new_of(index);
            if inserted.contains(&new.id) {
                firsts.insert(key_of(new), index);
            }
        }
        for index in self.wanted() {
            let new = self.new_of(index);
            if inserted.contains(&new.id) || known.contains_key(&index) {
                continue;
            }
            let Some(first) = firsts.get(&key_of(new)).map(|first| self.new_of(*first)) else { continue };
            let double = Known {
                position: index,
                id: first.id,
                normalized_url: first.normalized_url.clone(),
                canonical_hash: first.canonical_hash,
                status: DiscoveryStatus::Received,
                candidate_id: None,
                is_retryable: false,
                url_is_known: first.normalized_url == new.normalized_url,
            };
            known.insert(index, double);
        }
    }

    /// What others inserted at the same moment.
    async fn add_matches(
        &self,
        tx: &impl GenericClient,
        inserted: &HashSet<DiscoveryId>,
        known: &mut HashMap<usize, Known>,
    ) -> Result<(), Error> {
        let missing: Vec<(usize, MatchKey)> = self
            .wanted()
            .map(|index| (index, self.new_of(index)))
            .filter(|(index, new)| !inserted.contains(&new.id) && !known.contains_key(index))
            .map(|(index, new)| {
                let key = MatchKey {
                    external_id: new.external_id.clone(),
                    canonical_hash: new.canonical_hash,
                    normalized_url: new.normalized_url.clone(),
                };
                (index, key)
            })
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let found = discoveries_match(tx, self.intake.module.id, &missing).await?;
        let found_count = found.len();
        known.extend(found.into_iter().map(|known| (known.position, known)));
        if found_count < missing.len() {
            // The index refused the row and yet it is not there: the one that was in its way has gone meanwhile.
            let detail = "a discovery went away while its repeat came in".to_owned();
            return Err(store::Error::Collision { detail }.into());
        }
        Ok(())
    }
}

/// What tells one discovery of a module from another.
fn key_of(new: &NewDiscovery) -> (Option<&str>, [u8; 32]) {
    match new.external_id.as_deref() {
        Some(id) => (Some(id), [0; 32]),
        None => (None, new.canonical_hash),
    }
}

async fn reopen(
    tx: &impl GenericClient,
    ids: &[DiscoveryId],
) -> Result<HashMap<DiscoveryId, DiscoveryStatus>, Error> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    Ok(discoveries_reopen(tx, ids).await?.into_iter().collect())
}

/// A set of which everything is known that decides what is written.
#[derive(Debug)]
pub struct LookedUp<'a> {
    ingest: Ingest<'a>,
    known: HashMap<usize, Known>,
    reopened: HashMap<DiscoveryId, DiscoveryStatus>,
    confirmation: super::confirm::Confirmation,
}

impl LookedUp<'_> {
    /// Whether each item is new, or why it is refused, in the given order.
    pub fn verdicts(&self) -> impl Iterator<Item = Result<bool, &ItemError>> + '_ {
        self.ingest.refused.iter().enumerate().map(|(index, refused)| match refused {
            Some(error) => Err(error),
            None => Ok(!self.known.contains_key(&index)),
        })
    }

    fn id_of(&self, index: usize) -> DiscoveryId {
        self.known.get(&index).map_or(self.ingest.new_of(index).id, |known| known.id)
    }

    /// Items that leave a trace: of what is known already, the sighting stands though its evidence is refused.
    fn traced(&self) -> Vec<usize> {
        let leaves =
            |index: &usize| matches!(self.ingest.refused[*index], None | Some(ItemError::TooMuchEvidence));
        (0..self.ingest.items.len()).filter(leaves).collect()
    }

    /// Writes sightings, events, evidence, confirmations and jobs. One round trip, all sent when it is first polled.
    ///
    /// # Errors
    /// What the database refuses; then nothing of the set may be committed.
    pub async fn write(&self, tx: &impl GenericClient) -> Result<Outcome, Error> {
        let (intake, items) = (self.ingest.intake, self.ingest.items);
        let traced = self.traced();
        let mut events: Vec<(&'static str, String, &'static str, Value)> = Vec::new();
        let mut jobs: Vec<(usize, NewJob<'_>)> = Vec::new();
        for index in &traced {
            self.plan(*index, &mut events, &mut jobs);
        }
        events.extend(self.confirmation.events.iter().cloned());
        let events: Vec<NewEvent<'_>> = events.into_iter().map(|event| self.event(event)).collect();
        let sightings: Vec<NewSighting<'_>> = traced
            .iter()
            .map(|index| {
                let new = self.ingest.new_of(*index);
                NewSighting {
                    discovery_id: self.id_of(*index),
                    seen_at: new.discovered_at,
                    url: &new.url,
                    content_hash: None,
                }
            })
            .collect();
        let mut attached: Vec<(EvidenceId, DiscoveryId)> = Vec::new();
        let mut evidence: Vec<NewEvidence> = Vec::new();
        let mut evidence_owners: Vec<usize> = Vec::new();
        for index in (0..items.len()).filter(|index| self.ingest.refused[*index].is_none()) {
            let id = self.id_of(index);
            attached.extend(items[index].discovery.evidence_refs.iter().map(|evidence| (*evidence, id)));
            evidence_owners.extend(items[index].evidence.iter().map(|_| index));
            evidence.extend(
                items[index].evidence.iter().map(|new| NewEvidence { discovery_id: Some(id), ..new.clone() }),
            );
        }
        let (job_owners, jobs): (Vec<usize>, Vec<NewJob<'_>>) = jobs.into_iter().unzip();
        // Sent together, answered in order. Jobs come last in the order of locks.
        let ((), (), (), stored, (), enqueued) = tokio::try_join!(
            biased;
            sightings_insert(tx, intake.module.id, &sightings).map_err(Error::from),
            event_insert(tx, &events).map_err(Error::from),
            evidence_attach(tx, &attached).map_err(Error::from),
            evidence_insert_all(tx, &evidence).map_err(Error::from),
            confirm_write(tx, &self.confirmation),
            job_enqueue(tx, intake.registry, &jobs).map_err(Error::from),
        )?;

        let mut evidence_of: HashMap<usize, Vec<EvidenceId>> = HashMap::new();
        for (owner, id) in evidence_owners.into_iter().zip(stored) {
            evidence_of.entry(owner).or_default().push(id);
        }
        let mut wake = Vec::new();
        let mut jobs_of: HashMap<usize, Vec<(JobId, String)>> = HashMap::new();
        for (owner, job) in job_owners.into_iter().zip(enqueued) {
            if job.due_soon {
                wake.push(job.id);
            }
            jobs_of.entry(owner).or_default().push((job.id, job.kind));
        }
        let results = (0..items.len())
            .map(|index| match &self.ingest.refused[index] {
                Some(refused) => Err(refused.clone()),
                None => {
                    let jobs = jobs_of.remove(&index).unwrap_or_default();
                    let evidence = evidence_of.remove(&index).unwrap_or_default();
                    Ok(self.written(index, jobs, evidence))
                }
            })
            .collect();
        Ok(Outcome { results, wake })
    }

    /// What one item leads to: its events and its jobs.
    fn plan<'j>(
        &self,
        index: usize,
        events: &mut Vec<(&'static str, String, &'static str, Value)>,
        jobs: &mut Vec<(usize, NewJob<'j>)>,
    ) {
        let intake = self.ingest.intake;
        let submitted = self.ingest.items[index].discovery;
        let id = self.id_of(index);
        let mut event = |event_type, payload| events.push(("discovery", id.to_string(), event_type, payload));
        let job = |kind, inputs| NewJob {
            kind,
            target_type: TARGET,
            target_id: id.0,
            inputs,
            priority: None,
            run_at: None,
            trace_context: intake.traceparent.map(str::to_owned),
        };
        let Some(known) = self.known.get(&index) else {
            let payload = json!({
                "module_id": intake.module.module_id,
                "url": submitted.new.url,
                "normalized_url": submitted.new.normalized_url,
                "external_id": submitted.new.external_id,
                "source_key": submitted.new.source_key,
            });
            event("ingested", payload);
            jobs.push((index, job(EXTRACT, json!({}))));
            if submitted.resolve_redirects {
                jobs.push((index, job(resolve_url_redirects::KIND, json!({}))));
            }
            return;
        };
        event("resighted", json!({"url": submitted.new.url, "seen_at": submitted.new.discovered_at}));
        if let Some(from) = self.reopened.get(&id) {
            event(
                "status_changed",
                json!({"from": from, "to": DiscoveryStatus::Received, "reason": "resighted"}),
            );
            jobs.push((index, job(EXTRACT, json!({}))));
        }
        // A withdrawn discovery leads to nothing any more.
        if !known.url_is_known && known.status != DiscoveryStatus::Withdrawn {
            let payload = json!({"from": known.normalized_url, "to": submitted.new.normalized_url});
            event("url_changed", payload);
            jobs.push((index, job(resolve_url_redirects::KIND, json!({"url": submitted.new.url}))));
        }
    }

    fn event(
        &self,
        (entity_type, entity_id, event_type, payload): (&'static str, String, &'static str, Value),
    ) -> NewEvent<'_> {
        let intake = self.ingest.intake;
        NewEvent {
            entity_type,
            entity_id,
            event_type,
            actor: intake.actor,
            request_id: intake.request_id,
            trace_id: intake.trace_id(),
            payload,
        }
    }

    fn written(&self, index: usize, jobs: Vec<(JobId, String)>, evidence: Vec<EvidenceId>) -> Written {
        let new = self.ingest.new_of(index);
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
            None => Written {
                discovery_id: new.id,
                is_new: true,
                normalized_url: new.normalized_url.clone(),
                canonical_hash: new.canonical_hash,
                status: DiscoveryStatus::Received,
                jobs,
                evidence,
            },
        }
    }
}
