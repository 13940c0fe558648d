//! One SQS batch: read, claim, run, answer.

use crate::attempt::{self, Times};
use crate::{Error, Worker};
use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use ledger::{ClaimedJob, Hint};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// The lease ends this long before the invocation's deadline, so that the reaper and the runtime never both have it.
const LEASE_MARGIN: Duration = Duration::from_secs(5);
/// With less than this left, a claim would only burn an attempt.
const LEASE_MIN: Duration = Duration::from_secs(3);
/// Handlers at once. They wait for the web most of the time; the pool bounds how many settle at once.
const HANDLERS_MAX: usize = 16;
/// A claim that collided (40001, 40P01, 55P03) is run again this often before it counts.
const COLLISION_TRIES: u32 = 3;

pub(crate) async fn handle(worker: &Worker, event: Value, deadline: Instant) -> Result<Value, Error> {
    let event: SqsEvent = serde_json::from_value(event)?;
    let mut messages: HashMap<Hint, Vec<String>> = HashMap::with_capacity(event.records.len());
    for message in event.records {
        match serde_json::from_str::<Hint>(message.body.as_deref().unwrap_or_default()) {
            Ok(hint) => messages.entry(hint).or_default().extend(message.message_id),
            // It could never be read, however often it came.
            Err(error) => {
                tracing::error!(metric = "callboard.hints.malformed", count = 1, message_id = message.message_id, %error, "a message of the jobs queue is no hint and is dropped");
            }
        }
    }
    let hints: Vec<Hint> = messages.keys().copied().collect();
    let unrecorded = run(worker, &hints, deadline).await;
    let mut response = SqsBatchResponse::default();
    for hint in &unrecorded {
        for id in messages.get(hint).into_iter().flatten() {
            let mut failure = BatchItemFailure::default();
            failure.item_identifier.clone_from(id);
            response.batch_item_failures.push(failure);
        }
    }
    if !unrecorded.is_empty() {
        tracing::error!(
            metric = "callboard.worker.unrecorded",
            count = unrecorded.len(),
            "attempts could not be recorded in the ledger; their hints are given back"
        );
    }
    Ok(serde_json::to_value(response)?)
}

/// Answers the hints of what could not be recorded in the ledger.
async fn run(worker: &Worker, hints: &[Hint], deadline: Instant) -> Vec<Hint> {
    if hints.is_empty() {
        return Vec::new();
    }
    let lease_ends_at = deadline.checked_sub(LEASE_MARGIN).unwrap_or(deadline);
    let lease =
        lease_ends_at.saturating_duration_since(Instant::now()).min(ledger::claim::INTERNAL_LEASE_MAX);
    if lease < LEASE_MIN {
        tracing::error!(left_ms = lease.as_millis(), "the invocation is too short to claim anything");
        return hints.to_vec();
    }
    // Before the claim: the lease cannot end sooner than counted here.
    let times = Times::of_lease(Instant::now() + lease);
    let jobs = match claim(worker, hints, lease).await {
        Ok(jobs) => jobs,
        Err(error) => {
            tracing::error!(error = %error, hints = hints.len(), "no job could be claimed");
            return hints.to_vec();
        }
    };
    if jobs.len() < hints.len() {
        tracing::info!(late = hints.len() - jobs.len(), "hints that were late or doubled are acknowledged");
    }
    let permits = Arc::new(Semaphore::new(HANDLERS_MAX));
    let tasks: Vec<_> = jobs
        .into_iter()
        .map(|job| {
            let hint = Hint { job_id: job.id, attempt: job.attempt - 1 };
            let task = attempt::run(worker.clone(), job, times, Arc::clone(&permits));
            (hint, tokio::spawn(task))
        })
        .collect();
    let mut unrecorded = Vec::new();
    for (hint, task) in tasks {
        match task.await {
            Ok(attempt::Recorded::Yes) => {}
            Ok(attempt::Recorded::No) => unrecorded.push(hint),
            // The handler has a task of its own within: this is a bug of the loop around it.
            Err(error) => {
                tracing::error!(job_id = %hint.job_id, %error, "the attempt's task ended by itself");
                unrecorded.push(hint);
            }
        }
    }
    unrecorded
}

async fn claim(worker: &Worker, hints: &[Hint], lease: Duration) -> Result<Vec<ClaimedJob>, ClaimError> {
    let mut tries = 1;
    loop {
        let client = worker.context.pool.get().await?;
        match ledger::job_claim_batch(&**client, hints, lease).await {
            Err(error) if error.is_collision() && tries < COLLISION_TRIES => tries += 1,
            other => return Ok(other?),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ClaimError {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}
