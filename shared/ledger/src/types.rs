//! The words of the ledger: ids, states, and what a transition tells its caller.

use crate::enqueue::Enqueued;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::str::FromStr;
use telemetry::label::JobTransition;
use telemetry::metric;
use uuid::Uuid;

/// A job's id, a UUID v7: ids sort by the instant at which the job was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub Uuid);

impl JobId {
    /// A new id, of now.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "two ids are never equal, so there is no default one")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

macro_rules! text_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant),+
        }

        impl $name {
            /// The text in the database and on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    other => Err(UnknownWord(other.to_owned())),
                }
            }
        }
    };
}

/// A text that is none of an enumeration's values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a known value")]
pub struct UnknownWord(pub String);

text_enum! {
    /// Where a job is in its life.
    JobStatus {
        /// Waits for its instant and a worker.
        Queued = "queued",
        /// Held by an attempt until its lease expires.
        Claimed = "claimed",
        /// Its result is applied; terminal.
        Done = "done",
        /// Must not be retried (permanent error, cancelled); an admin may requeue it.
        Failed = "failed",
        /// Its budget of failures is spent; an admin may requeue it.
        DeadLetter = "dead_letter",
    }
}

text_enum! {
    /// Who may claim a job.
    Route {
        /// The worker, by SQS hints.
        Internal = "internal",
        /// A processor module, over HTTP; never hinted.
        External = "external",
    }
}

text_enum! {
    /// What happened to a job that is not routine (`spec/ledger.md`, Events).
    JobEventType {
        /// A failure that will be tried again.
        RetryScheduled = "retry_scheduled",
        /// A lease expired, and the job will be tried again.
        LeaseRequeued = "lease_requeued",
        /// Ended for good by a permanent error.
        Failed = "failed",
        /// Ended because the budget of failures is spent.
        DeadLettered = "dead_lettered",
        /// Ended by an admin or a merge before it ran.
        Cancelled = "cancelled",
        /// Brought back by an admin.
        Requeued = "requeued",
    }
}

/// An event to be written as `provenance_events` (entity type `job`) in the transaction of the transition.
///
/// The ledger does not write it itself: that table belongs to the store, and the actor to the caller.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobEvent {
    /// The job, as the event's entity.
    pub job_id: JobId,
    /// What happened.
    pub event_type: JobEventType,
    /// `kind, target_type, target_id, from, to, reason, attempt, failures` and, where the job goes on, `next_run_at`.
    pub payload: Value,
    /// The job's trace context (W3C `traceparent`), as it was enqueued.
    pub trace_context: Option<String>,
}

/// A job that is over without a result. Its kind's terminal effect belongs into the same transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct TerminalJob {
    /// Its id.
    pub id: JobId,
    /// Its kind.
    pub kind: String,
    /// What the target is, such as `discovery`.
    pub target_type: String,
    /// Which one.
    pub target_id: Uuid,
    /// What it was enqueued with.
    pub inputs: Value,
    /// [`JobStatus::Failed`] or [`JobStatus::DeadLetter`].
    pub status: JobStatus,
    /// A short word for the cause, such as `fetch_refused`, `lease_expired`, `cancelled`.
    pub code: String,
    /// The cause for a person.
    pub message: String,
    /// The last attempt's number.
    pub attempt: i32,
    /// The job's trace context.
    pub trace_context: Option<String>,
}

/// What a transition did to a job, and what the caller owes in the same transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// The job.
    pub id: JobId,
    /// Its kind.
    pub kind: String,
    /// What its target is.
    pub target_type: String,
    /// Which one.
    pub target_id: Uuid,
    /// The state that it is in now.
    pub status: JobStatus,
    /// Its attempt's number; the fence goes on from it.
    pub attempt: i32,
    /// Failures charged so far.
    pub failures: i32,
    /// When it runs next; only if it is queued.
    pub next_run_at: Option<Timestamp>,
    /// To be inserted by the caller, in this transaction.
    pub event: Option<JobEvent>,
    /// The kind's terminal effect is due, in this transaction. Absent if a fresh job (`rerun`) took it over.
    pub terminal: Option<TerminalJob>,
    /// The fresh job that a requested rerun made.
    pub rerun: Option<Enqueued>,
    /// The job (or its rerun) is due within a minute, and internal: name it in a wake message after the commit.
    pub wake: Option<JobId>,
}

impl Transition {
    /// Counts it. Call it last: what is rolled back afterwards has been counted.
    pub fn count(&self) {
        let transition = match (self.event.as_ref().map(|event| event.event_type), self.status) {
            (Some(JobEventType::RetryScheduled), _) => JobTransition::RetryScheduled,
            (Some(JobEventType::LeaseRequeued), _) => JobTransition::LeaseRequeued,
            (Some(JobEventType::Failed), _) => JobTransition::Failed,
            (Some(JobEventType::DeadLettered), _) => JobTransition::DeadLettered,
            (Some(JobEventType::Cancelled), _) => JobTransition::Cancelled,
            (Some(JobEventType::Requeued), _) => JobTransition::Requeued,
            (None, JobStatus::Done) => JobTransition::Done,
            (None, _) => JobTransition::Deferred,
        };
        metric::JOBS_TRANSITIONS.add(1, transition);
    }
}
