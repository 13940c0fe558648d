//! The way out: one URL, followed to its end.

use crate::config::FetchConfig;
use crate::error::FetchError;
use crate::hosts::{Hosts, MemoryHosts};
use crate::pace::{MemoryPace, Pace};
use crate::request::{Request, Response};
use crate::resolve::{Resolve, SystemResolver};
use std::sync::Arc;

/// What the fetcher needs from outside itself.
#[derive(Clone)]
pub struct Seams {
    /// Names to addresses.
    pub resolver: Arc<dyn Resolve>,
    /// Permits and turns.
    pub pace: Arc<dyn Pace>,
    /// Policies and robots.txt.
    pub hosts: Arc<dyn Hosts>,
}

/// The only way out to addresses that came from outside. Cloning shares it.
#[derive(Clone)]
pub struct Fetcher {
    #[allow(dead_code)]
    inner: Arc<(FetchConfig, Seams)>,
}

impl Fetcher {
    /// Opens nothing.
    #[must_use]
    pub fn new(config: FetchConfig, seams: Seams) -> Self {
        Self { inner: Arc::new((config, seams)) }
    }

    /// With pace and robots kept in this process only, and the machine's resolver.
    #[must_use]
    pub fn in_memory(config: FetchConfig) -> Self {
        let seams = Seams {
            resolver: Arc::new(SystemResolver),
            pace: Arc::new(MemoryPace::default()),
            hosts: Arc::new(MemoryHosts::default()),
        };
        Self::new(config, seams)
    }

    /// Asks for a URL and follows it to its end.
    ///
    /// # Errors
    /// [`FetchError`], by what to do about it.
    pub async fn get(&self, _request: &Request) -> Result<Response, FetchError> {
        Err(FetchError::transient("connect"))
    }
}
