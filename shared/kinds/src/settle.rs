//! Ending an attempt: the fence, the kind's effects in a savepoint, the job's transition and its event, in one
//! transaction (`spec/ledger.md`, "Fence", "Apply failure", "Order of locks").

use crate::{Applied, ApplyError, Attempt, Context, Handler, Kind, Kinds, ResultOrigin};
use domain::ids::{CandidateId, PostingId};
use domain::posting::FieldError;
use domain::state::Actor;
use ledger::{Failure, FencedJob, Holder, JobEvent, JobId, Report, Transition};
use serde_json::Value;
use store::events::NewEvent;
use store::pipelined::{Pipelined, Tx};
use telemetry::db::GenericClient;

/// How often a transaction that collided with another (40001, 40P01, 55P03) is run before it counts.
const COLLISION_TRIES: u32 = 3;
/// Errors in a message are for a person; the first few tell what is wrong.
const ERRORS_IN_MESSAGE: usize = 5;

/// Why an attempt could not be settled; the ledger is as it was, and the lease goes on until it expires.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This release has no such kind.
    #[error("no kind of job is called {0:?}")]
    UnknownKind(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The ledger.
    #[error(transparent)]
    Ledger(ledger::Error),
}

impl Error {
    /// Whether the database could not be reached.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_unavailable(),
            Self::Ledger(error) => error.is_unavailable(),
            Self::UnknownKind(_) => false,
        }
    }

    fn is_collision(&self) -> bool {
        match self {
            Self::Store(error) => error.is_collision(),
            Self::Ledger(error) => error.is_collision(),
            Self::UnknownKind(_) => false,
        }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Store(error.into())
    }
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Settled {
    /// The lease was over or another attempt holds the job: nothing was changed.
    Stale,
    /// The job moved.
    Moved(Box<Settlement>),
}

/// A job that moved, with what its caller tells others.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    /// What the ledger did to the job.
    pub transition: Transition,
    /// The kind's part of the answer to a report; null if nothing was applied.
    pub outcome: Value,
    /// What is wrong with a result that was charged as invalid.
    pub errors: Vec<FieldError>,
    /// Internal jobs due within a minute: to be named in one wake message, now that the transaction is committed.
    pub wake: Vec<JobId>,
}

/// Ends an attempt. `report` is set for one that came over HTTP, so that its repetition is recognised.
///
/// A result that cannot be applied is rolled back and charged in the same transaction: no job stays claimed because of
/// what a result contains.
///
/// # Errors
/// [`Error`]: the database cannot be reached, or collided too often. Nothing was changed.
pub async fn settle(
    cx: &Context,
    kind: &str,
    holder: &Holder,
    attempt: &Attempt,
    by: &ResultOrigin,
    report: Option<&Report>,
) -> Result<Settled, Error> {
    let kind = cx.kinds.get(kind).ok_or_else(|| Error::UnknownKind(kind.to_owned()))?;
    let mut tries = 1;
    loop {
        match settle_once(cx, kind, holder, attempt, by, report).await {
            Err(error) if error.is_collision() && tries < COLLISION_TRIES => {
                tracing::debug!(job_id = %holder.job_id, tries, "the transaction collided and is run again");
                tries += 1;
            }
            other => return other,
        }
    }
}

async fn settle_once(
    cx: &Context,
    kind: &dyn Handler,
    holder: &Holder,
    attempt: &Attempt,
    by: &ResultOrigin,
    report: Option<&Report>,
) -> Result<Settled, Error> {
    let mut client = cx.pool.get().await?;
    let pipelined = Pipelined::on(&mut client);
    let tx = &pipelined.tx();
    let job = match begin(&pipelined, holder).await {
        Ok(job) => job,
        Err(Error::Ledger(ledger::Error::Stale)) => return Ok(Settled::Stale),
        Err(error) => return Err(error),
    };
    let (registry, jitter) = (cx.registry(), rand::random::<f64>());
    let mut settlement = Progress::default();
    let transition = match attempt {
        Attempt::Done(result) => {
            let apply = kind.apply(cx, tx, &job, result.clone(), by);
            let (marked, applied) = tokio::join!(biased; pipelined.mark(), apply);
            marked?;
            match applied {
                Ok(applied) => {
                    let complete = complete(tx, &job, applied, report, &mut settlement);
                    let (kept, completed) = tokio::join!(biased; pipelined.keep_since_mark(), complete);
                    kept?;
                    completed
                }
                Err(error) if error.is_collision() || error.is_unavailable() => {
                    return Err(infrastructure(error));
                }
                Err(error) => {
                    let failure = apply_failure(&job, error, &mut settlement);
                    let fail = ledger::job_fail(tx, &job, &failure, report, registry, jitter);
                    let (undone, failed) = tokio::join!(biased; pipelined.back_to_mark(), fail);
                    undone?;
                    failed
                }
            }
        }
        Attempt::Retry { after, code, message } => {
            let failure = failure(code, message, false, *after);
            ledger::job_fail(tx, &job, &failure, report, registry, jitter).await
        }
        Attempt::Dead { code, message } => {
            let failure = failure(code, message, true, None);
            ledger::job_fail(tx, &job, &failure, report, registry, jitter).await
        }
        Attempt::Defer { until, counted } => {
            ledger::job_defer(tx, &job, *until, *counted, registry, jitter).await
        }
    }
    .map_err(Error::Ledger)?;
    // Jobs come last in the order of locks, but the event and the terminal effect belong to this transaction.
    end(&cx.kinds, &pipelined, &transition, &by.actor(kind.policy().kind)).await?;
    transition.count();
    if let Some((posting_id, candidate_id)) = settlement.published {
        tracing::info!(%posting_id, %candidate_id, "posting published");
    }
    settlement.wake.extend(transition.wake);
    Ok(Settled::Moved(Box::new(Settlement {
        transition,
        outcome: settlement.outcome,
        errors: settlement.errors,
        wake: settlement.wake,
    })))
}

/// Begins the transaction that ends an attempt: with its fence.
///
/// # Errors
/// [`ledger::Error::Stale`] if the lease is over or another attempt holds the job; the database's.
pub async fn begin(pipelined: &Pipelined<'_>, holder: &Holder) -> Result<FencedJob, Error> {
    let tx = &pipelined.tx();
    let (begun, fenced) = tokio::join!(biased; pipelined.begin(), ledger::fence(tx, holder));
    begun?;
    fenced.map_err(Error::Ledger)
}

/// Writes what a transition owes in its own transaction, the job's event and the kind's terminal effect, and commits.
///
/// # Errors
/// [`Error`], of the database only; then nothing was written.
pub async fn end<K: Kind + ?Sized>(
    kinds: &Kinds<K>,
    pipelined: &Pipelined<'_>,
    transition: &Transition,
    actor: &Actor,
) -> Result<(), Error> {
    let tx = &pipelined.tx();
    let event = async {
        match &transition.event {
            Some(event) => job_event_insert(tx, event, actor, None).await,
            None => Ok(()),
        }
    };
    // A kind that this release does not know has no effects either.
    let terminal = transition.terminal.as_ref().and_then(|job| Some((kinds.get(&job.kind)?, job)));
    let Some((kind, job)) = terminal else {
        tokio::try_join!(biased; event, pipelined.commit())?;
        return Ok(());
    };
    event.await?;
    kind.on_terminal(tx, job).await?;
    Ok(pipelined.commit().await?)
}

/// Writes a job's event.
///
/// # Errors
/// [`store::Error`], of the database only.
pub async fn job_event_insert(
    tx: &impl GenericClient,
    event: &JobEvent,
    actor: &Actor,
    request_id: Option<&str>,
) -> Result<(), store::Error> {
    store::events::event_insert(
        tx,
        &[NewEvent {
            entity_type: "job",
            entity_id: event.job_id.to_string(),
            event_type: event.event_type.as_str(),
            actor,
            request_id,
            trace_id: event.trace_context.as_deref().and_then(trace_id),
            payload: event.payload.clone(),
        }],
    )
    .await
}

/// The trace id in a W3C `traceparent`: its second field.
pub(crate) fn trace_id(traceparent: &str) -> Option<&str> {
    traceparent.split('-').nth(1).filter(|id| id.len() == 32)
}

#[derive(Default)]
struct Progress {
    outcome: Value,
    errors: Vec<FieldError>,
    wake: Vec<JobId>,
    published: Option<(PostingId, CandidateId)>,
}

async fn complete(
    tx: &Tx<'_>,
    job: &FencedJob,
    applied: Applied,
    report: Option<&Report>,
    progress: &mut Progress,
) -> Result<Transition, ledger::Error> {
    let kept = if applied.kept.is_null() { &applied.outcome } else { &applied.kept };
    let transition = match ledger::job_complete(tx, job, kept, report).await {
        // What is kept is for later reading; the effects stand without it.
        Err(ledger::Error::TooLarge { .. }) => {
            ledger::job_complete(tx, job, &applied.outcome, report).await?
        }
        other => other?,
    };
    progress.wake = applied.wake;
    progress.published = applied.published;
    progress.outcome = applied.outcome;
    Ok(transition)
}

fn failure(code: &str, message: &str, permanent: bool, retry_after: Option<std::time::Duration>) -> Failure {
    Failure { code: code.to_owned(), message: message.to_owned(), permanent, retry_after }
}

fn apply_failure(job: &FencedJob, error: ApplyError, progress: &mut Progress) -> Failure {
    let code = error.code();
    let message = match &error {
        ApplyError::Invalid(errors) => {
            let first: Vec<String> = errors
                .iter()
                .take(ERRORS_IN_MESSAGE)
                .map(|error| format!("{}: {}", error.pointer, error.detail))
                .collect();
            first.join("; ")
        }
        other => other.to_string(),
    };
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    tracing::warn!(job_id = %job.id, kind = job.kind, code, message, cause, "the result could not be applied");
    if let ApplyError::Invalid(errors) = error {
        progress.errors = errors;
    }
    failure(code, &message, false, None)
}

fn infrastructure(error: ApplyError) -> Error {
    match error {
        ApplyError::Store(error) => Error::Store(error),
        ApplyError::Ledger(error) => Error::Ledger(error),
        // Neither is a collision nor unavailable, so neither comes here.
        other => Error::Store(store::Error::Unavailable { detail: other.to_string() }),
    }
}
