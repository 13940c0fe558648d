//! What can go wrong with a statement, by what the caller may do about it.

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
    /// Whether the whole transaction may be run again at once (40001, 40P01, 55P03).
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
        let Some(database) = error.as_db_error() else {
            // No answer of the server: the connection broke, timed out, or could not be made.
            return if error.is_closed() || is_io(&error) {
                Self::Unavailable { detail: error.to_string() }
            } else {
                Self::Database(error)
            };
        };
        let detail = database.message().to_owned();
        match *database.code() {
            SqlState::T_R_SERIALIZATION_FAILURE
            | SqlState::T_R_DEADLOCK_DETECTED
            | SqlState::LOCK_NOT_AVAILABLE => Self::Collision { detail },
            SqlState::ADMIN_SHUTDOWN
            | SqlState::CRASH_SHUTDOWN
            | SqlState::CANNOT_CONNECT_NOW
            | SqlState::TOO_MANY_CONNECTIONS
            | SqlState::CONNECTION_EXCEPTION
            | SqlState::CONNECTION_FAILURE
            | SqlState::CONNECTION_DOES_NOT_EXIST
            | SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
            | SqlState::QUERY_CANCELED => Self::Unavailable { detail },
            SqlState::UNIQUE_VIOLATION
            | SqlState::FOREIGN_KEY_VIOLATION
            | SqlState::CHECK_VIOLATION
            | SqlState::EXCLUSION_VIOLATION => match database.constraint() {
                Some(constraint) => Self::Conflict { constraint: constraint.to_owned() },
                None => Self::Database(error),
            },
            _ => Self::Database(error),
        }
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if inner.is::<std::io::Error>() {
            return true;
        }
        cause = inner.source();
    }
    error.to_string().starts_with("error connecting") || error.to_string().starts_with("error communicating")
}
