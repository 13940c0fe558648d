use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::state::TrustLevel::{SemiTrusted, Trusted, Untrusted};

fn rules(value: Value) -> PolicyRules {
    PolicyRules::parse(&value).unwrap()
}

/// A row as the examples of §10.3 write it: auto_publish unless said.
fn row(source_key: &str, trust_level: TrustLevel, value: Value) -> PolicyRow {
    PolicyRow {
        source_key: source_key.into(),
        trust_level,
        auto_publish: true,
        requires_moderation: false,
        rules: rules(value),
        enabled: true,
        allow_elevation: false,
    }
}

#[derive(Clone, Debug)]
struct Case {
    trust: TrustLevel,
    rows: Vec<PolicyRow>,
    confidence: f64,
    flags: Vec<String>,
    dedupe: Dedupe,
    source_key: Option<&'static str>,
    processor: Option<TrustLevel>,
    module_enabled: bool,
    is_incomplete: bool,
    posting_exists: bool,
    published_today: u64,
}

fn case(trust: TrustLevel, rows: Vec<PolicyRow>) -> Case {
    Case {
        trust,
        rows,
        confidence: 0.92,
        flags: Vec::new(),
        dedupe: Dedupe::None,
        source_key: None,
        processor: None,
        module_enabled: true,
        is_incomplete: false,
        posting_exists: false,
        published_today: 0,
    }
}

impl Case {
    fn policy(&self) -> EffectivePolicy {
        let keys = ["k".to_owned(), "default:trusted".to_owned(), "module:other".to_owned()];
        let subject = Subject {
            module_id: "M",
            module_trust: self.trust,
            module_enabled: self.module_enabled,
            module_source_keys: &keys,
            source_key: self.source_key,
            processor_trust: self.processor,
        };
        resolve(&subject, &self.rows)
    }

    fn decide(&self) -> Decision {
        decide(
            &self.policy(),
            &DecisionInput {
                confidence: self.confidence,
                risk_flags: &self.flags,
                dedupe: self.dedupe,
                is_incomplete: self.is_incomplete,
                posting_exists: self.posting_exists,
                auto_published_today: self.published_today,
            },
        )
    }

    #[track_caller]
    fn check(&self, action: Action, reason: Reason) -> Decision {
        let decision = self.decide();
        assert_eq!((decision.action, decision.reason), (action, reason), "{decision:?}");
        assert_eq!(decision.reasons.first(), Some(&reason));
        decision
    }
}

#[test]
fn the_examples_of_the_specification_come_out_as_printed() {
    use Action::{Publish, Review};
    // M trusted, no row of its own, confidence 0.92.
    case(Trusted, vec![]).check(Publish, Reason::TrustedAutoPublish);
    case(Trusted, vec![PolicyRow::builtin(Trusted)]).check(Publish, Reason::TrustedAutoPublish);
    // `default:trusted` {min_confidence 0.95}, `module:M` {}, then {min_confidence null}.
    let default = row("default:trusted", Trusted, json!({"min_confidence": 0.95}));
    case(Trusted, vec![default.clone(), row("module:M", Trusted, json!({}))])
        .check(Review, Reason::BelowMinConfidence);
    case(Trusted, vec![default, row("module:M", Trusted, json!({"min_confidence": null}))])
        .check(Publish, Reason::TrustedAutoPublish);
    // M semi_trusted; `module:M` requires_moderation, {allow_if_no_conflicts false}.
    let own = PolicyRow {
        requires_moderation: true,
        ..row("module:M", SemiTrusted, json!({"allow_if_no_conflicts": false}))
    };
    case(SemiTrusted, vec![own]).check(Review, Reason::PolicyRequiresModeration);
    // M untrusted may name `k`; row `k` trusted, auto_publish, with and without allow_elevation.
    let elevating = PolicyRow { allow_elevation: true, ..row("k", Trusted, json!({})) };
    Case { source_key: Some("k"), ..case(Untrusted, vec![elevating]) }
        .check(Publish, Reason::TrustedAutoPublish);
    Case { source_key: Some("k"), ..case(Untrusted, vec![row("k", Trusted, json!({}))]) }
        .check(Review, Reason::UntrustedRequiresModeration);
    // Row `k` auto_publish true, `module:M` auto_publish false.
    let own = PolicyRow { auto_publish: false, ..row("module:M", Trusted, json!({})) };
    Case { source_key: Some("k"), ..case(Trusted, vec![row("k", Trusted, json!({})), own]) }
        .check(Review, Reason::PolicyAutoPublishDisabled);
    // `module:M` enabled false, `default:trusted` would publish.
    let own = PolicyRow { enabled: false, ..row("module:M", Trusted, json!({})) };
    case(Trusted, vec![own, PolicyRow::builtin(Trusted)]).check(Review, Reason::PolicyDisabled);
}

#[test]
fn the_built_in_levels_decide_as_their_table_says() {
    let at = |trust, confidence| Case { confidence, ..case(trust, vec![]) };
    at(Trusted, 0.70).check(Action::Publish, Reason::TrustedAutoPublish);
    at(Trusted, 0.6999).check(Action::Review, Reason::BelowMinConfidence);
    at(SemiTrusted, 0.85).check(Action::Publish, Reason::SemiTrustedAutoPublish);
    at(SemiTrusted, 0.8499).check(Action::Review, Reason::BelowMinConfidence);
    at(Untrusted, 1.0).check(Action::Review, Reason::UntrustedRequiresModeration);
    at(Trusted, f64::NAN).check(Action::Review, Reason::BelowMinConfidence);
}

#[test]
fn a_conflict_flag_stops_every_level() {
    for flag in ["conflict_title_mismatch", "manual_review_low_signal", "noindex", "withdrawn_before"] {
        for trust in [Trusted, SemiTrusted] {
            Case { flags: vec![flag.into()], ..case(trust, vec![]) }
                .check(Action::Review, Reason::ConflictFlag);
        }
    }
    let harmless = vec!["mixed_script_host".into(), "source_key_not_allowed".into()];
    Case { flags: harmless, ..case(Trusted, vec![]) }.check(Action::Publish, Reason::TrustedAutoPublish);
}

#[test]
fn allow_if_no_conflicts_lifts_moderation_for_semi_trusted_only() {
    let own = |trust| PolicyRow {
        requires_moderation: true,
        ..row("module:M", trust, json!({"allow_if_no_conflicts": true}))
    };
    case(SemiTrusted, vec![own(SemiTrusted)]).check(Action::Publish, Reason::SemiTrustedAutoPublish);
    case(Trusted, vec![own(Trusted)]).check(Action::Review, Reason::PolicyRequiresModeration);
}

#[test]
fn requires_moderation_is_taken_from_the_most_specific_row() {
    let strict = PolicyRow { requires_moderation: true, ..row("default:trusted", Trusted, json!({})) };
    case(Trusted, vec![strict.clone()]).check(Action::Review, Reason::PolicyRequiresModeration);
    let with_own = vec![strict, row("module:M", Trusted, json!({}))];
    case(Trusted, with_own).check(Action::Publish, Reason::TrustedAutoPublish);
}

#[test]
fn a_person_may_be_required_by_rule() {
    let own = row("module:M", Trusted, json!({"require_human_review": true}));
    case(Trusted, vec![own]).check(Action::Review, Reason::RuleRequiresHumanReview);
}

#[test]
fn a_source_key_counts_only_if_the_module_may_name_it() {
    let elevating = |key: &str| PolicyRow { allow_elevation: true, ..row(key, Trusted, json!({})) };
    for key in ["stranger", "default:trusted", "module:other"] {
        Case { source_key: Some(key), ..case(Untrusted, vec![elevating(key)]) }
            .check(Action::Review, Reason::UntrustedRequiresModeration);
    }
}

#[test]
fn a_row_lowers_trust_and_raises_it_only_by_permission() {
    let trust = |module, rows| case(module, rows).policy().trust_level;
    assert_eq!(trust(Trusted, vec![row("module:M", SemiTrusted, json!({}))]), SemiTrusted);
    assert_eq!(trust(SemiTrusted, vec![row("module:M", Trusted, json!({}))]), SemiTrusted);
    let elevating = PolicyRow { allow_elevation: true, ..row("module:M", Trusted, json!({})) };
    assert_eq!(trust(SemiTrusted, vec![elevating.clone()]), Trusted);
    assert_eq!(trust(SemiTrusted, vec![PolicyRow { enabled: false, ..elevating }]), SemiTrusted);
    let setting = PolicyRow { allow_elevation: true, ..row("module:M", Untrusted, json!({})) };
    assert_eq!(trust(Trusted, vec![setting]), Untrusted);
    // The source's row comes after the module's.
    let rows = vec![
        row("module:M", Untrusted, json!({})),
        PolicyRow { allow_elevation: true, ..row("k", SemiTrusted, json!({})) },
    ];
    let policy = Case { source_key: Some("k"), ..case(Trusted, rows) }.policy();
    assert_eq!(policy.trust_level, SemiTrusted);
}

#[test]
fn a_processor_caps_the_trust_of_its_results() {
    let capped = |processor| Case { processor: Some(processor), ..case(Trusted, vec![]) };
    capped(Untrusted).check(Action::Review, Reason::UntrustedRequiresModeration);
    capped(SemiTrusted).check(Action::Publish, Reason::SemiTrustedAutoPublish);
    capped(Trusted).check(Action::Publish, Reason::TrustedAutoPublish);
    let policy = Case { processor: Some(Trusted), ..case(Untrusted, vec![]) }.policy();
    assert_eq!(policy.trust_level, Untrusted, "a cap raises nobody");
}

#[test]
fn a_disabled_module_publishes_nothing_that_was_in_flight() {
    let stopped = Case { module_enabled: false, ..case(Trusted, vec![]) };
    stopped.check(Action::Review, Reason::PolicyDisabled);
    assert_eq!(stopped.policy().blocked_by.as_deref(), Some("module:M"));
}

#[test]
fn any_disabled_row_of_the_chain_blocks() {
    for (key, source_key) in [("k", Some("k")), ("module:M", None), ("default:trusted", None)] {
        let off = PolicyRow { enabled: false, ..row(key, Trusted, json!({})) };
        let blocked = Case { source_key, ..case(Trusted, vec![off]) };
        blocked.check(Action::Review, Reason::PolicyDisabled);
        assert_eq!(blocked.policy().blocked_by.as_deref(), Some(key));
    }
    // A row that is not in the chain is nothing to it.
    let off = PolicyRow { enabled: false, ..row("k", Trusted, json!({})) };
    case(Trusted, vec![off]).check(Action::Publish, Reason::TrustedAutoPublish);
}

#[test]
fn the_daily_limit_counts_what_was_published() {
    let limited = row("module:M", Trusted, json!({"max_daily_auto_publish": 3}));
    let at = |published_today| Case { published_today, ..case(Trusted, vec![limited.clone()]) };
    at(2).check(Action::Publish, Reason::TrustedAutoPublish);
    at(3).check(Action::Review, Reason::DailyLimit);
    let never = row("module:M", Trusted, json!({"max_daily_auto_publish": 0}));
    case(Trusted, vec![never]).check(Action::Review, Reason::DailyLimit);
}

#[test]
fn what_cannot_be_published_is_not() {
    Case { is_incomplete: true, ..case(Trusted, vec![]) }
        .check(Action::Incomplete, Reason::InsufficientProjectionData);
    Case { posting_exists: true, ..case(Trusted, vec![]) }.check(Action::Review, Reason::PostingExists);
}

#[test]
fn merge_decisions_lead_where_the_policy_maps_them() {
    let with = |dedupe, value| Case { dedupe, ..case(Trusted, vec![row("module:M", Trusted, value)]) };
    with(Dedupe::AutoMerged, json!({})).check(Action::Merged, Reason::DedupeAutoMerged);
    with(Dedupe::NeedsReview, json!({})).check(Action::Review, Reason::DedupeReviewRequired);
    with(Dedupe::Rejected, json!({})).check(Action::Review, Reason::DedupeRejected);
    for (mapped, action) in
        [("reject", Action::Reject), ("archive", Action::Archive), ("needs_review", Action::Review)]
    {
        with(Dedupe::Rejected, json!({"merge_decision_actions": {"rejected": mapped}}))
            .check(action, Reason::DedupeRejected);
        with(Dedupe::NeedsReview, json!({"merge_decision_actions": {"needs_review": mapped}}))
            .check(action, Reason::DedupeReviewRequired);
        // A mapping of one decision is none of the other.
        with(Dedupe::NeedsReview, json!({"merge_decision_actions": {"rejected": mapped}}))
            .check(Action::Review, Reason::DedupeReviewRequired);
    }
}

#[test]
fn preserve_publishes_only_without_a_conflict() {
    let value = json!({"merge_decision_actions": {"rejected": "preserve", "needs_review": "preserve"}});
    for dedupe in [Dedupe::Rejected, Dedupe::NeedsReview] {
        let own = row("module:M", Trusted, value.clone());
        let free = Case { dedupe, ..case(Trusted, vec![own]) };
        free.check(Action::Publish, Reason::TrustedAutoPublish);
        Case { flags: vec!["conflict_deadline_mismatch".into()], ..free }
            .check(Action::Review, Reason::ConflictFlag);
    }
}

#[test]
fn routes_and_reasons_are_the_policys_own() {
    let value = json!({
        "moderation_routes": {"rejected": "review.twins"},
        "default_moderation_route": "review.general",
        "merge_decision_reasons": {"rejected": "shares a form", "auto_merged": "same key"},
    });
    let with = |dedupe| Case { dedupe, ..case(Untrusted, vec![row("module:M", Untrusted, value.clone())]) };
    let decision = with(Dedupe::Rejected).decide();
    assert_eq!(decision.route.as_deref(), Some("review.twins"));
    assert_eq!(decision.state_reason(), "shares a form");
    let decision = with(Dedupe::NeedsReview).decide();
    assert_eq!(decision.route.as_deref(), Some("review.general"));
    assert_eq!(decision.state_reason(), "dedupe_review_required");
    let decision = with(Dedupe::None).decide();
    assert_eq!(decision.route.as_deref(), Some("review.general"));
    let decision = with(Dedupe::AutoMerged).decide();
    assert_eq!((decision.route.as_deref(), decision.state_reason()), (None, "same key"));
    let decision = case(Trusted, vec![row("module:M", Trusted, value.clone())]).decide();
    assert_eq!(decision.route, None, "what is published waits for nobody");
}

#[test]
fn every_reason_that_stands_against_it_is_named() {
    let own = PolicyRow {
        auto_publish: false,
        requires_moderation: true,
        ..row(
            "module:M",
            Untrusted,
            json!({"require_human_review": true, "min_confidence": 1, "max_daily_auto_publish": 0}),
        )
    };
    let decision = Case {
        flags: vec!["conflict_x".into()],
        dedupe: Dedupe::NeedsReview,
        module_enabled: false,
        posting_exists: true,
        ..case(Untrusted, vec![own])
    }
    .check(Action::Review, Reason::DedupeReviewRequired);
    let reasons: Vec<&str> = decision.reasons.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "dedupe_review_required",
            "posting_exists",
            "policy_disabled",
            "untrusted_requires_moderation",
            "policy_auto_publish_disabled",
            "rule_requires_human_review",
            "conflict_flag",
            "policy_requires_moderation",
            "below_min_confidence",
            "daily_limit"
        ]
    );
}

#[test]
fn rules_are_inherited_key_by_key_down_to_the_members() {
    let rows = vec![
        row("k", Trusted, json!({"min_confidence": 0.9, "merge_decision_actions": {"rejected": "archive"}})),
        row(
            "module:M",
            Trusted,
            json!({
                "min_confidence": 0.5,
                "max_daily_auto_publish": 7,
                "merge_decision_actions": {"rejected": "reject", "needs_review": "reject"},
            }),
        ),
        row(
            "default:trusted",
            Trusted,
            json!({"max_daily_auto_publish": null, "default_moderation_route": "a.b"}),
        ),
    ];
    let policy = Case { source_key: Some("k"), ..case(Trusted, rows) }.policy();
    assert_eq!(
        policy.rules.to_json(),
        json!({
            "min_confidence": 0.9,
            "merge_decision_actions": {"needs_review": "reject", "rejected": "archive"},
            "default_moderation_route": "a.b",
            "max_daily_auto_publish": 7,
        })
    );
    let chain: Vec<(&str, Vec<&str>)> =
        policy.chain.iter().map(|link| (link.source_key.as_str(), link.contributed.clone())).collect();
    assert_eq!(
        chain,
        [
            ("k", vec!["requires_moderation", "min_confidence", "action_rejected"]),
            ("module:M", vec!["action_needs_review", "max_daily_auto_publish"]),
            ("default:trusted", vec!["default_moderation_route"]),
            ("built-in:trusted", vec![]),
        ]
    );
}

#[test]
fn null_removes_a_rule_and_null_for_an_object_removes_its_members() {
    let policy = case(
        SemiTrusted,
        vec![
            row(
                "module:M",
                SemiTrusted,
                json!({"merge_decision_actions": null, "allow_if_no_conflicts": null}),
            ),
            row(
                "default:semi_trusted",
                SemiTrusted,
                json!({"merge_decision_actions": {"rejected": "reject"}}),
            ),
        ],
    )
    .policy();
    assert_eq!(policy.rules.to_json(), json!({"min_confidence": 0.85}));
}

#[test]
fn unknown_and_ill_typed_rules_are_refused_with_their_pointer() {
    for (value, expected) in [
        (json!([]), vec![("", "invalid_type")]),
        (json!({"min_confidnce": 0.5}), vec![("/min_confidnce", "unknown_field")]),
        (json!({"a/b~c": 1}), vec![("/a~1b~0c", "unknown_field")]),
        (json!({"": {}}), vec![("/", "unknown_field")]),
        (json!({"min_confidence": 1.01}), vec![("/min_confidence", "invalid_value")]),
        (json!({"min_confidence": -0.01}), vec![("/min_confidence", "invalid_value")]),
        (json!({"min_confidence": "0.5"}), vec![("/min_confidence", "invalid_value")]),
        (json!({"require_human_review": 1}), vec![("/require_human_review", "invalid_value")]),
        (json!({"max_daily_auto_publish": -1}), vec![("/max_daily_auto_publish", "invalid_value")]),
        (json!({"max_daily_auto_publish": 1.5}), vec![("/max_daily_auto_publish", "invalid_value")]),
        (json!({"merge_decision_actions": "reject"}), vec![("/merge_decision_actions", "invalid_type")]),
        (
            json!({"merge_decision_actions": {"rejected": "publish", "auto_merged": "reject"}}),
            vec![
                ("/merge_decision_actions/rejected", "invalid_value"),
                ("/merge_decision_actions/auto_merged", "unknown_field"),
            ],
        ),
        (
            json!({"merge_decision_reasons": {"rejected": ""}}),
            vec![("/merge_decision_reasons/rejected", "invalid_value")],
        ),
        (
            json!({"default_moderation_route": "physics"}),
            vec![("/default_moderation_route", "invalid_value")],
        ),
        (json!({"action_rejected": "reject"}), vec![("/action_rejected", "unknown_field")]),
    ] {
        let errors = PolicyRules::parse(&value).unwrap_err();
        let found: Vec<(&str, &str)> =
            errors.iter().map(|error| (error.pointer.as_str(), error.code)).collect();
        assert_eq!(found, expected, "{value}");
    }
}

#[test]
fn routes_are_labels_of_at_least_two_parts() {
    for (label, is_valid) in [
        ("a.b", true),
        ("review.physics-1_x", true),
        ("a1.2", true),
        ("1a.b", false),
        ("a", false),
        ("a.", false),
        (".a", false),
        ("a..b", false),
        ("A.b", false),
        ("a b.c", false),
        ("", false),
        (&format!("a.{}", "b".repeat(62)), true),
        (&format!("a.{}", "b".repeat(63)), false),
    ] {
        let parsed = PolicyRules::parse(&json!({"default_moderation_route": label}));
        assert_eq!(parsed.is_ok(), is_valid, "{label}");
    }
}

#[test]
fn rules_are_written_as_they_were_read() {
    let value = json!({
        "min_confidence": 0.5,
        "require_human_review": null,
        "merge_decision_actions": {"needs_review": "preserve", "rejected": null},
        "merge_decision_reasons": {"auto_merged": "x"},
        "moderation_routes": {"rejected": "a.b"},
        "max_daily_auto_publish": 5,
    });
    assert_eq!(rules(value.clone()).to_json(), value);
    assert_eq!(serde_json::to_value(rules(json!({}))).unwrap(), json!({}));
}

#[test]
fn the_payload_says_on_what_the_decision_rests() {
    let subject = case(Trusted, vec![]);
    let input = DecisionInput {
        confidence: 0.92,
        risk_flags: &[],
        dedupe: Dedupe::None,
        is_incomplete: false,
        posting_exists: false,
        auto_published_today: 0,
    };
    let policy = subject.policy();
    let payload = decide(&policy, &input).payload(&policy, &input);
    assert_eq!(payload["reason"], "trusted_auto_publish");
    assert_eq!(payload["confidence"], 0.92);
    assert_eq!(payload["rules"], json!({"min_confidence": 0.7}));
    assert_eq!(payload["chain"][0]["source_key"], "built-in:trusted");
}

#[test]
fn source_keys_have_a_form() {
    for (key, is_valid) in [
        ("module:acme-feed", true),
        ("a/b.c_d-e:1", true),
        ("", false),
        ("A", false),
        ("a b", false),
        (&"a".repeat(200), true),
        (&"a".repeat(201), false),
    ] {
        assert_eq!(is_source_key(key), is_valid, "{key}");
    }
    assert!(is_protected_key("default:trusted") && !is_protected_key("module:default"));
}

fn any_trust() -> impl Strategy<Value = TrustLevel> {
    prop_oneof![Just(Trusted), Just(SemiTrusted), Just(Untrusted)]
}

fn any_rules() -> impl Strategy<Value = PolicyRules> {
    let boolean =
        || prop_oneof![Just(Rule::Inherit), Just(Rule::Removed), any::<bool>().prop_map(Rule::Value)];
    let min = prop_oneof![Just(Rule::Inherit), Just(Rule::Removed), (0.0..=1.0).prop_map(Rule::Value)];
    let max = prop_oneof![Just(Rule::Inherit), Just(Rule::Removed), (0u32..5).prop_map(Rule::Value)];
    (min, boolean(), boolean(), max).prop_map(|(min_confidence, human, lift, max_daily_auto_publish)| {
        PolicyRules {
            min_confidence,
            require_human_review: human,
            allow_if_no_conflicts: lift,
            max_daily_auto_publish,
            ..PolicyRules::default()
        }
    })
}

fn any_row(source_key: &'static str) -> impl Strategy<Value = PolicyRow> {
    (any_trust(), any::<bool>(), any::<bool>(), any_rules(), prop::bool::weighted(0.9), any::<bool>())
        .prop_map(move |(trust_level, auto_publish, requires_moderation, rules, enabled, allow_elevation)| {
            PolicyRow {
                source_key: source_key.into(),
                trust_level,
                auto_publish,
                requires_moderation,
                rules,
                enabled,
                allow_elevation,
            }
        })
}

fn any_case() -> impl Strategy<Value = Case> {
    let rows = (
        prop::option::of(any_row("k")),
        prop::option::of(any_row("module:M")),
        prop::option::of(any_row("default:trusted")),
        prop::option::of(any_row("default:semi_trusted")),
        prop::option::of(any_row("default:untrusted")),
    );
    let flag = prop::option::weighted(0.2, Just("conflict_title_mismatch".to_owned()));
    (any_trust(), rows, 0.0..=1.0, flag, any::<bool>(), 0u64..5).prop_map(
        |(trust, rows, confidence, flag, named, published_today)| Case {
            confidence,
            flags: flag.into_iter().collect(),
            source_key: named.then_some("k"),
            published_today,
            ..case(trust, [rows.0, rows.1, rows.2, rows.3, rows.4].into_iter().flatten().collect())
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// What an added row can loosen it must say: elevation, a rule of its own, or `requires_moderation` false.
    /// A row that says none of it, and leaves trust as it is, only ever tightens.
    #[test]
    fn an_added_row_that_says_nothing_looser_never_publishes_more(before in any_case(), auto_publish: bool, named: bool, enabled: bool) {
        let key = if named { "k" } else { "module:M" };
        let mut without = before;
        without.rows.retain(|row| row.source_key != key);
        let mut after = without.clone();
        after.rows.push(PolicyRow {
            auto_publish,
            enabled,
            requires_moderation: true,
            ..row(key, Trusted, json!({}))
        });
        if after.decide().publishes() {
            prop_assert!(without.decide().publishes());
        }
    }

    #[test]
    fn an_untrusted_source_is_never_published(mut any in any_case()) {
        any.trust = Untrusted;
        any.rows.iter_mut().for_each(|row| row.allow_elevation = false);
        prop_assert!(!any.decide().publishes());
    }

    #[test]
    fn nothing_is_published_past_a_conflict_flag_or_a_missing_field(mut any in any_case(), flagged: bool) {
        any.is_incomplete = !flagged;
        any.flags = if flagged { vec!["conflict_location_mismatch".into()] } else { vec![] };
        prop_assert!(!any.decide().publishes());
    }

    #[test]
    fn more_confidence_never_publishes_less(any in any_case(), more in 0.0..=1.0f64) {
        let published = any.decide().publishes();
        let confidence = any.confidence.max(more);
        let surer = Case { confidence, ..any };
        prop_assert!(!published || surer.decide().publishes());
    }

    #[test]
    fn a_processor_never_publishes_what_callboard_itself_would_not_trust(mut any in any_case(), cap in any_trust()) {
        any.processor = Some(cap);
        prop_assert!(any.policy().trust_level <= cap);
    }
}
