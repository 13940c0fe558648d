//! The decision about one candidate.

use serde::Serialize;
use serde_json::{Value, json};

use super::{EffectivePolicy, MergeAction};
use crate::state::TrustLevel;

/// What the dedupe job found about the candidate (§10.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dedupe {
    /// Nothing like it.
    #[default]
    None,
    /// It is the same as another, and was merged.
    AutoMerged,
    /// It may be the same as another.
    NeedsReview,
    /// It shares a strong signal with another, and is not the same.
    Rejected,
}

/// What a decision is made from, besides the policy.
#[derive(Clone, Copy, Debug)]
pub struct DecisionInput<'a> {
    /// The candidate's extraction confidence, 0 to 1; computed by the server.
    pub confidence: f64,
    /// The candidate's risk flags.
    pub risk_flags: &'a [String],
    /// What dedupe found.
    pub dedupe: Dedupe,
    /// A required field is missing (§8).
    pub is_incomplete: bool,
    /// Another visible posting has the canonical hash.
    pub posting_exists: bool,
    /// Auto-publications of the module on this UTC day so far; read under the transaction's lock.
    pub auto_published_today: u64,
}

/// Why; as written into `state_reason`, the candidate's `policy` and the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the specification's words")]
pub enum Reason {
    TrustedAutoPublish,
    SemiTrustedAutoPublish,
    PolicyAutoPublishDisabled,
    PolicyRequiresModeration,
    PolicyDisabled,
    BelowMinConfidence,
    RuleRequiresHumanReview,
    ConflictFlag,
    UntrustedRequiresModeration,
    InsufficientProjectionData,
    DedupeReviewRequired,
    DedupeAutoMerged,
    DedupeRejected,
    DailyLimit,
    PostingExists,
}

impl Reason {
    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TrustedAutoPublish => "trusted_auto_publish",
            Self::SemiTrustedAutoPublish => "semi_trusted_auto_publish",
            Self::PolicyAutoPublishDisabled => "policy_auto_publish_disabled",
            Self::PolicyRequiresModeration => "policy_requires_moderation",
            Self::PolicyDisabled => "policy_disabled",
            Self::BelowMinConfidence => "below_min_confidence",
            Self::RuleRequiresHumanReview => "rule_requires_human_review",
            Self::ConflictFlag => "conflict_flag",
            Self::UntrustedRequiresModeration => "untrusted_requires_moderation",
            Self::InsufficientProjectionData => "insufficient_projection_data",
            Self::DedupeReviewRequired => "dedupe_review_required",
            Self::DedupeAutoMerged => "dedupe_auto_merged",
            Self::DedupeRejected => "dedupe_rejected",
            Self::DailyLimit => "daily_limit",
            Self::PostingExists => "posting_exists",
        }
    }
}

/// What is to become of the candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Publish now.
    Publish,
    /// Wait for a moderator.
    Review,
    /// Wait for the missing field.
    Incomplete,
    /// Reject; only where the policy maps a merge decision so.
    Reject,
    /// Archive; only where the policy maps a merge decision so.
    Archive,
    /// It is merged: nothing is left to decide.
    Merged,
}

/// The decision, with everything that stood against publication.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// What is to become of the candidate.
    pub action: Action,
    /// The deciding reason: the first of `reasons`.
    pub reason: Reason,
    /// Every reason that applied, the deciding one first. More than one only where publication was refused.
    pub reasons: Vec<Reason>,
    /// The policy's own words for a merge decision, in the place of the reason's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason_text: Option<String>,
    /// The moderators' queue, where the candidate waits for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
}

impl Decision {
    /// Whether to publish now.
    pub fn publishes(&self) -> bool {
        self.action == Action::Publish
    }

    /// What goes into `state_reason`: the policy's own words, else the reason's name.
    pub fn state_reason(&self) -> &str {
        self.reason_text.as_deref().unwrap_or(self.reason.as_str())
    }

    /// The payload of the event `trust_policy_applied`, and the candidate's `policy`.
    pub fn payload(&self, policy: &EffectivePolicy, input: &DecisionInput<'_>) -> Value {
        json!({
            "action": self.action,
            "reason": self.reason,
            "reasons": self.reasons,
            "moderation_route": self.route,
            "confidence": input.confidence,
            "trust_level": policy.trust_level,
            "auto_publish": policy.auto_publish,
            "requires_moderation": policy.requires_moderation,
            "rules": policy.rules,
            "chain": policy.chain,
            "blocked_by": policy.blocked_by,
        })
    }
}

/// Whether a risk flag keeps a candidate from being published by a machine.
pub fn is_conflict_flag(flag: &str) -> bool {
    flag.starts_with("conflict_")
        || matches!(flag, "manual_review_low_signal" | "noindex" | "withdrawn_before")
}

/// Decides about one candidate (§10.3). Publication needs that nothing at all stands against it.
pub fn decide(policy: &EffectivePolicy, input: &DecisionInput<'_>) -> Decision {
    let rules = &policy.rules;
    if input.dedupe == Dedupe::AutoMerged {
        let reason = Reason::DedupeAutoMerged;
        let reason_text = rules.reason_auto_merged.clone();
        return Decision { action: Action::Merged, reason, reasons: vec![reason], reason_text, route: None };
    }
    let mut against = against_publication(policy, input);
    if input.is_incomplete {
        let reason = Reason::InsufficientProjectionData;
        against.insert(0, reason);
        return Decision {
            action: Action::Incomplete,
            reason,
            reasons: against,
            reason_text: None,
            route: None,
        };
    }
    let mut action = Action::Review;
    let mut reason_text = None;
    let mut route = rules.default_moderation_route.clone();
    if let Some(matched) = Match::of(input.dedupe, policy) {
        if let Some(own) = matched.route {
            route = Some(own.clone());
        }
        let mapped = match matched.action {
            MergeAction::NeedsReview => Some(Action::Review),
            MergeAction::Reject => Some(Action::Reject),
            MergeAction::Archive => Some(Action::Archive),
            // The decision goes on as if there had been no match.
            MergeAction::Preserve => None,
        };
        if let Some(mapped) = mapped {
            action = mapped;
            against.insert(0, matched.reason);
            reason_text = matched.text.cloned();
        }
    }
    let Some(reason) = against.first().copied() else {
        let reason = match policy.trust_level {
            TrustLevel::Trusted => Reason::TrustedAutoPublish,
            _ => Reason::SemiTrustedAutoPublish,
        };
        return Decision {
            action: Action::Publish,
            reason,
            reasons: vec![reason],
            reason_text: None,
            route: None,
        };
    };
    let route = route.filter(|_| action == Action::Review);
    Decision { action, reason, reasons: against, reason_text, route }
}

/// What the policy says about a merge decision that leaves the candidate on its own.
struct Match<'a> {
    reason: Reason,
    action: MergeAction,
    text: Option<&'a String>,
    route: Option<&'a String>,
}

impl<'a> Match<'a> {
    fn of(dedupe: Dedupe, policy: &'a EffectivePolicy) -> Option<Self> {
        let rules = &policy.rules;
        let (reason, action, text, route) = match dedupe {
            Dedupe::None | Dedupe::AutoMerged => return None,
            Dedupe::NeedsReview => (
                Reason::DedupeReviewRequired,
                rules.action_needs_review,
                &rules.reason_needs_review,
                &rules.route_needs_review,
            ),
            Dedupe::Rejected => {
                (Reason::DedupeRejected, rules.action_rejected, &rules.reason_rejected, &rules.route_rejected)
            }
        };
        // To reject a newcomer that merely shares a form with another would lose real postings.
        let action = action.unwrap_or(MergeAction::NeedsReview);
        Some(Self { reason, action, text: text.as_ref(), route: route.as_ref() })
    }
}

/// What stands against publication besides a merge decision and a missing field, the weightiest first.
fn against_publication(policy: &EffectivePolicy, input: &DecisionInput<'_>) -> Vec<Reason> {
    let rules = &policy.rules;
    let has_conflict = input.risk_flags.iter().any(|flag| is_conflict_flag(flag));
    let is_lifted = policy.trust_level == TrustLevel::SemiTrusted
        && rules.allow_if_no_conflicts == Some(true)
        && !has_conflict;
    // A confidence that is no number passes no threshold.
    let is_confident = match rules.min_confidence {
        Some(min) => input.confidence >= min,
        None => !input.confidence.is_nan(),
    };
    let is_over_limit =
        rules.max_daily_auto_publish.is_some_and(|max| input.auto_published_today >= u64::from(max));
    [
        (input.posting_exists, Reason::PostingExists),
        (policy.blocked_by.is_some(), Reason::PolicyDisabled),
        (policy.trust_level == TrustLevel::Untrusted, Reason::UntrustedRequiresModeration),
        (!policy.auto_publish, Reason::PolicyAutoPublishDisabled),
        (rules.require_human_review == Some(true), Reason::RuleRequiresHumanReview),
        (has_conflict, Reason::ConflictFlag),
        (policy.requires_moderation && !is_lifted, Reason::PolicyRequiresModeration),
        (!is_confident, Reason::BelowMinConfidence),
        (is_over_limit, Reason::DailyLimit),
    ]
    .into_iter()
    .filter_map(|(applies, reason)| applies.then_some(reason))
    .collect()
}
