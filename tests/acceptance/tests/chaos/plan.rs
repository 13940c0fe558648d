//! What is going to break: a pure function of the seed and a number.
//!
//! The n-th message, call, connection, hand-in and blow of a run each have their fate from (seed, stream, n) alone, so that a
//! seed names a whole plan. Which job the n-th message belongs to depends on the processes' timing, and so does the
//! outcome; the plan does not.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::time::Duration;

/// A plan of faults without end.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    /// Some stops outlast even `idle_in_transaction_session_timeout` (15 s): for long runs.
    pub long_stops: bool,
}

/// What may happen to one message that a function sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageFault {
    None,
    /// Accepted and never seen again.
    Lost,
    /// It goes on, and a copy after each of these pauses.
    Doubled(Vec<Duration>),
    Delayed(Duration),
    /// Held back until so many later ones of its queue went by.
    Overtaken(usize),
    /// The queue says that it did not take it.
    Refused,
}

/// What may happen to one call of the queue's API, whatever it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallFault {
    None,
    /// 503, and nothing was done.
    Unavailable,
    /// All was done, but the connection ends before the answer.
    AnswerLost,
    Slow(Duration),
}

/// Which way the bytes go that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToServer,
    ToClient,
}

/// What may happen to one connection to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionFault {
    None,
    /// Closed before its first byte.
    Refused,
    /// Exactly so many bytes pass one way, then both ends see it closed.
    CutAfter(Direction, u64),
    /// At its n-th COMMIT. The server either never sees it, or commits and nobody hears of it.
    CutAtCommit {
        nth: u32,
        is_done: bool,
    },
    /// Nothing passes to the client for a while, once, after so many bytes.
    Stalled {
        after: u64,
        pause: Duration,
    },
}

/// The functions whose processes are struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    Api,
    Dispatch,
    Worker,
}

impl Function {
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Dispatch => "dispatch",
            Self::Worker => "worker",
        }
    }
}

/// How the database's server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// SIGKILL of the postmaster.
    Kill,
    /// PostgreSQL's immediate shutdown: nothing is written any more.
    Immediate,
    /// PostgreSQL's fast shutdown, and a start.
    Restart,
    /// SIGKILL of one backend: the postmaster throws all others out and recovers.
    Backend,
}

/// A blow from outside. `which` picks one of what there is, modulo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    Kill {
        function: Function,
        which: usize,
    },
    /// SIGSTOP, a pause, SIGCONT. A worker's lease is over meanwhile, and its job given to another.
    Stop {
        function: Function,
        which: usize,
        pause: Duration,
    },
    /// All leases end under holders that are alive.
    EndLeases,
    Crash(Crash, usize),
    /// Every process of the database's server is stopped for a while.
    StopDatabase(Duration),
    /// `pg_terminate_backend` of every third connection of the functions.
    Terminate(usize),
}

/// How one hand-in is sent: the client gives up on the answer so often before it waits for one, and then sends it so
/// often again although it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    pub given_up: u32,
    pub repeats: u32,
}

#[derive(Clone, Copy)]
enum Stream {
    Message = 1,
    Call,
    Connection,
    Blow,
    Delivery,
}

impl Plan {
    fn dice(self, stream: Stream, number: u64) -> StdRng {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&(stream as u64).to_le_bytes());
        seed[16..24].copy_from_slice(&number.to_le_bytes());
        StdRng::from_seed(seed)
    }

    pub fn message(self, number: u64) -> MessageFault {
        let mut dice = self.dice(Stream::Message, number);
        match dice.random_range(0..100) {
            0..14 => MessageFault::Lost,
            14..54 => {
                let copies = dice.random_range(1..=8);
                MessageFault::Doubled((0..copies).map(|_| log_uniform(&mut dice, 1, 10_000)).collect())
            }
            54..66 => MessageFault::Delayed(log_uniform(&mut dice, 20, 10_000)),
            66..78 => MessageFault::Overtaken(dice.random_range(1..=8)),
            78..83 => MessageFault::Refused,
            _ => MessageFault::None,
        }
    }

    pub fn call(self, number: u64) -> CallFault {
        let mut dice = self.dice(Stream::Call, number);
        match dice.random_range(0..100) {
            0..4 => CallFault::Unavailable,
            4..8 => CallFault::AnswerLost,
            8..11 => CallFault::Slow(log_uniform(&mut dice, 50, 2_000)),
            _ => CallFault::None,
        }
    }

    pub fn connection(self, number: u64) -> ConnectionFault {
        let mut dice = self.dice(Stream::Connection, number);
        let direction = if dice.random_bool(0.5) { Direction::ToServer } else { Direction::ToClient };
        // A sign-in takes some hundred bytes, a publication some ten thousand.
        let bytes = 2_u64.pow(dice.random_range(7..18)) + dice.random_range(0..128);
        match dice.random_range(0..100) {
            0..3 => ConnectionFault::Refused,
            3..60 => ConnectionFault::CutAfter(direction, bytes),
            60..82 => {
                ConnectionFault::CutAtCommit { nth: dice.random_range(1..=8), is_done: dice.random_bool(0.5) }
            }
            82..90 => ConnectionFault::Stalled { after: bytes, pause: log_uniform(&mut dice, 100, 4_000) },
            _ => ConnectionFault::None,
        }
    }

    /// The pause before the n-th blow, and the blow. The first [`OVERTURE`] are one of each sort in an order of the seed's, so
    /// that the shortest run has felt them all.
    pub fn blow(self, number: u64) -> (Duration, Blow) {
        let mut dice = self.dice(Stream::Blow, number);
        let pause = log_uniform(&mut dice, 100, 1_500);
        let which = dice.random_range(0..1_000);
        if number < OVERTURE {
            return (pause, overture(self.seed % OVERTURE + number, which));
        }
        let function = match dice.random_range(0..10) {
            0..2 => Function::Api,
            2..4 => Function::Dispatch,
            _ => Function::Worker,
        };
        let blow = match dice.random_range(0..100) {
            0..40 => Blow::Kill { function, which },
            40..65 => {
                let is_long = self.long_stops && dice.random_bool(0.04);
                let pause =
                    if is_long { Duration::from_secs(17) } else { log_uniform(&mut dice, 200, 3_000) };
                Blow::Stop { function, which, pause }
            }
            65..75 => Blow::EndLeases,
            75..83 => {
                let how = match dice.random_range(0..4) {
                    0 => Crash::Kill,
                    1 => Crash::Immediate,
                    2 => Crash::Restart,
                    _ => Crash::Backend,
                };
                Blow::Crash(how, which)
            }
            83..87 => Blow::StopDatabase(log_uniform(&mut dice, 100, 2_000)),
            _ => Blow::Terminate(which),
        };
        (pause, blow)
    }

    pub fn delivery(self, number: u64) -> Delivery {
        let mut dice = self.dice(Stream::Delivery, number);
        let given_up = if dice.random_bool(0.2) { dice.random_range(1..3) } else { 0 };
        let repeats = if dice.random_bool(0.2) { dice.random_range(1..3) } else { 0 };
        Delivery { given_up, repeats }
    }
}

/// How many blows come first in every run, whatever its seed.
pub const OVERTURE: u64 = 9;

fn overture(turn: u64, which: usize) -> Blow {
    let (api, dispatch, worker) = (Function::Api, Function::Dispatch, Function::Worker);
    match turn % OVERTURE {
        0 => Blow::Kill { function: worker, which },
        1 => Blow::Crash(Crash::Backend, which),
        2 => Blow::Stop { function: worker, which, pause: Duration::from_secs(2) },
        3 => Blow::Kill { function: dispatch, which },
        4 => Blow::EndLeases,
        5 => Blow::Crash(Crash::Kill, which),
        6 => Blow::Kill { function: api, which },
        7 => Blow::StopDatabase(Duration::from_secs(1)),
        _ => Blow::Terminate(which),
    }
}

/// Short ones are as likely as long ones, decade by decade.
fn log_uniform(dice: &mut StdRng, from_ms: u64, to_ms: u64) -> Duration {
    #[allow(clippy::cast_precision_loss, reason = "milliseconds of a test")]
    let (from, to) = ((from_ms as f64).ln(), (to_ms as f64).ln());
    Duration::from_secs_f64(dice.random_range(from..=to).exp() / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const NUMBERS: u64 = 2_000;

    fn plan(seed: u64) -> Plan {
        Plan { seed, long_stops: false }
    }

    fn told(plan: Plan, number: u64) -> String {
        format!(
            "{:?} {:?} {:?} {:?} {:?}",
            plan.message(number),
            plan.call(number),
            plan.connection(number),
            plan.blow(number),
            plan.delivery(number)
        )
    }

    #[test]
    fn the_plan_is_a_function_of_its_seed_in_whatever_order_it_is_asked() {
        for seed in [0, 1, 7, u64::MAX] {
            let forwards: Vec<String> = (0..NUMBERS).map(|number| told(plan(seed), number)).collect();
            let mut backwards: Vec<String> =
                (0..NUMBERS).rev().map(|number| told(plan(seed), number)).collect();
            backwards.reverse();
            assert_eq!(forwards, backwards, "seed {seed}");
            let other: Vec<String> = (0..NUMBERS).map(|number| told(plan(seed ^ 1), number)).collect();
            let same = forwards.iter().zip(&other).filter(|(one, other)| one == other).count();
            assert!(same < 20, "seeds {seed} and {} share {same} of {NUMBERS} fates", seed ^ 1);
        }
    }

    #[test]
    fn the_first_blows_are_one_of_each_sort_in_every_plan() {
        for seed in [0, 1, 2, u64::MAX] {
            let blows = (0..OVERTURE).map(|number| plan(seed).blow(number).1);
            let sorts = blows.map(|blow| match blow {
                Blow::Kill { function, .. } => format!("kill {}", function.name()),
                Blow::Stop { function, .. } => format!("stop {}", function.name()),
                Blow::Crash(how, _) => format!("crash {how:?}"),
                other => format!("{:?}", std::mem::discriminant(&other)),
            });
            assert_eq!(sorts.collect::<HashSet<_>>().len() as u64, OVERTURE, "seed {seed}");
        }
    }

    #[test]
    fn every_fault_there_is_comes_up_in_a_plan() {
        let name = |told: String| told.split([' ', '(', '{']).next().unwrap().to_owned();
        let mut seen = HashSet::new();
        for number in 0..NUMBERS {
            let plan = plan(1);
            seen.insert(name(format!("message {:?}", plan.message(number)).replacen(' ', "-", 1)));
            seen.insert(name(format!("call {:?}", plan.call(number)).replacen(' ', "-", 1)));
            seen.insert(name(format!("connection {:?}", plan.connection(number)).replacen(' ', "-", 1)));
            let blow = plan.blow(number).1;
            seen.insert(name(format!("blow {blow:?}").replacen(' ', "-", 1)));
            if let Blow::Kill { function, .. } | Blow::Stop { function, .. } = blow {
                seen.insert(format!("struck-{}", function.name()));
            }
            if let Blow::Crash(how, _) = blow {
                seen.insert(format!("crash-{how:?}"));
            }
        }
        let expected = [
            "message-None message-Lost message-Doubled message-Delayed message-Overtaken message-Refused",
            "call-None call-Unavailable call-AnswerLost call-Slow",
            "connection-None connection-Refused connection-CutAfter connection-CutAtCommit connection-Stalled",
            "blow-Kill blow-Stop blow-EndLeases blow-Crash blow-StopDatabase blow-Terminate",
            "struck-api struck-dispatch struck-worker crash-Kill crash-Immediate crash-Restart crash-Backend",
        ];
        let expected: HashSet<String> =
            expected.iter().flat_map(|line| line.split(' ')).map(str::to_owned).collect();
        assert_eq!(seen, expected);
    }
}
