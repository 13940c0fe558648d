//! One request at a time for each host, and a gap between starts (domain specification, section 7.2).
//!
//! The trait is what the fetcher needs; `kinds::web` implements it on the database, over all workers. [`MemoryPace`] keeps
//! the same rules within one process, for `callboard extract` and tests.

use futures::future::BoxFuture;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use uuid::Uuid;

/// The gap where neither the host's policy nor its robots.txt says more.
pub const GAP_DEFAULT: Duration = Duration::from_millis(1_000);
/// No host is asked faster.
pub const GAP_MIN: Duration = Duration::from_secs(1);
/// A `Crawl-delay` of hours would keep a host's jobs from ever ending.
pub const GAP_MAX: Duration = Duration::from_secs(300);
/// A permit that nobody gave back is free again: robots.txt and the chain have 10 s each.
pub const PERMIT_LIFETIME: Duration = Duration::from_secs(30);

/// The gap of a host: the larger of its policy's interval and its `Crawl-delay`, within [`GAP_MIN`] and [`GAP_MAX`].
#[must_use]
pub fn gap(min_interval: Option<Duration>, crawl_delay: Option<Duration>) -> Duration {
    min_interval.unwrap_or(GAP_DEFAULT).max(crawl_delay.unwrap_or_default()).clamp(GAP_MIN, GAP_MAX)
}

/// When to look again for a permit that is held although the turn has come: nobody tells when it is given back.
pub const HELD_POLL: Duration = Duration::from_millis(250);

/// The right to talk to one host until it is given back or [`PERMIT_LIFETIME`] is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// The host's key.
    pub host: String,
    /// Who holds it.
    pub token: Uuid,
}

/// What asking for a permit gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// Go.
    Permit(Permit),
    /// Not yet: the caller's turn, booked if the caller has a job that comes back for it.
    Turn {
        /// When, by the keeper's clock.
        at: Timestamp,
        /// How far off that is, by the keeper's clock.
        after: Duration,
        /// The caller's turn has come, but the permit is held or a late predecessor's gap lasts: `at` is when to look again.
        is_due: bool,
    },
}

/// The keeper could not be asked: worth a retry.
#[derive(Debug, thiserror::Error)]
#[error("the hosts' pace and rules cannot be read: {0}")]
pub struct SeamError(pub String);

/// Keeps the pace of hosts.
pub trait Pace: Send + Sync {
    /// Takes the host's permit if it is free, the gap is over and the caller's turn has come; books a turn otherwise.
    ///
    /// `job` is who keeps a booked turn: asked again, it has the same turn and does not book another. None books nothing.
    /// A turn that has come while the permit is held, or while a late predecessor's gap lasts, is kept: the caller waits a
    /// little in place, and if that does not help gives it up for a new one at the end of the queue (`anew`). So a host
    /// that answers more slowly than its gap sees one claim a gap, not a crowd whose turns have all passed.
    ///
    /// # Errors
    /// [`SeamError`] if the keeper does not answer.
    fn take<'a>(
        &'a self,
        host: &'a str,
        gap: Duration,
        job: Option<Uuid>,
        anew: bool,
    ) -> BoxFuture<'a, Result<Taken, SeamError>>;

    /// Moves the host's next start back to the gap that its robots.txt asks for, learned under the permit.
    ///
    /// # Errors
    /// [`SeamError`] if the keeper does not answer.
    fn stretch<'a>(&'a self, permit: &'a Permit, gap: Duration) -> BoxFuture<'a, Result<(), SeamError>>;

    /// Gives the permit back by its token. One that ran out, or is another's by now, changes nothing.
    ///
    /// # Errors
    /// [`SeamError`] if the keeper does not answer; the permit then runs out by itself.
    fn give_back<'a>(&'a self, permit: &'a Permit) -> BoxFuture<'a, Result<(), SeamError>>;
}

#[derive(Debug, Default)]
struct HostState {
    token: Option<Uuid>,
    expires_at: Timestamp,
    started_at: Option<Timestamp>,
    next_at: Timestamp,
    turns: HashMap<Uuid, Timestamp>,
}

/// [`Pace`] within one process.
#[derive(Debug, Default)]
pub struct MemoryPace {
    hosts: Mutex<HashMap<String, HostState>>,
}

impl MemoryPace {
    fn take_at(&self, host: &str, gap: Duration, job: Option<Uuid>, anew: bool, now: Timestamp) -> Taken {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let state = hosts.entry(host.to_owned()).or_default();
        let turn = job.filter(|_| !anew).and_then(|job| state.turns.get(&job).copied());
        let is_free = state.token.is_none() || state.expires_at <= now;
        let earliest = state.started_at.map_or(now, |at| add(at, gap));
        if is_free && earliest <= now && turn.unwrap_or(state.next_at) <= now {
            let token = Uuid::new_v4();
            state.token = Some(token);
            state.expires_at = add(now, PERMIT_LIFETIME);
            state.started_at = Some(now);
            // A booked turn has moved `next_at` already.
            state.next_at = state.next_at.max(add(now, gap));
            if let Some(job) = job {
                state.turns.remove(&job);
            }
            return Taken::Permit(Permit { host: host.to_owned(), token });
        }
        let at = match (turn, job) {
            (Some(turn), _) if turn > now => turn,
            (Some(_), _) => earliest.max(if is_free { now } else { add(now, HELD_POLL) }),
            (None, Some(job)) => {
                let at = state.next_at.max(now).max(earliest);
                state.turns.insert(job, at);
                state.next_at = add(at, gap);
                at
            }
            (None, None) => state.next_at.max(now),
        };
        let after = Duration::try_from(at.duration_since(now)).unwrap_or_default();
        Taken::Turn { at, after, is_due: turn.is_some_and(|turn| turn <= now) }
    }
}

impl MemoryPace {
    fn free(&self, permit: &Permit) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = hosts.get_mut(&permit.host)
            && state.token == Some(permit.token)
        {
            state.token = None;
        }
    }
}

impl Pace for MemoryPace {
    fn take<'a>(
        &'a self,
        host: &'a str,
        gap: Duration,
        job: Option<Uuid>,
        anew: bool,
    ) -> BoxFuture<'a, Result<Taken, SeamError>> {
        let taken = self.take_at(host, gap, job, anew, Timestamp::now());
        Box::pin(async move { Ok(taken) })
    }

    fn stretch<'a>(&'a self, permit: &'a Permit, gap: Duration) -> BoxFuture<'a, Result<(), SeamError>> {
        Box::pin(async move {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(state) = hosts.get_mut(&permit.host)
                && state.token == Some(permit.token)
                && let Some(started_at) = state.started_at
            {
                state.next_at = state.next_at.max(add(started_at, gap));
            }
            Ok(())
        })
    }

    fn give_back<'a>(&'a self, permit: &'a Permit) -> BoxFuture<'a, Result<(), SeamError>> {
        self.free(permit);
        Box::pin(async { Ok(()) })
    }
}

fn add(at: Timestamp, length: Duration) -> Timestamp {
    at.checked_add(length).unwrap_or(Timestamp::MAX)
}

/// No pace at all, for a fetcher that only its own test site sees.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPace;

impl Pace for NoPace {
    fn take<'a>(
        &'a self,
        host: &'a str,
        _gap: Duration,
        _job: Option<Uuid>,
        _anew: bool,
    ) -> BoxFuture<'a, Result<Taken, SeamError>> {
        Box::pin(async move { Ok(Taken::Permit(Permit { host: host.to_owned(), token: Uuid::nil() })) })
    }

    fn stretch<'a>(&'a self, _permit: &'a Permit, _gap: Duration) -> BoxFuture<'a, Result<(), SeamError>> {
        Box::pin(async { Ok(()) })
    }

    fn give_back<'a>(&'a self, _permit: &'a Permit) -> BoxFuture<'a, Result<(), SeamError>> {
        Box::pin(async { Ok(()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: Duration = Duration::from_secs(1);

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap()
    }

    fn turn(taken: Taken) -> Timestamp {
        match taken {
            Taken::Turn { at, .. } => at,
            Taken::Permit(_) => panic!("a permit"),
        }
    }

    fn release(pace: &MemoryPace, taken: Taken) {
        match taken {
            Taken::Permit(permit) => pace.free(&permit),
            Taken::Turn { .. } => panic!("a turn"),
        }
    }

    #[test]
    fn the_gap_is_the_larger_wish_within_its_bounds() {
        let s = Duration::from_secs;
        for (interval, delay, expected) in [
            (None, None, s(1)),
            (Some(Duration::ZERO), None, s(1)),
            (Some(s(2)), None, s(2)),
            (None, Some(s(10)), s(10)),
            (Some(s(20)), Some(s(10)), s(20)),
            (None, Some(s(86_400)), s(300)),
        ] {
            assert_eq!(gap(interval, delay), expected, "{interval:?} {delay:?}");
        }
    }

    #[test]
    fn five_hundred_jobs_of_one_host_each_book_one_turn_and_run_on_it() {
        let pace = MemoryPace::default();
        let jobs: Vec<_> = (0..500).map(|_| Uuid::new_v4()).collect();
        let first = pace.take_at("h", GAP, Some(jobs[0]), false, at(0));
        release(&pace, first);
        for (index, job) in jobs.iter().enumerate().skip(1) {
            let booked = turn(pace.take_at("h", GAP, Some(*job), false, at(1)));
            assert_eq!(booked, at(1_000 * index as i64), "job {index}");
            // Asked again early, it has the same turn.
            assert_eq!(turn(pace.take_at("h", GAP, Some(*job), false, at(2))), booked);
        }
        for (index, job) in jobs.iter().enumerate().skip(1) {
            let taken = pace.take_at("h", GAP, Some(*job), false, at(1_000 * index as i64));
            release(&pace, taken);
        }
    }

    #[test]
    fn a_late_turn_keeps_the_gap_to_the_next() {
        let pace = MemoryPace::default();
        let (a, b) = (Uuid::new_v4(), Uuid::new_v4());
        release(&pace, pace.take_at("h", GAP, None, false, at(0)));
        assert_eq!(turn(pace.take_at("h", GAP, Some(a), false, at(1))), at(1_000));
        assert_eq!(turn(pace.take_at("h", GAP, Some(b), false, at(1))), at(2_000));
        release(&pace, pace.take_at("h", GAP, Some(a), false, at(1_900)));
        assert!(turn(pace.take_at("h", GAP, Some(b), false, at(2_000))) >= at(2_900));
    }

    #[test]
    fn a_permit_that_ran_out_is_free_and_its_late_return_frees_nobody_elses() {
        let pace = MemoryPace::default();
        let Taken::Permit(old) = pace.take_at("h", GAP, None, false, at(0)) else { panic!("no permit") };
        assert!(matches!(pace.take_at("h", GAP, None, false, at(29_999)), Taken::Turn { .. }));
        assert!(matches!(pace.take_at("h", GAP, None, false, at(30_000)), Taken::Permit(_)));
        pace.free(&old);
        assert!(matches!(pace.take_at("h", GAP, None, false, at(31_001)), Taken::Turn { .. }));
    }

    #[test]
    fn a_turn_that_came_while_the_permit_is_held_is_kept_until_it_is_given_up() {
        let pace = MemoryPace::default();
        let job = Uuid::new_v4();
        let Taken::Permit(_) = pace.take_at("h", GAP, None, false, at(0)) else { panic!("no permit") };
        assert_eq!(turn(pace.take_at("h", GAP, Some(job), false, at(1))), at(1_000));
        assert_eq!(turn(pace.take_at("h", GAP, Some(job), false, at(1_500))), at(1_750));
        assert_eq!(turn(pace.take_at("h", GAP, Some(job), true, at(4_000))), at(4_000));
        assert_eq!(turn(pace.take_at("h", GAP, Some(Uuid::new_v4()), false, at(4_000))), at(5_000));
    }

    #[test]
    fn without_a_job_nothing_is_booked() {
        let pace = MemoryPace::default();
        release(&pace, pace.take_at("h", GAP, None, false, at(0)));
        assert_eq!(turn(pace.take_at("h", GAP, None, false, at(1))), at(1_000));
        assert_eq!(turn(pace.take_at("h", GAP, None, false, at(2))), at(1_000));
    }
}
