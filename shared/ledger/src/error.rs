//! What can go wrong in the ledger, by what the caller may do about it.
//!
//! [`Error::Stale`] is an outcome, not a failure: somebody else owns the job now, and nothing was changed.

use crate::types::{JobId, JobStatus};
use telemetry::db::{detail, outcome};
use telemetry::label::StatementOutcome;

/// An error of the ledger. `Display` says what happened; the cause is its `source`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lease is over or another attempt holds the job: nothing was changed. HTTP: 409 `stale-attempt`.
    #[error("the attempt no longer holds the job")]
    Stale,
    /// No job of that id is in the ledger.
    #[error("no such job")]
    NotFound,
    /// The job is in a state from which the asked-for transition does not lead. HTTP: 409 `invalid-transition`.
    #[error("a job that is {from} cannot be {asked}")]
    InvalidTransition {
        /// The job's state.
        from: JobStatus,
        /// What was asked for, as a participle: "cancelled".
        asked: &'static str,
    },
    /// Another pending job has the same kind and target. HTTP: 409 `pending-job-exists`.
    #[error("job {job_id} of the same kind and target is pending already")]
    PendingJobExists {
        /// The pending one.
        job_id: JobId,
    },
    /// The kind is not registered with this release.
    #[error("no kind of job is called {0:?}")]
    UnknownKind(String),
    /// Inputs or a result are larger than the ledger keeps.
    #[error("{what} of {bytes} bytes exceed {limit_bytes}")]
    TooLarge {
        /// `inputs` or `result`.
        what: &'static str,
        /// The size of the JSON text.
        bytes: usize,
        /// The most that is kept.
        limit_bytes: usize,
    },
    /// A value that the ledger does not take, such as an unknown priority.
    #[error("{0}")]
    Invalid(String),
    /// Nobody answers, or the server is going away: worth a retry, later.
    #[error("the database is unavailable: {detail}")]
    Unavailable {
        /// Without secrets; for logs.
        detail: String,
    },
    /// A deadlock, a serialisation failure or a lock time-out (40001, 40P01, 55P03; 25P02 of a statement sent with one that failed): run the whole transaction again,
    /// at most three times, before it counts.
    #[error("the transaction collided with another: {detail}")]
    Collision {
        /// The server's message.
        detail: String,
    },
    /// Anything else: a bug, or a schema that does not fit.
    #[error("the database refused a statement")]
    Database(#[source] tokio_postgres::Error),
}

impl Error {
    /// Whether the whole transaction may be run again at once.
    #[must_use]
    pub fn is_collision(&self) -> bool {
        matches!(self, Self::Collision { .. })
    }

    /// Whether the database could not be reached or is shutting down.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        match outcome(&error) {
            StatementOutcome::Unavailable => Self::Unavailable { detail: detail(&error) },
            StatementOutcome::Collision => Self::Collision { detail: detail(&error) },
            StatementOutcome::Ok | StatementOutcome::Error => Self::Database(error),
        }
    }
}
