//! The sweep, every minute: what nobody woke for is found here.

use crate::{Dispatch, Error};
use domain::state::Actor;
use ledger::{JobId, Transition};
use serde::Serialize;
use serde_json::Value;
use std::time::{Duration, Instant};
use store::pipelined::Tx;
use telemetry::label::{Queue, SweepStep};
use telemetry::metric;

/// The sweep stops taking on work this long before the invocation's deadline.
const MARGIN: Duration = Duration::from_secs(5);
/// Expired leases of one transaction: their terminal effects hold locks until it ends.
const REAP_CHUNK: i64 = 50;
/// Expired leases of one sweep.
const REAP_MAX: usize = 1_000;
/// Jobs marked in one statement, and hints in flight before the next.
const ROUND: usize = 500;
/// Beyond this many visible messages a backlog stays in the ledger, where it can be ordered and cancelled.
const QUEUE_DEPTH_MAX: usize = 10_000;
/// Dead letters of one sweep.
const DEAD_LETTERS_MAX: usize = 100;
/// A transaction that collided (40001, 40P01, 55P03) is run again this often before it counts.
const COLLISION_TRIES: u32 = 3;

/// What a sweep did: its answer, and its log line.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Expired leases taken back.
    pub reaped: usize,
    /// Of those, jobs that are dead now.
    pub dead_lettered: usize,
    /// Messages drained from the dead-letter queue.
    pub dead_letters: usize,
    /// Hints sent.
    pub hinted: usize,
    /// Whether the hourly upkeep ran.
    pub upkeep: bool,
}

/// Every step is tried, whatever became of the others; the first failure is the answer.
pub(crate) async fn handle(dispatch: &Dispatch, deadline: Instant) -> Result<Value, Error> {
    let stop_at = deadline.checked_sub(MARGIN).unwrap_or(deadline);
    let mut report = Report::default();
    let mut failed: Option<Error> = None;
    let mut note = |step: SweepStep, result: Result<(), Error>| {
        if let Err(error) = result {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            metric::SWEEP_FAILURES.add(1, step);
            tracing::error!(step = step.as_str(), error = %error, cause, "a step of the sweep failed");
            failed.get_or_insert(error);
        }
    };
    let reaped = reap(dispatch, stop_at, &mut report).await;
    note(SweepStep::Reap, reaped);
    let drained = drain_dead_letters(dispatch, stop_at, &mut report).await;
    note(SweepStep::DeadLetters, drained);
    let sent = send_ready(dispatch, stop_at, &mut report).await;
    note(SweepStep::Hints, sent);
    let kept = crate::upkeep::run_if_due(dispatch, stop_at, &mut report).await;
    note(SweepStep::Upkeep, kept);
    let observed = observe(dispatch).await;
    note(SweepStep::Observe, observed);
    tracing::info!(
        reaped = report.reaped,
        dead_lettered = report.dead_lettered,
        dead_letters = report.dead_letters,
        hinted = report.hinted,
        upkeep = report.upkeep,
        "swept"
    );
    match failed {
        Some(error) => Err(error),
        None => serde_json::to_value(report).map_err(Error::event),
    }
}

async fn reap(dispatch: &Dispatch, stop_at: Instant, report: &mut Report) -> Result<(), Error> {
    while report.reaped < REAP_MAX && Instant::now() < stop_at {
        let transitions = reap_chunk(dispatch).await?;
        transitions.iter().for_each(Transition::count);
        report.reaped += transitions.len();
        report.dead_lettered +=
            transitions.iter().filter(|transition| transition.next_run_at.is_none()).count();
        if transitions.len() < usize::try_from(REAP_CHUNK).unwrap_or(usize::MAX) {
            break;
        }
    }
    Ok(())
}

async fn reap_chunk(dispatch: &Dispatch) -> Result<Vec<Transition>, Error> {
    let mut tries = 1;
    loop {
        match reap_once(dispatch).await {
            Err(Error::Ledger(error)) if error.is_collision() && tries < COLLISION_TRIES => tries += 1,
            Err(Error::Store(error)) if error.is_collision() && tries < COLLISION_TRIES => tries += 1,
            other => return other,
        }
    }
}

async fn reap_once(dispatch: &Dispatch) -> Result<Vec<Transition>, Error> {
    let actor = Actor::system("reaper");
    let mut client = dispatch.pool.get().await?;
    let mut tx = client.transaction().await.map_err(store::Error::from)?;
    let transitions =
        ledger::jobs_reap(&*tx, dispatch.kinds.registry(), REAP_CHUNK, rand::random::<f64>).await?;
    for transition in &transitions {
        if let Some(event) = &transition.event {
            kinds::settle::job_event_insert(&*tx, event, &actor, None).await?;
        }
        let Some(terminal) = &transition.terminal else { continue };
        let Some(kind) = dispatch.kinds.get(&terminal.kind) else { continue };
        // An effect that the database refuses must not keep every other lease from being taken back.
        let savepoint = tx.transaction().await.map_err(store::Error::from)?;
        match kind.on_terminal(&Tx::from(&*savepoint), terminal).await {
            Ok(()) => savepoint.commit().await.map_err(store::Error::from)?,
            Err(error) if error.is_collision() || error.is_unavailable() => return Err(error.into()),
            Err(error) => {
                savepoint.rollback().await.map_err(store::Error::from)?;
                metric::SWEEP_FAILURES.add(1, SweepStep::TerminalEffect);
                tracing::error!(job_id = %terminal.id, kind = terminal.kind, error = %error, "a job is dead, but its target could not be told");
            }
        }
    }
    tx.commit().await.map_err(store::Error::from)?;
    Ok(transitions)
}

/// A dead letter is a hint that no invocation could even record. Its job is in the ledger: it is hinted again.
async fn drain_dead_letters(dispatch: &Dispatch, stop_at: Instant, report: &mut Report) -> Result<(), Error> {
    while report.dead_letters < DEAD_LETTERS_MAX && Instant::now() < stop_at {
        let letters = dispatch.queue.receive_dead().await?;
        if letters.is_empty() {
            break;
        }
        let ids: Vec<JobId> =
            letters.iter().filter_map(|letter| letter.hint.map(|hint| hint.job_id)).collect();
        let client = dispatch.pool.get().await?;
        let unmarked = ledger::jobs_unmark_by_id(&**client, &ids).await?;
        dispatch.queue.delete_dead(&letters).await?;
        report.dead_letters += letters.len();
        let drained = u64::try_from(letters.len()).unwrap_or(0);
        metric::DEAD_LETTERS.add(drained, ());
        metric::MESSAGING_CLIENT_CONSUMED_MESSAGES.add(drained, Queue::DeadLetters);
        tracing::error!(
            count = letters.len(),
            unreadable = letters.len() - ids.len(),
            unmarked,
            "hints ended in the dead-letter queue"
        );
    }
    Ok(())
}

/// What the dashboards show of the ledger and its queues, as the sweep leaves them.
async fn observe(dispatch: &Dispatch) -> Result<(), Error> {
    let observed = {
        let client = dispatch.pool.get().await?;
        ledger::jobs_observe(&**client).await?
    };
    #[allow(clippy::cast_precision_loss, reason = "at most 100,000 are counted")]
    for (state, count) in observed.jobs {
        metric::LEDGER_JOBS.set(count as f64, state);
    }
    metric::LEDGER_OLDEST_READY_AGE.set(observed.oldest_ready_age_s.unwrap_or(0.0).max(0.0), ());
    let depths = [
        (Queue::Jobs, dispatch.queue.visible().await?),
        (Queue::DeadLetters, dispatch.queue.dead_visible().await?),
    ];
    #[allow(clippy::cast_precision_loss, reason = "a gauge")]
    for (queue, messages) in depths {
        metric::QUEUE_MESSAGES.set(messages as f64, queue);
    }
    Ok(())
}

async fn send_ready(dispatch: &Dispatch, stop_at: Instant, report: &mut Report) -> Result<(), Error> {
    // What was reaped, unmarked or refused since the last sweep lies below where it stopped.
    dispatch.scan.restart();
    let mut room = QUEUE_DEPTH_MAX.saturating_sub(dispatch.queue.visible().await?);
    while room > 0 && Instant::now() < stop_at {
        let limit = room.min(ROUND);
        let marked = {
            let client = dispatch.pool.get().await?;
            ledger::jobs_mark_ready(&**client, &dispatch.scan, limit).await?
        };
        let sent = dispatch.send(&marked).await?;
        report.hinted += sent;
        room -= marked.len().min(room);
        // Fewer than asked for: nothing else is ready. None taken: SQS is down, and the next sweep tries again.
        if marked.len() < limit || sent == 0 {
            break;
        }
    }
    Ok(())
}
