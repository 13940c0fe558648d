//! Discoveries go in while everything that can break breaks, and each is settled, once.
//!
//! The real binaries run under the local runner. Between them and PostgreSQL stands [`cutter`], between them and the queues
//! [`queue`], and [`blows`] kills, stops and continues their processes and the database's. What breaks when is [`plan`]'s, a
//! function of a seed. Time passes faster for the ledger than it does ([`database::Database::let_pass`]), so that leases, marks
//! and backoffs of minutes fit into a test. When the blows are over and all is quiet, [`audit`] judges the tables.
//!
//! The test command runs the short form. `CALLBOARD_CHAOS=long cargo test -p acceptance --test chaos` runs the long one;
//! `CALLBOARD_CHAOS_SEED`, `_DISCOVERIES` and `_ROUNDS` change either.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(unreachable_pub, reason = "modules of one test")]

mod audit;
mod blows;
mod connectors;
mod cutter;
mod database;
mod plan;
mod planted;
mod queue;
mod run;
mod tally;
mod watch;
mod web;

/// Names of faults that even a short run deals: without one of them it would prove less than it says.
const DEALT: [&str; 15] = [
    "process: worker killed",
    "process: worker stopped past its lease and continued",
    "process: dispatch killed",
    "leases ended under living holders",
    "database: backend killed, all recover",
    "database: postmaster killed",
    "database: stopped and continued",
    "connection: cut at a byte",
    "connection: cut after COMMIT",
    "connection: cut before COMMIT",
    "message: hint lost",
    "message: wake lost",
    "message: copy added",
    "message: overtaken",
    "client: hung up before the answer",
];

#[test]
fn every_discovery_is_settled_once_whatever_breaks() {
    let finished = run::once();
    let missing: Vec<&str> = DEALT.into_iter().filter(|fault| finished.tally.of(fault) == 0).collect();
    assert!(missing.is_empty(), "never dealt: {missing:?}\n{}", finished.told());
    assert!(finished.violations.is_empty(), "{:#?}\n{}", finished.violations, finished.told());
}
