//! What every kind works with.

use crate::{Handler, Kind};
use fetch::Fetcher;
use jiff::Timestamp;
use ledger::{Registry, RegistryError};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::Pool;

/// The kinds by name, with or without their work, and the constants that the ledger needs of them.
pub struct Kinds<K: Kind + ?Sized = dyn Kind> {
    by_name: BTreeMap<&'static str, Box<K>>,
    registry: Registry,
}

impl<K: Kind + ?Sized> Kinds<K> {
    /// Registers kinds.
    ///
    /// # Errors
    /// [`RegistryError`] if two have one name or a policy is out of range: the function must not start.
    pub fn new(kinds: Vec<Box<K>>) -> Result<Self, RegistryError> {
        let registry = Registry::new(kinds.iter().map(|kind| kind.policy()))?;
        let by_name = kinds.into_iter().map(|kind| (kind.policy().kind, kind)).collect();
        Ok(Self { by_name, registry })
    }

    /// The kind of that name, if this release has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&K> {
        self.by_name.get(name).map(AsRef::as_ref)
    }

    /// The constants, for the ledger.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The names, ascending.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.by_name.keys().copied()
    }
}

impl<K: Kind + ?Sized> std::fmt::Debug for Kinds<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

type Clock = dyn Fn() -> Timestamp + Send + Sync;

/// What every kind works with. Cloning shares it.
#[derive(Clone)]
pub struct Context {
    /// Connections, as the functions' role.
    pub pool: Pool,
    /// The way out to the web.
    pub fetcher: Fetcher,
    /// The kinds of this release.
    pub kinds: Arc<Kinds<dyn Handler>>,
    clock: Arc<Clock>,
}

impl Context {
    /// A context with the system's clock and every kind of this release.
    ///
    /// # Errors
    /// [`RegistryError`], a bug of the release.
    pub fn new(pool: Pool, fetcher: Fetcher) -> Result<Self, RegistryError> {
        Ok(Self::with_kinds(pool, fetcher, Kinds::new(crate::handlers())?))
    }

    /// A context with the system's clock and chosen kinds.
    #[must_use]
    pub fn with_kinds(pool: Pool, fetcher: Fetcher, kinds: Kinds<dyn Handler>) -> Self {
        Self { pool, fetcher, kinds: Arc::new(kinds), clock: Arc::new(Timestamp::now) }
    }

    /// The same context on another clock: for tests of what a date decides.
    #[must_use]
    pub fn with_clock(self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// The present instant.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The constants of the kinds, for the ledger.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        self.kinds.registry()
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("kinds", &self.kinds).finish_non_exhaustive()
    }
}
