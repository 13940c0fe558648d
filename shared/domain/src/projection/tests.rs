use super::*;
use crate::trust::Reason;
use CandidateState as C;
use MachineCause::{Pipeline, PolicyAction};

fn extracted(state: C) -> Extracted<'static> {
    Extracted {
        state,
        was_published: false,
        is_changed: true,
        is_closed: false,
        is_own_fetch: true,
        missing: &[],
    }
}

#[test]
fn an_extraction_leads_where_the_pipeline_says() {
    let missing: &[&str] = &["title"];
    for (name, input, expected) in [
        ("new", extracted(C::Discovered), AfterExtract::Dedupe),
        ("closed", Extracted { is_closed: true, ..extracted(C::Discovered) }, AfterExtract::Close),
        (
            "closed beats missing",
            Extracted { is_closed: true, missing, ..extracted(C::Discovered) },
            AfterExtract::Close,
        ),
        ("incomplete", Extracted { missing, ..extracted(C::Discovered) }, AfterExtract::Incomplete),
        ("completed", extracted(C::Processed), AfterExtract::Dedupe),
        ("unchanged", Extracted { is_changed: false, ..extracted(C::Processed) }, AfterExtract::Keep),
        ("in review", extracted(C::NeedsReview), AfterExtract::Dedupe),
        ("in review, now incomplete", Extracted { missing, ..extracted(C::NeedsReview) }, AfterExtract::Keep),
        (
            "in review, once public",
            Extracted { was_published: true, ..extracted(C::NeedsReview) },
            AfterExtract::Keep,
        ),
        ("live", Extracted { was_published: true, ..extracted(C::Published) }, AfterExtract::Keep),
        (
            "live, closed",
            Extracted { was_published: true, is_closed: true, ..extracted(C::Published) },
            AfterExtract::Close,
        ),
        (
            "live, closed by a stranger",
            Extracted {
                was_published: true,
                is_closed: true,
                is_own_fetch: false,
                ..extracted(C::Published)
            },
            AfterExtract::Keep,
        ),
        ("closed, back changed", extracted(C::Closed), AfterExtract::Review),
        ("closed, back closed", Extracted { is_closed: true, ..extracted(C::Closed) }, AfterExtract::Keep),
        (
            "archived, back the same",
            Extracted { is_changed: false, ..extracted(C::Archived) },
            AfterExtract::Keep,
        ),
        ("rejected", extracted(C::Rejected), AfterExtract::Keep),
        ("merged", Extracted { is_closed: true, ..extracted(C::Merged) }, AfterExtract::Keep),
    ] {
        assert_eq!(after_extract(&input), expected, "{name}");
    }
}

#[test]
fn what_follows_an_extraction_is_always_a_permitted_step() {
    for state in C::ALL.iter().copied() {
        for bits in 0..16u8 {
            let input = Extracted {
                state,
                was_published: bits & 1 > 0,
                is_changed: bits & 2 > 0,
                is_closed: bits & 4 > 0,
                is_own_fetch: true,
                missing: if bits & 8 > 0 { &["title"] } else { &[] },
            };
            let (to, cause) = match after_extract(&input) {
                AfterExtract::Keep | AfterExtract::Dedupe => continue,
                AfterExtract::Close => (C::Closed, Pipeline),
                AfterExtract::Incomplete => (C::Processed, Pipeline),
                AfterExtract::Review => (C::NeedsReview, MachineCause::ContentChanged),
            };
            assert!(candidate_transition(state, to, By::Machine(cause)).is_ok(), "{input:?} → {to}");
        }
    }
}

fn decision(action: Action) -> Decision {
    Decision { action, reason: Reason::ConflictFlag, reasons: vec![], reason_text: None, route: None }
}

#[test]
fn a_decision_is_carried_out_by_the_steps_of_the_table() {
    for (state, action, expected) in [
        (C::Discovered, Action::Publish, vec![(C::Publishable, Pipeline), (C::Published, Pipeline)]),
        (C::Processed, Action::Publish, vec![(C::Publishable, Pipeline), (C::Published, Pipeline)]),
        (C::Publishable, Action::Publish, vec![(C::Published, Pipeline)]),
        (C::NeedsReview, Action::Publish, vec![]),
        (C::Published, Action::Publish, vec![]),
        (C::Discovered, Action::Review, vec![(C::NeedsReview, Pipeline)]),
        (C::Publishable, Action::Review, vec![(C::NeedsReview, Pipeline)]),
        (C::NeedsReview, Action::Review, vec![]),
        (C::Published, Action::Review, vec![]),
        (C::Discovered, Action::Reject, vec![(C::Rejected, PolicyAction)]),
        (C::NeedsReview, Action::Archive, vec![(C::Archived, PolicyAction)]),
        (C::Processed, Action::Reject, vec![(C::NeedsReview, Pipeline)]),
        (C::Discovered, Action::Incomplete, vec![(C::Processed, Pipeline)]),
        (C::Publishable, Action::Incomplete, vec![(C::NeedsReview, Pipeline)]),
        (C::Discovered, Action::Merged, vec![(C::Merged, Pipeline)]),
        (C::Merged, Action::Publish, vec![]),
        (C::Rejected, Action::Publish, vec![]),
    ] {
        assert_eq!(after_dedupe(state, &decision(action)), expected, "{state} {action:?}");
    }
}

#[test]
fn authority_is_rank_then_the_same_voice() {
    let voice = |rank, module_id| Authority { rank, module_id };
    let authority = voice(2, "a");
    for (incoming, own_fetch, expected) in [
        (voice(3, "b"), false, true),
        (voice(2, "a"), false, true),
        (voice(2, "b"), false, false),
        (voice(2, "b"), true, true),
        (voice(1, "a"), true, false),
        (voice(MODERATOR_RANK, "m"), false, true),
    ] {
        assert_eq!(outranks(incoming, authority, own_fetch), expected, "{incoming:?} {own_fetch}");
    }
}

const LIVE: Face<'static> = Face {
    title: Some("PhD position in solar physics"),
    organization_name: Some("University of Bonn"),
    canonical_url: Some("https://www.uni-bonn.de/jobs/1"),
    application_url: Some("https://apply.uni-bonn.de/1"),
};

#[test]
fn the_guard_sees_each_sign_of_a_takeover() {
    let cases: Vec<(&str, Face<'_>, Face<'_>, Vec<Takeover>)> = vec![
        ("nothing", LIVE, LIVE, vec![]),
        ("a small edit", LIVE, Face { title: Some("PhD position in physics"), ..LIVE }, vec![]),
        ("another title", LIVE, Face { title: Some("Sales manager"), ..LIVE }, vec![Takeover::Title]),
        ("spelling", LIVE, Face { organization_name: Some("The University of Bonn"), ..LIVE }, vec![]),
        (
            "another name",
            LIVE,
            Face { organization_name: Some("Acme"), ..LIVE },
            vec![Takeover::Organization],
        ),
        ("same domain", LIVE, Face { application_url: Some("https://forms.uni-bonn.de/2"), ..LIVE }, vec![]),
        (
            "another domain",
            LIVE,
            Face { application_url: Some("https://evil.example/1"), ..LIVE },
            vec![Takeover::ApplicationDomain],
        ),
        ("no link any more", LIVE, Face { application_url: None, ..LIVE }, vec![]),
        (
            "a first link, at home",
            Face { application_url: None, ..LIVE },
            Face { application_url: Some("https://uni-bonn.de/apply"), ..LIVE },
            vec![],
        ),
        (
            "a first link, elsewhere",
            Face { application_url: None, ..LIVE },
            Face { application_url: Some("https://evil.example"), ..LIVE },
            vec![Takeover::ApplicationDomain],
        ),
        (
            "a link that is none",
            LIVE,
            Face { application_url: Some("mailto:x@evil.example"), ..LIVE },
            vec![Takeover::ApplicationDomain],
        ),
    ];
    for (name, live, new, expected) in cases {
        assert_eq!(takeover(&live, &new), expected, "{name}");
    }
}

#[test]
fn even_the_highest_rank_only_proposes_a_takeover() {
    let low = Authority { rank: 1, module_id: "a" };
    let high = Authority { rank: 3, module_id: "b" };
    let new = Face { title: Some("Sales manager"), ..LIVE };
    assert_eq!(judge_update(high, low, false, &LIVE, &new), UpdateVerdict::Propose(vec![Takeover::Title]));
    assert_eq!(judge_update(low, high, true, &LIVE, &LIVE), UpdateVerdict::Ignore);
    assert_eq!(judge_update(high, low, false, &LIVE, &LIVE), UpdateVerdict::Apply);
}

#[test]
fn missing_fields_are_named() {
    assert_eq!(missing_fields(Some("t"), Some("o"), Some("u")), Vec::<&str>::new());
    assert_eq!(missing_fields(None, Some(" "), Some("u")), ["title", "organization_name"]);
}

#[test]
fn a_canonical_address_is_a_page_of_the_same_registrable_domain() {
    let url = |text| normalize(text, &Rules::builtin()).unwrap();
    let fetched = url("https://jobs.uni-bonn.de/1");
    for (found, expected) in [
        ("https://www.uni-bonn.de/jobs/1", true),
        ("https://www.uni-bonn.de/", false),
        ("https://other.de/jobs/1", false),
    ] {
        assert_eq!(is_canonical_of(&url(found), &fetched), expected, "{found}");
    }
}
