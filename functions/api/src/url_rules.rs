//! The rules of URLs, kept for a few seconds: each discovery needs them, and they change once in a while.

use crate::problem::Problem;
use domain::url::Rules;
use jiff::Timestamp;
use std::sync::{Arc, Mutex, PoisonError};
use store::Pool;

/// An override that was put is in force everywhere after this long.
const FRESH_S: i64 = 10;

/// The rules, read from the database once they are needed.
#[derive(Default)]
pub struct UrlRules {
    cached: Mutex<Option<(Timestamp, Arc<Rules>)>>,
}

impl UrlRules {
    /// The rules in force.
    ///
    /// # Errors
    /// What [`Problem`] makes of the database's.
    pub async fn get(&self, pool: &Pool, now: Timestamp) -> Result<Arc<Rules>, Problem> {
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((read_at, rules)) = cached
            && (0..FRESH_S).contains(&(now.as_second() - read_at.as_second()))
        {
            return Ok(rules);
        }
        let client = pool.get().await?;
        let rules = Arc::new(kinds::rules::load(&**client).await?);
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Arc::clone(&rules)));
        Ok(rules)
    }
}
