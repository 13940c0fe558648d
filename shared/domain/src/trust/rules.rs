//! `rules_json`: what a policy row may say, how it is checked, and how it is inherited.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::text::{check_input, truncate_chars};

/// Longest route label, in characters.
const ROUTE_LENGTH_MAX: usize = 64;
/// Longest text of a merge decision's reason, in characters.
const REASON_LENGTH_MAX: usize = 200;

/// A rule of one row: not named, consciously removed, or set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule<T> {
    /// The key is missing: the next row of the chain decides.
    #[default]
    Inherit,
    /// Explicit `null`: the rule is removed, whatever the rest of the chain says.
    Removed,
    /// A value of its own.
    Value(T),
}

/// What happens to a newcomer after a merge decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeAction {
    /// A moderator looks at it.
    NeedsReview,
    /// It is rejected.
    Reject,
    /// It is put away.
    Archive,
    /// The decision changes nothing: the trust decision follows. Never publishes past a conflict flag.
    Preserve,
}

impl MergeAction {
    /// As in `rules_json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NeedsReview => "needs_review",
            Self::Reject => "reject",
            Self::Archive => "archive",
            Self::Preserve => "preserve",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::NeedsReview, Self::Reject, Self::Archive, Self::Preserve]
            .into_iter()
            .find(|action| action.as_str() == text)
    }
}

/// One thing wrong with a `rules_json`. It is answered, never dropped: a rule that is not in force must not look
/// as if it were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {detail}")]
pub struct RuleError {
    /// JSON Pointer into `rules_json`.
    pub pointer: String,
    /// `unknown_field`, `invalid_type` or `invalid_value`.
    pub code: &'static str,
    /// What is expected.
    pub detail: String,
}

/// Declares each rule once: its name, how it is read, and what it is after inheritance. A member of a nested
/// object is a rule of its own, so that a row that names one member does not loosen the others.
macro_rules! rules {
    ($($(#[$doc:meta])* $field:ident: $type:ty, $object:literal, $key:literal, $parse:path;)+) => {
        /// The rules of one row.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct PolicyRules {
            $($(#[$doc])* pub $field: Rule<$type>,)+
        }

        /// The rules in force: inherited key by key, most specific first. `None`: no row sets it, or one removed it.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct EffectiveRules {
            $($(#[$doc])* pub $field: Option<$type>,)+
        }

        /// (object, key, name) of every rule; the object is empty for a key of the top level.
        const RULES: &[(&str, &str, &str)] = &[$(($object, $key, stringify!($field)),)+];

        impl PolicyRules {
            fn read(&mut self, object: &str, key: &str, value: &Value) -> Result<(), &'static str> {
                match (object, key) {
                    $(($object, $key) => {
                        self.$field = match value {
                            Value::Null => Rule::Removed,
                            value => Rule::Value($parse(value)?),
                        };
                    })+
                    _ => return Err("unknown"),
                }
                Ok(())
            }

            /// As `rules_json` writes it.
            pub fn to_json(&self) -> Value {
                let mut root = Map::new();
                $(match &self.$field {
                    Rule::Inherit => {}
                    Rule::Removed => insert(&mut root, $object, $key, Value::Null),
                    Rule::Value(value) => insert(&mut root, $object, $key, json!(value)),
                })+
                Value::Object(root)
            }
        }

        impl EffectiveRules {
            /// Takes from a less specific row what no row before it decided; returns the names of what it took.
            pub(super) fn inherit(&mut self, row: &PolicyRules, decided: &mut Vec<&'static str>) -> Vec<&'static str> {
                let mut taken = Vec::new();
                $(if !matches!(row.$field, Rule::Inherit) && !decided.contains(&stringify!($field)) {
                    decided.push(stringify!($field));
                    taken.push(stringify!($field));
                    if let Rule::Value(value) = &row.$field {
                        self.$field = Some(value.clone());
                    }
                })+
                taken
            }

            /// As `rules_json` writes it, without what is not in force.
            pub fn to_json(&self) -> Value {
                let mut root = Map::new();
                $(if let Some(value) = &self.$field {
                    insert(&mut root, $object, $key, json!(value));
                })+
                Value::Object(root)
            }
        }
    };
}

rules! {
    /// Least extraction confidence for auto-publication, 0 to 1.
    min_confidence: f64, "", "min_confidence", fraction;
    /// Never publish without a person.
    require_human_review: bool, "", "require_human_review", boolean;
    /// Lifts `requires_moderation` for semi-trusted sources while no conflict flag stands.
    allow_if_no_conflicts: bool, "", "allow_if_no_conflicts", boolean;
    /// After the merge decision `needs_review`.
    action_needs_review: MergeAction, "merge_decision_actions", "needs_review", action;
    /// After the merge decision `rejected`.
    action_rejected: MergeAction, "merge_decision_actions", "rejected", action;
    /// The state's reason after `needs_review`, in the administrator's words.
    reason_needs_review: String, "merge_decision_reasons", "needs_review", reason;
    /// The state's reason after `rejected`.
    reason_rejected: String, "merge_decision_reasons", "rejected", reason;
    /// The state's reason after `auto_merged`.
    reason_auto_merged: String, "merge_decision_reasons", "auto_merged", reason;
    /// Where moderators find what the merge decision `needs_review` left.
    route_needs_review: String, "moderation_routes", "needs_review", route;
    /// Where moderators find what the merge decision `rejected` left.
    route_rejected: String, "moderation_routes", "rejected", route;
    /// Where moderators find everything else.
    default_moderation_route: String, "", "default_moderation_route", route;
    /// Auto-publications per module and UTC day.
    max_daily_auto_publish: u32, "", "max_daily_auto_publish", count;
}

fn insert(root: &mut Map<String, Value>, object: &str, key: &str, value: Value) {
    if object.is_empty() {
        root.insert(key.to_owned(), value);
    } else if let Value::Object(members) = root.entry(object).or_insert_with(|| Value::Object(Map::new())) {
        members.insert(key.to_owned(), value);
    }
}

impl PolicyRules {
    /// Reads a `rules_json`. `null` in the place of a nested object removes all its members.
    ///
    /// # Errors
    /// Everything that is wrong, at once, each with its JSON Pointer.
    pub fn parse(value: &Value) -> Result<Self, Vec<RuleError>> {
        let Value::Object(root) = value else {
            return Err(vec![error("", "invalid_type", "must be an object")]);
        };
        let mut rules = Self::default();
        let mut errors = Vec::new();
        for (key, value) in root {
            let pointer = format!("/{}", escape(key));
            let members: Vec<&str> = RULES
                .iter()
                .filter(|rule| !rule.0.is_empty() && rule.0 == key.as_str())
                .map(|rule| rule.1)
                .collect();
            match value {
                Value::Null if !members.is_empty() => {
                    for member in members {
                        // A member that has just been listed is known.
                        let _ = rules.read(key, member, &Value::Null);
                    }
                }
                Value::Object(object) if !members.is_empty() => {
                    for (member, value) in object {
                        let pointer = format!("{pointer}/{}", escape(member));
                        rules.read_known(key, member, value, pointer, &mut errors);
                    }
                }
                _ if !members.is_empty() => errors.push(error(&pointer, "invalid_type", "must be an object")),
                value => rules.read_known("", key, value, pointer, &mut errors),
            }
        }
        if errors.is_empty() { Ok(rules) } else { Err(errors) }
    }

    fn read_known(
        &mut self,
        object: &str,
        key: &str,
        value: &Value,
        pointer: String,
        errors: &mut Vec<RuleError>,
    ) {
        if !RULES.iter().any(|rule| (rule.0, rule.1) == (object, key)) {
            let known: Vec<&str> = if object.is_empty() {
                let mut names: Vec<&str> =
                    RULES.iter().map(|rule| if rule.0.is_empty() { rule.1 } else { rule.0 }).collect();
                names.dedup();
                names
            } else {
                RULES.iter().filter(|rule| rule.0 == object).map(|rule| rule.1).collect()
            };
            let detail = format!("is no rule; expected one of {}", known.join(", "));
            errors.push(error(&pointer, "unknown_field", &detail));
        } else if let Err(expected) = self.read(object, key, value) {
            errors.push(error(&pointer, "invalid_value", expected));
        }
    }
}

fn error(pointer: &str, code: &'static str, detail: &str) -> RuleError {
    RuleError { pointer: truncate_chars(pointer, 200).to_owned(), code, detail: detail.to_owned() }
}

/// RFC 6901 §3.
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn fraction(value: &Value) -> Result<f64, &'static str> {
    value
        .as_f64()
        .filter(|number| (0.0..=1.0).contains(number))
        .ok_or("must be a number from 0 to 1, or null")
}

fn boolean(value: &Value) -> Result<bool, &'static str> {
    value.as_bool().ok_or("must be true, false or null")
}

fn count(value: &Value) -> Result<u32, &'static str> {
    value
        .as_u64()
        .and_then(|number| u32::try_from(number).ok())
        .ok_or("must be a whole number from 0 to 4294967295, or null")
}

fn action(value: &Value) -> Result<MergeAction, &'static str> {
    value
        .as_str()
        .and_then(MergeAction::parse)
        .ok_or("must be needs_review, reject, archive, preserve or null")
}

fn reason(value: &Value) -> Result<String, &'static str> {
    value
        .as_str()
        .filter(|text| !text.trim().is_empty() && text.chars().count() <= REASON_LENGTH_MAX)
        .filter(|text| check_input(text).is_ok())
        .map(str::to_owned)
        .ok_or("must be a text of 1 to 200 characters, or null")
}

/// `^[a-z][a-z0-9]*([._-][a-z0-9]+)+$`, at most 64.
fn route(value: &Value) -> Result<String, &'static str> {
    let is_route = |text: &str| {
        let mut parts = text.split(['.', '_', '-']);
        let is_part = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        let starts =
            parts.next().is_some_and(|first| is_part(first) && first.as_bytes()[0].is_ascii_lowercase());
        let rest: Vec<&str> = parts.collect();
        text.len() <= ROUTE_LENGTH_MAX && starts && !rest.is_empty() && rest.into_iter().all(is_part)
    };
    value
        .as_str()
        .filter(|text| is_route(text))
        .map(str::to_owned)
        .ok_or("must be a label such as review.physics, at most 64 characters, or null")
}

impl Serialize for PolicyRules {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl Serialize for EffectiveRules {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}
