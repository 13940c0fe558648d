//! Trust: may this candidate be published without a moderator? (§10.3)
//!
//! [`resolve`] walks the chain of policy rows for a module and a source key, [`decide`] applies what is in force
//! to one candidate. Both are pure; the store loads the rows that [`Subject::chain_keys`] names.

mod decision;
mod rules;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use self::{
    decision::{Action, Decision, DecisionInput, Dedupe, Reason, decide, is_conflict_flag},
    rules::{EffectiveRules, MergeAction, PolicyRules, Rule, RuleError},
};
use crate::state::TrustLevel;

/// Longest source key, in characters.
const SOURCE_KEY_LENGTH_MAX: usize = 200;

/// A row of `source_trust_policy`.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyRow {
    /// A source's key, `module:<module_id>` or `default:<trust level>`.
    pub source_key: String,
    /// What the row lowers trust to, or, with `allow_elevation`, sets it to.
    pub trust_level: TrustLevel,
    /// One `false` along the chain forbids auto-publication.
    pub auto_publish: bool,
    /// Counts where no more specific row exists.
    pub requires_moderation: bool,
    /// Parsed from `rules_json`.
    pub rules: PolicyRules,
    /// A disabled row that matches blocks auto-publication.
    pub enabled: bool,
    /// Whether `trust_level` may also raise trust.
    pub allow_elevation: bool,
}

impl PolicyRow {
    /// The built-in values of a level: what its `default:` row is seeded with, and what counts without one.
    pub fn builtin(level: TrustLevel) -> Self {
        let rules = match level {
            TrustLevel::Trusted => {
                PolicyRules { min_confidence: Rule::Value(0.70), ..PolicyRules::default() }
            }
            TrustLevel::SemiTrusted => PolicyRules {
                min_confidence: Rule::Value(0.85),
                allow_if_no_conflicts: Rule::Value(true),
                ..PolicyRules::default()
            },
            TrustLevel::Untrusted => PolicyRules::default(),
        };
        Self {
            source_key: default_key(level),
            trust_level: level,
            auto_publish: level != TrustLevel::Untrusted,
            requires_moderation: level != TrustLevel::Trusted,
            rules,
            enabled: true,
            allow_elevation: false,
        }
    }
}

/// The key of a level's default row.
pub fn default_key(level: TrustLevel) -> String {
    format!("default:{level}")
}

/// The key of a module's own row.
pub fn module_key(module_id: &str) -> String {
    format!("module:{module_id}")
}

/// Whether the default rows' names are protected from deletion: `default:*`.
pub fn is_protected_key(source_key: &str) -> bool {
    source_key.starts_with("default:")
}

/// 1 to 200 of `[a-z0-9:._/-]`.
pub fn is_source_key(text: &str) -> bool {
    (1..=SOURCE_KEY_LENGTH_MAX).contains(&text.len())
        && text.bytes().all(|byte| {
            byte.is_ascii_lowercase()
                || byte.is_ascii_digit()
                || matches!(byte, b':' | b'.' | b'_' | b'/' | b'-')
        })
}

/// Whom a decision is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The module that handed in the discovery.
    pub module_id: &'a str,
    /// That module's own trust.
    pub module_trust: TrustLevel,
    /// A disabled module publishes nothing that was in flight.
    pub module_enabled: bool,
    /// The keys the module may name.
    pub module_source_keys: &'a [String],
    /// The key named in the discovery's metadata; ignored unless the module may name it. Never from a result.
    pub source_key: Option<&'a str>,
    /// The trust of the processor whose external result is applied; caps the effective trust.
    pub processor_trust: Option<TrustLevel>,
}

impl<'a> Subject<'a> {
    /// The source key, if the module may name it. Keys of the other kinds of rows are no source's.
    pub fn allowed_source_key(&self) -> Option<&'a str> {
        self.source_key.filter(|key| {
            self.module_source_keys.iter().any(|allowed| allowed == key)
                && !key.starts_with("module:")
                && !key.starts_with("default:")
        })
    }

    /// The keys of every row that [`resolve`] may need.
    pub fn chain_keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.allowed_source_key().map(str::to_owned).into_iter().collect();
        keys.push(module_key(self.module_id));
        keys.extend(TrustLevel::ALL.iter().map(|level| default_key(*level)));
        keys
    }
}

/// One row of the chain and what of it is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainLink {
    /// The row's key; `built-in:<trust level>` at the end.
    pub source_key: String,
    /// A disabled row contributes nothing and blocks.
    pub enabled: bool,
    /// Names of what the row decides: columns, and keys of `rules_json`.
    pub contributed: Vec<&'static str>,
}

/// The policy in force for a subject.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EffectivePolicy {
    /// Effective trust: of the decision, and the discovery's rank (§10.4).
    pub trust_level: TrustLevel,
    /// And over the chain.
    pub auto_publish: bool,
    /// Of the most specific row.
    pub requires_moderation: bool,
    /// Inherited key by key.
    pub rules: EffectiveRules,
    /// Most specific first; the last is built in.
    pub chain: Vec<ChainLink>,
    /// The disabled row, or `module:<id>` of a disabled module, that blocks auto-publication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<String>,
}

/// Walks the chain `source_key` → `module:<module_id>` → `default:<effective trust>` → built-in.
///
/// `rows` may hold more than the chain's rows, in any order.
pub fn resolve(subject: &Subject<'_>, rows: &[PolicyRow]) -> EffectivePolicy {
    let find = |key: &str| rows.iter().find(|row| row.source_key == key);
    let source = subject.allowed_source_key().and_then(find);
    let module = find(&module_key(subject.module_id));

    let mut trust = subject.module_trust;
    let mut trust_from = None;
    for row in [module, source].into_iter().flatten() {
        // A disabled row raises nobody, but what it took away stays taken.
        let next =
            if row.allow_elevation && row.enabled { row.trust_level } else { trust.min(row.trust_level) };
        if next != trust {
            trust = next;
            trust_from = Some(row.source_key.as_str());
        }
    }
    if let Some(cap) = subject.processor_trust
        && cap < trust
    {
        trust = cap;
        trust_from = None;
    }

    let default = find(&default_key(trust));
    let builtin = PolicyRow { source_key: format!("built-in:{trust}"), ..PolicyRow::builtin(trust) };
    let chain: Vec<&PolicyRow> = [source, module, default, Some(&builtin)].into_iter().flatten().collect();

    let mut policy = EffectivePolicy {
        trust_level: trust,
        auto_publish: chain.iter().all(|row| row.auto_publish),
        requires_moderation: chain.first().is_none_or(|row| row.requires_moderation),
        rules: EffectiveRules::default(),
        chain: Vec::with_capacity(chain.len()),
        blocked_by: chain.iter().find(|row| !row.enabled).map(|row| row.source_key.clone()),
    };
    if !subject.module_enabled && policy.blocked_by.is_none() {
        policy.blocked_by = Some(module_key(subject.module_id));
    }
    let mut decided = Vec::new();
    for (index, row) in chain.iter().enumerate() {
        let mut contributed = Vec::new();
        if trust_from == Some(row.source_key.as_str()) {
            contributed.push("trust_level");
        }
        if row.enabled {
            if !row.auto_publish {
                contributed.push("auto_publish");
            }
            if index == 0 {
                contributed.push("requires_moderation");
            }
            contributed.extend(policy.rules.inherit(&row.rules, &mut decided));
        }
        policy.chain.push(ChainLink {
            source_key: row.source_key.clone(),
            enabled: row.enabled,
            contributed,
        });
    }
    policy
}
