//! The rules of URLs, kept for a few seconds: each discovery needs them, and they change once in a while.

use crate::problem::Problem;
use domain::url::Rules;
use jiff::Timestamp;
use std::sync::{Arc, Mutex, PoisonError};
use store::Pool;
use telemetry::db::GenericClient;

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
        if let Some(rules) = self.fresh(now) {
            return Ok(rules);
        }
        let client = pool.get().await?;
        Ok(self.read(&**client, now).await?)
    }

    /// Reads them again if they are not fresh: to be sent together with a question that has to be asked anyway.
    pub async fn refresh(&self, client: &impl GenericClient, now: Timestamp) {
        // A failure is the affair of whoever needs the rules: it asks again.
        if self.fresh(now).is_none() {
            let _ = self.read(client, now).await;
        }
    }

    fn fresh(&self, now: Timestamp) -> Option<Arc<Rules>> {
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner).clone();
        cached
            .filter(|(read_at, _)| (0..FRESH_S).contains(&(now.as_second() - read_at.as_second())))
            .map(|(_, rules)| rules)
    }

    async fn read(&self, client: &impl GenericClient, now: Timestamp) -> Result<Arc<Rules>, store::Error> {
        let rules = Arc::new(kinds::rules::load(client).await?);
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Arc::clone(&rules)));
        Ok(rules)
    }
}
