//! Event source mappings: from a queue to a function, as AWS does it.
//!
//! Start at [`start`]. A batch is gathered up to its size or window and handed over; what the function did not report as
//! failed is deleted, the rest is left for its visibility to expire. Rules: AWS, "Using Lambda with Amazon SQS", "Implementing
//! partial batch responses".

mod batch;

use crate::lambda::{Function, Invocation};
use crate::queue::{Message, Queues};
use crate::template::SourceSpec;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Invocations at once where the template states no maximum; AWS begins with five pollers.
const CONCURRENCY_DEFAULT: usize = 5;
/// SQS gives out at most this many messages a request.
const RECEIVE_MAX: usize = 10;

/// A running mapping. Dropping it stops the polling; batches that were handed over finish.
#[derive(Debug)]
pub struct Mapping {
    task: JoinHandle<()>,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Polls the source's queue and feeds `function`.
#[must_use]
pub fn start(queues: Arc<Queues>, source: SourceSpec, function: Function) -> Mapping {
    let concurrency = source.concurrency.unwrap_or(CONCURRENCY_DEFAULT);
    let permits = Arc::new(Semaphore::new(concurrency));
    let task = tokio::spawn(async move {
        // The semaphore is never closed.
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            let batch = gather(&queues, &source).await;
            let (queues, source, function) = (Arc::clone(&queues), source.clone(), function.clone());
            tokio::spawn(async move {
                hand_over(&queues, &source, &function, batch).await;
                drop(permit);
            });
        }
    });
    Mapping { task }
}

/// Waits for a first message, then for more until the batch is full or the window is over. Never empty.
async fn gather(queues: &Queues, source: &SourceSpec) -> Vec<Message> {
    let mut batch: Vec<Message> = Vec::new();
    let mut closes_at = None;
    loop {
        let wanted = source.batch_size - batch.len();
        match queues.receive(&source.queue, wanted.min(RECEIVE_MAX)).await {
            Ok(messages) => batch.extend(messages),
            Err(error) => tracing::warn!(%error, queue = source.queue, "cannot receive"),
        }
        if batch.is_empty() {
            queues.has_changed(&source.queue).await;
            continue;
        }
        let closes_at = *closes_at.get_or_insert_with(|| Instant::now() + source.window);
        if batch.len() >= source.batch_size || Instant::now() >= closes_at {
            return batch;
        }
        // Until the window is over; whatever wakes this looks again.
        let _ = tokio::time::timeout_at(closes_at, queues.has_changed(&source.queue)).await;
    }
}

async fn hand_over(queues: &Queues, source: &SourceSpec, function: &Function, batch: Vec<Message>) {
    let event = batch::event(&source.queue, &batch);
    let failed = match function.invoke(Invocation::new(event.to_string())).await {
        Ok(_) if !source.reports_failures => batch::Failed::None,
        Ok(answer) => batch::failed(&answer, &batch),
        Err(error) => {
            tracing::warn!(%error, queue = source.queue, messages = batch.len(), "a batch failed");
            batch::Failed::All
        }
    };
    let done: Vec<&str> = match &failed {
        batch::Failed::None => batch.iter().map(|message| message.receipt_handle.as_str()).collect(),
        batch::Failed::All => return,
        batch::Failed::Some(ids) => batch
            .iter()
            .filter(|message| !ids.contains(&message.message_id))
            .map(|message| message.receipt_handle.as_str())
            .collect(),
    };
    if let Err(error) = queues.delete(&source.queue, &done).await {
        tracing::warn!(%error, queue = source.queue, "cannot delete");
    }
}
