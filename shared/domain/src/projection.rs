//! What a completed job does to a candidate and to its posting (§5's pipeline, §10.4), as plans for the
//! transaction that applies them.
//!
//! The way of a candidate that was never published: [`after_extract`], then, if it says so, a dedupe job, in whose
//! transaction [`trust::decide`](crate::trust::decide) decides and [`after_dedupe`] says which states to write.
//! For a posting that is live, [`judge_update`] says whether new fields may be written.

use serde::Serialize;

use crate::{
    state::{By, CandidateState, MachineCause, Transition, candidate_transition},
    text::{organization_key, title_similarity},
    trust::{Action, Decision},
    url::{NormalizedUrl, Rules, normalize, registrable_domain, same_registrable_domain},
};

/// Rank of a moderator's edit, above every trust level's (§10.4). It locks the field.
pub const MODERATOR_RANK: i16 = 4;

/// Least title similarity at which a machine may replace a live posting's fields.
pub const TAKEOVER_TITLE_SIMILARITY_MIN: f64 = 0.5;

/// The flag of a proposed revision.
pub const FLAG_CONTENT_CHANGE_REVIEW: &str = "content_change_review";

/// The fields a posting cannot be without (§8).
pub const REQUIRED_FIELDS: [&str; 3] = ["title", "organization_name", "canonical_url"];

/// Which required fields are missing; empty text is missing.
pub fn missing_fields(
    title: Option<&str>,
    organization_name: Option<&str>,
    canonical_url: Option<&str>,
) -> Vec<&'static str> {
    let values = [title, organization_name, canonical_url];
    let is_missing = |value: Option<&str>| value.is_none_or(|text| text.trim().is_empty());
    REQUIRED_FIELDS
        .into_iter()
        .zip(values)
        .filter_map(|(name, value)| is_missing(value).then_some(name))
        .collect()
}

/// What is known when an extraction completes, after its fields were applied.
#[derive(Clone, Copy, Debug)]
pub struct Extracted<'a> {
    /// The candidate's state; `discovered` if it has just been made.
    pub state: CandidateState,
    /// Whether a posting exists.
    pub was_published: bool,
    /// Just made, or a field changed.
    pub is_changed: bool,
    /// Verdict `closed`, or the deadline is over and no conflict about it stands (§8).
    pub is_closed: bool,
    /// Callboard fetched the page itself: only then may an extraction close what is live (§10.4).
    pub is_own_fetch: bool,
    /// Of [`missing_fields`].
    pub missing: &'a [&'static str],
}

/// What follows an extraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterExtract {
    /// The state stays; of a live posting only the fields may change ([`judge_update`]).
    Keep,
    /// To `closed`.
    Close,
    /// To `processed`: a required field is missing.
    Incomplete,
    /// One `dedupe` job; the state stays until it completes.
    Dedupe,
    /// To `needs_review` for [`MachineCause::ContentChanged`]: a closed or archived item came back changed.
    Review,
}

/// §5, the pipeline up to dedupe.
pub fn after_extract(extracted: &Extracted<'_>) -> AfterExtract {
    use CandidateState as C;
    let Extracted { state, was_published, is_changed, is_closed, is_own_fetch, missing } = *extracted;
    match state {
        C::Merged | C::Rejected => AfterExtract::Keep,
        C::Published if is_closed && is_own_fetch => AfterExtract::Close,
        C::Published => AfterExtract::Keep,
        C::Archived | C::Closed if is_changed && !is_closed => AfterExtract::Review,
        C::Archived | C::Closed => AfterExtract::Keep,
        // A posting put back under review stays in a moderator's hands.
        C::Discovered | C::Processed | C::NeedsReview | C::Publishable if was_published => AfterExtract::Keep,
        _ if !is_changed => AfterExtract::Keep,
        _ if is_closed => AfterExtract::Close,
        // From review only a moderator leads back to `processed`.
        C::NeedsReview | C::Publishable if !missing.is_empty() => AfterExtract::Keep,
        _ if !missing.is_empty() => AfterExtract::Incomplete,
        _ => AfterExtract::Dedupe,
    }
}

/// The states to write after a trust decision, one event each, in order; empty: the state stays.
///
/// `posting_effect` of the last says what happens to the posting. A decision that the pipeline may not carry out
/// from the candidate's state (§5's table) becomes `needs_review`, or nothing where it waits there already: what
/// a moderator has to look at is never taken away by a machine.
pub fn after_dedupe(state: CandidateState, decision: &Decision) -> Vec<(CandidateState, MachineCause)> {
    use CandidateState as C;
    use MachineCause::{Pipeline, PolicyAction};
    let wanted: &[(C, MachineCause)] = match decision.action {
        Action::Publish if state == C::Publishable => &[(C::Published, Pipeline)],
        Action::Publish => &[(C::Publishable, Pipeline), (C::Published, Pipeline)],
        Action::Review => &[(C::NeedsReview, Pipeline)],
        Action::Incomplete => &[(C::Processed, Pipeline)],
        Action::Reject => &[(C::Rejected, PolicyAction)],
        Action::Archive => &[(C::Archived, PolicyAction)],
        Action::Merged => &[(C::Merged, Pipeline)],
    };
    if let Some(plan) = permitted(state, wanted) {
        return plan;
    }
    permitted(state, &[(C::NeedsReview, Pipeline)]).unwrap_or_default()
}

/// The plan less its no-ops, if every step of it is allowed.
fn permitted(
    state: CandidateState,
    plan: &[(CandidateState, MachineCause)],
) -> Option<Vec<(CandidateState, MachineCause)>> {
    let mut at = state;
    let mut steps = Vec::with_capacity(plan.len());
    for (to, cause) in plan {
        match candidate_transition(at, *to, By::Machine(*cause)) {
            Ok(Transition::Unchanged) => {}
            Ok(Transition::Steps(_)) => steps.push((*to, *cause)),
            Err(_) => return None,
        }
        at = *to;
    }
    Some(steps)
}

/// Whose word a candidate's fields are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// [`crate::state::TrustLevel::rank`] of the discovery's effective trust, or [`MODERATOR_RANK`].
    pub rank: i16,
    /// The module's text id.
    pub module_id: &'a str,
}

/// Whether fields from a discovery may be written over those of the authority (§10.4). Locked fields are the
/// caller's to leave out.
pub fn outranks(incoming: Authority<'_>, authority: Authority<'_>, is_own_fetch_of_canonical: bool) -> bool {
    incoming.rank > authority.rank
        || incoming.rank == authority.rank
            && (incoming.module_id == authority.module_id || is_own_fetch_of_canonical)
}

/// The fields of a posting by which a takeover shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Face<'a> {
    /// Title.
    pub title: Option<&'a str>,
    /// Organisation's name.
    pub organization_name: Option<&'a str>,
    /// The posting's own address.
    pub canonical_url: Option<&'a str>,
    /// Where one applies.
    pub application_url: Option<&'a str>,
}

/// Why a change of a live posting waits for a moderator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Takeover {
    /// Similarity below [`TAKEOVER_TITLE_SIMILARITY_MIN`].
    Title,
    /// Another [`organization_key`].
    Organization,
    /// Applications would go to another registrable domain.
    ApplicationDomain,
}

/// The takeover guard of §10.4, for machines of any rank. Fields absent from `new` change nothing.
///
/// A posting without application link takes applications on its own page, so that the first link's domain is
/// compared with that of `canonical_url`: otherwise the guard could be passed by adding what is not there.
pub fn takeover(live: &Face<'_>, new: &Face<'_>) -> Vec<Takeover> {
    let mut found = Vec::new();
    if let (Some(old), Some(new)) = (live.title, new.title)
        && title_similarity(old, new) < TAKEOVER_TITLE_SIMILARITY_MIN
    {
        found.push(Takeover::Title);
    }
    if let (Some(old), Some(new)) = (live.organization_name, new.organization_name)
        && organization_key(old) != organization_key(new)
    {
        found.push(Takeover::Organization);
    }
    if let (Some(old), Some(new)) = (live.application_url.or(live.canonical_url), new.application_url) {
        let is_same = match (host_of(old), host_of(new)) {
            (Some(old), Some(new)) => same_registrable_domain(&old, &new),
            _ => old == new,
        };
        if !is_same {
            found.push(Takeover::ApplicationDomain);
        }
    }
    found
}

fn host_of(url: &str) -> Option<String> {
    normalize(url, &Rules::builtin()).ok().map(|url| url.host().to_owned())
}

/// What to do with new fields of a live posting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateVerdict {
    /// Another's word counts more: record nothing.
    Ignore,
    /// Write them (an `applied` revision).
    Apply,
    /// Store a `proposed` revision with [`FLAG_CONTENT_CHANGE_REVIEW`]; the live row stays.
    Propose(Vec<Takeover>),
}

/// §10.4 for one discovery's fields and one live posting.
pub fn judge_update(
    incoming: Authority<'_>,
    authority: Authority<'_>,
    is_own_fetch_of_canonical: bool,
    live: &Face<'_>,
    new: &Face<'_>,
) -> UpdateVerdict {
    if !outranks(incoming, authority, is_own_fetch_of_canonical) {
        return UpdateVerdict::Ignore;
    }
    let signs = takeover(live, new);
    if signs.is_empty() { UpdateVerdict::Apply } else { UpdateVerdict::Propose(signs) }
}

/// Whether `found` may stand as the canonical address of a page that was fetched from `fetched` (§8): the same
/// registrable domain, and not the root of a site.
pub fn is_canonical_of(found: &NormalizedUrl, fetched: &NormalizedUrl) -> bool {
    !found.is_root()
        && registrable_domain(found.host()).is_some()
        && same_registrable_domain(found.host(), fetched.host())
}

#[cfg(test)]
mod tests;
