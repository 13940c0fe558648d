//! What can go wrong with a statement, by what the caller may do about it.

use telemetry::db::{detail, outcome};
use telemetry::label::StatementOutcome;
use tokio_postgres::error::SqlState;

/// An error of the database layer. `Display` says what happened; the cause is its `source`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A constraint of that name refused the write; the caller turns it into a domain error.
    #[error("the constraint {constraint} refused the write")]
    Conflict {
        /// The constraint's name as the migration gives it.
        constraint: String,
    },
    /// The row is not there.
    #[error("no such row")]
    NotFound,
    /// Nobody answers, or the server is going away: worth a retry, later.
    #[error("the database is unavailable: {detail}")]
    Unavailable {
        /// Without secrets; for logs.
        detail: String,
    },
    /// A deadlock, a serialisation failure or a lock time-out: worth running the whole transaction again at once.
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
    /// Whether the whole transaction may be run again at once (40001, 40P01, 55P03; 25P02 of a statement sent with one that failed).
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
            StatementOutcome::Ok | StatementOutcome::Error => match broken_constraint(&error) {
                Some(constraint) => Self::Conflict { constraint },
                None => Self::Database(error),
            },
        }
    }
}

fn broken_constraint(error: &tokio_postgres::Error) -> Option<String> {
    let database = error.as_db_error()?;
    matches!(
        *database.code(),
        SqlState::UNIQUE_VIOLATION
            | SqlState::FOREIGN_KEY_VIOLATION
            | SqlState::CHECK_VIOLATION
            | SqlState::EXCLUSION_VIOLATION
    )
    .then(|| database.constraint().map(str::to_owned))
    .flatten()
}
