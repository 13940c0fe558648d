//! What a kind of job must say.

use crate::Context;
use domain::ids::{CandidateId, ModuleDbId, PostingId};
use domain::posting::FieldError;
use domain::state::{Actor, TrustLevel};
use futures::future::BoxFuture;
use jiff::Timestamp;
use ledger::{ClaimedJob, FencedJob, JobId, KindPolicy, TerminalJob};
use serde_json::Value;
use std::time::Duration;
use store::pipelined::Tx;

/// A kind of job: what every function knows of it. One file implements it, one line in [`crate::all`] registers it.
pub trait Kind: Send + Sync + 'static {
    /// Name, route, budget, backoff, priority.
    fn policy(&self) -> KindPolicy;

    /// What the end without a result means for the target, in the transaction that ended the job. Also called for jobs
    /// that the reaper buried or an admin cancelled.
    fn on_terminal<'a>(
        &'a self,
        tx: &'a Tx<'a>,
        job: &'a TerminalJob,
    ) -> BoxFuture<'a, Result<(), store::Error>>;
}

/// The work of a kind. Apart from [`Kind`], so that a function that runs nothing has no fetcher and no parser in its binary.
pub trait Handler: Kind {
    /// The work of an attempt: any I/O, outside a transaction. It never writes to the database.
    fn run<'a>(&'a self, cx: &'a Context, job: &'a ClaimedJob) -> BoxFuture<'a, Attempt>;

    /// The effects of a result, inside the completing transaction: after the fence, in a savepoint. It does no I/O but
    /// the transaction's, since a network call would hold locks. Results that come over HTTP are applied by it too, so it
    /// believes nothing that `by` may not say.
    ///
    /// Locks are taken in this order: advisory ones, the discovery, candidates, postings, and jobs to enqueue last.
    fn apply<'a>(
        &'a self,
        cx: &'a Context,
        tx: &'a Tx<'a>,
        job: &'a FencedJob,
        result: Value,
        by: &'a ResultOrigin,
    ) -> BoxFuture<'a, Result<Applied, ApplyError>>;
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Attempt {
    /// With a result, to be applied.
    Done(Value),
    /// It may work later: charged, tried again after a backoff.
    Retry {
        /// What the other side asked for, a floor of the backoff.
        after: Option<Duration>,
        /// A short stable word.
        code: String,
        /// For a person; without addresses, keys and bodies.
        message: String,
    },
    /// It was not its turn: not charged.
    Defer {
        /// When to try again.
        until: Timestamp,
        /// Whether it counts among the deferrals, which end some day; pace does not.
        counted: bool,
    },
    /// No later attempt can succeed.
    Dead {
        /// A short stable word, such as `fetch_refused`.
        code: String,
        /// For a person; without addresses, keys and bodies.
        message: String,
    },
}

impl Attempt {
    /// A [`Attempt::Retry`] without a wish of the other side.
    #[must_use]
    pub fn retry(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Retry { after: None, code: code.into(), message: message.into() }
    }

    /// The word for logs: `done`, `retry`, `defer`, `dead`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Retry { .. } => "retry",
            Self::Defer { .. } => "defer",
            Self::Dead { .. } => "dead",
        }
    }
}

impl From<fetch::FetchError> for Attempt {
    fn from(error: fetch::FetchError) -> Self {
        let (code, message) = (error.code().to_owned(), error.to_string());
        match error.attempt_hint() {
            fetch::AttemptHint::Permanent => Self::Dead { code, message },
            fetch::AttemptHint::Wait { until, counted } => Self::Defer { until, counted },
            fetch::AttemptHint::Retry { after } => Self::Retry { after, code, message },
        }
    }
}

impl From<store::Error> for Attempt {
    fn from(error: store::Error) -> Self {
        let code = if error.is_unavailable() { "database_unavailable" } else { "database_error" };
        Self::retry(code, error.to_string())
    }
}

/// Where a result came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultOrigin {
    /// The worker's own [`Handler::run`].
    Worker,
    /// A processor module, over HTTP.
    Module {
        /// Key of its row.
        id: ModuleDbId,
        /// Its text id.
        module_id: String,
        /// Its trust, which caps what is believed.
        trust_level: TrustLevel,
    },
}

impl ResultOrigin {
    /// In whose name the effects are written: the module's, or the kind's own.
    #[must_use]
    pub fn actor(&self, kind: &str) -> Actor {
        match self {
            Self::Worker => Actor::machine(kind),
            Self::Module { module_id, .. } => Actor::machine(module_id.as_str()),
        }
    }
}

/// What an application did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Applied {
    /// The kind's part of the answer to a report (http-api §5), such as `{"verdict", "candidates"}`.
    pub outcome: Value,
    /// What the ledger keeps with the job, at most 256 KiB; [`Value::Null`]: the outcome.
    pub kept: Value,
    /// Jobs of the effects that are due within a minute: to be woken for once the transaction is committed.
    pub wake: Vec<JobId>,
    /// The posting that went live, to be logged once the transaction is committed.
    pub published: Option<(PostingId, CandidateId)>,
}

/// Why a result was not applied; its effects were rolled back, and the attempt is charged.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It breaks the kind's schema. HTTP: 422 `invalid-result`.
    #[error("the result breaks the kind's schema in {} places", .0.len())]
    Invalid(Vec<FieldError>),
    /// It fits the schema, but cannot be applied.
    #[error("{message}")]
    Refused {
        /// A short stable word.
        code: &'static str,
        /// For a person.
        message: String,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The ledger, when jobs were to be enqueued.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

impl ApplyError {
    /// Whether the whole transaction may be run again at once.
    #[must_use]
    pub fn is_collision(&self) -> bool {
        match self {
            Self::Store(error) => error.is_collision(),
            Self::Ledger(error) => error.is_collision(),
            Self::Invalid(_) | Self::Refused { .. } => false,
        }
    }

    /// Whether the database could not be reached: nothing was decided about the attempt.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_unavailable(),
            Self::Ledger(error) => error.is_unavailable(),
            Self::Invalid(_) | Self::Refused { .. } => false,
        }
    }

    /// The failure's code in the ledger.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid_result",
            Self::Refused { code, .. } => code,
            Self::Store(_) | Self::Ledger(_) => "apply_failed",
        }
    }
}

impl From<crate::ingest::Error> for ApplyError {
    fn from(error: crate::ingest::Error) -> Self {
        match error {
            crate::ingest::Error::Store(error) => Self::Store(error),
            crate::ingest::Error::Ledger(error) => Self::Ledger(error),
        }
    }
}

impl From<tokio_postgres::Error> for ApplyError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Store(error.into())
    }
}
