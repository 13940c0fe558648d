//! SQS batches → job handlers.
//!
//! One round trip claims what the hints of a batch name ([`batch`]). The handlers then run side by side, each on a task of
//! its own, so that one that panics or hangs harms no other ([`attempt`]). Each attempt ends through
//! [`kinds::settle()`], in one fenced transaction, and what that made due soon is woken for right after its commit.
//!
//! Leases come from the invocation's own deadline less a margin. What was not started in time is released uncharged.
//! Messages are given back to SQS only for what could not be recorded in the ledger: everything else, a failing handler
//! included, is the ledger's to retry. A late or doubled hint finds nothing to claim and is acknowledged.

pub mod attempt;
pub mod batch;

use kinds::Context;
use ledger::sqs::WakeQueue;
use serde_json::Value;
use std::sync::Arc;
use std::time::Instant;

/// The event is not one of SQS: the event source mapping is wrong. What serde says of it could repeat what it holds.
#[derive(Debug, thiserror::Error)]
#[error("the event cannot be read: {0:?}")]
pub struct Error(serde_json::error::Category);

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self(error.classify())
    }
}

/// What the function keeps for the life of its environment. Cloning shares it.
#[derive(Clone)]
pub struct Worker {
    pub(crate) context: Context,
    pub(crate) wake: Arc<dyn WakeQueue>,
}

impl Worker {
    /// Connects to nothing.
    #[must_use]
    pub fn new(context: Context, wake: Arc<dyn WakeQueue>) -> Self {
        Self { context, wake }
    }

    /// Handles one SQS event; answers `{"batchItemFailures":[…]}`. It returns when every handler has ended, at the latest
    /// shortly before `deadline`.
    ///
    /// # Errors
    /// [`Error`]. What happens to a job is never an error here.
    pub async fn handle(&self, event: Value, deadline: Instant) -> Result<Value, Error> {
        batch::handle(self, event, deadline).await
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("context", &self.context).finish_non_exhaustive()
    }
}
