//! Every interleaving of small cases, on PostgreSQL: two jobs, two workers, and whoever else has to do with them.
//!
//! Each actor is a short program of the ledger's operations with a connection of its own ([`program`]). Those that write
//! in a transaction of several statements can be overtaken between any two of them, wait for each other's row locks, and
//! may die at any point of it. Time is an actor as well: one clock for all sessions, which passes in steps, also for a
//! statement that waits. The search ([`explore`]) takes every step from every state that can be reached, once, and
//! checks what is committed after each; a lock that is waited for is part of the state.
//!
//! Statements inside of one call of the ledger after its first lock are not overtaken separately: what others can see of a
//! transaction is its locks, and its end.
//!
//! `CALLBOARD_INTERLEAVINGS=all` adds the longer cases, which take minutes; the name of a case runs it alone.

mod actor;
mod drain;
mod explore;
mod history;
mod program;
mod scenarios;
mod snapshot;
mod world;

use explore::{Report, explore};
use futures::stream::{self, StreamExt};
use history::Invariant;
use tokio::sync::OnceCell;

/// Cases that are searched side by side: each waits for the server's answers most of the time.
const LANES: usize = 4;

/// The search, made once for all tests of the process.
async fn reports() -> &'static [Report] {
    static REPORTS: OnceCell<Vec<Report>> = OnceCell::const_new();
    REPORTS
        .get_or_init(|| async {
            let chosen = std::env::var("CALLBOARD_INTERLEAVINGS").unwrap_or_default();
            let reports: Vec<Report> = stream::iter(scenarios::chosen(&chosen))
                .map(|scenario| async move {
                    let report = tokio::spawn(explore(scenario)).await.unwrap();
                    println!("{report}");
                    report
                })
                .buffer_unordered(LANES)
                .collect()
                .await;
            assert!(!reports.is_empty(), "no case is called {chosen:?}");
            reports
        })
        .await
}

async fn assert_kept(invariant: Invariant) {
    let mut checks = 0;
    for report in reports().await {
        checks += report.checks.get(&invariant).copied().unwrap_or_default();
        if let Some((violation, schedule)) =
            report.violations.iter().find(|(violation, _)| violation.invariant == invariant)
        {
            panic!("{}: {}\nafter {schedule:#?}", report.name, violation.what);
        }
    }
    assert!(checks > 0, "nothing was looked at");
}

macro_rules! invariants {
    ($($test:ident: $invariant:ident;)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            assert_kept(Invariant::$invariant).await;
        })+

        #[test]
        fn every_invariant_has_its_test() {
            assert_eq!([$(Invariant::$invariant),+], Invariant::ALL);
        }
    };
}

invariants! {
    an_effect_is_applied_at_most_once: EffectOnce;
    a_job_is_never_lost: NeverLost;
    a_job_is_never_stuck: NeverStuck;
    a_job_is_never_claimed_twice_with_living_tokens: OneHolder;
    attempts_only_grow: AttemptsGrow;
    failures_stay_within_their_budget: FailuresBounded;
    a_lease_is_over_on_its_instant_and_not_before: ExpiryKept;
    a_job_that_was_asked_for_is_run_later: RequestKept;
    a_terminal_effect_is_owed_once: TerminalOnce;
    no_statement_fails_and_none_deadlocks: NoCollision;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_interleaving_was_run() {
    for report in reports().await {
        assert!(report.violations.is_empty(), "{}: {:#?}", report.name, report.violations);
        assert!(report.schedules > 0 && report.steps >= report.states - 1);
    }
}
