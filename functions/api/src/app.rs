//! What handlers share: configuration, the pool, the caches of this environment. Nothing is opened when it is made.

use crate::auth::human::{Issuer, KeySource, Tokens};
use crate::auth::machine::Machines;
use crate::cursor::Cursors;
use crate::limits::{Limiter, Rate};
use crate::url_rules::UrlRules;
use jiff::Timestamp;
use kinds::Kinds;
use ledger::sqs::WakeQueue;
use std::ops::Deref;
use std::sync::Arc;
use store::Pool;

/// Tells the time. A test gives its own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What the environment variables say.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Who signs people in; without one nobody can.
    pub issuer: Option<Issuer>,
    /// Origins of browsers that may call what is not public, such as `https://moderate.example.org`.
    pub cors_origins: Vec<String>,
    /// The rate of one principal in one environment.
    pub rate: Rate,
}

impl Config {
    /// Reads `OIDC_ISSUER`, `OIDC_AUDIENCE`, `OIDC_ROLES_CLAIM` (default `roles`) and `CORS_ORIGINS` (comma-separated).
    ///
    /// # Errors
    /// If there is an issuer without an audience: tokens made for other services would be taken.
    pub fn from_env() -> Result<Self, anyhow::Error> {
        let var = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        let issuer = match (var("OIDC_ISSUER"), var("OIDC_AUDIENCE")) {
            (None, _) => None,
            (Some(_), None) => anyhow::bail!("set OIDC_AUDIENCE beside OIDC_ISSUER"),
            (Some(issuer), Some(audience)) => Some(Issuer {
                issuer,
                audience,
                roles_claim: var("OIDC_ROLES_CLAIM").unwrap_or_else(|| "roles".into()),
            }),
        };
        let cors_origins = var("CORS_ORIGINS")
            .unwrap_or_default()
            .split(',')
            .map(|origin| origin.trim().trim_end_matches('/').to_owned())
            .filter(|origin| !origin.is_empty())
            .collect();
        Ok(Self { issuer, cors_origins, rate: Rate::default() })
    }
}

/// The shared state of the router. Cloning shares it.
#[derive(Clone)]
pub struct App(Arc<Inner>);

/// See [`App`].
pub struct Inner {
    /// What the environment variables say.
    pub config: Config,
    /// Connections to the database.
    pub pool: Pool,
    /// The kinds of jobs: their constants, and what the end of one means for its target.
    pub kinds: Arc<Kinds>,
    /// The rules of URLs, as the database has them.
    pub url_rules: UrlRules,
    /// Modules and keys seen within the last seconds.
    pub machines: Machines,
    /// Verifies people's tokens.
    pub tokens: Tokens,
    /// Signs where lists go on.
    pub cursors: Cursors,
    /// Sheds absurd clients.
    pub limiter: Limiter,
    /// Tells dispatch of jobs that are due.
    pub wake: Box<dyn WakeQueue>,
    clock: Clock,
}

impl App {
    /// Wires the parts together. Connects to nothing.
    #[must_use]
    pub fn new(
        config: Config,
        pool: Pool,
        kinds: Arc<Kinds>,
        keys: Box<dyn KeySource>,
        wake: Box<dyn WakeQueue>,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Inner {
            tokens: Tokens::new(config.issuer.clone(), keys),
            limiter: Limiter::new(config.rate),
            config,
            pool,
            kinds,
            url_rules: UrlRules::default(),
            machines: Machines::default(),
            cursors: Cursors::default(),
            wake,
            clock,
        }))
    }

    /// The time now, to the microsecond that the database keeps.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let now = (self.clock)();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }
}

impl Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}
