//! What is kept about a host: the administrator's policy and the copy of its robots.txt.

use crate::pace::SeamError;
use futures::future::BoxFuture;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A row of `host_policies`, as far as an administrator writes it. [`Default`] is that of a host without a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPolicy {
    /// False refuses every request to the host.
    pub enabled: bool,
    /// Ports beside 80 and 443.
    pub extra_ports: Vec<u16>,
    /// The least gap between starts.
    pub min_interval: Duration,
    /// Whether robots.txt binds. False needs a written reason in the row.
    pub obeys_robots: bool,
}

impl Default for HostPolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            extra_ports: Vec::new(),
            min_interval: crate::pace::GAP_DEFAULT,
            obeys_robots: true,
        }
    }
}

/// How the last request for robots.txt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RobotsStatus {
    /// There is a copy.
    Fetched,
    /// 4xx: there are no rules.
    None,
    /// 429: nothing may be asked before `retry_at`.
    Wait,
    /// 5xx, or nobody answered: everything is disallowed until it is asked again at `retry_at`, unless an old copy serves.
    Unreachable,
}

impl RobotsStatus {
    /// As the column `robots_status` holds it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::None => "none",
            Self::Wait => "wait",
            Self::Unreachable => "unreachable",
        }
    }

    /// From the column `robots_status`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Fetched, Self::None, Self::Wait, Self::Unreachable].into_iter().find(|s| s.as_str() == text)
    }
}

/// What is kept of a host's robots.txt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RobotsRecord {
    /// How the last request ended.
    pub status: RobotsStatus,
    /// The last text that was fetched; empty after a 4xx. It outlives a failure.
    pub text: Option<String>,
    /// When `text` was fetched.
    pub fetched_at: Option<Timestamp>,
    /// After a failure: when to ask again.
    pub retry_at: Option<Timestamp>,
}

/// All that is kept about a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostRecord {
    /// The administrator's.
    pub policy: HostPolicy,
    /// None if robots.txt was never asked for.
    pub robots: Option<RobotsRecord>,
}

/// Keeps [`HostRecord`]s. One round trip a call.
pub trait Hosts: Send + Sync {
    /// The record of a host; the default one if nothing is kept.
    ///
    /// # Errors
    /// [`SeamError`] if the keeper does not answer.
    fn get<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<HostRecord, SeamError>>;

    /// Keeps what became of a request for robots.txt. The policy stays.
    ///
    /// # Errors
    /// [`SeamError`] if the keeper does not answer.
    fn put_robots<'a>(
        &'a self,
        host: &'a str,
        record: &'a RobotsRecord,
    ) -> BoxFuture<'a, Result<(), SeamError>>;
}

/// [`Hosts`] within one process.
#[derive(Debug, Default)]
pub struct MemoryHosts {
    records: Mutex<HashMap<String, HostRecord>>,
}

impl MemoryHosts {
    /// Sets the whole record of a host.
    pub fn set(&self, host: &str, record: HostRecord) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), record);
    }
}

impl Hosts for MemoryHosts {
    fn get<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<HostRecord, SeamError>> {
        Box::pin(async move {
            let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(records.get(host).cloned().unwrap_or_default())
        })
    }

    fn put_robots<'a>(
        &'a self,
        host: &'a str,
        record: &'a RobotsRecord,
    ) -> BoxFuture<'a, Result<(), SeamError>> {
        Box::pin(async move {
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            records.entry(host.to_owned()).or_default().robots = Some(record.clone());
            Ok(())
        })
    }
}
