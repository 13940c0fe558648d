//! The enumerations of §1 and the state machines of §4 to §6.
//!
//! [`candidate_transition`] and [`posting_transition`] are the only judges of a change of state: the pipeline,
//! moderators and overrides all ask them, each in its own name ([`By`]).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The text names no value of the enumeration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {name}; expected one of {expected}")]
pub struct UnknownValue {
    name: &'static str,
    text: String,
    expected: String,
}

macro_rules! enumeration {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant),+
        }

        impl $name {
            /// Every value, in the order of the specification.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The value as it is stored and sent.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownValue;

            fn from_str(text: &str) -> Result<Self, UnknownValue> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(UnknownValue {
                        name: stringify!($name),
                        text: crate::text::truncate_chars(text, 64).to_owned(),
                        expected: [$($text),+].join(", "),
                    }),
                }
            }
        }
    };
}

enumeration! {
    /// What a module does: hand in discoveries, or work on jobs.
    ModuleKind {
        /// Hands in discoveries and evidence.
        Connector = "connector",
        /// Claims jobs and reports results.
        Processor = "processor",
    }
}

enumeration! {
    /// How a connector comes by what it hands in.
    IntakeMode {
        /// A source's API.
        Api = "api",
        /// A feed.
        Rss = "rss",
        /// Pages that are read.
        Scrape = "scrape",
        /// Calls from the source.
        Webhook = "webhook",
        /// A Telegram channel.
        Telegram = "telegram",
        /// A person.
        Manual = "manual",
    }
}

enumeration! {
    /// How far a source is believed; ordered by [`TrustLevel::rank`].
    TrustLevel {
        /// Rank 1: nothing is published without a moderator.
        Untrusted = "untrusted",
        /// Rank 2.
        SemiTrusted = "semi_trusted",
        /// Rank 3.
        Trusted = "trusted",
    }
}

impl TrustLevel {
    /// 1 to 3; a moderator's edit ranks above all, [`crate::projection::MODERATOR_RANK`].
    pub const fn rank(self) -> i16 {
        match self {
            Self::Untrusted => 1,
            Self::SemiTrusted => 2,
            Self::Trusted => 3,
        }
    }
}

enumeration! {
    /// What a piece of evidence is.
    EvidenceKind {
        /// An answer to a request.
        UrlFetch = "url_fetch",
        /// A page as it was.
        HtmlSnapshot = "html_snapshot",
        /// A picture of a page.
        Screenshot = "screenshot",
        /// Text.
        Text = "text",
        /// An item of a feed.
        RssItem = "rss_item",
        /// A post on a social network.
        SocialPost = "social_post",
        /// A message of a channel.
        TelegramMessage = "telegram_message",
        /// Anything else.
        Other = "other",
    }
}

enumeration! {
    /// The state of a discovery (§4).
    DiscoveryStatus {
        /// Handed in; its extract job is pending.
        Received = "received",
        /// Read; at least one candidate is linked.
        Extracted = "extracted",
        /// Not a posting, no title, or a listing.
        Unusable = "unusable",
        /// Its extract job ended without a result.
        Failed = "failed",
        /// Taken back by an administrator; final.
        Withdrawn = "withdrawn",
    }
}

enumeration! {
    /// The state of a candidate (§5).
    CandidateState {
        /// Made by an extraction that has just completed.
        Discovered = "discovered",
        /// A required field is missing.
        Processed = "processed",
        /// May be published.
        Publishable = "publishable",
        /// Its posting is live.
        Published = "published",
        /// Refused by a person or a policy.
        Rejected = "rejected",
        /// The call is over.
        Closed = "closed",
        /// Put away.
        Archived = "archived",
        /// Waits for a moderator.
        NeedsReview = "needs_review",
        /// Part of another candidate.
        Merged = "merged",
    }
}

enumeration! {
    /// The status of a posting (§6).
    PostingStatus {
        /// Live and confirmed.
        Active = "active",
        /// Live, not confirmed for a while.
        Stale = "stale",
        /// Put away.
        Archived = "archived",
        /// The call is over.
        Closed = "closed",
    }
}

impl PostingStatus {
    /// Shown by default: active or stale.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Active | Self::Stale)
    }

    /// The state of a candidate whose posting has this status (§5: they change together).
    pub const fn candidate_state(self) -> CandidateState {
        match self {
            Self::Active | Self::Stale => CandidateState::Published,
            Self::Archived => CandidateState::Archived,
            Self::Closed => CandidateState::Closed,
        }
    }
}

enumeration! {
    /// What was decided about a pair of candidates (§10.1).
    MergeDecision {
        /// Merged by the rules.
        AutoMerged = "auto_merged",
        /// Merged by a moderator.
        ManualMerged = "manual_merged",
        /// Not the same.
        Rejected = "rejected",
        /// A moderator has to look.
        NeedsReview = "needs_review",
        /// A merge was undone.
        Unmerged = "unmerged",
    }
}

enumeration! {
    /// Who wrote an event.
    ActorType {
        /// A module or a job.
        Machine = "machine",
        /// A person.
        Human = "human",
        /// callboard's own schedule or migration.
        System = "system",
    }
}

enumeration! {
    /// Which address of a candidate a `candidate_urls` row is.
    UrlRole {
        /// As handed in.
        Submitted = "submitted",
        /// Where the submitted one led.
        Resolved = "resolved",
        /// The posting's own address.
        Canonical = "canonical",
        /// Named by the page as its canonical one, on another domain.
        Claimed = "claimed",
        /// Where one applies.
        Application = "application",
    }
}

enumeration! {
    /// The state of a revision of a posting's fields.
    RevisionState {
        /// In force.
        Applied = "applied",
        /// Waits for a moderator.
        Proposed = "proposed",
        /// Refused by a moderator.
        Dismissed = "dismissed",
    }
}

enumeration! {
    /// How a redirect resolution ended (§7.2).
    Resolution {
        /// The final address was recorded.
        Applied = "applied",
        /// The address is its own end.
        Unchanged = "unchanged",
        /// The chain did not end in a page of its own.
        SkippedNotFinal = "skipped_not_final",
        /// A hop was refused.
        SkippedRefused = "skipped_refused",
        /// Another discovery of the module has that address.
        Conflict = "conflict",
    }
}

/// Who did it: written into every event, never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Machine, human or system.
    pub actor_type: ActorType,
    /// A module id, a person's subject, or the name of the part of callboard that acted.
    pub actor_id: String,
}

impl Actor {
    /// A module or a job kind, by its id.
    pub fn machine(id: impl Into<String>) -> Self {
        Self { actor_type: ActorType::Machine, actor_id: id.into() }
    }

    /// A person, by the token's subject.
    pub fn human(subject: impl Into<String>) -> Self {
        Self { actor_type: ActorType::Human, actor_id: subject.into() }
    }

    /// A part of callboard, such as `sweep` or `migrate`.
    pub fn system(part: impl Into<String>) -> Self {
        Self { actor_type: ActorType::System, actor_id: part.into() }
    }
}

/// In whose name a transition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// M: the pipeline, and why.
    Machine(MachineCause),
    /// H: a moderator's PATCH.
    Moderator,
    /// H(merge): a moderator's merge.
    ModeratorMerge,
    /// H(unmerge): the undoing of a merge, back to the recorded state.
    Unmerge,
    /// O: a moderator's override; a reason is obligatory.
    Override,
}

/// Why the pipeline moves something. Some steps are open to one cause only (notes ² ³ ⁴ of §5, §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineCause {
    /// The ordinary way: extraction, dedupe, trust decision, freshness, retention.
    Pipeline,
    /// ² The trust policy maps the merge decision to `reject` or `archive`.
    PolicyAction,
    /// ³ A re-sighting of a closed or archived item whose content changed.
    ContentChanged,
    /// ⁴ An accepted re-sighting of what was archived for staleness (§9.5).
    Resighted,
}

/// A permitted transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition<S: 'static> {
    /// Already there: no event, no write.
    Unchanged,
    /// The states to write one after the other, an event for each; the last is the one asked for.
    Steps(&'static [S]),
}

/// 409 `invalid-transition`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{from} does not change to {to} this way")]
pub struct InvalidTransition<S: fmt::Debug + fmt::Display + 'static> {
    /// The present state.
    pub from: S,
    /// The state that was asked for.
    pub to: S,
    /// What a moderator may ask for instead.
    pub allowed: &'static [S],
}

/// One cell of §5's table: who may take this step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    machine: Option<MachineCause>,
    moderator: bool,
    merge: bool,
}

use CandidateState as C;
use PostingStatus as P;

/// §5's table. `discovered` has no column: nothing returns there but by an unmerge.
fn candidate_cell(from: C, to: C) -> Cell {
    use MachineCause::{ContentChanged, Pipeline, PolicyAction, Resighted};
    let cell = |machine, moderator| Cell { machine, moderator, merge: false };
    let none = cell(None, false);
    let m = cell(Some(Pipeline), false);
    let h = cell(None, true);
    let mh = cell(Some(Pipeline), true);
    let m2h = cell(Some(PolicyAction), true);
    let m3 = cell(Some(ContentChanged), false);
    let m4h = cell(Some(Resighted), true);
    let by_merge = Cell { machine: None, moderator: false, merge: true };
    let m_or_merge = Cell { machine: Some(Pipeline), moderator: false, merge: true };
    match (from, to) {
        (C::Discovered, C::Processed | C::NeedsReview) => mh,
        (C::Discovered, C::Publishable | C::Closed | C::Merged) => m,
        (C::Discovered, C::Rejected | C::Archived) => m2h,

        (C::Processed, C::NeedsReview | C::Publishable) => mh,
        (C::Processed, C::Rejected | C::Archived) => h,
        (C::Processed, C::Closed) => m,
        (C::Processed, C::Merged) => m_or_merge,

        (C::NeedsReview, C::Processed | C::Publishable | C::Published) => h,
        (C::NeedsReview, C::Rejected | C::Archived) => m2h,
        (C::NeedsReview, C::Closed) => m,
        (C::NeedsReview, C::Merged) => m_or_merge,

        (C::Publishable, C::NeedsReview | C::Published) => mh,
        (C::Publishable, C::Rejected | C::Archived) => h,
        (C::Publishable, C::Closed) => m,
        (C::Publishable, C::Merged) => m_or_merge,

        (C::Published, C::Archived | C::Closed) => mh,
        (C::Published, C::Merged) => by_merge,

        (C::Archived, C::NeedsReview) => m3,
        (C::Archived, C::Published) => m4h,
        (C::Archived, C::Closed) => h,

        (C::Closed, C::NeedsReview) => m3,
        (C::Closed, C::Archived) => mh,

        (C::Rejected, C::NeedsReview | C::Archived) => h,

        _ => none,
    }
}

/// One event each, in one transaction (note ¹).
const NEEDS_REVIEW_TO_PUBLISHED: &[C] = &[C::Publishable, C::Published];

/// Judges a candidate's change of state by §5's table.
///
/// A step to the state it has is [`Transition::Unchanged`] for everyone. An override goes from any state but
/// `merged` to any but `merged` and `discovered`; that required fields, identity and posting allow it is the
/// caller's to check.
///
/// # Errors
/// [`InvalidTransition`] with what a moderator may ask for instead.
pub fn candidate_transition(from: C, to: C, by: By) -> Result<Transition<C>, InvalidTransition<C>> {
    if from == to {
        return Ok(Transition::Unchanged);
    }
    let cell = candidate_cell(from, to);
    let is_allowed = match by {
        By::Machine(cause) => {
            cell.machine.is_some_and(|need| need == MachineCause::Pipeline || need == cause)
        }
        By::Moderator => cell.moderator,
        By::ModeratorMerge => cell.merge,
        By::Unmerge => from == C::Merged,
        By::Override => from != C::Merged && !matches!(to, C::Merged | C::Discovered),
    };
    if !is_allowed {
        return Err(InvalidTransition { from, to, allowed: candidate_allowed(from) });
    }
    if (from, to) == (C::NeedsReview, C::Published) && by == By::Moderator {
        return Ok(Transition::Steps(NEEDS_REVIEW_TO_PUBLISHED));
    }
    Ok(Transition::Steps(one_candidate_state(to)))
}

const fn one_candidate_state(state: C) -> &'static [C] {
    match state {
        C::Discovered => &[C::Discovered],
        C::Processed => &[C::Processed],
        C::Publishable => &[C::Publishable],
        C::Published => &[C::Published],
        C::Rejected => &[C::Rejected],
        C::Closed => &[C::Closed],
        C::Archived => &[C::Archived],
        C::NeedsReview => &[C::NeedsReview],
        C::Merged => &[C::Merged],
    }
}

/// The states a moderator's PATCH may ask for (H of §5), in the order of the table's columns.
pub const fn candidate_allowed(from: C) -> &'static [C] {
    match from {
        C::Discovered => &[C::Processed, C::NeedsReview, C::Rejected, C::Archived],
        C::Processed => &[C::NeedsReview, C::Publishable, C::Rejected, C::Archived],
        C::NeedsReview => &[C::Processed, C::Publishable, C::Published, C::Rejected, C::Archived],
        C::Publishable => &[C::NeedsReview, C::Published, C::Rejected, C::Archived],
        C::Published => &[C::Archived, C::Closed],
        C::Archived => &[C::Published, C::Closed],
        C::Closed => &[C::Archived],
        C::Rejected => &[C::NeedsReview, C::Archived],
        C::Merged => &[],
    }
}

/// The states an override may set from here.
pub const fn candidate_override_allowed(from: C) -> &'static [C] {
    match from {
        C::Merged => &[],
        _ => {
            &[C::Processed, C::NeedsReview, C::Publishable, C::Published, C::Rejected, C::Archived, C::Closed]
        }
    }
}

/// What a candidate's new state does to its posting, always in the same transaction (§5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostingEffect {
    /// Make the posting live: insert it, or set this status and show it.
    Publish,
    /// Set the status; `visible` stays as it is, so what was hidden stays hidden.
    Status(PostingStatus),
    /// If a posting exists: archived and hidden.
    Hide,
    /// Archived, hidden, `superseded_by` the primary's posting.
    Supersede,
    /// The posting stays as it was (note ³).
    Keep,
}

/// §5: candidate → posting. `by` matters for note ³ only.
pub const fn posting_effect(to: C, by: By) -> PostingEffect {
    match to {
        C::Published => PostingEffect::Publish,
        C::Archived => PostingEffect::Status(P::Archived),
        C::Closed => PostingEffect::Status(P::Closed),
        C::Merged => PostingEffect::Supersede,
        C::NeedsReview if matches!(by, By::Machine(MachineCause::ContentChanged)) => PostingEffect::Keep,
        C::NeedsReview | C::Rejected | C::Discovered | C::Processed | C::Publishable => PostingEffect::Hide,
    }
}

/// Judges a posting's change of status by §6's table. The first status, `active`, comes with publication.
///
/// # Errors
/// [`InvalidTransition`] with what a moderator may ask for instead.
pub fn posting_transition(from: P, to: P, by: By) -> Result<Transition<P>, InvalidTransition<P>> {
    if from == to {
        return Ok(Transition::Unchanged);
    }
    let is_allowed = match by {
        By::Machine(cause) => match (from, to) {
            (P::Active, P::Stale)
            | (P::Active | P::Stale, P::Closed)
            | (P::Stale, P::Archived | P::Active)
            | (P::Closed, P::Archived) => true,
            (P::Archived, P::Active) => cause == MachineCause::Resighted,
            _ => false,
        },
        By::Moderator => posting_allowed(from).contains(&to),
        // A merge puts a posting away, its undoing restores the recorded status.
        By::ModeratorMerge => to == P::Archived,
        By::Unmerge => from == P::Archived,
        By::Override => true,
    };
    if !is_allowed {
        return Err(InvalidTransition { from, to, allowed: posting_allowed(from) });
    }
    Ok(Transition::Steps(match to {
        P::Active => &[P::Active],
        P::Stale => &[P::Stale],
        P::Archived => &[P::Archived],
        P::Closed => &[P::Closed],
    }))
}

/// The statuses a moderator's PATCH may ask for (H of §6).
pub const fn posting_allowed(from: P) -> &'static [P] {
    match from {
        P::Active => &[P::Stale, P::Archived, P::Closed],
        P::Stale => &[P::Active, P::Archived, P::Closed],
        P::Archived => &[P::Active, P::Stale, P::Closed],
        P::Closed => &[P::Archived],
    }
}

/// Judges a discovery's change of status by §4's table; `By::Moderator` is the administrator who withdraws or
/// requeues.
///
/// # Errors
/// [`InvalidTransition`]; nothing leaves `withdrawn`.
pub fn discovery_transition(
    from: DiscoveryStatus,
    to: DiscoveryStatus,
    by: By,
) -> Result<Transition<DiscoveryStatus>, InvalidTransition<DiscoveryStatus>> {
    use DiscoveryStatus as D;
    if from == to {
        return Ok(Transition::Unchanged);
    }
    let machine = matches!(by, By::Machine(_));
    let human = matches!(by, By::Moderator);
    let is_allowed = match (from, to) {
        (D::Received, D::Extracted | D::Unusable | D::Failed) => machine,
        (D::Failed, D::Received) => machine || human,
        (D::Unusable, D::Received) => machine,
        (D::Withdrawn, _) => false,
        (_, D::Withdrawn) => human,
        _ => false,
    };
    if !is_allowed {
        let allowed: &[D] = match from {
            D::Failed => &[D::Received, D::Withdrawn],
            D::Withdrawn => &[],
            _ => &[D::Withdrawn],
        };
        return Err(InvalidTransition { from, to, allowed });
    }
    Ok(Transition::Steps(match to {
        D::Received => &[D::Received],
        D::Extracted => &[D::Extracted],
        D::Unusable => &[D::Unusable],
        D::Failed => &[D::Failed],
        D::Withdrawn => &[D::Withdrawn],
    }))
}

#[cfg(test)]
mod tests;
