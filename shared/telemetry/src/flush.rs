//! When a function waits for the collector, and how long.
//!
//! A function that is called seldom sends after every event: its environment may be frozen for an hour next. One that is
//! called more often than once a minute sends every 20 seconds, as the best extensions do. An answer never waits longer than
//! [`BUDGET`], nor so long that [`RESERVE`] of the invocation's time would not be left.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// The most that an answer waits for telemetry.
pub(crate) const BUDGET: Duration = Duration::from_millis(300);
/// What is left of an invocation's time for its answer to be posted.
pub(crate) const RESERVE: Duration = Duration::from_millis(500);
/// A handler that still runs so long before its time-out is perhaps about to be killed: what is known so far is sent then.
pub(crate) const LAST_CHANCE: Duration = Duration::from_millis(1_000);
/// Calls closer together than this make an environment busy.
const BUSY: Duration = Duration::from_secs(60);
/// Gaps between calls that have to be short before an environment counts as busy.
const BUSY_GAPS: u32 = 3;
/// Between exports of a busy environment, where no variable says otherwise.
const EVERY: Duration = Duration::from_secs(20);

/// How close together calls came. Wall clock: a frozen environment's monotonic clock may have stood still.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    called_at: Option<SystemTime>,
    short_gaps: u32,
}

impl Calls {
    /// Notes that an event was handled, and says whether the environment is busy.
    pub(crate) fn called(&self, now: SystemTime) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match since(state.called_at, now) {
            Some(gap) if gap < BUSY => state.short_gaps = state.short_gaps.saturating_add(1),
            _ => state.short_gaps = 0,
        }
        state.called_at = Some(now);
        state.short_gaps >= BUSY_GAPS
    }
}

/// A clock that went back makes a gap of nothing.
fn since(at: Option<SystemTime>, now: SystemTime) -> Option<Duration> {
    at.map(|at| now.duration_since(at).unwrap_or_default())
}

/// Whether a signal that was last sent at `flushed_at` is due. `every`: what its variable says.
pub(crate) fn is_due(
    is_busy: bool,
    flushed_at: Option<SystemTime>,
    now: SystemTime,
    every: Option<Duration>,
) -> bool {
    match (every, since(flushed_at, now)) {
        (Some(every), Some(since)) => since >= every,
        (None, Some(since)) => !is_busy || since >= EVERY,
        (_, None) => true,
    }
}

/// What may be spent when `left` of the invocation's time remains.
pub(crate) fn budget(left: Duration) -> Duration {
    BUDGET.min(left.saturating_sub(RESERVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls at these seconds; those after which it is time.
    fn flushes(every: Option<Duration>, calls: &[u64]) -> Vec<u64> {
        let seen = Calls::default();
        let mut flushed_at = None;
        let mut flushes = Vec::new();
        for second in calls {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(*second);
            if is_due(seen.called(now), flushed_at, now, every) {
                flushed_at = Some(now);
                flushes.push(*second);
            }
        }
        flushes
    }

    #[test]
    fn a_seldom_called_function_sends_after_each_event() {
        assert_eq!(flushes(None, &[1_000]), [1_000], "the lone one too");
        assert_eq!(flushes(None, &[0, 100, 200, 3_000]), [0, 100, 200, 3_000]);
    }

    #[test]
    fn a_busy_function_sends_every_twenty_seconds() {
        let calls: Vec<u64> = (0..100).collect();
        assert_eq!(flushes(None, &calls), [0, 1, 2, 22, 42, 62, 82]);
        let slower: Vec<u64> = (0..10).map(|at| at * 30).collect();
        assert_eq!(flushes(None, &slower), slower);
        let then_seldom = [0, 1, 2, 3, 4, 1_000, 2_000];
        assert_eq!(flushes(None, &then_seldom), [0, 1, 2, 1_000, 2_000]);
    }

    #[test]
    fn a_variable_sets_the_time_between_exports() {
        let calls: Vec<u64> = (0..12).collect();
        assert_eq!(flushes(Some(Duration::from_secs(5)), &calls), [0, 5, 10]);
        assert_eq!(flushes(Some(Duration::ZERO), &calls), calls);
    }

    #[test]
    fn a_clock_that_goes_back_does_no_harm() {
        assert_eq!(flushes(None, &[1_000, 10, 2_000]), [1_000, 10, 2_000]);
    }

    #[test]
    fn the_budget_leaves_time_for_the_answer() {
        let ms = Duration::from_millis;
        for (left, expected) in [(10_000, 300), (800, 300), (700, 200), (500, 0), (0, 0)] {
            assert_eq!(budget(ms(left)), ms(expected), "{left}");
        }
    }
}
