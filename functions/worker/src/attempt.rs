//! One attempt: run the handler, whatever it does, and record how it ended.

use crate::Worker;
use domain::state::Actor;
use kinds::{Attempt, ResultOrigin, Settled};
use ledger::{ClaimedJob, JobId, Transition};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::pipelined::Pipelined;
use telemetry::label::{AttemptOutcome, JobKind, Queue};
use telemetry::{SpanBuilder, SpanExt as _, SpanKind, metric};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout_at};
use tracing::{Instrument as _, Span};

/// A handler must end this long before its lease, so that its end can still be recorded.
const SETTLE_MARGIN: Duration = Duration::from_secs(3);
/// A handler that could run no longer than this is not started.
const RUN_MIN: Duration = Duration::from_secs(5);
/// Pauses between tries to record an end while the database is not to be reached; the lease bounds their number.
const SETTLE_PAUSE: Duration = Duration::from_millis(250);
/// A job of a kind that this release does not have waits for the next one's workers.
const UNKNOWN_KIND_PAUSE: Duration = Duration::from_secs(60);

/// Whether the ledger knows how the attempt ended. A lost fence is recorded: another attempt has the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// It does.
    Yes,
    /// It could not be told; the reaper will take the lease back.
    No,
}

/// The instants that a lease sets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    start_by: Instant,
    run_until: Instant,
    lease_ends_at: Instant,
}

impl Times {
    pub(crate) fn of_lease(lease_ends_at: Instant) -> Self {
        let run_until = lease_ends_at.checked_sub(SETTLE_MARGIN).unwrap_or(lease_ends_at);
        // A lease too short for both is used as far as it goes: its batch was claimed to be run.
        let start_by = run_until.checked_sub(RUN_MIN).unwrap_or(run_until);
        Self { start_by, run_until, lease_ends_at }
    }
}

pub(crate) async fn run(
    worker: Worker,
    job: ClaimedJob,
    times: Times,
    permits: Arc<Semaphore>,
    span: Span,
) -> Recorded {
    let recorded = run_in_span(worker, job, times, permits, &span).instrument(span.clone()).await;
    if recorded == Recorded::No {
        span.fail("unrecorded");
    }
    span.end();
    recorded
}

async fn run_in_span(
    worker: Worker,
    job: ClaimedJob,
    times: Times,
    permits: Arc<Semaphore>,
    span: &Span,
) -> Recorded {
    let job = Arc::new(job);
    // Only a batch larger than the number of permits can wait here at all.
    let permit = match Arc::clone(&permits).try_acquire_owned() {
        Ok(permit) => Some(permit),
        Err(_) => timeout_at(times.start_by.into(), permits.acquire_owned()).await.ok().and_then(Result::ok),
    };
    let Some(_permit) = permit else {
        tracing::warn!(job_id = %job.id, kind = job.kind, "the job was not started in time and is released");
        return release(&worker, &job, None, times).await;
    };
    if worker.context.kinds.get(&job.kind).is_none() {
        tracing::error!(job_id = %job.id, kind = job.kind, "this release has no such kind of job; it is put off");
        return release(&worker, &job, Some(UNKNOWN_KIND_PAUSE), times).await;
    }
    tracing::info!(job_id = %job.id, kind = job.kind, attempt = job.attempt, "job started");
    let started = Instant::now();
    let running =
        SpanBuilder::new(format!("run {}", JobKind::of(&job.kind).as_str()), SpanKind::Internal).inner();
    let (attempt, outcome) = handle(&worker, &job, times).instrument(running.clone()).await;
    running.end();
    span.attribute("callboard.job.outcome", outcome.as_str());
    if let Attempt::Retry { code, .. } | Attempt::Dead { code, .. } = &attempt {
        span.fail(code.clone());
    }
    let handled = started.elapsed();
    metric::JOB_DURATION.record(handled.as_secs_f64(), JobKind::of(&job.kind));
    metric::JOB_ATTEMPTS.add(1, outcome);
    let recorded = settle(&worker, &job, attempt, times, handled.as_millis()).await;
    metric::MESSAGING_PROCESS_DURATION.record(started.elapsed().as_secs_f64(), Queue::Jobs);
    recorded
}

/// The handler, on a task of its own: it may panic, hang, or never yield.
async fn handle(worker: &Worker, job: &Arc<ClaimedJob>, times: Times) -> (Attempt, AttemptOutcome) {
    let (context, claimed) = (worker.context.clone(), Arc::clone(job));
    let task = async move {
        match context.kinds.get(&claimed.kind) {
            Some(kind) => kind.run(&context, &claimed).await,
            None => Attempt::retry("unknown_kind", "this release has no such kind of job"),
        }
    };
    let mut task = tokio::spawn(task.in_current_span());
    match timeout_at(times.run_until.into(), &mut task).await {
        Ok(Ok(attempt)) => {
            let outcome = match &attempt {
                Attempt::Done(_) => AttemptOutcome::Done,
                Attempt::Retry { .. } => AttemptOutcome::Retry,
                Attempt::Defer { .. } => AttemptOutcome::Defer,
                Attempt::Dead { .. } => AttemptOutcome::Dead,
            };
            (attempt, outcome)
        }
        Ok(Err(error)) => {
            tracing::error!(job_id = %job.id, kind = job.kind, "the handler panicked");
            let attempt = Attempt::retry("panic", format!("the handler panicked: {}", panic_message(error)));
            (attempt, AttemptOutcome::Panicked)
        }
        Err(_elapsed) => {
            task.abort();
            tracing::error!(job_id = %job.id, kind = job.kind, "the handler took too long");
            (Attempt::retry("timeout", "the handler did not end before its lease"), AttemptOutcome::TimedOut)
        }
    }
}

fn panic_message(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "without a message".into()),
        Err(error) => error.to_string(),
    }
}

/// Records the end. While the database is not to be reached it is tried again as long as the lease lasts; an end that
/// the database refuses is recorded as a failure instead.
async fn settle(
    worker: &Worker,
    job: &ClaimedJob,
    attempt: Attempt,
    times: Times,
    handled_ms: u128,
) -> Recorded {
    let mut attempt = attempt;
    let mut is_fallback = false;
    loop {
        let settled =
            kinds::settle(&worker.context, &job.kind, &job.holder(), &attempt, &ResultOrigin::Worker, None)
                .await;
        let error = match settled {
            Ok(Settled::Stale) => {
                metric::LEASES_LOST.add(1, ());
                tracing::warn!(job_id = %job.id, kind = job.kind, attempt = job.attempt, "the attempt lost its lease and changed nothing");
                return Recorded::Yes;
            }
            Ok(Settled::Moved(settlement)) => {
                tracing::info!(
                    job_id = %job.id,
                    kind = job.kind,
                    attempt = job.attempt,
                    outcome = attempt.as_str(),
                    status = settlement.transition.status.as_str(),
                    duration_ms = u64::try_from(handled_ms).unwrap_or(u64::MAX),
                    "job settled"
                );
                wake(worker, &settlement.wake).await;
                return Recorded::Yes;
            }
            Err(error) => error,
        };
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::warn!(job_id = %job.id, kind = job.kind, error = %error, cause, "the attempt's end could not be recorded");
        if error.is_unavailable() {
            if Instant::now() + SETTLE_PAUSE >= times.lease_ends_at {
                return Recorded::No;
            }
            sleep(SETTLE_PAUSE).await;
        } else if is_fallback {
            return Recorded::No;
        } else {
            is_fallback = true;
            attempt = Attempt::retry("settle_failed", error.to_string());
        }
    }
}

/// Gives the job back without a charge.
async fn release(worker: &Worker, job: &ClaimedJob, after: Option<Duration>, times: Times) -> Recorded {
    loop {
        let error = match release_once(worker, job, after).await {
            Ok(transition) => {
                transition.count();
                metric::JOB_ATTEMPTS.add(1, AttemptOutcome::Released);
                wake(worker, &transition.wake.into_iter().collect::<Vec<_>>()).await;
                return Recorded::Yes;
            }
            Err(kinds::Error::Ledger(ledger::Error::Stale)) => return Recorded::Yes,
            Err(error) => error,
        };
        tracing::warn!(job_id = %job.id, error = %error, "the job could not be released");
        if Instant::now() + SETTLE_PAUSE >= times.lease_ends_at {
            return Recorded::No;
        }
        sleep(SETTLE_PAUSE).await;
    }
}

async fn release_once(
    worker: &Worker,
    job: &ClaimedJob,
    after: Option<Duration>,
) -> Result<Transition, kinds::Error> {
    let context = &worker.context;
    let mut client = context.pool.get().await?;
    let pipelined = Pipelined::on(&mut client);
    let fenced = kinds::settle::begin(&pipelined, &job.holder()).await?;
    let transition = ledger::job_release(&pipelined.tx(), &fenced, after, context.registry(), rand::random())
        .await
        .map_err(kinds::Error::Ledger)?;
    // From the 20th deferral on a release is charged, and may be the job's last.
    kinds::settle::end(&context.kinds, &pipelined, &transition, &Actor::system("worker")).await?;
    Ok(transition)
}

/// One message for all that the transaction made due within a minute.
async fn wake(worker: &Worker, ids: &[JobId]) {
    if !ids.is_empty() {
        worker.wake.wake(ids).await;
    }
}
