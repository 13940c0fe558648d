//! The writes of an extraction, all in the completing transaction.

use super::reading::{FLAG_WITHDRAWN, Reading, merge};
use super::result::Report;
use super::{KIND, listing, set_status};
use crate::publication::{
    Change, Deciding, Origin, change_state, changes, decide, fields_map, lock_identity, policy_of, project,
};
use crate::record::{Recorder, name};
use crate::redirects::{Chain, Followed, follow};
use crate::{Applied, ApplyError, Context, ResultOrigin, rules};
use domain::extract::{ClosedBy, ExtractedPosting, ResultSource, Verdict};
use domain::ids::{CandidateId, DiscoveryId, EvidenceId, PostingId};
use domain::projection::{
    AfterExtract, Authority, Extracted, FLAG_CONTENT_CHANGE_REVIEW, Face, Takeover, UpdateVerdict,
    after_extract, judge_update, missing_fields, outranks,
};
use domain::state::{By, CandidateState, DiscoveryStatus, MachineCause, RevisionState, TrustLevel};
use domain::trust::{Dedupe, EffectivePolicy};
use domain::url::{Rules, normalize};
use futures::TryFutureExt as _;
use jiff::Timestamp;
use ledger::{FencedJob, JobId};
use serde_json::{Value, json};
use store::candidates::links::{candidate_discovery_link, candidate_evidence_link, candidate_urls_add};
use store::candidates::{
    Candidate, CandidateContent, candidate_content_set, candidate_find, candidate_flags_set,
    candidate_insert, candidate_lock, candidate_of_discovery,
};
use store::discovery_jobs::{DiscoveryWork, discovery_candidate_set, discovery_work_lock};
use store::evidence::evidence_insert;
use store::pipelined::Tx;
use store::postings::checks::{CheckedPage, check_page_set};
use store::postings::{
    PostingState, posting_lock_of_candidate, posting_visible_with_hash, posting_was_withdrawn,
};
use store::revisions::{NewRevision, revision_insert, revisions_of_candidate};
use store::url_overrides::url_rules_version;
use telemetry::label::ExtractionVerdict;
use telemetry::metric;

/// Everything about one application that does not change while it runs.
struct Work<'a> {
    cx: &'a Context,
    tx: &'a Tx<'a>,
    by: &'a ResultOrigin,
    discovery: &'a DiscoveryWork,
    report: &'a Report,
    policy: &'a EffectivePolicy,
    rules: &'a Rules,
    followed: &'a Followed,
    /// The discovery's own candidate, if it has one; after merges, the one that stands.
    own: Option<CandidateId>,
    evidence_id: Option<EvidenceId>,
    captured_at: Timestamp,
    page: CheckedPage,
    trace_context: Option<&'a str>,
}

/// What became of the candidate.
struct Outcome {
    candidate_id: CandidateId,
    published: Option<PostingId>,
}

pub(super) async fn apply(
    cx: &Context,
    tx: &Tx<'_>,
    job: &FencedJob,
    result: Value,
    by: &ResultOrigin,
) -> Result<Applied, ApplyError> {
    let report = Report::read(result, by)?;
    let id = DiscoveryId(job.target_id);
    let (discovery, rules, own) = tokio::try_join!(
        biased;
        discovery_work_lock(tx, id),
        rules::load(tx),
        candidate_of_discovery(tx, id),
    )?;
    let Some(discovery) = discovery else {
        return Err(ApplyError::Refused {
            code: "apply_failed",
            message: "the discovery of this job does not exist".into(),
        });
    };
    if discovery.status == DiscoveryStatus::Withdrawn {
        return Ok(applied(&report, None, Vec::new()));
    }
    let mut recorder = Recorder::of_job(by.actor(KIND), job.trace_context.as_deref());
    let evidence = report.fetched.as_ref().map(|fetched| fetched.evidence(discovery.id));
    let evidence = async {
        match &evidence {
            Some(new) => Ok(Some(evidence_insert(tx, new).await?.id())),
            None => Ok(None),
        }
    };
    let policy = policy_of(tx, &discovery.module, discovery.source_key.as_deref(), trust_cap(by));
    let (evidence_id, followed, policy) = tokio::try_join!(
        biased;
        evidence,
        follow_own_chain(cx, tx, &mut recorder, &rules, &discovery, &report),
        policy.map_err(ApplyError::from),
    )?;
    let work = Work {
        cx,
        tx,
        by,
        discovery: &discovery,
        report: &report,
        policy: &policy,
        rules: &rules,
        followed: &followed,
        own: own.map(|found| found.candidate_id),
        evidence_id,
        captured_at: report.fetched.as_ref().map_or_else(|| cx.now(), |fetched| fetched.captured_at),
        page: report.fetched.as_ref().map(super::fetched::Fetched::checked_page).unwrap_or_default(),
        trace_context: job.trace_context.as_deref(),
    };
    let (outcome, wake) = work.judge(&mut recorder).await?;
    recorder.flush(tx).await?;
    let verdict = ExtractionVerdict::of(report.extraction.verdict.as_str());
    metric::EXTRACTION_VERDICTS.add(1, verdict);
    Ok(applied(&report, outcome, wake))
}

fn applied(report: &Report, outcome: Option<Outcome>, wake: Vec<JobId>) -> Applied {
    let candidates: Vec<CandidateId> = outcome.iter().map(|outcome| outcome.candidate_id).collect();
    let answer = json!({"verdict": report.extraction.verdict, "candidates": candidates});
    Applied {
        kept: json!({"outcome": answer, "extraction": report.extraction}),
        outcome: answer,
        wake,
        published: outcome.and_then(|outcome| Some((outcome.published?, outcome.candidate_id))),
    }
}

fn trust_cap(by: &ResultOrigin) -> Option<TrustLevel> {
    match by {
        ResultOrigin::Worker => None,
        ResultOrigin::Module { trust_level, .. } => Some(*trust_level),
    }
}

/// The rule of redirects for extract's own chain (§7.2). A processor's result has none: its discovery's address, or what
/// that was resolved to, stands.
async fn follow_own_chain(
    cx: &Context,
    tx: &Tx<'_>,
    recorder: &mut Recorder,
    rules: &Rules,
    discovery: &DiscoveryWork,
    report: &Report,
) -> Result<Followed, ApplyError> {
    let asked = normalize(&discovery.normalized_url, rules).map_err(|error| ApplyError::Refused {
        code: "apply_failed",
        message: format!("the discovery's own address has no normal form any more: {error}"),
    })?;
    let (hops, end, status, downgraded) = match &report.fetched {
        Some(fetched) => {
            let hops = fetched.hops.iter().map(|hop| hop.url.clone()).collect();
            (hops, fetched.final_url.as_str(), fetched.status, fetched.downgraded)
        }
        None => (Vec::new(), discovery.normalized_url.as_str(), 200, false),
    };
    let chain = Chain { asked: &asked, hops: &hops, end, status, downgraded };
    Ok(follow(tx, recorder, rules, discovery, &chain, cx.now()).await?)
}

impl Work<'_> {
    async fn judge(&self, recorder: &mut Recorder) -> Result<(Option<Outcome>, Vec<JobId>), ApplyError> {
        let extraction = &self.report.extraction;
        let unusable = match extraction.verdict {
            Verdict::Posting | Verdict::Closed => match extraction.postings.first() {
                // Whoever was sent to a home page or a login is not told of the posting that was asked for.
                _ if self.followed.not_final.is_some_and(is_elsewhere) => "redirected_away",
                Some(posting) if posting.fields.title.is_some() => {
                    return Ok((Some(self.take(recorder, posting).await?), Vec::new()));
                }
                _ if extraction.verdict == Verdict::Closed => {
                    if let Some(outcome) = self.close_known(recorder).await? {
                        return Ok((Some(outcome), Vec::new()));
                    }
                    "closed"
                }
                _ => "no_title",
            },
            Verdict::Listing => "listing",
            Verdict::NotAPosting => "not_a_posting",
        };
        set_status(self.tx, recorder, self.discovery, DiscoveryStatus::Unusable, Some(unusable)).await?;
        let wake = if extraction.verdict == Verdict::Listing {
            let actor = recorder.actor().clone();
            let trace = self.trace_context;
            listing::hand_in(self.cx, self.tx, &actor, self.rules, self.discovery, extraction, trace).await?
        } else {
            Vec::new()
        };
        Ok((None, wake))
    }

    fn is_worker(&self) -> bool {
        matches!(self.by, ResultOrigin::Worker)
    }

    fn source(&self) -> ResultSource {
        match self.by {
            ResultOrigin::Worker => ResultSource::Callboard,
            ResultOrigin::Module { trust_level, .. } => ResultSource::Processor {
                module_trust: *trust_level,
                discovery_trust: self.policy.trust_level,
            },
        }
    }

    fn reading<'b>(&'b self, posting: &'b ExtractedPosting, was_withdrawn: bool) -> Reading<'b> {
        Reading {
            discovery: self.discovery,
            posting,
            conflicts: &self.report.extraction.conflicts,
            noindex: self.report.extraction.noindex,
            was_withdrawn,
            page_url: &self.followed.page,
            source: self.source(),
            policy: self.policy,
            evidence_id: self.evidence_id,
            captured_at: self.captured_at,
            rules: self.rules,
        }
    }

    fn origin(&self) -> Origin<'_> {
        Origin {
            discovery_id: Some(self.discovery.id),
            confirmed_at: self.captured_at,
            seen_at: self.discovery.discovered_at,
            page: &self.page,
            now: self.cx.now(),
        }
    }

    /// Materialises the discovery's candidate, or updates the one it has, and lets what follows follow.
    async fn take(&self, recorder: &mut Recorder, posting: &ExtractedPosting) -> Result<Outcome, ApplyError> {
        let mut content = self.reading(posting, false).content();
        let known = self.known_candidate().await?;
        let mut hashes = vec![content.canonical_hash];
        if let Some(id) = known {
            hashes.extend(candidate_find(self.tx, id).await?.map(|found| found.content.canonical_hash));
        }
        let hashes: Vec<&[u8; 32]> = hashes.iter().collect();
        let held = async {
            match known {
                Some(id) => self.hold(id).await.map(Some),
                None => Ok(None),
            }
        };
        let ((), was_withdrawn, held) = tokio::try_join!(
            biased;
            lock_identity(self.tx, &hashes, self.policy, &self.discovery.module, self.cx.now()),
            posting_was_withdrawn(self.tx, &content.canonical_hash),
            held,
        )?;
        if was_withdrawn {
            content.risk_flags.push(FLAG_WITHDRAWN.to_owned());
            content.risk_flags.sort();
        }
        let mut urls = self.reading(posting, false).urls(&content);
        urls.extend(self.followed.aliases.iter().cloned());
        let (mut candidate, live, is_changed) = match held {
            None => (self.materialise(recorder, &content).await?, None, true),
            Some((mut candidate, live)) => {
                let is_changed = self.update(recorder, &mut candidate, live.as_ref(), content).await?;
                (candidate, live, is_changed)
            }
        };
        let candidate_id = candidate.id;
        let status = set_status(self.tx, recorder, self.discovery, DiscoveryStatus::Extracted, None);
        let ((), (), published) = tokio::try_join!(
            biased;
            candidate_urls_add(self.tx, candidate_id, &urls).map_err(ApplyError::from),
            status.map_err(ApplyError::from),
            self.proceed(recorder, &mut candidate, live.as_ref(), is_changed),
        )?;
        Ok(Outcome { candidate_id, published })
    }

    /// Locks a candidate and its posting, and links this discovery to it.
    async fn hold(&self, id: CandidateId) -> Result<(Candidate, Option<PostingState>), store::Error> {
        let (candidate, posting, ()) = tokio::try_join!(
            biased;
            candidate_lock(self.tx, id),
            posting_lock_of_candidate(self.tx, id),
            self.link(id, self.discovery.id),
        )?;
        Ok((candidate.ok_or(store::Error::NotFound)?, posting))
    }

    /// The candidate that this discovery's word goes to: its own, or, where its address leads to another discovery of the
    /// module, that one's. After merges, the one that stands.
    async fn known_candidate(&self) -> Result<Option<CandidateId>, store::Error> {
        if self.own.is_some() {
            return Ok(self.own);
        }
        match self.followed.other {
            Some((other, Some(_))) => {
                Ok(candidate_of_discovery(self.tx, other).await?.map(|found| found.candidate_id))
            }
            _ => Ok(None),
        }
    }

    async fn link(&self, candidate: CandidateId, discovery: DiscoveryId) -> Result<(), store::Error> {
        tokio::try_join!(
            biased;
            candidate_discovery_link(self.tx, candidate, discovery),
            candidate_evidence_link(self.tx, candidate, discovery),
            discovery_candidate_set(self.tx, discovery, candidate),
        )?;
        Ok(())
    }

    async fn materialise(
        &self,
        recorder: &mut Recorder,
        content: &CandidateContent,
    ) -> Result<Candidate, ApplyError> {
        let id = CandidateId::new();
        let link_other = async {
            match self.followed.other {
                // "links both": the other discovery of this page has nothing yet, so that this one's candidate is also
                // its own.
                Some((other, None)) => self.link(id, other).await,
                _ => Ok(()),
            }
        };
        let ((), (), (), url_rules_version, candidate) = tokio::try_join!(
            biased;
            candidate_insert(self.tx, id, "materialised", content),
            self.link(id, self.discovery.id),
            link_other,
            url_rules_version(self.tx),
            candidate_find(self.tx, id),
        )?;
        recorder.candidate(
            id,
            name::MATERIALISED,
            json!({
                "discovery_id": self.discovery.id,
                "to": CandidateState::Discovered,
                "canonical_hash": hex(&content.canonical_hash),
                "confidence": content.extraction_confidence,
                "risk_flags": content.risk_flags,
                "url_rules_version": url_rules_version,
            }),
        );
        Ok(candidate.ok_or(store::Error::NotFound)?)
    }

    /// Writes what is new where this discovery's word counts (§10.4). True if the candidate's fields changed.
    async fn update(
        &self,
        recorder: &mut Recorder,
        candidate: &mut Candidate,
        posting: Option<&PostingState>,
        content: CandidateContent,
    ) -> Result<bool, ApplyError> {
        let mut merged = merge(&candidate.content, &content, &candidate.locked_fields, self.discovery.id.0);
        let live = posting.filter(|posting| posting.status.is_live());
        if live.is_some() && merged.canonical_hash != candidate.content.canonical_hash {
            let taken = posting_visible_with_hash(self.tx, &merged.canonical_hash, candidate.id).await?;
            if taken.is_some() {
                keep_identity(&mut merged, &candidate.content);
            }
        }
        let changed = changes(&candidate.content.fields, &merged.fields);
        let verdict = self.verdict(candidate, live.is_some(), &merged).await?;
        match verdict {
            UpdateVerdict::Ignore => Ok(false),
            UpdateVerdict::Propose(signs) if !changed.is_empty() => {
                let changed = Value::Object(changed);
                self.propose(recorder, candidate, live, &changed, &signs).await?;
                Ok(false)
            }
            UpdateVerdict::Propose(_) | UpdateVerdict::Apply => {
                if let Some(posting) = live.filter(|_| self.is_worker()) {
                    check_page_set(self.tx, posting.id, self.captured_at, &self.page).await?;
                }
                if changed.is_empty() && is_same_but_for_capture(&merged, &candidate.content) {
                    return Ok(false);
                }
                candidate_content_set(self.tx, candidate.id, &merged).await?;
                candidate.content = merged;
                let names: Vec<&String> = changed.keys().collect();
                recorder.candidate(
                    candidate.id,
                    name::FIELDS_CHANGED,
                    json!({
                        "discovery_id": self.discovery.id,
                        "fields": names,
                        "confidence": candidate.content.extraction_confidence,
                        "risk_flags": candidate.content.risk_flags,
                    }),
                );
                if let Some(posting) = live {
                    let id = Some(self.discovery.id);
                    project(self.tx, recorder, candidate, posting.id, "extracted", id).await?;
                }
                Ok(!changed.is_empty())
            }
        }
    }

    async fn verdict(
        &self,
        candidate: &Candidate,
        is_live: bool,
        merged: &CandidateContent,
    ) -> Result<UpdateVerdict, store::Error> {
        let incoming =
            Authority { rank: self.policy.trust_level.rank(), module_id: &self.discovery.module.module_id };
        let same_module = candidate.content.authority_module_id == self.discovery.module.id;
        let authority = Authority {
            rank: candidate.content.authority_rank,
            // Only whether it is the same module counts.
            module_id: if same_module { incoming.module_id } else { "" },
        };
        let own_fetch = self.is_own_fetch_of(candidate);
        if !is_live {
            let counts = outranks(incoming, authority, own_fetch);
            return Ok(if counts { UpdateVerdict::Apply } else { UpdateVerdict::Ignore });
        }
        let (old, new) = (face(&candidate.content), face(merged));
        Ok(judge_update(incoming, authority, own_fetch, &old, &new))
    }

    /// Whether callboard itself read the candidate's own page.
    fn is_own_fetch_of(&self, candidate: &Candidate) -> bool {
        let own = candidate.content.canonical_hash;
        self.is_worker() && (self.followed.page.hash().0 == own || self.discovery.canonical_hash == own)
    }

    async fn propose(
        &self,
        recorder: &mut Recorder,
        candidate: &mut Candidate,
        posting: Option<&PostingState>,
        fields: &Value,
        signs: &[Takeover],
    ) -> Result<(), store::Error> {
        let waiting = revisions_of_candidate(self.tx, candidate.id, Some(RevisionState::Proposed)).await?;
        if waiting.iter().any(|revision| revision.fields == *fields) {
            return Ok(());
        }
        let posting_id = posting.map(|posting| posting.id);
        let revision = revision_insert(
            self.tx,
            &NewRevision {
                posting_id,
                candidate_id: candidate.id,
                discovery_id: Some(self.discovery.id),
                fields,
                state: RevisionState::Proposed,
                reason: FLAG_CONTENT_CHANGE_REVIEW,
                actor: recorder.actor(),
            },
        )
        .await?;
        let flags = &mut candidate.content.risk_flags;
        if !flags.iter().any(|flag| flag == FLAG_CONTENT_CHANGE_REVIEW) {
            flags.push(FLAG_CONTENT_CHANGE_REVIEW.to_owned());
            flags.sort();
            candidate_flags_set(self.tx, candidate.id, flags).await?;
        }
        let payload = json!({
            "revision_id": revision,
            "discovery_id": self.discovery.id,
            "signs": signs,
            "fields": fields.as_object().map(|fields| fields.keys().collect::<Vec<_>>()),
        });
        match posting_id {
            Some(id) => recorder.posting(id, name::REVISION_PROPOSED, payload),
            None => recorder.candidate(candidate.id, name::REVISION_PROPOSED, payload),
        }
        Ok(())
    }

    /// What follows the extraction (§5).
    async fn proceed(
        &self,
        recorder: &mut Recorder,
        candidate: &mut Candidate,
        posting: Option<&PostingState>,
        is_changed: bool,
    ) -> Result<Option<PostingId>, ApplyError> {
        let fields = &candidate.content.fields;
        let missing = missing_fields(
            fields.title.as_deref(),
            fields.organization_name.as_deref(),
            fields.canonical_url.as_deref(),
        );
        let closed = self.closed(candidate, posting.is_some());
        let after = after_extract(&Extracted {
            state: candidate.state,
            was_published: posting.is_some(),
            is_changed,
            is_closed: closed.is_some(),
            is_own_fetch: self.counts_as_own_fetch(candidate),
            missing: &missing,
        });
        let machine = |cause| By::Machine(cause);
        let (to, cause, reason) = match after {
            AfterExtract::Keep => return Ok(None),
            AfterExtract::Close => {
                (CandidateState::Closed, MachineCause::Pipeline, closed.unwrap_or("closed"))
            }
            AfterExtract::Incomplete => {
                (CandidateState::Processed, MachineCause::Pipeline, "insufficient_projection_data")
            }
            AfterExtract::Review => {
                let payload = json!({"discovery_id": self.discovery.id, "state": candidate.state});
                recorder.candidate(candidate.id, name::REOPEN_SUGGESTED, payload);
                (CandidateState::NeedsReview, MachineCause::ContentChanged, "content_changed")
            }
            // Nothing is compared yet: this completion knows last, so it decides. With a job kind `dedupe`, that one
            // is enqueued here and decides in its own completion.
            AfterExtract::Dedupe => {
                let deciding = Deciding {
                    policy: self.policy,
                    module: &self.discovery.module,
                    dedupe: Dedupe::None,
                    origin: self.origin(),
                };
                let (_, published) = decide(self.tx, recorder, candidate, &deciding).await?;
                return Ok(published);
            }
        };
        let steps: &[(CandidateState, By)] =
            if candidate.state == to { &[] } else { &[(to, machine(cause))] };
        let change = Change { reason, moderation_route: None, policy: None, origin: self.origin() };
        Ok(change_state(self.tx, recorder, candidate, steps, &change).await?)
    }

    /// Whether this extraction may close what is live: callboard read the page, and its word counts.
    fn counts_as_own_fetch(&self, candidate: &Candidate) -> bool {
        let is_authoritys = candidate.content.authority_module_id == self.discovery.module.id
            && self.policy.trust_level.rank() >= candidate.content.authority_rank;
        self.is_worker() && (is_authoritys || self.is_own_fetch_of(candidate))
    }

    /// Why the call is over, if it is. Of what was published, only structured data, a 410 and the deadline say so at
    /// once; a phrase on the page counts as a strike there, which freshness keeps (§9.3).
    fn closed(&self, candidate: &Candidate, was_published: bool) -> Option<&'static str> {
        let extraction = &self.report.extraction;
        if extraction.verdict == Verdict::Closed {
            let is_sure = matches!(extraction.closed_by, Some(ClosedBy::StructuredDeadline | ClosedBy::Gone));
            if is_sure || !was_published {
                return Some(match extraction.closed_by {
                    Some(ClosedBy::StructuredDeadline | ClosedBy::VisibleDeadline) => "deadline_passed",
                    Some(ClosedBy::Gone) => "gone",
                    Some(ClosedBy::Phrase) | None => "closed_by_publisher",
                });
            }
        }
        let is_disputed =
            candidate.content.conflicts.iter().any(|conflict| conflict.field.starts_with("deadline"));
        let is_over = candidate.content.fields.deadline.is_some_and(|deadline| deadline < self.cx.now());
        (is_over && !is_disputed).then_some("deadline_passed")
    }

    /// A page that says no more than that the call is over closes what is known of it.
    async fn close_known(&self, recorder: &mut Recorder) -> Result<Option<Outcome>, ApplyError> {
        let Some(id) = self.known_candidate().await? else { return Ok(None) };
        let status = set_status(self.tx, recorder, self.discovery, DiscoveryStatus::Extracted, None);
        let ((mut candidate, posting), ()) = tokio::try_join!(biased; self.hold(id), status)?;
        self.proceed(recorder, &mut candidate, posting.as_ref(), true).await?;
        Ok(Some(Outcome { candidate_id: id, published: None }))
    }
}

fn is_elsewhere(reason: domain::redirects::NotFinal) -> bool {
    use domain::redirects::NotFinal;
    matches!(reason, NotFinal::Root | NotFinal::Login | NotFinal::Address)
}

fn face(content: &CandidateContent) -> Face<'_> {
    Face {
        title: content.fields.title.as_deref(),
        organization_name: content.fields.organization_name.as_deref(),
        canonical_url: content.fields.canonical_url.as_deref(),
        application_url: content.fields.application_url.as_deref(),
    }
}

/// Another visible posting has the new address: the rest of the change stands without it.
fn keep_identity(merged: &mut CandidateContent, old: &CandidateContent) {
    merged.canonical_hash = old.canonical_hash;
    merged.canonical_url.clone_from(&old.canonical_url);
    merged.normalized_url.clone_from(&old.normalized_url);
    merged.fields.canonical_url.clone_from(&old.fields.canonical_url);
}

/// Whether nothing is new but when and where it was read: not worth a version.
fn is_same_but_for_capture(new: &CandidateContent, old: &CandidateContent) -> bool {
    let with_provenance = CandidateContent { field_provenance: old.field_provenance.clone(), ..new.clone() };
    with_provenance == *old && fields_map(&new.fields) == fields_map(&old.fields)
}

fn hex(bytes: &[u8; 32]) -> String {
    domain::url::UrlHash(*bytes).to_string()
}
