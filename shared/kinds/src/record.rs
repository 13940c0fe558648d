//! Collecting the events of one transaction, so that they cost one round trip.

use crate::settle::trace_id;
use domain::ids::{CandidateId, DiscoveryId, PostingId};
use domain::state::Actor;
use serde_json::Value;
use store::events::NewEvent;
use telemetry::db::GenericClient;

/// Names of events that the pipeline writes (§14).
pub mod name {
    /// A discovery's address was followed; the payload tells with what outcome.
    pub const REDIRECT_RESOLVED: &str = "redirect_resolved";
    /// A discovery's address leads to that of another discovery of the module.
    pub const REDIRECT_RESOLUTION_CONFLICT: &str = "redirect_resolution_conflict";
    /// A status changed: from, to, reason.
    pub const STATUS_CHANGED: &str = "status_changed";
    /// A candidate was made.
    pub const MATERIALISED: &str = "materialised";
    /// Fields changed; the payload names them.
    pub const FIELDS_CHANGED: &str = "fields_changed";
    /// A candidate's state changed: from, to, reason.
    pub const STATE_CHANGED: &str = "state_changed";
    /// The trust policy was asked; the payload has reason, chain, rules and confidence.
    pub const TRUST_POLICY_APPLIED: &str = "trust_policy_applied";
    /// What was closed or archived is seen open again.
    pub const REOPEN_SUGGESTED: &str = "reopen_suggested";
    /// A posting was made from a candidate.
    pub const PROJECTED: &str = "projected";
    /// A change of a live posting waits for a moderator.
    pub const REVISION_PROPOSED: &str = "revision_proposed";
    /// A change of a posting is in force.
    pub const REVISION_APPLIED: &str = "revision_applied";
}

struct Entry {
    entity_type: &'static str,
    entity_id: String,
    event_type: &'static str,
    payload: Value,
}

/// The events of one transaction, all by one actor. [`Recorder::flush`] writes them in the order of their making.
pub struct Recorder {
    actor: Actor,
    request_id: Option<String>,
    trace_id: Option<String>,
    entries: Vec<Entry>,
}

impl Recorder {
    /// Begins the record of a job's effects. `trace_context` is the job's W3C `traceparent`.
    #[must_use]
    pub fn of_job(actor: Actor, trace_context: Option<&str>) -> Self {
        let trace_id = trace_context.and_then(trace_id).map(str::to_owned);
        Self { actor, request_id: None, trace_id, entries: Vec::new() }
    }

    /// Begins the record of a request's effects.
    #[must_use]
    pub fn of_request(actor: Actor, request_id: Option<&str>, trace_id: Option<&str>) -> Self {
        Self {
            actor,
            request_id: request_id.map(str::to_owned),
            trace_id: trace_id.map(str::to_owned),
            entries: Vec::new(),
        }
    }

    /// In whose name.
    #[must_use]
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// An event of a discovery.
    pub fn discovery(&mut self, id: DiscoveryId, event_type: &'static str, payload: Value) {
        self.push("discovery", id.to_string(), event_type, payload);
    }

    /// An event of a candidate.
    pub fn candidate(&mut self, id: CandidateId, event_type: &'static str, payload: Value) {
        self.push("candidate", id.to_string(), event_type, payload);
    }

    /// An event of a posting.
    pub fn posting(&mut self, id: PostingId, event_type: &'static str, payload: Value) {
        self.push("posting", id.to_string(), event_type, payload);
    }

    fn push(
        &mut self,
        entity_type: &'static str,
        entity_id: String,
        event_type: &'static str,
        payload: Value,
    ) {
        self.entries.push(Entry { entity_type, entity_id, event_type, payload });
    }

    /// Writes what was collected, in one statement.
    ///
    /// # Errors
    /// [`store::Error`], of the database only.
    pub async fn flush(self, tx: &impl GenericClient) -> Result<(), store::Error> {
        let events: Vec<NewEvent<'_>> = self
            .entries
            .into_iter()
            .map(|entry| NewEvent {
                entity_type: entry.entity_type,
                entity_id: entry.entity_id,
                event_type: entry.event_type,
                actor: &self.actor,
                request_id: self.request_id.as_deref(),
                trace_id: self.trace_id.as_deref(),
                payload: entry.payload,
            })
            .collect();
        store::events::event_insert(tx, &events).await
    }
}
