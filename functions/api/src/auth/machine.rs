//! Machines: `X-Module-Id` and `X-API-Key` (http-api.md §1.1).
//!
//! A key is `cb_<key_id>_<secret>`. Stored is the SHA-256 of the secret, which is 256 random bits and needs no slow hash.
//! Missing, unknown, wrong, expired, revoked and disabled get one answer, at the same cost: a look into a cache of at
//! most 5 seconds or one statement, one hash, and one comparison in constant time.

use crate::app::App;
use crate::auth::{API_KEY_HEADER, MODULE_ID_HEADER};
use crate::problem::Problem;
use axum::extract::FromRequestParts;
use domain::ids::ModuleDbId;
use domain::state::{Actor, ModuleKind, TrustLevel};
use http::request::Parts;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use store::module_keys::{ModuleAuth, module_key_authenticate, module_key_touch};
use subtle::ConstantTimeEq;

/// A key takes effect and dies everywhere within this time (http-api.md §1.1).
const CACHE_S: i64 = 5;
/// What is cached at most; unknown ids count, so that guessing does not cost a statement each.
const CACHED_MAX: usize = 2_000;
/// No id that a key could have is longer; what is longer is not looked up.
const ID_CHARS_MAX: usize = 80;
/// `last_used_at` and `last_seen_at` are written at most once a minute (domain.md §2).
const TOUCH_S: i64 = 60;

/// A module that proved who it is.
#[derive(Debug, Clone)]
pub struct Machine(Arc<ModuleAuth>);

impl Machine {
    /// The id that it sends, such as `acme-feed`.
    #[must_use]
    pub fn module_id(&self) -> &str {
        &self.0.module_id
    }

    /// The id of its row.
    #[must_use]
    pub fn db_id(&self) -> ModuleDbId {
        self.0.module_db_id
    }

    /// Connector or processor.
    #[must_use]
    pub fn kind(&self) -> ModuleKind {
        self.0.kind
    }

    /// How far it is trusted by itself.
    #[must_use]
    pub fn trust_level(&self) -> TrustLevel {
        self.0.trust_level
    }

    /// The source keys that it may name.
    #[must_use]
    pub fn source_keys(&self) -> &[String] {
        &self.0.source_keys
    }

    /// Discoveries a minute that it may hand in; `None` is the default.
    #[must_use]
    pub fn ingest_per_minute(&self) -> Option<i64> {
        self.0.ingest_per_minute
    }

    /// Who did it, for events.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::machine(self.module_id())
    }

    /// The principal of its idempotency keys and its bucket.
    #[must_use]
    pub fn principal(&self) -> String {
        format!("module:{}", self.module_id())
    }

    /// # Errors
    /// `insufficient-scope` naming it.
    pub fn require(&self, scope: &str) -> Result<(), Problem> {
        if self.0.scopes.iter().any(|held| held == scope) {
            return Ok(());
        }
        Err(Problem::insufficient_scope(scope))
    }
}

impl FromRequestParts<App> for Machine {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let machine =
            app.machines.authenticate(app, header(MODULE_ID_HEADER), header(API_KEY_HEADER)).await?;
        app.limiter.take(&machine.principal(), app.now())?;
        Ok(machine)
    }
}

/// Modules and keys seen within the last seconds, those that do not exist included.
#[derive(Debug, Default)]
pub struct Machines {
    cached: Mutex<HashMap<(String, String), Cached>>,
}

#[derive(Debug, Clone)]
struct Cached {
    found: Option<Arc<ModuleAuth>>,
    /// Before the statement was sent: what it saw is at least as new.
    asked_at: Timestamp,
}

impl Cached {
    fn is_fresh(&self, now: Timestamp) -> bool {
        // A clock that was set back makes an entry of the future; it is not trusted.
        let age = now.duration_since(self.asked_at);
        !age.is_negative() && age.as_secs() < CACHE_S
    }
}

impl Machines {
    async fn authenticate(&self, app: &App, module_id: &str, key: &str) -> Result<Machine, Problem> {
        let (key_id, secret) = split_key(key);
        let now = app.now();
        let given: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        let found = if is_plausible(module_id) && is_plausible(key_id) {
            self.find(app, module_id, key_id, now).await?
        } else {
            None
        };
        // The hash of no secret stands in for a missing one, so that the comparison is always made.
        let expected = found.as_ref().map_or([0; 32], |auth| auth.key_hash);
        let is_right = bool::from(given.ct_eq(&expected));
        match found {
            Some(auth) if is_right && auth.is_live_at(now) => Ok(Machine(auth)),
            _ => Err(Problem::invalid_credentials()),
        }
    }

    async fn find(
        &self,
        app: &App,
        module_id: &str,
        key_id: &str,
        now: Timestamp,
    ) -> Result<Option<Arc<ModuleAuth>>, Problem> {
        let id = (module_id.to_owned(), key_id.to_owned());
        let known = self.cached.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(cached) = known.filter(|cached| cached.is_fresh(now)) {
            return Ok(cached.found);
        }
        let client = app.pool.get().await?;
        // An ingest needs the rules of URLs next: they cost no round trip of their own here.
        let (found, ()) = tokio::join!(
            module_key_authenticate(&**client, module_id, key_id),
            app.url_rules.refresh(&**client, now),
        );
        let found = found?.map(Arc::new);
        if let Some(auth) = &found
            && auth.is_live_at(now)
            && auth.last_used_at.is_none_or(|at| now.as_second() - at.as_second() >= TOUCH_S)
        {
            // Only a person reads it: a failure must not refuse the module.
            if let Err(error) = module_key_touch(&**client, auth.key_db_id, auth.module_db_id).await {
                tracing::warn!(%error, module_id, "last_used_at was not written");
            }
        }
        let mut cache = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHED_MAX {
            cache.retain(|_, cached| cached.is_fresh(now));
            if cache.len() >= CACHED_MAX {
                cache.clear();
            }
        }
        cache.insert(id, Cached { found: found.clone(), asked_at: now });
        Ok(found)
    }

    /// Forgets a module at once in this environment, after an administrator changed it here.
    pub fn forget(&self, module_id: &str) {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner).retain(|(known, _), _| known != module_id);
    }
}

/// `cb_<key_id>_<secret>` in its parts; two empty ones for anything else.
fn split_key(key: &str) -> (&str, &str) {
    key.strip_prefix("cb_").and_then(|rest| rest.split_once('_')).unwrap_or_default()
}

fn is_plausible(id: &str) -> bool {
    (1..=ID_CHARS_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_split_into_its_public_and_its_secret_part() {
        assert_eq!(split_key("cb_abc_DEF"), ("abc", "DEF"));
        for other in ["", "cb_", "cb_abc", "xx_abc_DEF", "abc"] {
            assert_eq!(split_key(other), ("", ""), "{other}");
        }
    }
}
