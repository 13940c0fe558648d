//! Wake messages: jobs that somebody made due within a minute, by their ids.

use crate::{Dispatch, Error};
use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use ledger::{JobId, Wake};
use serde_json::Value;

/// Marks and hints the jobs of all messages at once. A message that cannot be read is acknowledged and logged: it would
/// never be readable. If the ledger cannot be reached, all are given back to SQS.
pub(crate) async fn handle(dispatch: &Dispatch, event: Value) -> Result<Value, Error> {
    let event: SqsEvent = serde_json::from_value(event).map_err(Error::Event)?;
    let mut ids: Vec<JobId> = Vec::new();
    let mut readable: Vec<&SqsMessage> = Vec::with_capacity(event.records.len());
    for message in &event.records {
        match serde_json::from_str::<Wake>(message.body.as_deref().unwrap_or_default()) {
            Ok(wake) => {
                ids.extend(wake.job_ids);
                readable.push(message);
            }
            Err(error) => {
                tracing::error!(metric = "callboard.wake.malformed", count = 1, message_id = message.message_id, %error, "a wake message cannot be read and is dropped");
            }
        }
    }
    ids.sort_unstable();
    ids.dedup();
    let mut response = SqsBatchResponse::default();
    match mark_and_send(dispatch, &ids).await {
        Ok(sent) => tracing::info!(messages = event.records.len(), jobs = ids.len(), sent, "woken"),
        Err(error) => {
            tracing::error!(metric = "callboard.wake.unhandled", count = readable.len(), error = %error, "wake messages are given back");
            response.batch_item_failures = readable.iter().filter_map(|message| failure(message)).collect();
        }
    }
    serde_json::to_value(response).map_err(Error::Event)
}

async fn mark_and_send(dispatch: &Dispatch, ids: &[JobId]) -> Result<usize, Error> {
    if ids.is_empty() {
        return Ok(0);
    }
    let marked = {
        let client = dispatch.pool.get().await?;
        ledger::jobs_mark_by_id(&**client, ids).await?
    };
    // The messages did their work: what is not sent from here on, the sweep sends.
    let sent = dispatch.send(&marked).await.or_else(|error| {
        tracing::warn!(error = %error, "marks of refused hints stay until they end");
        Ok::<_, Error>(0)
    })?;
    if sent == marked.len() {
        for job in &marked {
            // Each in its own trace: a batch has as many as jobs.
            let (span, _trace) = telemetry::processing_span("hint", job.trace_context.as_deref());
            span.in_scope(|| tracing::info!(job_id = %job.hint.job_id, "hint sent"));
        }
    }
    Ok(sent)
}

fn failure(message: &SqsMessage) -> Option<BatchItemFailure> {
    let mut failure = BatchItemFailure::default();
    failure.item_identifier = message.message_id.clone()?;
    Some(failure)
}
