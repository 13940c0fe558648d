//! A token bucket per principal, in this environment only: it sheds what is absurd. The true limits stand in front, and
//! the ingest quota is counted in the database (http-api.md §1, "Limits").

use crate::problem::Problem;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// How much one principal may ask of one environment.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Requests at once, after a rest.
    pub burst: f64,
    /// Requests a second, sustained. One environment answers one request at a time, so that only a client which does
    /// nothing else, and is answered within milliseconds, comes near the default.
    pub per_second: f64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { burst: 1_000.0, per_second: 500.0 }
    }
}

/// Principals remembered at once; when there are more, those that have rested are forgotten.
const PRINCIPALS_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled_at: Timestamp,
}

/// The buckets.
#[derive(Debug, Default)]
pub struct Limiter {
    rate: Rate,
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl Limiter {
    /// With that rate for every principal.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, buckets: Mutex::default() }
    }

    /// Takes one token of `principal`.
    ///
    /// # Errors
    /// `rate-limited` with the seconds until there is one again.
    pub fn take(&self, principal: &str, now: Timestamp) -> Result<(), Problem> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= PRINCIPALS_MAX && !buckets.contains_key(principal) {
            let rate = self.rate;
            buckets.retain(|_, bucket| bucket.refilled(rate, now).tokens < rate.burst);
            if buckets.len() >= PRINCIPALS_MAX {
                buckets.clear();
            }
        }
        let bucket =
            buckets.entry(principal.to_owned()).or_insert(Bucket { tokens: self.rate.burst, filled_at: now });
        *bucket = bucket.refilled(self.rate, now);
        if bucket.tokens < 1.0 {
            let wait_s = ((1.0 - bucket.tokens) / self.rate.per_second).ceil().clamp(1.0, 60.0);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 1..=60")]
            return Err(Problem::rate_limited("You ask for more than one client may.", wait_s as u64));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

impl Bucket {
    fn refilled(self, rate: Rate, now: Timestamp) -> Self {
        let elapsed_s = now.duration_since(self.filled_at).as_secs_f64().max(0.0);
        Self { tokens: (self.tokens + elapsed_s * rate.per_second).min(rate.burst), filled_at: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan as _;

    #[test]
    fn a_principal_that_asks_too_much_is_refused_until_its_bucket_fills_again() {
        let limiter = Limiter::new(Rate { burst: 2.0, per_second: 1.0 });
        let start = Timestamp::UNIX_EPOCH;
        assert!(limiter.take("a", start).is_ok());
        assert!(limiter.take("a", start).is_ok());
        assert!(limiter.take("a", start).is_err());
        assert!(limiter.take("b", start).is_ok(), "another principal has a bucket of its own");
        assert!(limiter.take("a", start + 1.second()).is_ok());
        assert!(limiter.take("a", start + 1.second()).is_err());
    }
}
