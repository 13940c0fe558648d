//! One SQS batch: read, claim, run, answer.

use crate::attempt::{self, Times};
use crate::{Error, Worker};
use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use ledger::{ClaimedJob, Hint};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use telemetry::label::Queue;
use telemetry::messaging::{self, ReceivedBatch};
use telemetry::{SpanExt as _, TraceContext, metric};
use tokio::sync::Semaphore;
use tracing::{Instrument as _, Span};

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
    let ReceivedBatch { queue_arn, contexts, span } = messaging::receive(&event, Queue::Jobs);
    let batch = telemetry::place_of(&span).or_else(telemetry::current).unwrap_or_else(TraceContext::new_root);
    let mut messages: HashMap<Hint, Received> = HashMap::with_capacity(event.records.len());
    for (message, context) in event.records.into_iter().zip(contexts) {
        match serde_json::from_str::<Hint>(message.body.as_deref().unwrap_or_default()) {
            Ok(hint) => {
                let received = messages.entry(hint).or_default();
                received.message_ids.extend(message.message_id);
                received.context = received.context.take().or(context);
            }
            // It could never be read, however often it came.
            Err(error) => {
                metric::MESSAGES_MALFORMED.add(1, Queue::Jobs);
                let category = error.classify();
                tracing::error!(
                    message_id = message.message_id,
                    ?category,
                    "a message of the jobs queue is no hint and is dropped"
                );
            }
        }
    }
    let source = Source { queue: queue_arn, batch, messages };
    let unrecorded = run(worker, &source, deadline).instrument(span.clone()).await;
    let mut response = SqsBatchResponse::default();
    for hint in &unrecorded {
        for id in source.messages.get(hint).iter().flat_map(|received| &received.message_ids) {
            let mut failure = BatchItemFailure::default();
            failure.item_identifier.clone_from(id);
            response.batch_item_failures.push(failure);
        }
    }
    if !unrecorded.is_empty() {
        span.fail("unrecorded");
        let returned = u64::try_from(response.batch_item_failures.len()).unwrap_or(0);
        metric::MESSAGES_RETURNED.add(returned, Queue::Jobs);
        tracing::error!(
            count = unrecorded.len(),
            "attempts could not be recorded in the ledger; their hints are given back"
        );
    }
    Ok(serde_json::to_value(response)?)
}

/// The messages of one hint: doubled ones are one piece of work.
#[derive(Debug, Default)]
struct Received {
    message_ids: Vec<String>,
    context: Option<TraceContext>,
}

/// Where a batch came from.
#[derive(Debug)]
struct Source {
    queue: String,
    batch: TraceContext,
    messages: HashMap<Hint, Received>,
}

impl Source {
    /// The span of one job's attempt: in the trace of its message, else of its row; a retry links to the first attempt.
    fn span(&self, hint: &Hint, job: &ClaimedJob) -> Span {
        let received = self.messages.get(hint);
        let of_row = job.trace_context.as_deref().and_then(TraceContext::from_carrier);
        let about = received.and_then(|received| received.context.clone()).or_else(|| of_row.clone());
        let message_id =
            received.and_then(|received| received.message_ids.first()).map_or("", String::as_str);
        let job_id = job.id.0.as_u128();
        let mut builder = messaging::process(&self.queue, message_id, about.clone(), &self.batch)
            .span_id(telemetry::attempt_span_id(job_id, job.attempt))
            .attribute("callboard.job.id", job.id.to_string())
            .attribute("callboard.job.kind", job.kind.clone())
            .attribute("callboard.job.attempt", i64::from(job.attempt));
        if job.attempt > 1
            && let Some(trace) = of_row.or(about)
        {
            builder = builder.link(trace.with_span_id(telemetry::attempt_span_id(job_id, 1)));
        }
        telemetry::trace_span!(builder, operation = "job").0
    }
}

/// Answers the hints of what could not be recorded in the ledger.
async fn run(worker: &Worker, source: &Source, deadline: Instant) -> Vec<Hint> {
    let hints: &[Hint] = &source.messages.keys().copied().collect::<Vec<_>>();
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
            let span = source.span(&hint, &job);
            let task = attempt::run(worker.clone(), job, times, Arc::clone(&permits), span);
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
