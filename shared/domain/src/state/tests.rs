use super::*;

/// §5's table as it is printed, ² ³ ⁴ as `2 3 4`, H(merge) as `h`.
const CANDIDATES: &str = "
discovered   | MH | MH | M  | -   | M2H | M2H | M  | M
processed    | =  | MH | MH | -   | H   | H   | M  | Mh
needs_review | H  | =  | H  | H   | M2H | M2H | M  | Mh
publishable  | -  | MH | =  | MH  | H   | H   | M  | Mh
published    | -  | O  | -  | =   | O   | MH  | MH | h
archived     | -  | M3 | -  | M4H | O   | =   | H  | -
closed       | -  | M3 | -  | O   | O   | MH  | =  | -
rejected     | -  | H  | -  | O   | =   | H   | -  | -
merged       | -  | -  | -  | -   | -   | -   | -  | =
";

const COLUMNS: [C; 8] = [
    C::Processed,
    C::NeedsReview,
    C::Publishable,
    C::Published,
    C::Rejected,
    C::Archived,
    C::Closed,
    C::Merged,
];

const CAUSES: [(MachineCause, char); 4] = [
    (MachineCause::Pipeline, ' '),
    (MachineCause::PolicyAction, '2'),
    (MachineCause::ContentChanged, '3'),
    (MachineCause::Resighted, '4'),
];

#[test]
fn candidates_move_as_the_table_says_and_no_other_way() {
    let mut cells = 0;
    for line in CANDIDATES.trim().lines() {
        let (from, row) = line.split_once('|').unwrap();
        let from: C = from.trim().parse().unwrap();
        let row: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!(row.len(), COLUMNS.len());
        for (cell, to) in row.into_iter().zip(COLUMNS) {
            cells += 1;
            let is = |by| candidate_transition(from, to, by).is_ok();
            let same = cell == "=";
            let note = cell.chars().find(char::is_ascii_digit);
            for (cause, mark) in CAUSES {
                let expected = cell.contains('M') && note.is_none_or(|note| note == mark);
                assert_eq!(is(By::Machine(cause)), same || expected, "{from} → {to} by {cause:?}");
            }
            assert_eq!(is(By::Moderator), same || cell.contains('H'), "{from} → {to} by PATCH");
            assert_eq!(candidate_allowed(from).contains(&to), cell.contains('H'), "{from} lists {to}");
            assert_eq!(is(By::ModeratorMerge), same || cell.contains('h'), "{from} → {to} by merge");
            assert_eq!(is(By::Unmerge), same || from == C::Merged, "{from} → {to} by unmerge");
            let overridable = from != C::Merged && to != C::Merged;
            assert_eq!(is(By::Override), same || overridable, "{from} → {to} by override");
            assert_eq!(candidate_override_allowed(from).contains(&to), overridable);
            if cell.contains('O') {
                assert!(is(By::Override) && !is(By::Moderator));
            }
        }
    }
    assert_eq!(cells, 72);
}

#[test]
fn nothing_returns_to_discovered_but_an_unmerge() {
    for from in C::ALL.iter().copied().filter(|from| *from != C::Discovered) {
        for by in [By::Moderator, By::ModeratorMerge, By::Override, By::Machine(MachineCause::Pipeline)] {
            assert!(candidate_transition(from, C::Discovered, by).is_err(), "{from} by {by:?}");
        }
    }
    assert!(candidate_transition(C::Merged, C::Discovered, By::Unmerge).is_ok());
}

#[test]
fn a_moderators_publication_from_review_is_two_events() {
    let steps = candidate_transition(C::NeedsReview, C::Published, By::Moderator);
    assert_eq!(steps, Ok(Transition::Steps(&[C::Publishable, C::Published])));
    let steps = candidate_transition(C::Publishable, C::Published, By::Moderator);
    assert_eq!(steps, Ok(Transition::Steps(&[C::Published])));
}

#[test]
fn a_step_to_the_same_state_is_no_event() {
    for state in C::ALL {
        assert_eq!(candidate_transition(*state, *state, By::Moderator), Ok(Transition::Unchanged));
    }
    for status in P::ALL {
        assert_eq!(posting_transition(*status, *status, By::Override), Ok(Transition::Unchanged));
    }
}

#[test]
fn a_refusal_names_what_is_allowed() {
    let error = candidate_transition(C::Closed, C::Published, By::Moderator).unwrap_err();
    assert_eq!(error, InvalidTransition { from: C::Closed, to: C::Published, allowed: &[C::Archived] });
}

/// §6's table, rows from, columns to: active stale archived closed.
const POSTINGS: &str = "
active   | =   | MH | H  | MH
stale    | MH  | =  | MH | MH
archived | M4H | H  | =  | H
closed   | O   | O  | MH | =
";

#[test]
fn postings_move_as_the_table_says_and_no_other_way() {
    for line in POSTINGS.trim().lines() {
        let (from, row) = line.split_once('|').unwrap();
        let from: P = from.trim().parse().unwrap();
        for (cell, to) in row.split('|').map(str::trim).zip([P::Active, P::Stale, P::Archived, P::Closed]) {
            let is = |by| posting_transition(from, to, by).is_ok();
            let same = cell == "=";
            for (cause, mark) in CAUSES {
                let expected = cell.contains('M') && (!cell.contains('4') || mark == '4');
                assert_eq!(is(By::Machine(cause)), same || expected, "{from} → {to} by {cause:?}");
            }
            assert_eq!(is(By::Moderator), same || cell.contains('H'), "{from} → {to} by PATCH");
            assert_eq!(posting_allowed(from).contains(&to), cell.contains('H'), "{from} lists {to}");
            assert!(is(By::Override), "{from} → {to} by override");
        }
    }
}

#[test]
fn a_live_posting_and_its_candidate_agree() {
    for status in P::ALL {
        let by = By::Machine(MachineCause::Pipeline);
        match posting_effect(status.candidate_state(), by) {
            PostingEffect::Publish => assert!(status.is_live()),
            PostingEffect::Status(other) => assert_eq!(other, *status),
            effect => panic!("{status}: {effect:?}"),
        }
    }
}

#[test]
fn only_published_candidates_have_shown_postings() {
    let by = By::Moderator;
    for (state, effect) in [
        (C::NeedsReview, PostingEffect::Hide),
        (C::Rejected, PostingEffect::Hide),
        (C::Discovered, PostingEffect::Hide),
        (C::Processed, PostingEffect::Hide),
        (C::Publishable, PostingEffect::Hide),
        (C::Merged, PostingEffect::Supersede),
        (C::Archived, PostingEffect::Status(P::Archived)),
        (C::Closed, PostingEffect::Status(P::Closed)),
        (C::Published, PostingEffect::Publish),
    ] {
        assert_eq!(posting_effect(state, by), effect, "{state}");
    }
    let changed = By::Machine(MachineCause::ContentChanged);
    assert_eq!(posting_effect(C::NeedsReview, changed), PostingEffect::Keep);
}

#[test]
fn discoveries_move_as_the_table_says_and_no_other_way() {
    use DiscoveryStatus as D;
    let machine = By::Machine(MachineCause::Pipeline);
    for from in D::ALL.iter().copied() {
        for to in D::ALL.iter().copied() {
            if from == to {
                continue;
            }
            let by_machine = matches!(
                (from, to),
                (D::Received, D::Extracted | D::Unusable | D::Failed)
                    | (D::Failed | D::Unusable, D::Received)
            );
            let by_human = (to == D::Withdrawn) || (from, to) == (D::Failed, D::Received);
            assert_eq!(discovery_transition(from, to, machine).is_ok(), by_machine, "{from} → {to}");
            assert_eq!(discovery_transition(from, to, By::Moderator).is_ok(), by_human, "{from} → {to}");
        }
    }
}

#[test]
fn every_value_reads_back_what_it_prints() {
    fn check<T: Copy + FromStr + PartialEq + fmt::Debug + Serialize>(all: &[T], text: fn(T) -> &'static str) {
        for value in all {
            assert_eq!(text(*value).parse::<T>().ok(), Some(*value));
            assert_eq!(serde_json::to_value(value).unwrap(), text(*value));
        }
    }
    check(C::ALL, C::as_str);
    check(P::ALL, P::as_str);
    check(TrustLevel::ALL, TrustLevel::as_str);
    check(ModuleKind::ALL, ModuleKind::as_str);
    check(IntakeMode::ALL, IntakeMode::as_str);
    check(EvidenceKind::ALL, EvidenceKind::as_str);
    check(DiscoveryStatus::ALL, DiscoveryStatus::as_str);
    check(MergeDecision::ALL, MergeDecision::as_str);
    check(ActorType::ALL, ActorType::as_str);
    check(UrlRole::ALL, UrlRole::as_str);
    check(RevisionState::ALL, RevisionState::as_str);
    check(Resolution::ALL, Resolution::as_str);
    assert!("Active".parse::<P>().unwrap_err().to_string().contains("active, stale, archived, closed"));
}

#[test]
fn trust_levels_order_by_rank() {
    for pair in TrustLevel::ALL.windows(2) {
        assert!(pair[0] < pair[1] && pair[0].rank() < pair[1].rank());
    }
}
