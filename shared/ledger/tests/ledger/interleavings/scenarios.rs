//! The cases: who takes part in each.

use crate::interleavings::program::{End, Op, Program};
use crate::interleavings::world::Scenario;

/// More than any lease, mark or backoff.
const LONG: i64 = 3_600;
/// More than a backoff, less than a lease.
const MOMENT: i64 = 3;

const fn worker(name: &'static str, ops: &'static [Op]) -> Program {
    Program { name, ops, again: Some(1) }
}

const fn once(name: &'static str, ops: &'static [Op]) -> Program {
    Program { name, ops, again: None }
}

const COMPLETES: &[Op] = &[Op::Claim(&['a']), Op::Fence, Op::Settle(End::Complete), Op::Commit];
const BEATS_AND_COMPLETES: &[Op] =
    &[Op::Claim(&['a']), Op::Heartbeat, Op::Fence, Op::Settle(End::Complete), Op::Commit];
const REAPER: Program = once("reaper", &[Op::Reap, Op::Commit]);
const TWO_LEASES_PASS: Program = once("clock", &[Op::Pass(LONG), Op::Pass(LONG)]);
/// On the instant of the first expiry, and on that of one that a heartbeat moved.
const INSTANTS_PASS: Program = once("clock", &[Op::Pass(30), Op::Pass(25), Op::Pass(30)]);
const A_LEASE_PASSES: Program = once("clock", &[Op::Pass(LONG)]);
const ENQUEUER: Program = once("enqueuer", &[Op::Enqueue(&['a']), Op::Commit]);

/// Seconds each.
const SHORTER: &[Scenario] = &[
    Scenario {
        name: "a lease runs out under one of two workers",
        jobs: &[('a', 0)],
        actors: &[worker("one", COMPLETES), worker("two", COMPLETES), REAPER, TWO_LEASES_PASS],
    },
    Scenario {
        name: "two workers take two jobs from both ends, in batches",
        jobs: &[('a', 0), ('b', 0)],
        actors: &[
            once("one", &[Op::Claim(&['a', 'b']), Op::CompleteBatch]),
            once("two", &[Op::Claim(&['b', 'a']), Op::CompleteBatch]),
            once("enqueuer", &[Op::Enqueue(&['a', 'b']), Op::Commit]),
            A_LEASE_PASSES,
        ],
    },
    Scenario {
        name: "a heartbeat meets the end of its lease",
        jobs: &[('a', 0)],
        actors: &[worker("one", BEATS_AND_COMPLETES), REAPER, INSTANTS_PASS],
    },
    Scenario {
        name: "a heartbeat and a fence wait past the end of their lease",
        jobs: &[('a', 0)],
        actors: &[worker("one", BEATS_AND_COMPLETES), ENQUEUER, once("clock", &[Op::Pass(55)])],
    },
    Scenario {
        name: "a batch meets those who ask for its jobs again",
        // The order of work is not that of ids, nor are the hints and the reports in it.
        jobs: &[('a', 0), ('b', -1)],
        actors: &[
            once("one", &[Op::Claim(&['b', 'a']), Op::CompleteBatch]),
            once("other enqueuer", &[Op::Enqueue(&['a', 'b']), Op::Commit]),
            ENQUEUER,
        ],
    },
];

/// With more who take part.
const LONGER: &[Scenario] = &[
    Scenario {
        name: "a run is asked for twice while another fails",
        jobs: &[('a', 0)],
        actors: &[
            worker("one", &[Op::Claim(&['a']), Op::Fence, Op::Settle(End::Fail), Op::Commit]),
            worker("two", COMPLETES),
            ENQUEUER,
            once("other enqueuer", &[Op::Enqueue(&['b', 'a']), Op::Commit]),
            once("clock", &[Op::Pass(MOMENT)]),
        ],
    },
    Scenario {
        name: "admins cancel, requeue and retry what fails for good",
        jobs: &[('a', 0)],
        actors: &[
            worker("one", &[Op::Claim(&['a']), Op::Fence, Op::Settle(End::FailForGood), Op::Commit]),
            once("canceller", &[Op::Cancel('a'), Op::Commit]),
            once("requeuer", &[Op::Requeue('a'), Op::Commit]),
            once("retrier", &[Op::RetryNow('a'), Op::Commit]),
            ENQUEUER,
        ],
    },
    Scenario {
        name: "hints are sent, refused and late",
        jobs: &[('a', 30)],
        actors: &[
            once("sweep", &[Op::MarkReady, Op::Commit, Op::Send]),
            once("wake", &[Op::MarkById(&['a']), Op::Commit, Op::Unmark, Op::Commit]),
            worker("one", &[Op::ClaimSent, Op::Fence, Op::Settle(End::Release), Op::Commit]),
            ENQUEUER,
            once("clock", &[Op::Pass(31), Op::Pass(LONG)]),
        ],
    },
    Scenario {
        name: "a run is asked for while a heartbeat meets the end of its lease",
        jobs: &[('a', 0)],
        actors: &[worker("one", BEATS_AND_COMPLETES), ENQUEUER, REAPER, INSTANTS_PASS],
    },
    Scenario {
        name: "a module is disabled, and a kind",
        jobs: &[('a', 0), ('x', 0)],
        actors: &[
            worker("module", &[Op::ClaimOutside, Op::Fence, Op::Settle(End::Complete), Op::Commit]),
            once("admin", &[Op::EndLeases, Op::Commit, Op::Enable(false), Op::Commit]),
            worker("other module", &[Op::ClaimOutside, Op::Fence, Op::Settle(End::Fail), Op::Commit]),
            worker("one", COMPLETES),
        ],
    },
];

/// Those that the environment asks for.
pub(crate) fn chosen(asked: &str) -> Vec<Scenario> {
    match asked {
        "" => SHORTER.to_vec(),
        "all" => [SHORTER, LONGER].concat(),
        name => SHORTER.iter().chain(LONGER).filter(|scenario| scenario.name == name).copied().collect(),
    }
}
