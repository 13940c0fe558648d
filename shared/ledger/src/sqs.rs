//! The ledger's three queues: jobs (hints), wake, dead letters. Nothing is ever only in one of them.
//!
//! The AWS client is made at the first message, not at init: a cold start that sends nothing pays nothing. What the
//! functions need stands in traits, so that their handlers are tested without a queue.

use crate::hints::{Hint, MarkedJob, Wake};
use crate::types::JobId;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Region};
use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, MessageAttributeValue, QueueAttributeName, SendMessageBatchRequestEntry,
};
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use std::sync::OnceLock;
use std::time::Duration;
use telemetry::label::{Queue, SendOutcome};
use telemetry::{SpanExt as _, TRACEPARENT, TRACESTATE, TraceContext, messaging, metric};
use tracing::{Instrument as _, Span};

/// SQS takes no more messages in one call.
const BATCH_MAX: usize = 10;
/// Calls at once: enough to hide latency, few enough for one connection pool.
const CONCURRENCY: usize = 16;
/// SQS delays no message longer.
const DELAY_MAX: Duration = Duration::from_secs(900);
/// A wake is best effort: the sweep finds what it would have named. The caller's answer does not wait longer.
const WAKE_LIMIT: Duration = Duration::from_secs(1);
/// Ids in one wake message; 1,000 of them are 40 KB, an SQS message may be 256 KB.
const WAKE_IDS_MAX: usize = 1_000;

/// A queue did not do what it was asked. Nothing is lost by it: the ledger has the truth.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call} failed: {detail}")]
pub struct SqsError {
    /// The API call, such as `ReceiveMessage`.
    pub call: &'static str,
    /// What the service or the connection said.
    pub detail: String,
}

/// A message out of the dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its hint; `None` if the body is none.
    pub hint: Option<Hint>,
    /// What deletes it.
    pub receipt: String,
}

/// What dispatch does with the jobs queue and its dead letters.
pub trait HintQueue: Send + Sync {
    /// Sends hints, each with its delay; answers those that the queue did not take.
    fn send<'a>(&'a self, jobs: &'a [MarkedJob]) -> BoxFuture<'a, Vec<Hint>>;
    /// About how many messages wait to be received.
    fn visible(&self) -> BoxFuture<'_, Result<usize, SqsError>>;
    /// About how many dead letters wait to be received.
    fn dead_visible(&self) -> BoxFuture<'_, Result<usize, SqsError>>;
    /// Up to ten dead letters; empty: there are no more.
    fn receive_dead(&self) -> BoxFuture<'_, Result<Vec<DeadLetter>, SqsError>>;
    /// Deletes dead letters that were dealt with.
    fn delete_dead<'a>(&'a self, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<(), SqsError>>;
}

/// What api and worker do after a commit that made jobs due within a minute.
pub trait WakeQueue: Send + Sync {
    /// Sends the ids, best effort: a failure is logged and otherwise forgotten.
    fn wake<'a>(&'a self, ids: &'a [JobId]) -> BoxFuture<'a, ()>;
}

/// A variable that names a queue is not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("set {0} to the URL of the queue")]
pub struct MissingQueue(pub &'static str);

fn queue_url(name: &'static str) -> Result<String, MissingQueue> {
    std::env::var(name).ok().filter(|url| !url.is_empty()).ok_or(MissingQueue(name))
}

/// One client for the environment, made when the first message is sent or asked for.
fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(aws::region().map(Region::new))
            .credentials_provider(aws::EnvironmentCredentials);
        let config = match aws::endpoint("SQS") {
            Some(url) => config.endpoint_url(url),
            None => config,
        };
        Client::from_conf(config.build())
    })
}

/// The jobs queue and its dead letters, over SQS.
#[derive(Debug, Clone)]
pub struct HintSender {
    jobs_url: String,
    dead_url: String,
}

impl HintSender {
    /// Queues by their URLs. Connects to nothing.
    #[must_use]
    pub fn new(jobs_url: impl Into<String>, dead_url: impl Into<String>) -> Self {
        Self { jobs_url: jobs_url.into(), dead_url: dead_url.into() }
    }

    /// Reads `JOBS_QUEUE_URL` and `DEAD_LETTER_QUEUE_URL`.
    ///
    /// # Errors
    /// [`MissingQueue`].
    pub fn from_env() -> Result<Self, MissingQueue> {
        Ok(Self::new(queue_url("JOBS_QUEUE_URL")?, queue_url("DEAD_LETTER_QUEUE_URL")?))
    }

    async fn send_batch(&self, jobs: &[MarkedJob]) -> Vec<Hint> {
        let refused_all = || jobs.iter().map(|job| job.hint).collect::<Vec<_>>();
        let spans: Vec<_> = jobs.iter().map(|job| send_span(&self.jobs_url, job)).collect();
        let mut entries = Vec::with_capacity(jobs.len());
        for (index, job) in jobs.iter().enumerate() {
            match entry(index, job, spans[index].1.as_ref()) {
                Ok(entry) => entries.push(entry),
                Err(error) => {
                    tracing::error!(%error, "a batch of hints could not be built");
                    return refused_all();
                }
            }
        }
        let sent =
            client().send_message_batch().queue_url(&self.jobs_url).set_entries(Some(entries)).send().await;
        match sent {
            Ok(output) => {
                let refused: Vec<usize> = output
                    .failed()
                    .iter()
                    .filter_map(|failed| {
                        tracing::warn!(code = failed.code(), detail = failed.message(), "SQS refused a hint");
                        failed.id().parse().ok().filter(|index| *index < jobs.len())
                    })
                    .collect();
                count_sent(Queue::Jobs, jobs.len().saturating_sub(refused.len()), refused.len());
                for (index, (job, (span, _))) in jobs.iter().zip(&spans).enumerate() {
                    if refused.contains(&index) {
                        span.fail("refused");
                    } else {
                        // Each in its own trace: a batch has as many as jobs.
                        span.in_scope(|| tracing::info!(job_id = %job.hint.job_id, "hint sent"));
                    }
                }
                refused.into_iter().map(|index| jobs[index].hint).collect()
            }
            Err(error) => {
                let error = SqsError::of("SendMessageBatch", &error);
                tracing::warn!(%error, hints = jobs.len(), "a batch of hints was not sent");
                count_sent(Queue::Jobs, 0, jobs.len());
                spans.iter().for_each(|(span, _)| span.fail("SendMessageBatch"));
                refused_all()
            }
        }
    }
}

/// The span of one hint, in its job's trace, linked to what sends it; with the context that the message carries.
fn send_span(queue_url: &str, job: &MarkedJob) -> (Span, Option<TraceContext>) {
    let about = job.trace_context.as_deref().and_then(TraceContext::from_carrier);
    let mut builder = messaging::send(queue_url).attribute("callboard.job.id", job.hint.job_id.to_string());
    if let Some(about) = about {
        if let Some(sender) = telemetry::current() {
            builder = builder.link(sender);
        }
        builder = builder.parent(Some(about));
    }
    let (span, context) = telemetry::trace_span!(builder);
    (span, telemetry::propagates().then_some(context))
}

fn count_sent(queue: Queue, taken: usize, refused: usize) {
    for (count, outcome) in [(taken, SendOutcome::Ok), (refused, SendOutcome::Failed)] {
        metric::MESSAGING_CLIENT_SENT_MESSAGES.add(u64::try_from(count).unwrap_or(0), (queue, outcome));
    }
}

fn entry(
    index: usize,
    job: &MarkedJob,
    context: Option<&TraceContext>,
) -> Result<SendMessageBatchRequestEntry, SqsError> {
    let of = |detail: String| SqsError { call: "SendMessageBatch", detail };
    let body = serde_json::to_string(&job.hint).map_err(|error| of(error.to_string()))?;
    let delay_s = i32::try_from(job.delay.min(DELAY_MAX).as_secs()).unwrap_or(0);
    let mut entry = SendMessageBatchRequestEntry::builder()
        .id(index.to_string())
        .message_body(body)
        .delay_seconds(delay_s);
    if let Some(context) = context {
        entry = entry.message_attributes(TRACEPARENT, attribute(&context.to_traceparent())?);
        if let Some(state) = context.state() {
            entry = entry.message_attributes(TRACESTATE, attribute(&state)?);
        }
    }
    entry.build().map_err(|error| of(error.to_string()))
}

fn attribute(text: &str) -> Result<MessageAttributeValue, SqsError> {
    MessageAttributeValue::builder()
        .data_type("String")
        .string_value(text)
        .build()
        .map_err(|error| SqsError { call: "SendMessage", detail: error.to_string() })
}

impl HintQueue for HintSender {
    fn send<'a>(&'a self, jobs: &'a [MarkedJob]) -> BoxFuture<'a, Vec<Hint>> {
        Box::pin(async move {
            // Collected first: the compiler cannot see that a lazily mapped future is `Send` for every lifetime.
            let batches: Vec<_> = jobs.chunks(BATCH_MAX).map(|batch| self.send_batch(batch)).collect();
            let refused: Vec<Vec<Hint>> = stream::iter(batches).buffer_unordered(CONCURRENCY).collect().await;
            refused.concat()
        })
    }

    fn visible(&self) -> BoxFuture<'_, Result<usize, SqsError>> {
        Box::pin(visible(&self.jobs_url))
    }

    fn dead_visible(&self) -> BoxFuture<'_, Result<usize, SqsError>> {
        Box::pin(visible(&self.dead_url))
    }

    fn receive_dead(&self) -> BoxFuture<'_, Result<Vec<DeadLetter>, SqsError>> {
        Box::pin(async move {
            let output = client()
                .receive_message()
                .queue_url(&self.dead_url)
                .max_number_of_messages(10)
                .wait_time_seconds(0)
                .send()
                .await
                .map_err(|error| SqsError::of("ReceiveMessage", &error))?;
            Ok(output
                .messages()
                .iter()
                .filter_map(|message| {
                    Some(DeadLetter {
                        hint: message.body().and_then(|body| serde_json::from_str(body).ok()),
                        receipt: message.receipt_handle()?.to_owned(),
                    })
                })
                .collect())
        })
    }

    fn delete_dead<'a>(&'a self, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<(), SqsError>> {
        Box::pin(async move {
            for batch in letters.chunks(BATCH_MAX) {
                let mut entries = Vec::with_capacity(batch.len());
                for (index, letter) in batch.iter().enumerate() {
                    entries.push(
                        DeleteMessageBatchRequestEntry::builder()
                            .id(index.to_string())
                            .receipt_handle(&letter.receipt)
                            .build()
                            .map_err(|error| SqsError {
                                call: "DeleteMessageBatch",
                                detail: error.to_string(),
                            })?,
                    );
                }
                client()
                    .delete_message_batch()
                    .queue_url(&self.dead_url)
                    .set_entries(Some(entries))
                    .send()
                    .await
                    .map_err(|error| SqsError::of("DeleteMessageBatch", &error))?;
            }
            Ok(())
        })
    }
}

async fn visible(url: &str) -> Result<usize, SqsError> {
    let output = client()
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(QueueAttributeName::ApproximateNumberOfMessages)
        .send()
        .await
        .map_err(|error| SqsError::of("GetQueueAttributes", &error))?;
    let count = output
        .attributes()
        .and_then(|attributes| attributes.get(&QueueAttributeName::ApproximateNumberOfMessages));
    count.and_then(|count| count.parse().ok()).ok_or_else(|| SqsError {
        call: "GetQueueAttributes",
        detail: "the answer holds no ApproximateNumberOfMessages".into(),
    })
}

/// The wake queue, over SQS.
#[derive(Debug, Clone)]
pub struct WakeSender {
    url: String,
}

impl WakeSender {
    /// The queue by its URL. Connects to nothing.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into() }
    }

    /// Reads `WAKE_QUEUE_URL`.
    ///
    /// # Errors
    /// [`MissingQueue`].
    pub fn from_env() -> Result<Self, MissingQueue> {
        Ok(Self::new(queue_url("WAKE_QUEUE_URL")?))
    }

    async fn send(&self, ids: &[JobId]) -> Result<(), SqsError> {
        let body = serde_json::to_string(&Wake { job_ids: ids.to_vec() })
            .map_err(|error| SqsError { call: "SendMessage", detail: error.to_string() })?;
        let span = messaging::send(&self.url)
            .attribute("messaging.batch.message_count", telemetry::count(ids.len()))
            .inner();
        let sent = async {
            let mut message = client().send_message().queue_url(&self.url).message_body(body);
            if let Some(context) = telemetry::outgoing() {
                message = message.message_attributes(TRACEPARENT, attribute(&context.to_traceparent())?);
                if let Some(state) = context.state() {
                    message = message.message_attributes(TRACESTATE, attribute(&state)?);
                }
            }
            message.send().await.map_err(|error| SqsError::of("SendMessage", &error))
        }
        .instrument(span.clone())
        .await;
        if sent.is_err() {
            span.fail("SendMessage");
        }
        sent.map(|_| ())
    }
}

impl WakeQueue for WakeSender {
    fn wake<'a>(&'a self, ids: &'a [JobId]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            for ids in ids.chunks(WAKE_IDS_MAX) {
                let sent = tokio::time::timeout(WAKE_LIMIT, self.send(ids)).await;
                let is_taken = matches!(sent, Ok(Ok(())));
                count_sent(Queue::Wake, usize::from(is_taken), usize::from(!is_taken));
                match sent {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(%error, jobs = ids.len(), "no wake message was sent, the sweep will find the jobs");
                    }
                    Err(_) => {
                        tracing::warn!(
                            jobs = ids.len(),
                            "a wake message took too long, the sweep will find the jobs"
                        );
                    }
                }
            }
        })
    }
}

impl SqsError {
    fn of<E, R>(call: &'static str, error: &aws_sdk_sqs::error::SdkError<E, R>) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        Self { call, detail: aws_sdk_sqs::error::DisplayErrorContext(error).to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(delay_s: u64) -> MarkedJob {
        MarkedJob {
            hint: Hint { job_id: JobId::new(), attempt: 3 },
            delay: Duration::from_secs(delay_s),
            trace_context: None,
        }
    }

    #[test]
    fn a_hint_is_delayed_no_longer_than_sqs_can() {
        assert_eq!(entry(0, &job(7), None).unwrap().delay_seconds(), Some(7));
        assert_eq!(entry(0, &job(86_400), None).unwrap().delay_seconds(), Some(900));
    }

    #[test]
    fn the_trace_context_travels_as_an_attribute_and_is_left_out_when_empty() {
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::from_carrier(&format!("{traceparent} a=1"));
        let sent = entry(0, &job(0), context.as_ref()).unwrap();
        let attributes = sent.message_attributes().unwrap();
        assert_eq!(attributes["traceparent"].string_value(), Some(traceparent));
        assert_eq!(attributes["tracestate"].string_value(), Some("a=1"));
        assert!(entry(0, &job(0), None).unwrap().message_attributes().is_none());
    }
}
