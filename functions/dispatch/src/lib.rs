//! Ledger → SQS: tells the worker which jobs may be ready.
//!
//! Two events come in. A wake message names jobs that a committed transaction made due within a minute: they are marked
//! and hinted at once ([`wake`]). The schedule, every minute, is the sweep ([`sweep`]): it takes back expired leases,
//! drains the dead-letter queue, hints whatever is ready and unhinted, and keeps the tables in shape ([`upkeep`]).
//! So a lost wake costs a minute, and a lost hint three.
//!
//! Only this function sends hints, and it sends nothing that is not marked and committed before.

pub mod sweep;
pub mod upkeep;
pub mod wake;

use kinds::Kinds;
use ledger::sqs::{HintQueue, SqsError};
use ledger::{MarkedJob, Scan};
use serde_json::Value;
use std::sync::Arc;
use std::time::Instant;
use store::Pool;

/// Why an event was not handled. The schedule's next sweep makes up for it; SQS redelivers a wake message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The event is neither of SQS nor of the schedule. What serde says of it could repeat what it holds.
    #[error("the event cannot be read: {0:?}")]
    Event(serde_json::error::Category),
    /// The ledger's database.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A queue.
    #[error(transparent)]
    Queue(#[from] SqsError),
}

impl Error {
    pub(crate) fn event(error: serde_json::Error) -> Self {
        Self::Event(error.classify())
    }
}

/// What the function keeps for the life of its environment.
pub struct Dispatch {
    pub(crate) pool: Pool,
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) queue: Arc<dyn HintQueue>,
    pub(crate) scan: Scan,
    pub(crate) upkeep: upkeep::Upkeep,
}

impl Dispatch {
    /// Connects to nothing.
    #[must_use]
    pub fn new(pool: Pool, kinds: Arc<Kinds>, queue: Arc<dyn HintQueue>) -> Self {
        Self { pool, kinds, queue, scan: Scan::new(), upkeep: upkeep::Upkeep::default() }
    }

    /// Handles one event. An SQS event answers `{"batchItemFailures":[…]}`, any other is a sweep and answers its counts.
    ///
    /// # Errors
    /// [`Error`]: for a sweep, the first thing that failed, after the rest was done.
    pub async fn handle(&self, event: Value, deadline: Instant) -> Result<Value, Error> {
        if event.get("Records").is_some() {
            wake::handle(self, event).await
        } else {
            sweep::handle(self, deadline).await
        }
    }

    /// Sends marked jobs' hints, and takes back the marks of those that SQS refused. Answers how many were sent.
    pub(crate) async fn send(&self, marked: &[MarkedJob]) -> Result<usize, Error> {
        if marked.is_empty() {
            return Ok(0);
        }
        let refused = self.queue.send(marked).await;
        if !refused.is_empty() {
            tracing::error!(count = refused.len(), "SQS refused hints");
            let client = self.pool.get().await?;
            ledger::jobs_unmark(&**client, &refused).await?;
        }
        Ok(marked.len() - refused.len())
    }
}

impl std::fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatch").field("kinds", &self.kinds).finish_non_exhaustive()
    }
}
