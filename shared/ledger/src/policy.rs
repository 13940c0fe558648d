//! What is constant about a kind: its name, route, budget, lease and backoff.

use crate::error::Error;
use crate::types::Route;
use std::collections::BTreeMap;
use std::time::Duration;

/// Priorities that exist, most urgent first: admin, resolve, ordinary, enrich, background.
pub const PRIORITIES: [i16; 5] = [20, 12, 10, 5, 0];
/// `Retry-After` of a stranger is respected up to here; more would park a job for days.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(6 * 3600);
/// No retry comes sooner: a failing dependency needs at least a breath.
pub const BACKOFF_MIN: Duration = Duration::from_secs(1);

/// The constants of a registered kind. An admin's row in `job_kinds` overrides all but name and priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindPolicy {
    /// The kind's name, a stable string in the database.
    pub kind: &'static str,
    /// Who may claim it.
    pub route: Route,
    /// Failures after which it is dead, 1–20.
    pub max_failures: i32,
    /// The lease of a claim over HTTP that names none, 10–900 s. (Internal leases come from the invocation's deadline.)
    pub lease: Duration,
    /// Backoff of the first retry.
    pub base: Duration,
    /// The longest backoff.
    pub cap: Duration,
    /// One of [`PRIORITIES`], unless the job names another.
    pub priority: i16,
}

impl KindPolicy {
    /// How long to wait before retries, by the constants.
    #[must_use]
    pub fn backoff(&self) -> Backoff {
        Backoff { base: self.base, cap: self.cap }
    }
}

/// Full jitter: uniform in [1 s, min(cap, base · 2^(failures−1))].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Upper bound of the first pause.
    pub base: Duration,
    /// Upper bound of every pause.
    pub cap: Duration,
}

impl Backoff {
    /// The pause before the next try.
    ///
    /// `failures` counts the one that just happened (≥ 1). `jitter` is uniform in [0, 1); a value outside is clamped.
    /// `retry_after` is a floor, itself clamped to [`RETRY_AFTER_MAX`].
    #[must_use]
    pub fn pause(&self, failures: i32, jitter: f64, retry_after: Option<Duration>) -> Duration {
        let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(0).min(31);
        let bound = self.base.saturating_mul(1 << doublings).min(self.cap).max(BACKOFF_MIN);
        let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 1.0 };
        let pause = BACKOFF_MIN + (bound - BACKOFF_MIN).mul_f64(jitter);
        pause.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
    }
}

/// Every kind of this release.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    policies: BTreeMap<&'static str, KindPolicy>,
}

/// Two kinds have one name, or a kind's constants are out of range: the function does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the kind {kind:?} {problem}")]
pub struct RegistryError {
    /// The kind.
    pub kind: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Registry {
    /// Collects the kinds.
    ///
    /// # Errors
    /// [`RegistryError`] if a name is doubled or a constant is out of its range.
    pub fn new(policies: impl IntoIterator<Item = KindPolicy>) -> Result<Self, RegistryError> {
        let mut registry = Self::default();
        for policy in policies {
            let error = |problem| Err(RegistryError { kind: policy.kind, problem });
            if !(1..=20).contains(&policy.max_failures) {
                return error("has max_failures outside 1–20");
            }
            if !PRIORITIES.contains(&policy.priority) {
                return error("has a priority that does not exist");
            }
            if !(10..=900).contains(&policy.lease.as_secs()) {
                return error("has a lease outside 10–900 s");
            }
            if policy.base < BACKOFF_MIN || policy.cap < policy.base {
                return error("has a backoff that shrinks or begins under a second");
            }
            if registry.policies.insert(policy.kind, policy).is_some() {
                return error("is registered twice");
            }
        }
        Ok(registry)
    }

    /// The constants of a kind.
    ///
    /// # Errors
    /// [`Error::UnknownKind`].
    pub fn get(&self, kind: &str) -> Result<&KindPolicy, Error> {
        self.policies.get(kind).ok_or_else(|| Error::UnknownKind(kind.to_owned()))
    }

    /// All constants, by name.
    pub fn iter(&self) -> impl Iterator<Item = &KindPolicy> {
        self.policies.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BACKOFF: Backoff = Backoff { base: Duration::from_secs(30), cap: Duration::from_secs(3600) };

    const POLICY: KindPolicy = KindPolicy {
        kind: "extract",
        route: Route::Internal,
        max_failures: 5,
        lease: Duration::from_secs(120),
        base: Duration::from_secs(30),
        cap: Duration::from_secs(3600),
        priority: 10,
    };

    #[test]
    fn the_upper_bound_doubles_up_to_the_cap() {
        for (failures, bound_s) in [(1, 30), (2, 60), (3, 120), (7, 1920), (8, 3600), (40, 3600), (0, 30)] {
            assert_eq!(BACKOFF.pause(failures, 1.0, None), Duration::from_secs(bound_s), "{failures}");
            assert_eq!(BACKOFF.pause(failures, 0.0, None), Duration::from_secs(1), "{failures}");
        }
    }

    #[test]
    fn retry_after_is_a_floor_of_at_most_six_hours() {
        for (retry_after_s, expected_s) in [(5, 30), (90, 90), (86_400, 21_600)] {
            let pause = BACKOFF.pause(1, 1.0, Some(Duration::from_secs(retry_after_s)));
            assert_eq!(pause, Duration::from_secs(expected_s), "{retry_after_s}");
        }
    }

    #[test]
    fn a_kind_registered_twice_or_out_of_range_stops_the_start() {
        let broken: [(KindPolicy, &str); 4] = [
            (POLICY, "is registered twice"),
            (KindPolicy { kind: "a", max_failures: 0, ..POLICY }, "has max_failures outside 1–20"),
            (KindPolicy { kind: "a", priority: 7, ..POLICY }, "has a priority that does not exist"),
            (
                KindPolicy { kind: "a", lease: Duration::from_secs(901), ..POLICY },
                "has a lease outside 10–900 s",
            ),
        ];
        for (policy, problem) in broken {
            assert_eq!(Registry::new([POLICY, policy]).unwrap_err().problem, problem);
        }
    }

    proptest! {
        #[test]
        fn a_pause_stays_between_a_second_and_its_bound(failures in -5_i32..200, jitter in -1.0_f64..2.0) {
            let pause = BACKOFF.pause(failures, jitter, None);
            prop_assert!(pause >= BACKOFF_MIN && pause <= BACKOFF.cap);
        }
    }
}
